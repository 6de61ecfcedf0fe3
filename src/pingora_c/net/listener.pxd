"""A listening socket in the reactor. Accepts what is waiting, pauses when descriptors run out, knows no protocol."""
from libc.stdint cimport uint32_t, uint64_t
from pingora_c.lib.socket cimport sockaddr_storage
from pingora_c.net.proxy_protocol cimport ProxyProtocol
from pingora_c.net.reactor cimport EventSource, Reactor
from pingora_c.net.timer cimport Timer


cdef class Acceptor:
    cdef bint accepts_singly    # a connection costs so much at once that others have their turn before the next
    # A client connected from `address` (borrowed for the call), as `introduction` says unless None. Takes over `fd`.
    cdef void on_accept(self, int fd, const sockaddr_storage* address, ProxyProtocol introduction) noexcept
    # A client at `address` was not let in, its descriptor is closed: for the log.
    cdef void on_turned_away(self, const char* reason, const sockaddr_storage* address) noexcept


cdef class Listener(EventSource):
    cdef int fd                 # owned, -1 once closed
    cdef Acceptor acceptor
    cdef Timer timer            # ends a pause
    cdef bint is_closed
    cdef bint is_watched        # False: clients wait in the kernel's queue, or another process takes them
    cdef int streak             # turns in a row in which somebody waited
    cdef uint64_t last_tick     # of the last of them
    # Take over `fd`; watch() begins to accept.
    cdef int start(self, Reactor reactor, int fd, Acceptor acceptor) except -1
    cdef void pause_accepting(self, int shortage) noexcept
    cdef void resume_accepting(self) noexcept
    cdef void close(self) noexcept
