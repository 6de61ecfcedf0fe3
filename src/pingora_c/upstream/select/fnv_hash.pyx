# cython: overflowcheck=False
# The hash is arithmetic modulo 2**64.
"""Selection by FNV-1a of the key modulo the weights, the choices of Pingora's FNVHash.

The first choice is the number FNV-1a-64(key) modulo the sum of weights; if that endpoint is not available, the hash of
the number last taken (eight little-endian bytes) modulo the number of endpoints is the next slot, whatever it weighs.
Pingora gives up after as many steps as it was told; here the walk goes on in slot order, so one that is left is found.
Never keeps a key.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from pingora_c.upstream.endpoint cimport Endpoint, peer_available


cdef uint64_t fnv1a(const unsigned char* data, size_t size) noexcept nogil:
    cdef uint64_t hash = <uint64_t>0xCBF29CE484222325
    cdef size_t i
    for i in range(size):
        hash = (hash ^ data[i]) * <uint64_t>0x100000001B3
    return hash


cdef uint64_t hash_number(uint64_t number) noexcept nogil:
    cdef unsigned char raw[8]
    cdef int i
    for i in range(8):
        raw[i] = <unsigned char>(number >> (8 * i))
    return fnv1a(raw, 8)


cdef class FnvHash(Weighted):
    """Choose by a hash of the key: cheap, and the same key gives the same endpoint until the set changes.

    Where endpoints come and go, `Ketama` moves only the keys of those.
    """

    cdef Endpoint select(self, const char* key, size_t key_size, uint64_t tried):
        cdef uint32_t n = self.n
        cdef uint64_t number
        cdef Endpoint endpoint
        if self.ends == NULL:
            return None
        number = fnv1a(<const unsigned char*>key, key_size) % self.total
        endpoint = <Endpoint>self.endpoints[self.slot_of(<uint32_t>number)]
        if peer_available(endpoint, tried):
            return endpoint
        number = endpoint.slot
        for _ in range(n):
            number = hash_number(number) % n
            endpoint = <Endpoint>self.endpoints[<uint32_t>number]
            if peer_available(endpoint, tried):
                return endpoint
        for endpoint in self.endpoints:      # the hashes may run in a circle
            if peer_available(endpoint, tried):
                return endpoint
        return None

    def pick(self, bytes key not None, uint64_t tried):
        """The endpoint of `key`, or None if none is available."""
        return self.select(key, <size_t>len(key), tried)
