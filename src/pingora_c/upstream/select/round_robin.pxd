"""Smooth weighted round robin: each endpoint in proportion to its weight, spread as evenly as possible."""
cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t
from pingora_c.upstream.balancer cimport Selection
from pingora_c.upstream.endpoint cimport Endpoint


@cython.final
cdef class RoundRobin(Selection):
    cdef int64_t* current    # owned; a current weight per slot, NULL when all weights are equal
    cdef uint32_t next       # slot where the rotation goes on, when all weights are equal
    cdef Endpoint _rotate(self, uint64_t tried)
    cdef Endpoint _smooth(self, uint64_t tried)
