"""Random selection in proportion to weights."""
cimport cython
from libc.stdint cimport uint64_t
from pingora_c.upstream.endpoint cimport Endpoint
from pingora_c.upstream.select.weighted cimport Weighted


@cython.final
cdef class Random(Weighted):
    cdef Endpoint _among_available(self, uint64_t tried)
