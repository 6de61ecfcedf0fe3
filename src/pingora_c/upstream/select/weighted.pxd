"""What selections share that take a number for an endpoint: numbers below the sum of weights, as many for each endpoint
as it weighs, in the order of the set.
"""
from libc.stdint cimport uint32_t, uint64_t
from pingora_c.upstream.balancer cimport Selection


cdef class Weighted(Selection):
    cdef uint32_t* ends      # owned; by slot, the number behind the endpoint's last; NULL before the first build
    cdef uint32_t n          # endpoints
    cdef uint32_t total      # ends[last], > 0 once built
    # Whose number this is; number < total.
    cdef uint32_t slot_of(self, uint32_t number) noexcept
