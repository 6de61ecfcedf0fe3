"""Selection of the endpoint that has the fewest sessions for its weight."""
cimport cython
from libc.stdint cimport uint32_t
from pingora_c.upstream.balancer cimport Selection


@cython.final
cdef class LeastConnections(Selection):
    cdef uint32_t next       # slot at which the next walk begins
