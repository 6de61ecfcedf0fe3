"""Admission. Owns the numbers of open connections; knows no connection."""
cimport cython

import ipaddress
import os
import resource

from libc.stdint cimport int64_t
from libc.string cimport memcmp
from pingora_c.lib.socket cimport AF_INET, AF_INET6, sockaddr_in, sockaddr_in6

cdef const char* V4_MAPPED = b"\0\0\0\0\0\0\0\0\0\0\xff\xff"


cdef bytes client_key(const sockaddr_storage* address):
    """What stands for one client: an IPv4 address, or the /64 network that one IPv6 client has to itself."""
    cdef const char* host
    if address.ss_family == AF_INET:
        host = <const char*>&(<const sockaddr_in*>address).sin_addr
        return host[:4]
    if address.ss_family == AF_INET6:
        host = <const char*>&(<const sockaddr_in6*>address).sin6_addr
        if memcmp(host, V4_MAPPED, 12) == 0:
            return (host + 12)[:4]
        return host[:8]
    return None


cdef str key_text(bytes key):
    if len(key) == 4:
        return str(ipaddress.IPv4Address(key))
    return str(ipaddress.IPv6Network((key + bytes(8), 64)))


cdef int count_descriptors() except -1:
    """How many the process has open; a usual number where /proc is not there."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 32


@cython.final
cdef class Admission:
    """Made by the reactor. Descriptors that the process has open when it is made are not counted as sockets."""

    def __cinit__(self):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        cdef int64_t descriptors = min(most, <uint32_t>-1) if most != resource.RLIM_INFINITY else <uint32_t>-1
        cdef int64_t reserve = min(descriptors // 2, <int64_t>RESERVE_MOST)
        descriptors -= count_descriptors()
        self.clients = <uint32_t>max(descriptors - reserve, 1)
        self.sockets = <uint32_t>max(descriptors - reserve // 8, 1)
        self.limit = <uint32_t>-1
        self.by_client = {}

    def set_limits(self, uint32_t connections, uint32_t client_connections):
        """Set both limits; `client_connections` 0 is none. What is open stays open."""
        self.limit = connections
        self.client_limit = client_connections

    cdef int shortage(self, uint32_t n_sources) noexcept nogil:
        if self.n_open >= self.limit:
            return SHORT_OF_CONNECTIONS
        if self.n_open >= self.clients or n_sources >= self.sockets:
            return SHORT_OF_DESCRIPTORS
        return SHORT_OF_NOTHING

    cdef object join(self, const sockaddr_storage* address, bint is_exempt):
        cdef bytes key = None
        cdef uint32_t n
        if self.client_limit and not is_exempt:
            key = client_key(address)
        if key is not None:
            n = self.by_client.get(key, 0)
            if n >= self.client_limit:
                self.last_refused = key_text(key)
                return NotImplemented
            self.by_client[key] = n + 1
        self.n_open += 1
        return key

    cdef void leave(self, object key) noexcept:
        cdef uint32_t n
        self.n_open -= 1
        if key is None:
            return
        try:
            n = self.by_client.pop(key) - 1
            if n:
                self.by_client[key] = n
        except:
            pass   # ignored: without memory the client may have one connection more
