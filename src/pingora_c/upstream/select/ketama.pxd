"""Consistent hashing on a ring, bit-compatible with nginx's `hash … consistent`."""
cimport cython
from libc.stdint cimport uint32_t, uint64_t
from pingora_c.upstream.balancer cimport Selection
from pingora_c.upstream.endpoint cimport Endpoint

cdef enum:
    POINTS_PER_WEIGHT = 160
    POINTS_MAX = 4194304     # of one ring: 32 MiB


cdef struct RingPoint:
    uint32_t hash            # position; ascending along the ring, no two equal
    uint32_t slot            # whose point it is


@cython.final
cdef class Ketama(Selection):
    cdef RingPoint* ring     # owned; NULL before the first build
    cdef uint32_t n_points   # > 0 once built
    cdef Endpoint _walk(self, uint32_t at, uint64_t tried)
