"""The session. Everything a hook can reach is reached through here."""
cimport cython

import contextvars
import types

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.string cimport memset
from pingora_c.base.clock cimport now_us
from pingora_c.h1.encode cimport FRAME_CHUNKED, FRAME_LENGTH, Outgoing
from pingora_c.h1.framing cimport BODY_CHUNKED, BODY_LENGTH, BODY_NONE, BODY_TUNNEL
from pingora_c.http.field cimport NAME_CONTENT_LENGTH
from pingora_c.http.header_block cimport block_find_known
from pingora_c.lib.context cimport PyContext_Enter, PyContext_Exit
from pingora_c.log.access cimport AccessRecord
from pingora_c.net.reactor cimport SCRATCH_SIZE, Reactor
from pingora_c.net.timer cimport timer_clear, timer_init, timer_unlink
from pingora_c.proxy.access cimport ACCESS_OFF, write_record
from pingora_c.proxy.failure cimport (
    CONNECT_REFUSED, HOOK_RAISED, HOOK_TIMEOUT, NO_MEMORY, NO_UPSTREAM,
    OK, UPSTREAM_CLOSED, failure_reason, failure_status, make_error,
)
from pingora_c.proxy.plan cimport (
    CONNECTED_TO_UPSTREAM, EARLY_REQUEST_FILTER, FAIL_TO_PROXY, LOGGING, NEW_CTX, PROXY_UPSTREAM_FILTER, REQUEST_FILTER,
    RESPONSE_FILTER, UPSTREAM_PEER, UPSTREAM_REQUEST_FILTER, UPSTREAM_RESPONSE_FILTER,
)
from pingora_c.proxy.selection cimport selection_key
from pingora_c.proxy.stream cimport HIGH_WATER
from pingora_c.upstream.balancer cimport KEY_NONE, selection_scope
from pingora_c.proxy.upstream_leg cimport open_stream

from pingora_c.proxy.plan import PHASES as _PHASES
from pingora_c.proxy.task import start_task
from pingora_c.proxy.timings import Timings
from pingora_c.upstream.balancer import NoUpstream

cdef str request_line(object head):
    return f"{head.method} {head.target}"


cdef void fire_hook_timeout(void* owner) noexcept:
    cdef Session session = <Session>owner
    session.failure = HOOK_TIMEOUT
    session.cancel_task()


@cython.final
cdef class Session(StreamOwner):
    """One request and its response, as hooks see it. Made by the core."""

    def __cinit__(self):
        timer_init(&self.timer, fire_hook_timeout, <void*>self)

    def __dealloc__(self):
        timer_unlink(&self.timer)

    # -- phases

    cdef void start(self) noexcept:
        if self.down.framing.kind != BODY_NONE:
            self.down.pause_body()
        if self.plan.has_hooks:
            self.run(NEW_CTX)
        else:
            self.after(PROXY_UPSTREAM_FILTER, None)

    cdef void run(self, int phase) noexcept:
        cdef object error = None
        try:
            error = self.caught(phase, None, False)
        except:
            pass   # ignored: only memory can lack here, and then nothing can be told
        if error is not None:
            self.hook_failed(phase, error)

    cdef object caught(self, int phase, object result, bint is_over):
        """Run a phase, or (`is_over`) go on behind it with `result`; give the exception that was raised, or None."""
        try:
            if is_over:
                self.after_or_raise(phase, result)
            else:
                self.run_or_raise(phase)
        except BaseException as error:
            return error

    cdef int run_or_raise(self, int phase) except -1:
        """Call the hook of a phase, if there is one, and go on with its result now or when its coroutine ends."""
        cdef object hook = self.plan.hooks[phase]
        cdef object result = None
        cdef uint64_t before
        if hook is not None:
            before = now_us()
            if self.context is None:
                self.context = contextvars.copy_context()
                self.scope = SelectionScope()
                self.context.run(selection_scope.set, self.scope)
            PyContext_Enter(self.context)
            try:
                result = self.call(phase, hook)
            finally:
                PyContext_Exit(self.context)
                self.hooks_us += now_us() - before
            if type(result) is types.CoroutineType:
                task = start_task(result, self.plan.loop, self.context)
                if not task.done():
                    self.task = task
                    self.task_phase = phase
                    self.plan.reactor.set_timer(&self.timer, self.plan.hook_timeout_ms)
                    task.add_done_callback(self.on_task_done)
                    return 0
                result = task.result()
        self.after_or_raise(phase, result)
        return 0

    cdef object call(self, int phase, object hook):
        if phase == NEW_CTX:
            return hook()
        if phase == UPSTREAM_REQUEST_FILTER:
            return hook(self, self.upstream_head, self.ctx_object)
        if phase == UPSTREAM_RESPONSE_FILTER or phase == RESPONSE_FILTER:
            return hook(self, self.response_head, self.ctx_object)
        if phase == FAIL_TO_PROXY or phase == LOGGING:
            return hook(self, self.error, self.ctx_object)
        if phase == CONNECTED_TO_UPSTREAM:
            return hook(self, self.chosen, self.up.is_reused, self.ctx_object)
        return hook(self, self.ctx_object)

    def on_task_done(self, task):
        """The coroutine of a hook ended. Called by the loop."""
        cdef Reactor reactor = self.plan.reactor
        cdef int phase = self.task_phase
        reactor.enter()
        self.task = None
        timer_clear(&self.timer)
        if self.state == SESSION_DONE:
            pass
        elif task.cancelled():
            if phase == LOGGING:
                self.conclude()
            else:
                self.fail(self.failure if self.failure else HOOK_RAISED)
        elif task.exception() is not None:
            self.hook_failed(phase, task.exception())
        elif self.failure and phase < FAIL_TO_PROXY:
            self.fail(self.failure)
        else:
            self.after(phase, task.result())
        reactor.leave()

    cdef void cancel_task(self) noexcept:
        try:
            self.task.cancel()
        except:
            pass   # ignored: the loop is closing and ends the task itself

    cdef void after(self, int phase, object result) noexcept:
        cdef object error = None
        try:
            error = self.caught(phase, result, True)
        except:
            pass   # ignored: only memory can lack here, and then nothing can be told
        if error is not None:
            self.hook_failed(phase, error)

    cdef int after_or_raise(self, int phase, object result) except -1:
        """Go on behind a phase. A Response answers now, whatever the phase; None goes on."""
        if phase == NEW_CTX:
            self.ctx_object = result
            return self.run_or_raise(EARLY_REQUEST_FILTER)
        if phase == LOGGING:
            self.conclude()
            return 0
        if result is not None and phase != UPSTREAM_PEER:
            if type(result) is not Response:
                raise TypeError(f"{_PHASES[phase]}: expected None or a Response, got {result!r}")
            return self.answer(<Response>result)
        if phase == EARLY_REQUEST_FILTER:
            return self.run_or_raise(REQUEST_FILTER)
        if phase == REQUEST_FILTER:
            return self.run_or_raise(PROXY_UPSTREAM_FILTER)
        if phase == PROXY_UPSTREAM_FILTER:
            return self.select_peer()
        if phase == UPSTREAM_PEER:
            if type(result) is not HttpPeer:
                raise TypeError(f"upstream_peer: expected an HttpPeer, got {result!r}")
            self.chosen = <HttpPeer>result
            self.connect()
            return 0
        if phase == CONNECTED_TO_UPSTREAM:
            return self.prepare_request()
        if phase == UPSTREAM_REQUEST_FILTER:
            self.send_request()
        elif phase == UPSTREAM_RESPONSE_FILTER:
            return self.run_or_raise(RESPONSE_FILTER)
        elif phase == RESPONSE_FILTER:
            self.send_response()
        elif phase == FAIL_TO_PROXY:
            self.default_page()
        return 0

    cdef void hook_failed(self, int phase, object error) noexcept:
        """A hook raised: 503 if no upstream was to be had, else 500, with the traceback in the error log."""
        cdef int kind = HOOK_RAISED
        cdef bint is_no_upstream = False
        self.cause = error
        try:
            is_no_upstream = isinstance(error, NoUpstream)
        except:
            pass   # ignored: it counts as raised
        if is_no_upstream:
            kind = self.first_failure if self.first_failure else NO_UPSTREAM
        else:
            self.report(phase, error)
        if phase == LOGGING:
            self.conclude()
        elif phase == FAIL_TO_PROXY:
            self.default_page()
        else:
            self.fail(kind)

    cdef void report(self, int phase, object error) noexcept:
        try:
            self.plan.on_hook_error(_PHASES[phase], request_line(self.request_head), error)
        except:
            pass   # ignored: reporting must not fail the session a second time

    # -- upstream

    cdef int select_peer(self) except -1:
        cdef Endpoint endpoint
        cdef uint64_t tried = 0
        cdef bytes key = b""
        self.state = SESSION_CONNECTING
        if self.plan.hooks[<int>UPSTREAM_PEER] is not None:
            return self.run_or_raise(UPSTREAM_PEER)
        if self.scope is not None:
            tried = self.scope.tried
        if self.plan.balancer.key_kind != KEY_NONE:
            key = selection_key(self.plan.balancer, self.request_head, self.server)
        endpoint = self.plan.balancer.select_endpoint(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), tried)
        if endpoint is None:
            self.fail(self.first_failure if self.first_failure else NO_UPSTREAM)
            return 0
        self.chosen = HttpPeer.of(endpoint)
        self.connect()
        return 0

    cdef void connect(self) noexcept:
        cdef int opened
        self.n_attempts += 1
        self.endpoint = self.chosen.endpoint
        if self.endpoint is not None:
            self.endpoint.on_start()
        self.connect_at_us = now_us()
        opened = open_stream(self.plan.reactor, self.plan.pool, self.chosen, self, not self.reuse_failed)
        self.up = <H1ClientStream>self.opened
        self.opened = None
        if opened < 0:
            self.retry(CONNECT_REFUSED)
        elif opened == 1:
            self.on_connected()

    cdef void on_connected(self) noexcept:
        self.connected_us = now_us()
        if not self.plan.has_response_hooks:
            self.up.client.read_limit = SCRATCH_SIZE
        self.run(CONNECTED_TO_UPSTREAM)

    cdef int prepare_request(self) except -1:
        if self.plan.hooks[<int>UPSTREAM_REQUEST_FILTER] is None:
            self.upstream_head = self.request_head
            self.send_request()
            return 0
        self.upstream_head = self.request_head.copy()
        if self.upstream_head is None:
            self.fail(NO_MEMORY)
            return 0
        return self.run_or_raise(UPSTREAM_REQUEST_FILTER)

    cdef void send_request(self) noexcept:
        cdef Outgoing how
        if self.up is None:
            return     # it failed while the hook ran: on_failure dealt with it
        memset(&how, 0, sizeof(how))
        how.client = self.server.client_ip
        how.client_size = self.server.client_ip_size
        how.proto = b"http"
        how.is_upgrade = self.down.framing.upgrade
        if self.down.framing.kind == BODY_CHUNKED:
            how.framing = FRAME_CHUNKED
        elif self.down.framing.kind == BODY_LENGTH or self.down.framing.has_length:
            how.framing = FRAME_LENGTH
            how.length = self.down.framing.length
        self.request_sent = True
        if self.up.send_request(self.upstream_head, &how) < 0:
            self.fail(NO_MEMORY)
            return
        self.state = SESSION_RELAYING
        if self.down.body_done:
            self.up.send_end()
        else:
            self.down.resume_body()

    cdef bint may_retry(self, int kind) noexcept:
        """Nothing of the request sent: any method. A reused connection died before an answer and no body byte was
        sent: once more.
        """
        if self.response_sent or self.n_attempts >= self.plan.attempts_max:
            return False
        if not self.request_sent:
            return True
        return kind == UPSTREAM_CLOSED and self.up.is_reused and not self.up.got_bytes and self.received_bytes == 0

    cdef void retry(self, int kind) noexcept:
        cdef bint again = self.may_retry(kind)
        cdef bint stale = self.up is not None and self.up.is_reused
        if stale:
            self.reuse_failed = True
        elif self.endpoint is not None:
            if self.scope is None:
                self.make_scope()
            if self.scope is not None:
                self.scope.mark_tried(self.endpoint)
        self.let_upstream_go(False, not stale)
        self.request_sent = False
        if self.first_failure == OK:
            self.first_failure = kind
        if again:
            self.failure = OK
            if not self.down.body_done:
                self.down.pause_body()
            self.after(PROXY_UPSTREAM_FILTER, None)
        else:
            self.fail(kind)

    cdef void make_scope(self) noexcept:
        try:
            self.scope = SelectionScope()
            self.scope.balancer = self.plan.balancer
        except:
            pass   # ignored: without memory the same endpoint may be tried again

    cdef void let_upstream_go(self, bint is_complete, bint is_failure) noexcept:
        cdef H1ClientStream up = self.up
        if self.endpoint is not None:
            self.endpoint.on_finish(is_failure)
            self.endpoint = None
        if up is not None:
            self.up = None
            up.release(is_complete)

    # -- relay

    cdef void on_body(self, bint is_client, const char* data, size_t size) noexcept:
        if is_client:
            self.received_bytes += size
            if self.up is None:
                return
            if self.up.send_body(data, size) < 0:
                self.fail(NO_MEMORY)
            elif self.up.unsent() > HIGH_WATER and self.up.client.is_blocked:
                self.down.pause_body()
        else:
            self.sent_bytes += size
            if self.down.send_body(data, size) < 0:
                self.fail(NO_MEMORY)
            elif self.server.is_blocked and self.down.unsent() > HIGH_WATER:
                self.up.pause_body()
                self.server.arm(self.plan.limits.write_ms)

    cdef void on_body_end(self, bint is_client) noexcept:
        if is_client:
            if self.up is not None:
                self.up.send_end()
            if self.down.is_tunnel and self.upstream_ended:
                self.finish()
            return
        self.upstream_ended = True
        if not self.response_sent:
            return      # a response filter is still at work; send_response ends it
        self.down.send_end()
        if not self.down.is_tunnel or self.down.body_done:
            self.finish()

    cdef void on_writable(self, bint is_client) noexcept:
        if is_client:
            timer_clear(&self.server.timer)
            if self.up is not None:
                self.up.resume_body()
        else:
            self.down.resume_body()

    cdef void on_interim(self, ResponseHead head) noexcept:
        self.down.send_interim(head)

    cdef void on_response(self, ResponseHead head, const Framing* framing) noexcept:
        self.first_byte_us = now_us()
        self.response_head = head
        self.response_framing = framing[0]
        if self.plan.has_response_hooks:
            self.up.pause_body()
            self.run(UPSTREAM_RESPONSE_FILTER)
        else:
            self.send_response()

    cdef void send_response(self) noexcept:
        cdef int64_t length = -1
        cdef bint is_upgrade = self.response_framing.kind == BODY_TUNNEL
        if self.up is None:
            return
        if self.response_framing.has_length:
            length = self.response_framing.length
            if block_find_known(&self.response_head.block, NAME_CONTENT_LENGTH, 0) < 0:
                length = -1      # a hook removed it: the body goes out chunked
        elif (self.response_framing.kind == BODY_NONE and not self.down.to_head
              and self.response_head.status_code != 304):
            length = 0
        if self.down.send_head(self.response_head, length, is_upgrade) < 0:
            self.fail(NO_MEMORY)
            return
        self.response_sent = True
        if is_upgrade:
            self.down.resume_body()
            self.server.resume()
        if self.upstream_ended:
            self.down.send_end()
            self.finish()
        else:
            self.up.resume_body()

    # -- ending

    cdef void on_failure(self, bint is_client, int kind) noexcept:
        if self.state >= SESSION_LOGGING:
            return
        if is_client or self.response_sent:
            self.fail(kind)
        elif self.task is not None:
            # a hook is at work: the attempt is dealt with when it ends
            self.failure = kind
            self.let_upstream_go(False, True)
        else:
            self.retry(kind)

    cdef void fail(self, int kind) noexcept:
        """Answer the failure if the client can still be told, else cut; then log."""
        if self.failure == OK:
            self.failure = kind
        if self.task is not None:
            self.cancel_task()     # on_task_done comes back here
            return
        if self.state >= SESSION_LOGGING:
            return
        if self.response_sent or failure_status(self.failure) == 0:
            self.finish()
            return
        self.let_upstream_go(False, True)
        if self.was_answered:
            self.default_page()
        else:
            self.was_answered = True
            self.run(FAIL_TO_PROXY)

    cdef void default_page(self) noexcept:
        cdef int status = failure_status(self.failure)
        try:
            reason = failure_reason(self.failure).decode("ascii")
            self.answer(Response(status, {"content-type": "text/plain"}, f"{status} {reason}\n"))
        except:
            self.response_sent = True   # ignored: no memory for a page, the connection is cut
        if self.state < SESSION_LOGGING:
            self.finish()

    cdef int answer(self, Response response) except -1:
        """Send an answer made here."""
        cdef Py_ssize_t size
        if self.response_sent:
            self.finish()
            return 0
        self.was_answered = True
        self.let_upstream_go(False, False)
        self.response_head = response.head
        self.answer_body = response.body
        size = PyBytes_GET_SIZE(response.body)
        if self.down.send_head(response.head, size, False) < 0:
            self.failure = NO_MEMORY
        else:
            self.response_sent = True
            self.upstream_ended = True
            if not self.down.to_head:
                self.sent_bytes = size
                if self.down.send_body(PyBytes_AS_STRING(response.body), size) < 0:
                    self.failure = NO_MEMORY
                    self.upstream_ended = False
        self.finish()
        return 0

    cdef void finish(self) noexcept:
        """Both sides are done, or one is lost: let the upstream go, log, then let the client go."""
        if self.state >= SESSION_LOGGING:
            return
        self.state = SESSION_LOGGING
        self.ended_us = now_us()
        self.let_upstream_go(self.upstream_ended, self.failure != OK)
        self.run(LOGGING)

    cdef void conclude(self) noexcept:
        cdef H1ServerStream down = self.down
        if self.state == SESSION_DONE:
            return
        self.state = SESSION_DONE
        if self.plan.access_format != ACCESS_OFF:
            try:
                self.write_access_log()
            except:
                pass   # ignored: no memory for the line
        self.plan.n_active -= 1
        self.context = None
        self.scope = None
        self.ctx_object = None
        self.plan.reactor.bury(self)
        if self.plan.is_stopping:
            down.close_after = True
        down.release(self.response_sent and self.upstream_ended)

    cdef int write_access_log(self) except -1:
        cdef AccessRecord record
        cdef AccessRecord* filled = &record
        memset(&record, 0, sizeof(record))
        record.client.at = self.server.client_ip
        record.client.size = self.server.client_ip_size
        record.status = self.response_head.status_code if self.response_sent and self.response_head is not None else 0
        record.attempts = self.n_attempts
        record.sent_bytes = self.sent_bytes
        record.received_bytes = self.received_bytes
        record.total_us = self.ended_us - self.started_us
        record.connect_us = self.connected_us - self.connect_at_us if self.connected_us else -1
        record.first_byte_us = self.first_byte_us - self.started_us if self.first_byte_us else -1
        record.error = failure_reason(self.failure) if self.failure else NULL
        return write_record(self.plan, filled, self.request_head, self.chosen)

    # -- what hooks see

    @property
    def request(self):
        """The client's request head; editing it after `upstream_request_filter` changes nothing."""
        return self.request_head

    @property
    def response(self):
        """The response head, None before there is one."""
        return self.response_head

    @property
    def peer(self):
        """The HttpPeer in use or used last, None before one was chosen."""
        return self.chosen

    @property
    def client_address(self):
        """Address of the client, "ip:port", or "unix"."""
        ip = self.server.client_ip[:self.server.client_ip_size].decode("ascii")
        if ":" in ip:
            return f"[{ip}]:{self.server.client_port}"
        return f"{ip}:{self.server.client_port}" if self.server.client_port else ip

    @property
    def timings(self):
        cdef uint64_t ended_us = self.ended_us
        if ended_us == 0:
            ended_us = now_us()
        return Timings(self.started_us, self.connect_at_us, self.connected_us, self.first_byte_us, ended_us,
                       self.hooks_us)

    @property
    def attempts(self):
        """How many times an upstream was tried."""
        return self.n_attempts

    @property
    def bytes_received(self):
        """Body bytes from the client."""
        return self.received_bytes

    @property
    def bytes_sent(self):
        """Body bytes to the client."""
        return self.sent_bytes

    @property
    def error(self):
        """The ProxyError of a session that failed, else None."""
        return make_error(self.failure, self.cause) if self.failure else None
