"""Networks. Own their table; built from what `ipaddress` has checked."""
cimport cython

from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy
from pingora_c.lib.socket cimport AF_INET, AF_INET6, sockaddr_in, sockaddr_in6, sockaddr_storage

cdef const char* V4_MAPPED = b"\0\0\0\0\0\0\0\0\0\0\xff\xff"


cdef bint is_within(const Network* network, const uint8_t* host) noexcept nogil:
    cdef uint32_t whole = network.bits // 8, rest = network.bits % 8
    if memcmp(network.prefix, host, whole) != 0:
        return False
    return rest == 0 or (network.prefix[whole] ^ host[whole]) >> (8 - rest) == 0


@cython.final
cdef class Networks:
    """A set of networks: `ipaddress.IPv4Network` and `IPv6Network` objects."""

    def __cinit__(self, networks):
        cdef list given = list(networks)
        cdef bytes prefix
        self.networks = <Network*>calloc(max(len(given), 1), sizeof(Network))
        if self.networks == NULL:
            raise MemoryError
        for network in given:
            prefix = network.network_address.packed
            bits = network.prefixlen
            if network.version == 4:
                prefix = b"\0" * 10 + b"\xff\xff" + prefix
                bits += 96
            memcpy(self.networks[self.count].prefix, <const char*>prefix, 16)
            self.networks[self.count].bits = bits
            self.count += 1

    def __dealloc__(self):
        free(self.networks)

    cdef bint holds(self, const sockaddr_storage* address) noexcept nogil:
        cdef uint8_t[16] host
        cdef size_t i
        if address.ss_family == AF_INET:
            memcpy(host, V4_MAPPED, 12)
            memcpy(<uint8_t*>host + 12, &(<const sockaddr_in*>address).sin_addr, 4)
        elif address.ss_family == AF_INET6:
            memcpy(host, &(<const sockaddr_in6*>address).sin6_addr, 16)
        else:
            return False
        for i in range(self.count):
            if is_within(&self.networks[i], host):
                return True
        return False

    def __len__(self):
        return self.count
