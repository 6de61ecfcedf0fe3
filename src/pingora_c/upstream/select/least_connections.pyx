"""Selection of the endpoint that has the fewest sessions for its weight; equals take turns.

What counts are the sessions of this worker, from taking the peer to their end. A pick looks at every endpoint.
Owns nothing. Never looks at the key.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

from pingora_c.upstream.endpoint cimport Endpoint, peer_available


cdef class LeastConnections(Selection):
    """Take the endpoint with the fewest running sessions for its weight: for requests that take unequal time."""

    cdef int build(self, tuple endpoints) except -1:
        self.next = self.next % <uint32_t>len(endpoints)
        self.endpoints = endpoints
        return 0

    cdef Endpoint select(self, const char* key, size_t key_size, uint64_t tried):
        cdef tuple endpoints = self.endpoints
        cdef uint32_t n = <uint32_t>len(endpoints)
        cdef uint32_t slot = self.next
        cdef Endpoint endpoint, best = None
        for _ in range(n):
            endpoint = <Endpoint>endpoints[slot]
            slot = slot + 1 if slot + 1 < n else 0
            if peer_available(endpoint, tried) and (
                    best is None
                    or <uint64_t>endpoint.in_flight * best.weight < <uint64_t>best.in_flight * endpoint.weight):
                best = endpoint
        if best is not None:
            self.next = best.slot + 1 if best.slot + 1 < n else 0
        return best

    def pick(self, key, uint64_t tried):
        """The endpoint with the fewest sessions for its weight, or None if none is available."""
        return self.select(NULL, 0, tried)
