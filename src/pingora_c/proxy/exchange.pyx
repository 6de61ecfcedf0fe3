"""Exchanges. Own both streams of one session, its heads and the context of its hooks."""
cimport cython

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.string cimport memset
from pingora_c.base.clock cimport now_us
from pingora_c.h1.encode cimport FRAME_CHUNKED, FRAME_LENGTH, Outgoing
from pingora_c.h1.framing cimport BODY_CHUNKED, BODY_LENGTH, BODY_NONE, BODY_TUNNEL
from pingora_c.h1.max_forwards cimport max_forwards
from pingora_c.http.field cimport NAME_CONTENT_LENGTH, NAME_HOST
from pingora_c.http.header_block cimport block_find_known
from pingora_c.http.message cimport METHOD_OPTIONS, Method, is_idempotent
from pingora_c.log.access cimport AccessRecord
from pingora_c.net.timer cimport timer_clear, timer_init, timer_unlink
from pingora_c.proxy.access cimport ACCESS_OFF, write_record
from pingora_c.proxy.body_filter cimport BodyFilter, has_body_hooks
from pingora_c.proxy.connector cimport open_stream
from pingora_c.proxy.failure cimport (
    BODY_TOO_LARGE, CALL_TIMEOUT, CLIENT_GONE, CLIENT_TRUNCATED, CONNECT_REFUSED, HOOK_RAISED, NO_DESCRIPTORS,
    NO_MEMORY, NO_UPSTREAM, OK, TUNNEL_TIMEOUT, UPSTREAM_CLOSED, UPSTREAM_REFUSED, UPSTREAM_STATUS,
    UPSTREAM_TOTAL_TIMEOUT, failure_reason, failure_status, is_client_failure, is_upstream_failure, make_error,
)
from pingora_c.proxy.grpc cimport as_grpc, grpc_timeout_ms, is_grpc
from pingora_c.proxy.plan cimport (
    ANSWER_BODY, CONNECTED_TO_UPSTREAM, EARLY_REQUEST_FILTER, ERROR_WHILE_PROXY, FAIL_TO_CONNECT, FAIL_TO_PROXY,
    LOGGING, NEW_CTX, ON_CONNECTION_REUSE, PERSIST_CONNECTION_CONTEXT, PROXY_UPSTREAM_FILTER, REQUEST_FILTER,
    REQUEST_SUMMARY, RESPONSE_FILTER, SUPPRESS_ERROR_LOG, UPSTREAM_PEER, UPSTREAM_REQUEST_FILTER,
    UPSTREAM_RESPONSE_FILTER, WEBSOCKET_MESSAGE,
)
from pingora_c.proxy.outage cimport note_answer, note_use
from pingora_c.proxy.phases cimport SESSION_CONNECTING, SESSION_DONE, SESSION_LOGGING, SESSION_RELAYING, request_line
from pingora_c.proxy.retry cimport Attempt, attempt_ms, has_time_left, is_retried_status, left_ms
from pingora_c.proxy.retry cimport may_retry as rules_allow
from pingora_c.proxy.selection cimport has_untried, selection_key
from pingora_c.proxy.stream cimport Stream
from pingora_c.proxy.websocket cimport with_known_extensions
from pingora_c.proxy cimport tally
from pingora_c.upstream.balancer cimport KEY_NONE
from pingora_c.upstream.peer cimport PEER_H1

from pingora_c.proxy.plan import PHASES as _PHASES
from pingora_c.proxy.response import send_all

cdef void fire_deadline(void* owner) noexcept:
    cdef Exchange exchange = <Exchange>owner
    exchange.on_failure(False, exchange.deadline_kind)


@cython.final
cdef class Exchange(Phases):
    """Made by the core."""

    def __cinit__(self):
        timer_init(&self.deadline, fire_deadline, <void*>self)

    def __dealloc__(self):
        timer_unlink(&self.deadline)

    cdef void start(self) noexcept:
        self.head_us = now_us()
        if self.down.framing.kind != BODY_NONE:
            self.down.pause_body()
            if self.plan.keeps_body or is_idempotent(<Method>self.request_head.method_id):
                self.keep_body()
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
        if result is not None and phase != UPSTREAM_PEER:
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
            return self.select_peer()
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

    # -- upstream

    cdef int select_peer(self) except -1:
        cdef Endpoint endpoint
        cdef uint64_t tried = 0
        cdef bytes key = b""
        if self.request_head.method_id == METHOD_OPTIONS and max_forwards(&self.request_head.block) == 0:
            return self.answer(Response(200))      # it may go no further: we are whom it asks (RFC 9110 §7.6.2)
        self.state = SESSION_CONNECTING
        if self.has_too_much():
            self.fail(BODY_TOO_LARGE)
            return 0
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
        cdef bint may_reuse, to_upgrade
        cdef uint64_t limit_ms
        self.n_attempts += 1
        self.is_connected = self.is_bad_answer = self.request_sent = False
        self.connect_at_us = now_us()
        self.endpoint = self.chosen.endpoint
        self.asked = tally.count_attempt(self.plan, self.endpoint, self.n_attempts > 1)
        if self.endpoint is not None:
            self.endpoint.on_start()
        limit_ms = attempt_ms(&self.plan.retry, self.started_us, self.chosen.total_timeout_ms,
                              grpc_timeout_ms(self.request_head), &self.deadline_kind)
        if limit_ms:
            self.plan.reactor.set_timer(&self.deadline, limit_ms)
        if self.chosen.proxy_protocol is not None or self.greeting is not None:
            self.server.introduce_to(self.chosen, self)
        if (self.chosen.spoken != PEER_H1 and self.replay is None and self.received_bytes == 0
                and self.down.framing.kind != BODY_NONE):
            self.keep_body()     # the upstream may say that it did not process the request, whatever its method
        may_reuse, to_upgrade = not self.reuse_failed, self.down.framing.upgrade
        opened = open_stream(self.plan.reactor, self.plan.pool, self.chosen, self, may_reuse, to_upgrade)
        self.up = self.opened
        self.opened = None
        self.is_reused = opened == 1
        if opened < 0:
            self.on_failure(False, NO_DESCRIPTORS if opened == -3 else CONNECT_REFUSED)
        elif opened == 1:
            self.on_connected()

    cdef void on_connected(self) noexcept:
        if self.opened is not None:     # the origin chose another protocol than the one it was opened for
            self.up = self.opened
            self.opened = None
        self.connected_us = now_us()
        self.is_connected = True
        tally.count_connected(self.asked, self.is_reused, self.connected_us - self.connect_at_us)
        if not self.plan.has_response_hooks and not self.down.is_shared:
            self.up.read_largely()
        self.run(CONNECTED_TO_UPSTREAM)

    cdef int prepare_request(self) except -1:
        if self.plan.hooks[<int>UPSTREAM_REQUEST_FILTER] is None:
            self.upstream_head = self.request_head
            return self.send_request()
        self.upstream_head = self.request_head.copy()
        if self.upstream_head is not None:
            return self.run_or_raise(UPSTREAM_REQUEST_FILTER)
        self.fail(NO_MEMORY)
        return 0

    cdef int send_request(self) except -1:
        cdef Outgoing how
        cdef bytes host       # of a request of HTTP/1.0 without one: where it goes, as RFC 9112 §3.2 wants a Host
        if self.up is None:
            return 0     # it failed while the hook ran: on_failure dealt with it
        if self.reader is not None:
            self.reader = None     # a hook gave up on read_body; what came is kept and goes out below
        if self.received_bytes and not self.can_replay():
            self.fail(BODY_TOO_LARGE)      # a hook caught that; part of the body is gone
            return 0
        memset(&how, 0, sizeof(how))
        if block_find_known(&self.upstream_head.block, NAME_HOST, 0) < 0:
            host = b"localhost" if self.chosen.address.is_unix else self.chosen.address.text.encode()
            how.host = PyBytes_AS_STRING(host)
            how.host_size = PyBytes_GET_SIZE(host)
        self.server.describe_to(&how)
        how.forwarded = self.plan.forwarded
        how.is_upgrade = self.down.framing.upgrade
        how.drop_expect = self.sent_continue or not self.down.framing.expects
        how.takes_trailers = self.down.framing.takes_trailers or is_grpc(self.upstream_head)
        if self.down.framing.kind != BODY_NONE and has_body_hooks(self.plan, True) and not self.passes_request:
            self.request_bodies = BodyFilter.new(self.hooks, self, self.down, True)
            how.framing = FRAME_CHUNKED     # how long it will be is not known
        elif self.down.framing.kind == BODY_CHUNKED:
            how.framing = FRAME_CHUNKED
        elif self.down.framing.kind == BODY_LENGTH or self.down.framing.has_length:
            how.framing = FRAME_LENGTH
            how.length = self.down.framing.length
        if how.is_upgrade and self.plan.hooks[<int>WEBSOCKET_MESSAGE] is not None:
            self.upstream_head = with_known_extensions(self.upstream_head)
        self.request_sent = True
        if self.up.send_request(self.upstream_head, &how) < 0:
            self.fail(NO_MEMORY)
            return 0
        self.state = SESSION_RELAYING
        self.send_kept_body()
        return 0

    cdef bint may_retry(self, int kind) noexcept:
        cdef Attempt attempt
        if self.response_sent:
            return False
        attempt.number = self.n_attempts
        attempt.started_us = self.started_us
        attempt.request_sent = self.request_sent
        attempt.can_replay = self.can_replay()
        # an empty body that has ended was sent whole with its last chunk
        attempt.has_unsent_body = (self.down.framing.kind != BODY_NONE and self.received_bytes == 0
                                   and not self.down.body_done)
        attempt.is_idempotent = is_idempotent(<Method>self.request_head.method_id)
        attempt.was_stale = self.is_reused and self.up is not None and not self.up.got_bytes
        return rules_allow(&self.plan.retry, &attempt, kind)

    cdef void end_attempt(self, int kind) noexcept:
        cdef bint is_stale = self.up is not None and self.is_reused and kind == UPSTREAM_CLOSED
        self.retries = self.may_retry(kind)
        self.attempt_failure = kind
        tally.count_failed_attempts(self.plan, self.asked, kind, self.is_connected, 1)
        self.detail = None
        if self.up is not None:
            self.detail = self.up.trouble
        if self.first_failure == OK:
            self.first_failure = kind
        if is_stale:
            self.reuse_failed = True
        elif kind == UPSTREAM_REFUSED:
            is_stale = True      # nothing is wrong with the endpoint: another connection, or this one later, will do
        elif self.endpoint is not None:
            if self.scope is None:
                self.make_scope()
            if self.scope is not None:
                self.scope.mark_tried(self.endpoint)
        self.let_upstream_go(False, not is_stale and is_upstream_failure(kind))

    cdef void settle(self) noexcept:
        cdef int phase = ERROR_WHILE_PROXY if self.is_connected else FAIL_TO_CONNECT
        if self.was_answered or self.response_sent or self.state >= SESSION_LOGGING:
            return
        if not self.plan.has_retry_hooks:
            self.decide()
            return
        try:
            self.attempt_error = make_error(self.attempt_failure, None, self.detail)
            self.attempt_error.retry = self.retries
        except:
            self.attempt_error = None   # ignored: no memory, the hook is left out
        if self.attempt_error is None:
            self.decide()
        else:
            self.run(phase)

    cdef void decide(self) noexcept:
        if not (self.retries and self.n_attempts < self.plan.retry.attempts_max
                and has_time_left(&self.plan.retry, self.started_us) and (self.can_replay() or not self.request_sent)):
            self.fail(self.attempt_failure)
            return
        self.failure = OK
        self.request_sent = False
        self.response_head = None
        self.upstream_ended = False
        if not self.down.body_done:
            self.down.pause_body()
        self.after(PROXY_UPSTREAM_FILTER, None)

    cdef void let_upstream_go(self, bint is_complete, bint is_failure) noexcept:
        cdef Stream up = self.up
        timer_clear(&self.deadline)
        self.drop_filters(True)
        self.drop_filters(False)
        self.drop_websocket()
        if self.endpoint is not None:
            note_use(self.plan, self.endpoint, is_failure or self.is_bad_answer, self.response_head is not None)
            self.endpoint = None
        self.asked = tally.end_attempt(self.asked)
        if up is not None:
            self.up = None
            up.release(is_complete)

    # -- the answer

    cdef void on_interim(self, ResponseHead head) noexcept:
        self.down.send_interim(head)

    cdef void on_response(self, ResponseHead head, const Framing* framing) noexcept:
        self.first_byte_us = now_us()
        tally.count_response(self.asked, head.status_code, self.first_byte_us - self.connected_us)
        if self.deadline_kind != CALL_TIMEOUT:      # which is for all of the answer
            timer_clear(&self.deadline)
            if self.chosen.total_timeout_ms and framing.kind != BODY_TUNNEL:
                self.deadline_kind = UPSTREAM_TOTAL_TIMEOUT
                self.plan.reactor.set_timer(&self.deadline, left_ms(self.chosen.total_timeout_ms, self.connect_at_us))
        self.response_head = head
        self.response_framing = framing[0]
        if self.endpoint is not None:
            self.is_bad_answer = note_answer(self.plan, self.endpoint, head.status_code)
        if (self.plan.retry.n_statuses and is_retried_status(&self.plan.retry, head.status_code)
                and has_untried(self.plan.balancer, self.endpoint, self.scope) and self.may_retry(UPSTREAM_STATUS)):
            self.end_attempt(UPSTREAM_STATUS)
            self.settle()
        elif self.plan.has_response_hooks:
            self.up.pause_body()
            self.run(UPSTREAM_RESPONSE_FILTER)
        else:
            self.after(RESPONSE_FILTER, None)

    cdef int send_response(self) except -1:
        cdef int64_t length = -1
        cdef bint is_upgrade = self.response_framing.kind == BODY_TUNNEL
        cdef int status = self.response_head.status_code
        if self.up is None:
            return 0
        if self.response_framing.has_length:
            length = self.response_framing.length
            if block_find_known(&self.response_head.block, NAME_CONTENT_LENGTH, 0) < 0:
                length = -1      # a hook removed it: the body goes out chunked
        elif self.response_framing.kind == BODY_NONE and not self.down.to_head and status != 304:
            length = 0
        if not is_upgrade and has_body_hooks(self.plan, False) and not self.passes_response:
            length = -1          # also to HEAD: it is not known what GET would give
            if not self.down.to_head and status != 304 and status != 204:
                self.response_bodies = BodyFilter.new(self.hooks, self, self.up, False)
        if is_upgrade and not self.open_websocket(self.upstream_head, self.response_head):
            return 0
        if self.plan.is_stopping:
            self.down.close_after = True
        if self.down.send_head(self.response_head, length, is_upgrade) < 0:
            self.fail(NO_MEMORY)
            return 0
        self.response_sent = True
        if is_upgrade:
            self.down.resume_body()
        if not self.upstream_ended:
            self.up.resume_body()
        elif self.response_bodies is not None:
            self.response_bodies.feed_end(None)
        else:
            self.end_client(None)
        return 0

    # -- ending

    cdef void on_failure(self, bint is_client, int kind) noexcept:
        if self.state >= SESSION_LOGGING:
            return
        if kind == CLIENT_TRUNCATED and self.response_sent:
            self.drop_filters(True)
            if self.up is not None:
                self.up.cut_request()      # its answer may still be whole
            return
        if kind == TUNNEL_TIMEOUT and self.websocket is not None and self.websocket.leave(1001, b"idle"):
            self.on_tunnel_failed(kind, None, None)
            return
        if is_client or self.response_sent:
            tally.count_failed_attempts(self.plan, self.asked, kind, self.is_connected, not is_client)
            self.fail(kind)
            return
        self.end_attempt(kind)
        if self.task is not None:
            self.lost = True       # a hook is at work: what follows is decided when it ends
        else:
            self.settle()

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
        self.let_upstream_go(False, is_upstream_failure(self.failure))
        if self.was_answered:
            self.default_page()
        else:
            self.was_answered = True
            self.run(FAIL_TO_PROXY)

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
        self.let_upstream_go(False, False)
        reason = failure_reason(self.failure) if self.failure else NULL
        response = as_grpc(self.request_head, self.plan.pages.with_reason(response, reason), reason)
        self.response_head = response.head
        return self.send_answer(response)

    cdef int send_answer(self, Response response) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(response.body)
        cdef int64_t length = size if response.stream is None else -1
        if self.plan.is_stopping or not self.down.can_drain() or is_client_failure(self.failure):
            self.down.close_after = True     # stopping, or the rest of the request is not read: the client must know
        cdef bint is_done = False
        if self.down.send_head(response.head, length, False) < 0:
            self.failure = NO_MEMORY
            self.finish()
            return 0
        self.response_sent = True
        if response.stream is not None and not self.down.to_head:
            self.state = SESSION_RELAYING
            self.phase = ANSWER_BODY
            self.prepare_hooks()
            task = self.hooks.start(send_all(self.hooks.session, response.stream), &is_done)
            return self.after_ending(ANSWER_BODY, None) if is_done else self.wait_for(ANSWER_BODY, task)
        self.upstream_ended = True
        self.answer_body = response.body
        if size and not self.down.to_head:
            self.sent_bytes = size
            if self.down.send_body(PyBytes_AS_STRING(response.body), size) < 0:
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
        self.ended_us = now_us()
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
        self.scope = None
        self.cause = None            # an exception refers to frames that refer to us
        self.attempt_error = None
        self.end_waiting()
        self.plan.reactor.bury(self)
        down.release(self.response_sent and self.upstream_ended)

    cdef int write_access_log(self) except -1:
        cdef AccessRecord record
        cdef AccessRecord* filled = &record
        memset(&record, 0, sizeof(record))
        record.client.at = self.server.client_ip
        record.client.size = self.server.client_ip_size
        record.status = tally.status_of(self.response_head, self.response_sent)
        record.reused = self.is_reused
        record.attempts = self.n_attempts
        record.sent_bytes = self.sent_bytes
        record.received_bytes = self.received_bytes
        record.total_us = self.ended_us - self.started_us
        record.connect_us = self.connected_us - self.connect_at_us if self.connected_us >= self.connect_at_us else -1
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
        try:
            if summary is None:
                summary = f"{request_line(self.request_head)}, Host: {self.request_head.headers.get('host', '')}"
            self.plan.on_failure(str(summary), self.error(), self.server.client_text(),
                                 None if self.chosen is None else self.chosen.address.text, self.n_attempts)
        except:
            pass   # ignored: a log line must not fail the session a second time
