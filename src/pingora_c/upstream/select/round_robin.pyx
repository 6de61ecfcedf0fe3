"""Smooth weighted round robin, the order of nginx: weights 5, 1, 1 give a a b a c a a.

Each pick adds to every available endpoint its weight, takes the greatest (the first of equals), and takes the sum of
weights off it. With equal weights that order is a plain rotation, so then a pick costs no scan.
Owns the current weights. Never looks at the key.
"""
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport uint64_t

from pingora_c.upstream.endpoint cimport Endpoint, peer_available


cdef class RoundRobin(Selection):
    """Take the endpoints in turn, in proportion to their weights."""

    def __dealloc__(self):
        PyMem_Free(self.current)

    cdef int build(self, tuple endpoints) except -1:
        cdef int64_t* current = NULL
        cdef uint32_t first = (<Endpoint>endpoints[0]).weight
        cdef Endpoint endpoint
        for endpoint in endpoints:
            if endpoint.weight != first:
                current = <int64_t*>PyMem_Calloc(len(endpoints), sizeof(int64_t))
                if current == NULL:
                    raise MemoryError
                break
        PyMem_Free(self.current)
        self.current = current
        self.next = self.next % <uint32_t>len(endpoints)
        self.endpoints = endpoints
        return 0

    cdef Endpoint select(self, const char* key, size_t key_size, uint64_t tried):
        if self.current == NULL:
            return self._rotate(tried)
        return self._smooth(tried)

    cdef Endpoint _rotate(self, uint64_t tried):
        cdef tuple endpoints = self.endpoints
        cdef uint32_t n = <uint32_t>len(endpoints)
        cdef uint32_t slot = self.next
        cdef Endpoint endpoint
        for _ in range(n):
            endpoint = <Endpoint>endpoints[slot]
            slot = slot + 1 if slot + 1 < n else 0
            if peer_available(endpoint, tried):
                self.next = slot
                return endpoint
        return None

    cdef Endpoint _smooth(self, uint64_t tried):
        cdef tuple endpoints = self.endpoints
        cdef int64_t total = 0
        cdef Endpoint endpoint, best = None
        cdef uint32_t slot
        for slot in range(<uint32_t>len(endpoints)):
            endpoint = <Endpoint>endpoints[slot]
            if peer_available(endpoint, tried):
                self.current[slot] += endpoint.weight
                total += endpoint.weight
                if best is None or self.current[slot] > self.current[best.slot]:
                    best = endpoint
        if best is not None:
            self.current[best.slot] -= total
        return best

    def pick(self, key, tried):
        """The next endpoint in turn, or None if none is available."""
        return self.select(NULL, 0, tried)
