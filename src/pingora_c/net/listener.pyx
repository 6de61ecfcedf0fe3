"""Listening socket. Owns its descriptor."""
cimport cython

from pingora_c.lib.epoll cimport EPOLLIN
from pingora_c.lib.errno cimport EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from pingora_c.lib.socket cimport SOCK_CLOEXEC, SOCK_NONBLOCK, accept4, sockaddr, socklen_t
from pingora_c.lib.unistd cimport close as close_fd
from pingora_c.net.admission cimport SHORT_OF_DESCRIPTORS
from pingora_c.net.timer cimport timer_init, timer_unlink
from pingora_c.stats.counters cimport ACCEPT_PAUSES

cdef enum:
    ACCEPTS_PER_TURN = 64
    STREAK = 8
    PAUSE_MS = 100


cdef void end_pause(void* owner) noexcept:
    cdef Listener listener = <Listener>owner
    listener.resume_accepting()


cdef class Acceptor:
    cdef void on_accept(self, int fd, const sockaddr_storage* address, ProxyProtocol introduction) noexcept:
        close_fd(fd)

    cdef void on_turned_away(self, const char* reason, const sockaddr_storage* address) noexcept:
        pass


@cython.final
cdef class Listener(EventSource):
    def __cinit__(self):
        self.fd = -1
        timer_init(&self.timer, end_pause, <void*>self)

    def __dealloc__(self):
        timer_unlink(&self.timer)
        if self.fd >= 0:
            close_fd(self.fd)

    cdef int start(self, Reactor reactor, int fd, Acceptor acceptor) except -1:
        self.reactor = reactor
        self.fd = fd
        self.acceptor = acceptor
        return 0

    cdef void on_event(self, uint32_t events) noexcept:
        cdef int fd, shortage, _turn, burst
        cdef sockaddr_storage address
        cdef socklen_t size
        # One is there, and being told again costs less than asking in vain: several only when they keep coming. Never
        # where each begins a handshake: a turn with 64 of them would keep all others waiting for 30 ms.
        self.streak = self.streak + 1 if self.reactor.ticks == self.last_tick + 1 else 0
        self.last_tick = self.reactor.ticks
        burst = 1 if self.streak < STREAK or self.acceptor.accepts_singly else ACCEPTS_PER_TURN
        for _turn in range(burst):
            if self.is_closed:
                return
            shortage = self.reactor.admission.shortage(self.reactor.n_sources)
            if shortage:
                self.pause_accepting(shortage)
                return
            size = sizeof(address)
            fd = accept4(self.fd, <sockaddr*>&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd >= 0:
                self.acceptor.on_accept(fd, &address, None)
            elif errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
                self.pause_accepting(SHORT_OF_DESCRIPTORS)
                return
            else:
                self.streak = 0
                return   # drained, or the client is gone already

    cdef void pause_accepting(self, int shortage) noexcept:
        """Look away for PAUSE_MS instead of being woken at once again; who waits stays in the kernel's queue."""
        self.reactor.counted[<int>ACCEPT_PAUSES + shortage] += 1
        self.reactor.remove(self, self.fd)
        self.reactor.set_timer(&self.timer, PAUSE_MS)

    cdef void resume_accepting(self) noexcept:
        if not self.is_closed and self.is_watched and self.reactor.add(self, self.fd, EPOLLIN) < 0:
            self.reactor.set_timer(&self.timer, PAUSE_MS)

    cdef void close_descriptor(self) noexcept:
        if self.fd >= 0:
            close_fd(self.fd)
            self.fd = -1

    cdef void close(self) noexcept:
        if self.is_closed:
            return
        self.is_closed = True
        self.is_watched = False
        timer_unlink(&self.timer)
        self.reactor.remove(self, self.fd)
        self.close_descriptor()

    def watch(self):
        """Accept clients from now on; may be called twice."""
        if self.is_closed or self.is_watched:
            return
        if self.reactor.add(self, self.fd, EPOLLIN) < 0:
            raise OSError(errno, "cannot watch the listening socket")
        self.is_watched = True

    def unwatch(self):
        """Leave clients in the kernel's queue; may be called twice."""
        if not self.is_watched:
            return
        self.is_watched = False
        self.reactor.enter()
        timer_unlink(&self.timer)
        self.reactor.remove(self, self.fd)
        self.reactor.leave()
