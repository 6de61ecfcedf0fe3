"""TCP sessions. Own both connections of a session and its hooks' task; read nothing of what passes but a hello."""
cimport cython

import types

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.string cimport memset
from pingora_c.base.clock cimport now_us
from pingora_c.lib.errno cimport EMFILE, ENFILE, errno
from pingora_c.log.access cimport AccessRecord
from pingora_c.lib.unistd cimport close as close_fd
from pingora_c.net.reactor cimport SCRATCH_SIZE, Reactor
from pingora_c.net.timer cimport timer_clear, timer_init, timer_unlink
from pingora_c.net.transport cimport IO_EOF
from pingora_c.prelude.client_hello cimport HELLO_ABSENT, HELLO_MOST, Hello, parse_client_hello
from pingora_c.proxy.access cimport ACCESS_OFF, write_record
from pingora_c.net.connection cimport Connection
from pingora_c.proxy.failure cimport (
    CLIENT_BAD_HELLO, CLIENT_GONE, CLIENT_TIMEOUT, CONNECT_REFUSED, HOOK_RAISED, HOOK_TIMEOUT, NO_DESCRIPTORS,
    NO_MEMORY, NO_UPSTREAM, OK, TUNNEL_TIMEOUT, UPSTREAM_CLOSED, error_kind, failure_reason, is_upstream_failure,
    make_error,
)
from pingora_c.proxy.outage cimport note_answer, note_use
from pingora_c.proxy.retry cimport has_time_left
from pingora_c.proxy.stream cimport HIGH_WATER
from pingora_c.stats.counters cimport (
    ATTEMPT_FAILURES, ATTEMPTS, CLOSED_HANDSHAKE, FAILURES, RETRIES, TCP_RECEIVED, TCP_SENT, TCP_SESSIONS,
    TCP_SESSIONS_ACTIVE,
)
from pingora_c.upstream.balancer cimport KEY_CLIENT_IP, KEY_HOST, selection_scope

from pingora_c.upstream.balancer import NoUpstream

cdef enum:
    LINGER_MS = 2000

TCP_PHASES = ("connection_filter", "upstream_peer", "logging")

cdef object CoroutineType = types.CoroutineType


cdef void fire_timer(void* owner) noexcept:
    cdef TcpSession session = <TcpSession>owner
    if session.state == TCP_RELAY:
        session.watch()
    elif session.task is not None:
        if session.failure == OK and session.state < TCP_LOG:
            session.failure = HOOK_TIMEOUT     # a hook that logs fails nothing any more
        session.cancel_task()


@cython.final
cdef class TcpSession(TcpOwner):
    """One connection of a client and what passes over it, as hooks see it. Made by the core."""

    def __cinit__(self):
        timer_init(&self.timer, fire_timer, <void*>self)

    def __dealloc__(self):
        timer_unlink(&self.timer)

    @classmethod
    def __class_getitem__(cls, ctx, /):
        """Name the type of `ctx`, for type checkers: TcpSession[State]."""
        return types.GenericAlias(cls, ctx)

    cdef void start(self) noexcept:
        self.plan.n_requests += 1
        self.plan.n_active += 1
        self.plan.reactor.counted[<int>TCP_SESSIONS] += 1
        self.plan.reactor.counted[<int>TCP_SESSIONS_ACTIVE] += 1
        self.run(TCP_CONNECTION_FILTER)

    # -- hooks

    cdef void run(self, int phase) noexcept:
        cdef object error = None
        try:
            error = self.caught(phase)
        except:
            pass   # ignored: only memory can lack here, and then nothing can be told
        if error is not None:
            self.hook_failed(error)

    cdef object caught(self, int phase):
        """Run a phase; give the exception that was raised, or None."""
        try:
            self.run_or_raise(phase)
        except BaseException as error:
            return error

    cdef object caught_after(self, int phase, object result):
        try:
            self.after_or_raise(phase, result)
        except BaseException as error:
            return error

    cdef object caught_select(self):
        try:
            self.select_peer()
        except BaseException as error:
            return error

    cdef int run_or_raise(self, int phase) except -1:
        cdef object hook = self.plan.hooks[phase]
        cdef object result = None
        cdef uint64_t since_us
        cdef uint32_t limit_ms = self.plan.hook_timeout_ms
        cdef bint is_done = True
        self.phase = phase
        if hook is not None:
            if self.hooks is None:
                self.hooks = HookContext.new(self.plan, self)
                if self.scope is None:
                    self.scope = SelectionScope()
                self.hooks.set_variable(selection_scope, self.scope)
            since_us = self.hooks.enter()
            try:
                result = hook(self, self.error_or_none()) if phase == TCP_LOGGING else hook(self)
            finally:
                self.hooks.leave(since_us)
            if result is not None and type(result) is CoroutineType:
                result = self.hooks.start(result, &is_done)
        if is_done:
            return self.after_or_raise(phase, result)
        self.task = result
        if self.plan.hook_timeouts_ms is not None:
            limit_ms = self.plan.hook_timeouts_ms.get(phase, limit_ms)
        if limit_ms:
            self.plan.reactor.set_timer(&self.timer, limit_ms)
        self.task.add_done_callback(self.on_task_done)
        return 0

    def on_task_done(self, task):
        """The coroutine of a hook ended. Called by the loop."""
        cdef Reactor reactor = self.plan.reactor
        cdef object error = None if task.cancelled() else task.exception()
        reactor.enter()
        self.task = None
        timer_clear(&self.timer)
        if self.state == TCP_LOG:
            if error is not None:
                self.hook_failed(error)
            else:
                self.conclude()
        elif self.failure != OK:
            self.finish()
        elif task.cancelled():
            self.fail(HOOK_RAISED)
        else:
            result = task.result() if error is None else None
            if error is None:
                error = self.caught_after(self.phase, result)
            if error is not None:
                self.hook_failed(error)
        reactor.leave()

    cdef void cancel_task(self) noexcept:
        try:
            self.task.cancel()
        except:
            pass   # ignored: the loop is closing and ends the task itself

    cdef void hook_failed(self, object error) noexcept:
        cdef int kind = HOOK_RAISED
        try:
            if isinstance(error, NoUpstream):
                kind = self.attempt_failure if self.attempt_failure else NO_UPSTREAM
            elif error_kind(error) != OK:
                kind = error_kind(error)
            if kind == HOOK_RAISED:
                self.plan.on_hook_error(TCP_PHASES[self.phase], f"the connection of {self.client_address}", error)
        except:
            pass   # ignored: reporting must not fail the session a second time
        if self.state >= TCP_LOG:
            self.conclude()
            return
        self.cause = error
        self.fail(kind)

    cdef int after_or_raise(self, int phase, object result) except -1:
        if phase == TCP_LOGGING:
            self.conclude()
        elif phase == TCP_CONNECTION_FILTER:
            if result is not None:
                if not isinstance(result, bytes):
                    raise TypeError(f"connection_filter: expected None or bytes to end with, got {result!r}")
                self.farewell = result
                self.finish()
            elif self.plan.reads_hello and not self.client.transport.is_secure:
                return self.read_hello()
            else:
                return self.select_peer()
        elif type(result) is not HttpPeer:
            raise TypeError(f"upstream_peer: expected an HttpPeer, got {result!r}")
        else:
            self.chosen = <HttpPeer>result
            self.connect()
        return 0

    # -- the client's hello

    cdef int read_hello(self) except -1:
        self.state = TCP_HELLO
        self.client.arm(self.plan.limits.handshake_ms)
        self.client.resume()
        return 0

    cdef size_t take_hello(self, const char* data, size_t size) noexcept:
        cdef char message[HELLO_MOST]
        cdef Hello hello
        cdef object error = None
        cdef Py_ssize_t code = parse_client_hello(data, size, message, &hello)
        if code == 0:
            return 0
        timer_clear(&self.client.timer)
        self.client.pause()
        if code < 0 and code != HELLO_ABSENT:
            self.fail(CLIENT_BAD_HELLO)
            return 0
        try:
            if code > 0:
                if hello.server_name.size:
                    self.hello_name = message[hello.server_name.at:hello.server_name.at + hello.server_name.size]
                self.hello_alpn = message[hello.alpn.at:hello.alpn.at + hello.alpn.size]
            error = self.caught_select()
        except:
            pass   # ignored: no memory, reported below
        if self.state == TCP_HELLO:
            self.fail(NO_MEMORY)
        elif error is not None:
            self.hook_failed(error)
        return 0

    cdef void on_hello_timeout(self) noexcept:
        if self.state == TCP_HELLO:
            self.plan.reactor.counted[<int>CLOSED_HANDSHAKE] += 1
            self.fail(CLIENT_TIMEOUT)

    # -- upstream

    cdef int select_peer(self) except -1:
        cdef Endpoint endpoint
        cdef bytes key = b""
        cdef uint64_t tried = 0
        self.state = TCP_CHOOSE
        if self.plan.hooks[<int>TCP_UPSTREAM_PEER] is not None:
            return self.run_or_raise(TCP_UPSTREAM_PEER)
        if self.plan.balancer.key_kind == KEY_CLIENT_IP:
            key = self.client.client_ip[:self.client.client_ip_size]
        elif self.plan.balancer.key_kind == KEY_HOST and self.hello_name is not None:
            key = self.hello_name.lower()
        if self.scope is not None:
            tried = self.scope.tried
        endpoint = self.plan.balancer.select_endpoint(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), tried)
        if endpoint is None:
            self.fail(self.attempt_failure if self.attempt_failure else NO_UPSTREAM)
            return 0
        self.chosen = HttpPeer.of(endpoint)
        self.connect()
        return 0

    cdef void connect(self) noexcept:
        cdef int opened = -1
        cdef bytes greeting = None
        cdef bint is_introduced = False
        try:
            greeting = self.client.greeting_to(self.chosen)
            is_introduced = True
        except:
            pass   # ignored: the client is gone, or there is no memory to introduce it
        if not is_introduced:
            self.fail(CLIENT_GONE)
            return
        self.state = TCP_CONNECT
        self.plan.reactor.counted[<int>ATTEMPTS] += 1
        self.plan.reactor.counted[<int>RETRIES] += self.n_attempts > 0
        self.n_attempts += 1
        self.is_connected = False
        self.detail = None
        self.connect_at_us = now_us()
        self.endpoint = self.chosen.endpoint
        if self.endpoint is not None:
            self.endpoint.on_start()
        try:
            opened = self.open_upstream(greeting)
        except:
            pass   # ignored: no memory for the connection
        if opened < 0:
            self.on_attempt_failed(NO_DESCRIPTORS if opened == -3 else CONNECT_REFUSED)

    cdef int open_upstream(self, bytes greeting) except -2:
        cdef TcpUpstream upstream = TcpUpstream.__new__(TcpUpstream)
        cdef int fd = self.chosen.dial()
        if fd < 0:
            return -3 if errno == EMFILE or errno == ENFILE else -1
        try:
            upstream.transport = self.chosen.new_transport(fd, False)
        except:
            close_fd(fd)
            raise
        upstream.peer = self.chosen
        upstream.read_limit = SCRATCH_SIZE
        upstream.is_connecting = True
        upstream.is_blocked = True     # the first OUT edge tells the end of the connect
        if upstream.open(self.plan.reactor, upstream.transport) < 0:
            return -1
        upstream.greeting = greeting
        upstream.session = self
        self.upstream = upstream
        self.plan.reactor.set_timer(&upstream.timer, self.chosen.connect_timeout_ms)
        return 0

    cdef void on_connected(self) noexcept:
        self.connected_us = now_us()
        self.is_connected = True
        if self.endpoint is not None:
            note_answer(self.plan, self.endpoint, 0)
        self.begin_relay()

    cdef void on_attempt_failed(self, int kind) noexcept:
        """Try another endpoint, as long as attempts are left: nothing of what the client sent was used up."""
        cdef object error = None
        cdef bint is_last = self.n_attempts >= self.plan.retry.attempts_max
        self.plan.reactor.counted[<int>ATTEMPT_FAILURES + kind] += 1
        self.attempt_failure = kind
        try:
            if self.scope is None:
                self.scope = SelectionScope()
            if self.endpoint is not None:
                self.scope.mark_tried(self.endpoint)
        except:
            pass   # ignored: without memory the same endpoint may be tried again
        self.let_upstream_go(True)
        if is_last or not has_time_left(&self.plan.retry, self.started_us):
            self.fail(kind)
            return
        error = None
        try:
            error = self.caught_select()
        except:
            pass   # ignored: no memory, and nothing can be told
        if error is not None:
            self.hook_failed(error)

    cdef void begin_relay(self) noexcept:
        self.state = TCP_RELAY
        self.client.read_limit = SCRATCH_SIZE
        self.watch()
        self.client.resume()

    # -- the relay

    cdef size_t on_bytes(self, bint is_client, const char* data, size_t size) noexcept:
        cdef Connection source = <Connection>self.client if is_client else <Connection>self.upstream
        cdef Connection sink = <Connection>self.upstream if is_client else <Connection>self.client
        if self.state == TCP_HELLO:
            return self.take_hello(data, size)
        if self.state != TCP_RELAY or sink is None:
            return 0
        self.plan.reactor.counted[<int>TCP_RECEIVED if is_client else <int>TCP_SENT] += size
        if sink.write(data, size) < 0:
            self.fail(NO_MEMORY)
        elif sink.is_blocked and sink.unsent() > HIGH_WATER:
            source.pause()
        return size

    cdef void on_writable(self, bint is_client) noexcept:
        cdef Connection source = <Connection>self.upstream if is_client else <Connection>self.client
        if self.state != TCP_RELAY or source is None:
            return
        source.resume()
        self.try_finish()

    cdef void on_end(self, bint is_client, int code) noexcept:
        cdef Connection sink = <Connection>self.upstream if is_client else <Connection>self.client
        if code != IO_EOF or self.state < TCP_RELAY:
            self.fail(CLIENT_GONE if is_client else UPSTREAM_CLOSED)
            return
        if self.state != TCP_RELAY or sink is None:
            return
        if is_client:
            self.client_ended = True
        else:
            self.upstream_ended = True
        sink.flush()
        sink.shutdown_write()
        self.try_finish()

    cdef void on_broken(self, bint is_client) noexcept:
        """A side takes nothing more. What it sent before it closed may still be in its socket."""
        cdef Connection lost = <Connection>self.client if is_client else <Connection>self.upstream
        if lost.lacks_memory:
            self.fail(NO_MEMORY)
            return
        if self.state != TCP_RELAY:
            self.fail(CLIENT_GONE if is_client else UPSTREAM_CLOSED)
            return
        if is_client:
            self.client_lost = True
        else:
            self.upstream_lost = True
        lost.can_read = True
        lost.saw_hangup = True
        if not lost.is_paused and not lost.saw_eof:
            lost.read_turn()
        self.try_finish()

    cdef void try_finish(self) noexcept:
        cdef bint is_over = self.client_ended and self.upstream_ended
        if self.state != TCP_RELAY:
            return
        is_over |= self.client_lost and self.client_ended
        is_over |= self.upstream_lost and self.upstream_ended
        if is_over and not self.client.unsent() and not self.upstream.unsent():
            self.finish()

    cdef void watch(self) noexcept:
        """Cut a tunnel in which nothing moves for tunnel_ms, seen four times in that time."""
        cdef uint64_t moved = (self.client.bytes_read + self.client.bytes_written
                               + self.upstream.bytes_read + self.upstream.bytes_written)
        if moved != self.moved_before:
            self.moved_before = moved
            self.quiet_quarters = 0
        elif self.quiet_quarters == 4:
            self.fail(TUNNEL_TIMEOUT)
            return
        self.quiet_quarters += 1
        self.plan.reactor.set_timer(&self.timer, self.plan.limits.tunnel_ms // 4 + 1)

    # -- ending

    cdef void fail(self, int kind) noexcept:
        if self.state >= TCP_LOG:
            return
        if self.failure == OK:
            self.failure = kind
        if self.task is not None:
            self.cancel_task()     # on_task_done goes on
        else:
            self.finish()

    cdef void let_upstream_go(self, bint is_failure) noexcept:
        cdef TcpUpstream upstream = self.upstream
        if self.endpoint is not None:
            note_use(self.plan, self.endpoint, is_failure, self.is_connected)
            self.endpoint = None
        if upstream is not None:
            self.upstream = None
            upstream.session = None
            if self.failure != OK and self.state == TCP_RELAY:
                upstream.reset()     # what is cut must not look as if it had ended
            else:
                upstream.close()
            self.plan.reactor.bury(upstream)

    cdef void finish(self) noexcept:
        """Both sides are done, or one is lost: let them go, then log."""
        cdef bint was_relaying = self.state == TCP_RELAY
        if self.state >= TCP_LOG:
            return
        timer_clear(&self.timer)
        self.let_upstream_go(is_upstream_failure(self.failure))
        self.state = TCP_LOG
        self.ended_us = now_us()
        self.plan.reactor.bury(self)
        self.client.session = None
        if self.failure != OK and was_relaying:
            self.client.reset()
        elif self.farewell is not None and PyBytes_GET_SIZE(self.farewell) and not self.client.is_closed:
            self.client.write_copy(PyBytes_AS_STRING(self.farewell), PyBytes_GET_SIZE(self.farewell))
            self.client.flush()
            self.client.shutdown_write()
            self.client.arm(LINGER_MS)     # what it still sends is dropped: a close at once would take that back
            self.client.resume()
        else:
            self.client.close()
        self.plan.reactor.counted[<int>FAILURES + self.failure] += 1
        if self.failure != OK and self.failure != CLIENT_GONE:
            self.write_error_log()
        self.run(TCP_LOGGING)

    cdef void conclude(self) noexcept:
        if self.state == TCP_DONE:
            return
        self.state = TCP_DONE
        if self.plan.access_format != ACCESS_OFF:
            try:
                self.write_access_log()
            except:
                pass   # ignored: no memory for the line
        self.plan.n_active -= 1
        self.plan.reactor.counted[<int>TCP_SESSIONS_ACTIVE] -= 1
        if self.plan.n_active == 0 and self.plan.on_idle is not None:
            self.plan.tell_idle()
        self.hooks = None
        self.scope = None
        self.cause = None

    cdef int write_access_log(self) except -1:
        cdef AccessRecord record
        cdef AccessRecord* filled = &record
        cdef bytes name
        memset(&record, 0, sizeof(record))
        name = b"-" if self.server_name is None else self.server_name.encode()
        record.client.at = self.client.client_ip
        record.client.size = self.client.client_ip_size
        record.method.at = b"CONNECTION"
        record.method.size = 10
        record.target.at = PyBytes_AS_STRING(name)
        record.target.size = PyBytes_GET_SIZE(name)
        record.protocol = b"TCP" if self.hello_alpn is None and not self.client.transport.is_secure else b"TLS"
        record.attempts = self.n_attempts
        record.sent_bytes = self.client.bytes_written
        record.received_bytes = self.client.bytes_read
        record.total_us = self.ended_us - self.started_us
        record.connect_us = self.connected_us - self.connect_at_us if self.connected_us >= self.connect_at_us else -1
        record.first_byte_us = -1
        record.error = failure_reason(self.failure) if self.failure else NULL
        return write_record(self.plan, filled, None, self.chosen)

    cdef object error_or_none(self):
        return make_error(self.failure, self.cause, self.detail) if self.failure else None

    cdef void write_error_log(self) noexcept:
        try:
            self.plan.on_failure(f"connection for {self.server_name or 'no name'}", self.error_or_none(),
                                 self.client_address, None if self.chosen is None else self.chosen.address.text,
                                 self.n_attempts)
        except:
            pass   # ignored: a log line must not fail the session a second time

    # -- what hooks see

    @property
    def server_name(self):
        """The name that the client asks for (SNI), None: none, or its hello was not read."""
        info = self.client.transport.describe() if self.client.transport.is_secure else None
        if info is not None:
            return info.server_name
        return None if self.hello_name is None else self.hello_name.decode("ascii", "replace").lower().removesuffix(".")

    @property
    def alpn(self):
        """The protocols that the client offers in a hello that was read; with TLS here, the one that was chosen."""
        cdef bytes left = self.hello_alpn
        cdef list found = []
        if self.client.transport.is_secure:
            chosen = self.client.transport.describe().alpn
            return () if chosen is None else (chosen,)
        while left:
            found.append(left[1:1 + left[0]].decode("latin-1"))
            left = left[1 + left[0]:]
        return tuple(found)

    @property
    def tls(self):
        """The TlsInfo of the client's connection, None if it is not decrypted here."""
        return self.client.transport.describe()

    @property
    def proxy_protocol(self):
        """How a proxy in front introduced the client, by the PROXY protocol; None if it did not."""
        return self.client.introduction

    @property
    def peer(self):
        """The HttpPeer of the last attempt, None before the first."""
        return self.chosen

    @property
    def attempts(self):
        """Upstreams tried so far."""
        return self.n_attempts

    @property
    def bytes_received(self):
        """Bytes from the client so far."""
        return self.client.bytes_read

    @property
    def bytes_sent(self):
        """Bytes to the client so far."""
        return self.client.bytes_written

    @property
    def duration(self):
        """Seconds since the connection was open, up to its end."""
        return ((self.ended_us if self.ended_us else now_us()) - self.started_us) / 1e6

    @property
    def error(self):
        """The ProxyError of a session that failed, else None."""
        return self.error_or_none()
