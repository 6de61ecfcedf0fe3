# cython: overflowcheck=False
# The generator is arithmetic modulo 2**64.
"""Random selection in proportion to weights.

Owns nothing but the table of weights. The numbers are those of one generator (xorshift64*) for the process, seeded anew
in a fork: workers that took turns in step would all ask the same endpoint at once.
"""
import os

from libc.stdint cimport uint32_t

from pingora_c.upstream.endpoint cimport peer_available

cdef uint64_t state = 1


def seed(value=None):
    """Begin another sequence: that of a number from 1 to 2**64-1, for tests, or one that nobody can foretell."""
    global state
    state = int.from_bytes(os.urandom(8)) | 1 if value is None else value


seed()
os.register_at_fork(after_in_child=seed)


cdef uint32_t number_below(uint32_t n) noexcept:
    """0 <= number < n, each as likely but for one in 2**32 / n."""
    global state
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return <uint32_t>((((state * <uint64_t>0x2545F4914F6CDD1D) >> 32) * n) >> 32)


cdef class Random(Weighted):
    """Choose at random, in proportion to weights."""

    cdef Endpoint select(self, const char* key, size_t key_size, uint64_t tried):
        cdef Endpoint endpoint
        if self.ends == NULL:
            return None
        endpoint = <Endpoint>self.endpoints[self.slot_of(number_below(self.total))]
        return endpoint if peer_available(endpoint, tried) else self._among_available(tried)

    cdef Endpoint _among_available(self, uint64_t tried):
        """Choose among those that are left by their own weights, so that no neighbour gets all of a lost share."""
        cdef uint32_t total = 0, number
        cdef Endpoint endpoint
        for endpoint in self.endpoints:
            if peer_available(endpoint, tried):
                total += endpoint.weight
        if total == 0:
            return None
        number = number_below(total)
        for endpoint in self.endpoints:
            if peer_available(endpoint, tried):
                if number < endpoint.weight:
                    return endpoint
                number -= endpoint.weight
        return None   # not reached: nothing changes between the two walks but an outage that ends

    def pick(self, key, uint64_t tried):
        """An endpoint at random, or None if none is available."""
        return self.select(NULL, 0, tried)
