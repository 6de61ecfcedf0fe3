"""The connections of TCP sessions. Own their sockets; know no hook and no balancer."""
cimport cython

from pingora_c.net.timer cimport timer_clear
from pingora_c.net.transport cimport IO_UNTRUSTED
from pingora_c.proxy.failure cimport (
    CERTIFICATE_INVALID, CLIENT_GONE, CONNECT_REFUSED, CONNECT_TIMEOUT, TLS_HANDSHAKE, UPSTREAM_WRITE_TIMEOUT,
)
from pingora_c.stats.counters cimport CLOSED_HANDSHAKE, HANDSHAKES
from pingora_c.upstream.peer cimport finish_dial


cdef class TcpOwner:
    cdef size_t on_bytes(self, bint is_client, const char* data, size_t size) noexcept:
        return size

    cdef void on_end(self, bint is_client, int code) noexcept:
        pass

    cdef void on_writable(self, bint is_client) noexcept:
        pass

    cdef void on_broken(self, bint is_client) noexcept:
        pass

    cdef void on_connected(self) noexcept:
        pass

    cdef void on_attempt_failed(self, int kind) noexcept:
        pass

    cdef void on_hello_timeout(self) noexcept:
        pass

    cdef void fail(self, int kind) noexcept:
        pass


@cython.final
cdef class TcpClient(ServerConnection):
    """The client's side of a TCP session. Made by the core."""

    cdef void on_open(self) noexcept:
        if self.transport.needs_handshake:
            self.reactor.counted[<int>HANDSHAKES] += 1
        timer_clear(&self.timer)
        self.is_paused = True
        if self.application.begin(self, None, None) < 0:
            self.close()

    cdef size_t on_bytes(self, const char* data, size_t size) noexcept:
        return size if self.session is None else self.session.on_bytes(True, data, size)

    cdef void on_end(self, int code) noexcept:
        if self.session is None:
            self.close()
        else:
            self.session.on_end(True, code)

    cdef void on_writable(self) noexcept:
        self.note_drained()
        if self.session is not None:
            self.session.on_writable(True)

    cdef void on_broken(self) noexcept:
        if self.session is None:
            self.close()
        else:
            self.session.on_broken(True)

    cdef void on_hangup(self, bint is_reset) noexcept:
        if is_reset and self.was_cut():
            self.fail(CLIENT_GONE)

    cdef void on_timeout(self) noexcept:
        if self.session is not None:
            self.session.on_hello_timeout()
            return
        self.reactor.counted[<int>CLOSED_HANDSHAKE] += self.is_opening
        self.close()

    cdef bint is_idle(self) noexcept:
        return self.session is None

    cdef void fail(self, int kind) noexcept:
        if self.session is None:
            self.close()
        else:
            self.session.fail(kind)


@cython.final
cdef class TcpUpstream(Connection):
    """The upstream's side of a TCP session. Made by the core."""

    cdef void on_open(self) noexcept:
        self.is_connecting = False
        timer_clear(&self.timer)
        if self.session is not None:
            self.session.on_connected()

    cdef void on_open_failed(self, int code) noexcept:
        if self.session is not None:
            try:
                self.session.detail = self.transport.failure()
            except:
                pass   # ignored: the log says less
        self.fail(CERTIFICATE_INVALID if code == IO_UNTRUSTED else TLS_HANDSHAKE)

    cdef size_t on_bytes(self, const char* data, size_t size) noexcept:
        return size if self.session is None else self.session.on_bytes(False, data, size)

    cdef void on_end(self, int code) noexcept:
        if self.session is None:
            self.close()
        elif self.is_connecting:
            self.fail(CONNECT_REFUSED)
        else:
            self.session.on_end(False, code)

    cdef void on_writable(self) noexcept:
        if not self.is_connecting:
            if self.session is not None:
                self.session.on_writable(False)
            return
        if self.session is None or finish_dial(self.transport.fd, self.greeting) < 0:
            self.fail(CONNECT_REFUSED)
            return
        self.open_transport()

    cdef void on_broken(self) noexcept:
        if self.session is None:
            self.close()
        else:
            self.session.on_broken(False)

    cdef void flush(self) noexcept:
        Connection.flush(self)
        if self.is_blocked and not self.is_connecting and self.timer.deadline_ms == 0 and not self.is_closed:
            self.written_before = self.bytes_written
            self.reactor.set_timer(&self.timer, self.peer.write_timeout_ms)

    cdef void on_timeout(self) noexcept:
        if self.is_connecting:
            self.fail(CONNECT_TIMEOUT)
        elif not self.is_blocked:
            return
        elif self.bytes_written != self.written_before:
            self.written_before = self.bytes_written       # slow, but taking
            self.reactor.set_timer(&self.timer, self.peer.write_timeout_ms)
        else:
            self.fail(UPSTREAM_WRITE_TIMEOUT)

    cdef void fail(self, int kind) noexcept:
        if self.session is None:
            self.close()
        elif self.is_connecting:
            self.session.on_attempt_failed(kind)
        else:
            self.session.fail(kind)
