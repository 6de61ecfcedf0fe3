"""Reads PROXY protocol headers off accepted sockets. Owns those sockets meanwhile; knows no protocol behind."""
cimport cython

from pingora_c.lib.epoll cimport EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLRDHUP
from pingora_c.lib.errno cimport EAGAIN, EINTR, errno
from pingora_c.lib.socket cimport AF_UNIX, MSG_PEEK, recv
from pingora_c.lib.unistd cimport close as close_fd
from pingora_c.net.timer cimport timer_init, timer_unlink
from pingora_c.prelude.proxy_header cimport (
    PROXY_ABSENT, PROXY_V2_MOST, ProxyHeader, parse_proxy_header, proxy_reason,
)
from pingora_c.stats.counters cimport PROXY_HEADERS, PROXY_REFUSALS

cdef uint32_t EDGES = EPOLLIN | EPOLLRDHUP | <uint32_t>EPOLLET


cdef const char* introduction_reason(int refusal) noexcept nogil:
    if refusal == INTRODUCED_BY_STRANGER:
        return b"proxy_header_untrusted"
    if refusal == INTRODUCTION_TOO_SLOW:
        return b"proxy_header_timeout"
    if refusal == INTRODUCTION_CUT:
        return b"proxy_header_truncated"
    return proxy_reason(-refusal)


def n_newcomers(Reactor reactor not None) -> int:
    """Return how many accepted connections of a reactor have not been introduced yet."""
    return sum([isinstance(source, Newcomer) for source in reactor.sources()])


cdef void fire_wait(void* owner) noexcept:
    (<Newcomer>owner).on_timeout()


@cython.final
cdef class Newcomer(EventSource):
    """Made by the core."""

    def __cinit__(self):
        self.fd = -1
        timer_init(&self.timer, fire_wait, <void*>self)

    def __dealloc__(self):
        timer_unlink(&self.timer)
        if self.fd >= 0:
            close_fd(self.fd)

    cdef bint look(self, bint has_ended) noexcept:
        cdef char data[PROXY_V2_MOST]
        cdef ProxyHeader header
        cdef ProxyProtocol introduction = None
        cdef Py_ssize_t got, code
        while True:
            got = recv(self.fd, data, sizeof(data), MSG_PEEK)
            if got >= 0 or errno != EINTR:
                break
        if got < 0 and errno == EAGAIN and not has_ended:
            return False
        if got <= 0:
            self.end_wait()
            close_fd(self.fd)        # it left without a word
            self.fd = -1
            self.introducer.forget()
            return True
        code = parse_proxy_header(data, got, &header)
        if code == 0 and not has_ended:
            return False
        self.end_wait()
        if code == PROXY_ABSENT and not (self.is_trusted and self.introducer.is_required):
            self.introducer.hand_over(self.fd, &self.peer, None)
        elif code == 0:
            self.introducer.refuse(self.fd, &self.peer, INTRODUCTION_CUT)
        elif code < 0:
            self.introducer.refuse(self.fd, &self.peer, <int>-code)
        elif not self.is_trusted:
            self.introducer.refuse(self.fd, &self.peer, INTRODUCED_BY_STRANGER)
        elif recv(self.fd, data, code, 0) != code:
            close_fd(self.fd)        # ignored: it was there, so the connection has died meanwhile
            self.introducer.forget()
        else:
            try:
                introduction = ProxyProtocol.of(data, &header)
            except:
                pass   # ignored: no memory, the connection is closed below
            if introduction is None:
                close_fd(self.fd)
                self.introducer.forget()
            else:
                self.introducer.reactor.counted[<int>PROXY_HEADERS] += 1
                self.introducer.hand_over(self.fd, &self.peer, introduction)
        self.fd = -1
        return True

    cdef void on_event(self, uint32_t events) noexcept:
        if self.fd >= 0:
            self.look(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR) != 0)

    cdef void on_timeout(self) noexcept:
        """A client that need not be introduced may be one that waits for us to speak first."""
        cdef int fd = self.fd
        cdef char first
        if fd < 0:
            return
        self.end_wait()
        self.fd = -1
        if recv(fd, &first, 1, MSG_PEEK) > 0 or (self.is_trusted and self.introducer.is_required):
            self.introducer.refuse(fd, &self.peer, INTRODUCTION_TOO_SLOW)
        else:
            self.introducer.hand_over(fd, &self.peer, None)

    cdef void end_wait(self) noexcept:
        timer_unlink(&self.timer)
        if self.reactor is not None:
            self.reactor.remove(self, self.fd)

    cdef void close_descriptor(self) noexcept:
        if self.fd >= 0:
            close_fd(self.fd)
            self.fd = -1


@cython.final
cdef class Introducer(Acceptor):
    """Accepts clients that a proxy in front introduces, for another acceptor.

    `trusted` may introduce clients, and must if `is_required`. Who is on a Unix socket may as well. A header has to be
    there within `limit_ms`.
    """

    def __init__(self, Reactor reactor not None, Acceptor behind not None, Networks trusted not None,
                 bint is_required, uint32_t limit_ms):
        self.reactor = reactor
        self.behind = behind
        self.accepts_singly = behind.accepts_singly
        self.trusted = trusted
        self.is_required = is_required
        self.limit_ms = limit_ms

    cdef void on_accept(self, int fd, const sockaddr_storage* address, ProxyProtocol introduction) noexcept:
        cdef Newcomer newcomer = None
        try:
            newcomer = Newcomer.__new__(Newcomer)
        except:
            pass   # ignored: no memory for one more connection
        if newcomer is None:
            close_fd(fd)
            return
        newcomer.introducer = self
        newcomer.fd = fd
        newcomer.peer = address[0]
        newcomer.is_trusted = address.ss_family == AF_UNIX or self.trusted.holds(address)
        self.reactor.admission.n_open += 1       # the one of whoever serves it comes in its place
        if newcomer.look(False):
            return
        if self.reactor.add(newcomer, fd, EDGES) < 0:
            self.forget()
            return                   # it closes its descriptor when it dies, now
        self.reactor.set_timer(&newcomer.timer, self.limit_ms)

    cdef void hand_over(self, int fd, const sockaddr_storage* peer, ProxyProtocol introduction) noexcept:
        cdef sockaddr_storage named
        self.forget()
        if introduction is not None and introduction.client(&named):
            self.behind.on_accept(fd, &named, introduction)
        else:
            self.behind.on_accept(fd, peer, introduction)

    cdef void forget(self) noexcept:
        self.reactor.admission.n_open -= 1

    cdef void refuse(self, int fd, const sockaddr_storage* peer, int refusal) noexcept:
        self.reactor.counted[<int>PROXY_REFUSALS + refusal] += 1
        close_fd(fd)
        self.forget()
        self.behind.on_turned_away(introduction_reason(refusal), peer)
