"""Who may connect: how many connections a worker has, how many of them one client address has, and how many sockets are
left for upstreams. One per reactor, shared by all that accept.
"""
from libc.stdint cimport uint32_t
from pingora_c.lib.socket cimport sockaddr_storage

cdef enum Shortage:
    SHORT_OF_NOTHING = 0
    SHORT_OF_CONNECTIONS     # Limits.connections are open
    SHORT_OF_DESCRIPTORS     # those that are left are kept for upstreams

cdef enum:
    RESERVE_MOST = 1024      # descriptors kept for upstreams and files, or half of all if that is less


cdef class Admission:
    cdef uint32_t limit          # of connections of clients
    cdef uint32_t client_limit   # of those of one client address; 0: none
    cdef uint32_t clients        # connections of clients that leave the reserve for upstreams
    cdef uint32_t sockets        # of the reactor, upstreams included, beyond which no client is accepted
    cdef readonly uint32_t n_open    # connections of clients
    cdef dict by_client          # key -> connections; only those that a limit counts
    cdef readonly object last_refused    # address of the client that was refused last, as text; None: none was

    cdef int shortage(self, uint32_t n_sources) noexcept nogil      # a Shortage: accept none now
    # A connection begins. The key that `leave` gets, None if it is not counted by address; NotImplemented: refuse it.
    # Addresses of Unix sockets are not limited, nor is who `is_exempt`: a proxy in front, which has many clients.
    cdef object join(self, const sockaddr_storage* address, bint is_exempt)
    cdef void leave(self, object key) noexcept
