"""Exchanges. Own both streams of one session, its heads and the context of its hooks."""
cimport cython

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from pingora_c.h1.encode cimport VIA_MOST, put_via
from pingora_c.h1.framing cimport ASKS_TUNNEL, BODY_NONE, BODY_TUNNEL
from pingora_c.h1.max_forwards cimport max_forwards
from pingora_c.http.field cimport NAME_CONTENT_LENGTH
from pingora_c.http.header_block cimport block_add, block_find_known
from pingora_c.http.message cimport METHOD_OPTIONS, Method, ResponseHead, is_idempotent
from pingora_c.log.access cimport AccessRecord
from pingora_c.net.timer cimport timer_clear
from pingora_c.proxy.access cimport ACCESS_OFF, write_record
from pingora_c.proxy.body_filter cimport BodyFilter, has_body_hooks
from pingora_c.proxy.failure cimport (
    BODY_TOO_LARGE, CLIENT_GONE, CLIENT_TRUNCATED, HOOK_RAISED, NO_MEMORY, OK, TUNNEL_TIMEOUT, UPSTREAM_CLOSED,
    failure_reason, failure_status, is_client_failure, is_upstream_failure, make_error,
)
from pingora_c.proxy.grpc cimport as_grpc, call_status, holds_grpc_type, is_grpc
from pingora_c.proxy.phases cimport SESSION_DONE, SESSION_LOGGING, SESSION_RELAYING, request_line
from pingora_c.proxy.plan cimport (
    ANSWER_BODY, CONNECTED_TO_UPSTREAM, EARLY_REQUEST_FILTER, ERROR_WHILE_PROXY, FAIL_TO_CONNECT, FAIL_TO_PROXY,
    LOGGING, NEW_CTX, ON_CONNECTION_REUSE, PERSIST_CONNECTION_CONTEXT, PROXY_UPSTREAM_FILTER, REQUEST_FILTER,
    REQUEST_SUMMARY, RESPONSE_FILTER, SUPPRESS_ERROR_LOG, UPSTREAM_PEER, UPSTREAM_REQUEST_FILTER,
    UPSTREAM_RESPONSE_FILTER,
)
from pingora_c.proxy.stream cimport Stream
from pingora_c.proxy cimport tally
from pingora_c.upstream.peer cimport HttpPeer

from pingora_c.proxy.plan import PHASES as _PHASES
from pingora_c.proxy.response import leave, send_all


cdef bint has_no_content(Stream down, int status) noexcept:
    """Whether an answer has no body, whatever it says (RFC 9110 §6.4.1, §15.3.6)."""
    return down.to_head or status == 204 or status == 205 or status == 304


@cython.final
cdef class Exchange(Attempts):
    """Made by the core."""

    cdef void start(self) noexcept:
        self.head_us = self.plan.reactor.now_us
        if self.down.framing.kind != BODY_NONE:
            self.down.pause_body()
            if self.plan.keeps_body or is_idempotent(<Method>self.request_head.method_id):
                self.keep_body()
        self.watch_call()
        if self.plan.has_hooks:
            self.run(NEW_CTX)
        else:
            self.after(PROXY_UPSTREAM_FILTER, None)

    # -- phases

    cdef object call(self, int phase, object hook):
        if phase == NEW_CTX:
            return hook()
        if phase == UPSTREAM_REQUEST_FILTER:
            return hook(self.hooks.session, self.upstream_head, self.hooks.ctx)
        if phase == UPSTREAM_RESPONSE_FILTER or phase == RESPONSE_FILTER:
            return hook(self.hooks.session, self.response_head, self.hooks.ctx)
        if phase == FAIL_TO_PROXY or phase == LOGGING or phase == SUPPRESS_ERROR_LOG:
            return hook(self.hooks.session, self.error(), self.hooks.ctx)
        if phase == CONNECTED_TO_UPSTREAM:
            return hook(self.hooks.session, self.chosen, self.is_reused, self.hooks.ctx)
        if phase == FAIL_TO_CONNECT:
            return hook(self.hooks.session, self.chosen, self.attempt_error, self.hooks.ctx)
        if phase == ERROR_WHILE_PROXY:
            return hook(self.hooks.session, self.chosen, self.attempt_error, self.is_reused, self.hooks.ctx)
        if phase == ON_CONNECTION_REUSE:
            return hook(self.hooks.session, self.server.persisted, self.hooks.ctx)
        return hook(self.hooks.session, self.hooks.ctx)

    cdef int after_or_raise(self, int phase, object result) except -1:
        """Go on behind a phase. A Response answers now, whatever the phase; None goes on."""
        if phase >= SUPPRESS_ERROR_LOG:
            return self.after_ending(phase, result)
        if phase == NEW_CTX:
            self.prepare_hooks()
            self.hooks.ctx = result
            return self.run_or_raise(EARLY_REQUEST_FILTER if self.server.persisted is None else ON_CONNECTION_REUSE)
        if result is not None and (phase != UPSTREAM_PEER or type(result) is Response):
            if type(result) is not Response:
                raise TypeError(f"{_PHASES[phase]}: expected None or a Response, got {result!r}")
            return self.answer(<Response>result)
        if phase == ON_CONNECTION_REUSE:
            return self.run_or_raise(EARLY_REQUEST_FILTER)
        if phase == EARLY_REQUEST_FILTER:
            return self.run_or_raise(REQUEST_FILTER)
        if phase == REQUEST_FILTER:
            return self.run_or_raise(PROXY_UPSTREAM_FILTER)
        if phase == PROXY_UPSTREAM_FILTER:
            return self.ask_upstream()
        if phase == UPSTREAM_PEER:
            if type(result) is not HttpPeer:
                raise TypeError(f"upstream_peer: expected an HttpPeer, got {result!r}")
            self.chosen = <HttpPeer>result
            self.connect()
        elif phase == CONNECTED_TO_UPSTREAM:
            return self.prepare_request()
        elif phase == UPSTREAM_REQUEST_FILTER:
            return self.send_request()
        elif phase == UPSTREAM_RESPONSE_FILTER:
            return self.run_or_raise(RESPONSE_FILTER)
        elif phase == RESPONSE_FILTER:
            return self.send_response()
        elif phase == FAIL_TO_CONNECT or phase == ERROR_WHILE_PROXY:
            self.retries = self.attempt_error.retry
            self.decide()
        elif phase == FAIL_TO_PROXY:
            self.default_page()
        return 0

    cdef int after_ending(self, int phase, object result) except -1:
        if phase == SUPPRESS_ERROR_LOG:
            return self.run_or_raise(LOGGING if result else REQUEST_SUMMARY)
        if phase == REQUEST_SUMMARY:
            self.write_error_log(result)
            return self.run_or_raise(LOGGING)
        if phase == LOGGING:
            if (self.plan.hooks[<int>PERSIST_CONNECTION_CONTEXT] is not None and not self.plan.is_stopping
                    and self.down.is_reusable(self.response_sent and self.upstream_ended)):
                return self.run_or_raise(PERSIST_CONNECTION_CONTEXT)
        elif phase == PERSIST_CONNECTION_CONTEXT:
            self.server.persisted = result
        elif phase == ANSWER_BODY:
            self.upstream_ended = True
            self.down.send_end(None)
            self.finish()
            return 0
        self.conclude()
        return 0

    cdef int ask_upstream(self) except -1:
        if self.request_head.method_id == METHOD_OPTIONS and max_forwards(&self.request_head.block) == 0:
            return self.answer(Response(200))      # it may go no further: we are whom it asks (RFC 9110 §7.6.2)
        if self.has_too_much():
            self.fail(BODY_TOO_LARGE)
            return 0
        return self.select_peer()

    # -- the answer

    cdef void on_interim(self, ResponseHead head) noexcept:
        if self.down.send_interim(head) < 0:
            self.fail(NO_MEMORY)     # who waits for it would wait on

    cdef int add_via(self) noexcept:
        cdef char[VIA_MOST + 4] value
        cdef char* end
        if self.plan.via is None:
            return 0
        end = put_via(value, self.response_head.minor, PyBytes_AS_STRING(self.plan.via),
                      PyBytes_GET_SIZE(self.plan.via))
        return block_add(&self.response_head.block, b"Via", 3, value, <uint32_t>(end - value))

    cdef int send_response(self) except -1:
        cdef int64_t length = -1
        cdef bint is_upgrade = self.response_framing.kind == BODY_TUNNEL
        cdef int status = self.response_head.status_code
        if self.up is None:
            return 0
        if is_upgrade and not self.opens_tunnel():
            return self.answer(Response.of(self.response_head))      # a hook made a refusal of it
        self.answers_bare = not is_upgrade and has_no_content(self.down, status)
        if self.response_framing.kind == BODY_NONE and not self.down.to_head and status != 304:
            length = 0           # whatever length it tells: a hook may have asked with HEAD, or have changed a 304
        elif self.response_framing.has_length:
            length = self.response_framing.length
            if block_find_known(&self.response_head.block, NAME_CONTENT_LENGTH, 0) < 0:
                length = -1      # a hook removed it: the body goes out chunked
        if not is_upgrade and has_body_hooks(self.plan, False) and not self.passes_response:
            length = -1          # also to HEAD: it is not known what GET would give
            if not self.down.to_head and status != 304 and status != 204:
                self.response_bodies = BodyFilter.new(self.hooks, self, self.up, False)
        if is_upgrade and not self.open_websocket(self.upstream_head, self.response_head):
            return 0
        if self.plan.is_stopping:
            self.down.close_after = True
        if self.add_via() < 0 or self.down.send_head(self.response_head, length, is_upgrade) < 0:
            self.fail(NO_MEMORY)
            return 0
        self.response_sent = True
        if is_upgrade:
            self.down.resume_body()
        if self.answers_bare and status != 205 and self.response_framing.kind != BODY_NONE:
            self.end_client(None)        # a hook made an answer without a body of one that has one
        elif not self.upstream_ended:
            self.up.resume_body()
        elif self.response_bodies is not None:
            self.upstream_ended = False  # on_filtered_end says when
            self.response_bodies.feed_end(None)
        else:
            self.end_client(None)
        return 0

    cdef bint opens_tunnel(self) noexcept:
        cdef int status = self.response_head.status_code
        return 200 <= status < 300 if self.down.framing.upgrade == ASKS_TUNNEL else status == 101

    # -- ending

    cdef void on_failure(self, bint is_client, int kind) noexcept:
        cdef Stream side
        if self.state >= SESSION_LOGGING:
            return
        if is_client:
            self.body_failure = <uint8_t>kind
        if self.response_sent and self.up is None and not self.down.is_tunnel and is_client and (
                is_client_failure(kind) and failure_status(kind)):
            if self.reader is not None:
                self.finish_reading(kind)
            elif not self.down.is_shared:
                self.down.pause_body()     # nobody wants the rest of the request, and the answer goes on
            return
        if kind == CLIENT_TRUNCATED and self.response_sent:
            self.drop_filters(True)
            if self.up is not None:
                self.up.cut_request()      # its answer may still be whole
            return
        if kind == TUNNEL_TIMEOUT:      # told of the client's side where nothing moves, else by the deadline
            self.on_tunnel_failed(kind, "idle" if is_client else "open for tunnel_total_timeout", None)
            if self.websocket is not None and self.websocket.leave(1001, b"idle" if is_client else b"open too long"):
                return
        if (kind == UPSTREAM_CLOSED or kind == CLIENT_GONE) and self.is_over_for(is_client):
            self.upstream_ended = True
            self.finish()
            return
        if is_client or self.response_sent:
            tally.count_failed_attempts(self.plan, self.asked, kind, self.is_connected, not is_client)
            side = self.down if is_client else self.up
            if self.failure == OK and side is not None:
                self.attempt_failure = kind
                self.detail = side.trouble
            self.fail(kind)
            return
        self.end_attempt(kind)
        if self.task is not None:
            self.lost = True       # a hook is at work: what follows is decided when it ends
        else:
            self.settle()

    cdef bint is_over_for(self, bint is_client) noexcept:
        """Whether a tunnel whose one side is lost had come to its end already."""
        cdef bint has_closed = self.websocket is not None and self.websocket.is_over()
        if not self.down.is_tunnel:
            return False
        if is_client:
            return has_closed and (self.up is None or not self.up.unsent())
        # what the client has not taken yet counts for more than to tell it by a reset
        return has_closed or self.upstream_ended and self.down.unsent() > 0

    cdef void on_filter_failed(self, int phase, object error) noexcept:
        if error is None:
            self.fail(NO_MEMORY)
            return
        self.cause = error
        self.report(phase, error)
        self.fail(HOOK_RAISED)

    cdef void on_filter_answer(self, object response) noexcept:
        if self.response_sent or self.state >= SESSION_LOGGING:
            return
        if self.task is not None:
            self.next_answer = response
            self.cancel_task()
        else:
            self.after(UPSTREAM_REQUEST_FILTER, response)

    cdef void fail(self, int kind) noexcept:
        """Answer the failure if the client can still be told, else cut; then log."""
        if self.state >= SESSION_LOGGING:
            return
        if self.failure == OK:
            self.failure = kind
        if self.task is not None:
            if self.task_phase != FAIL_TO_PROXY or failure_status(kind) == 0:     # else its answer is on the way
                self.cancel_task()     # on_task_done comes back here
            elif self.reader is not None:
                self.finish_reading(kind)
            return
        if self.response_sent or failure_status(self.failure) == 0:
            if self.down.is_tunnel:
                self.upstream_ended = False      # a cut of one side is one of the other, whatever had ended before
            self.end_call()
            self.finish()
            return
        self.let_upstream_go(False, is_upstream_failure(self.failure))
        if self.was_answered:
            self.default_page()
        else:
            self.was_answered = True
            if not self.down.body_done:
                self.down.pause_body()
            self.run(FAIL_TO_PROXY)

    cdef void end_call(self) noexcept:
        """Tell a client of gRPC why messages break off, where the answer may have trailers."""
        cdef int status = failure_status(self.failure)
        if (status == 0 or not self.response_sent or self.upstream_ended
                or not self.down.is_shared or not holds_grpc_type(&self.response_head.block)):
            return
        try:
            self.call_ended = self.down.send_end(call_status(status, failure_reason(self.failure))) == 0
        except:
            pass   # ignored: without memory for it the answer is reset

    cdef void default_page(self) noexcept:
        cdef bint is_sent = False
        try:
            self.answer(self.plan.pages.page(failure_status(self.failure), failure_reason(self.failure)))
            is_sent = True
        except:
            pass   # ignored: no memory for a page, the connection is cut
        if not is_sent:
            self.response_sent = True
            self.finish()

    cdef int answer(self, Response response) except -1:
        cdef const char* reason
        if self.response_sent:
            self.finish()
            return 0
        self.was_answered = True
        self.upstream_ended = False      # what ends now is this answer
        self.let_upstream_go(False, False)
        reason = failure_reason(self.failure) if self.failure else NULL
        response = as_grpc(is_grpc(self.request_head), self.plan.pages.with_reason(response, reason), reason)
        if self.plan.answer_filter is not None:
            response = self.filtered(response)
        self.response_head = response.head
        return self.send_answer(response)

    cdef Response filtered(self, Response response):
        cdef uint64_t since_us
        response = response.copy()        # it may be one for many
        self.prepare_hooks()
        since_us = self.hooks.enter()
        try:
            self.plan.answer_filter(self.hooks.session, response.head, self.hooks.ctx)
        except Exception as error:
            self.report(RESPONSE_FILTER, error)
        finally:
            self.hooks.leave(since_us)
        return response

    cdef int send_answer(self, Response response) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(response.body)
        cdef int status = response.head.status_code
        cdef int64_t length = size if response.stream is None and (size or status != 304) else -1
        if self.plan.is_stopping or not self.down.can_drain() or is_client_failure(self.failure):
            self.down.close_after = True     # stopping, or the rest of the request is not read: the client must know
        cdef bint is_done = False
        if self.down.send_head(response.head, length, False) < 0:
            self.failure = NO_MEMORY
            self.finish()
            return 0
        self.response_sent = True
        self.answers_bare = has_no_content(self.down, status)
        if response.stream is not None:
            self.may_be_read = True
            if self.replay is None and not self.down.body_done:
                self.keep_body()
            if self.down.is_shared:
                self.down.resume_body()      # what waits has a part of the connection's window
            self.state = SESSION_RELAYING
            self.phase = ANSWER_BODY
            self.prepare_hooks()
            if self.answers_bare:
                task = self.hooks.start(leave(response.stream), &is_done)
            else:
                task = self.hooks.start(send_all(self.hooks.session, response.stream), &is_done)
            return self.after_ending(ANSWER_BODY, None) if is_done else self.wait_for(ANSWER_BODY, task)
        self.upstream_ended = True
        self.answer_body = response.body
        if size and not self.answers_bare:
            self.sent_bytes = size
            if self.down.send_kept(response.body) < 0:
                self.failure = NO_MEMORY
                self.upstream_ended = False
        self.down.send_end(None)
        self.finish()
        return 0

    cdef void finish(self) noexcept:
        """Both sides are done, or one is lost: let the upstream go, log, then let the client go."""
        if self.state >= SESSION_LOGGING:
            return
        self.state = SESSION_LOGGING
        self.ended_us = self.plan.reactor.now_us
        timer_clear(&self.call_deadline)
        self.let_upstream_go(self.upstream_ended, is_upstream_failure(self.failure))
        if self.response_head is None and self.plan.has_hooks:
            self.note_no_answer()
        tally.count_outcome(self.plan, self.failure)
        if self.failure != OK and self.failure != CLIENT_GONE:
            self.run(SUPPRESS_ERROR_LOG)
        elif self.plan.has_hooks:
            self.run(LOGGING)
        else:
            self.conclude()

    cdef void note_no_answer(self) noexcept:
        """Nobody was answered, most often because the client left: 499 to whoever logs, as nginx has it."""
        try:
            self.response_head = ResponseHead.new(499)
        except:
            pass   # ignored: without memory hooks see None

    cdef void conclude(self) noexcept:
        cdef int status = tally.status_of(self.response_head, self.response_sent)
        cdef Stream down = self.down
        if self.state == SESSION_DONE:
            return
        self.state = SESSION_DONE
        if self.plan.access_format != ACCESS_OFF:
            try:
                self.write_access_log()
            except:
                pass   # ignored: no memory for the line
        self.plan.n_active -= 1
        if self.plan.n_active == 0 and self.plan.on_idle is not None:
            self.plan.tell_idle()
        if self.hooks is not None:
            self.hooks_us = self.hooks.hooks_us
            tally.count_hooks(self.plan, self.hooks_us)
            self.hooks = None        # its session refers to us
        tally.count_ended(self.plan, status, self.ended_us - self.started_us, self.sent_bytes, self.received_bytes)
        self.scope = self.abandoned = None
        self.cause = None            # an exception refers to frames that refer to us
        self.attempt_error = None
        self.end_waiting()
        self.plan.reactor.bury(self)
        down.release(self.response_sent and self.upstream_ended or self.call_ended)

    cdef int write_access_log(self) except -1:
        cdef AccessRecord record
        cdef AccessRecord* filled = &record
        memset(&record, 0, sizeof(record))
        record.client.at = self.server.client_ip
        record.client.size = self.server.client_ip_size
        record.status = tally.status_of(self.response_head, self.response_sent)
        record.reused = self.is_reused
        record.attempts = self.n_attempts
        record.upstream_protocol = self.spoken
        record.sent_bytes = self.sent_bytes
        record.received_bytes = self.received_bytes
        record.total_us = self.ended_us - self.started_us
        record.connect_us = -1
        if self.connected_us >= self.connect_at_us > 0:
            record.connect_us = self.connected_us - self.connect_at_us
        record.first_byte_us = self.first_byte_us - self.started_us if self.first_byte_us else -1
        record.error = failure_reason(self.failure) if self.failure else NULL
        return write_record(self.plan, filled, self.request_head, self.chosen)

    cdef uint64_t in_hooks_us(self) noexcept:
        return self.hooks_us if self.hooks is None else self.hooks.hooks_us

    cdef object error(self):
        """The ProxyError of a session that failed, else None."""
        cdef str detail = self.detail if self.failure == self.attempt_failure else None
        return make_error(self.failure, self.cause, detail) if self.failure else None

    cdef void write_error_log(self, object summary) noexcept:
        cdef bint is_cut = self.response_sent and self.response_head is not None and not self.upstream_ended
        try:
            if summary is None:
                summary = f"{request_line(self.request_head)}, Host: {self.request_head.headers.get('host', '')}"
            self.plan.on_failure(str(summary), self.error(), self.server.client_text(),
                                 None if self.chosen is None else self.chosen.address.text, self.n_attempts,
                                 (self.response_head.status_code, self.sent_bytes) if is_cut else None)
        except:
            pass   # ignored: a log line must not fail the session a second time
