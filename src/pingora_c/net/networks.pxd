"""Sets of IP networks, looked into without Python objects."""
cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t
from pingora_c.lib.socket cimport sockaddr_storage

cdef struct Network:
    uint8_t[16] prefix       # IPv4 as ::ffff:a.b.c.d; bits behind the prefix are 0
    uint8_t bits             # 0 <= bits <= 128


@cython.final
cdef class Networks:
    cdef Network* networks   # owned, `count` of them
    cdef size_t count
    # Whether an IPv4 or IPv6 address is in one of them; a mapped address counts as IPv4. Others are in none.
    cdef bint holds(self, const sockaddr_storage* address) noexcept nogil
