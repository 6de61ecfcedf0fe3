"""Attempts to have an upstream answer. Own its connection, and the place in flight at its endpoint."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memset
from pingora_c.h1.encode cimport FRAME_CHUNKED, FRAME_LENGTH, Outgoing
from pingora_c.h1.framing cimport ASKS_TUNNEL, ASKS_UPGRADE, BODY_CHUNKED, BODY_LENGTH, BODY_NONE, BODY_TUNNEL
from pingora_c.http.field cimport NAME_EXPECT, NAME_HOST
from pingora_c.http.header_block cimport block_find_known
from pingora_c.http.message cimport Method, is_idempotent
from pingora_c.net.timer cimport timer_clear, timer_init, timer_unlink
from pingora_c.proxy.body_filter cimport BodyFilter, has_body_hooks
from pingora_c.proxy.connector cimport open_stream, switch_of
from pingora_c.proxy.failure cimport (
    BODY_TOO_LARGE, CALL_TIMEOUT, CLIENT_GONE, CLIENT_STALLED, CONNECT_REFUSED, NO_DESCRIPTORS, NO_MEMORY, NO_UPGRADE,
    NO_UPSTREAM, OK, TUNNEL_TIMEOUT, UPSTREAM_CLOSED, UPSTREAM_REFUSED, UPSTREAM_STATUS, UPSTREAM_TOTAL_TIMEOUT,
    is_upstream_failure, make_error,
)
from pingora_c.proxy.grpc cimport grpc_timeout_ms, is_grpc
from pingora_c.proxy.outage cimport note_answer, note_use
from pingora_c.proxy.phases cimport SESSION_CONNECTING, SESSION_LOGGING, SESSION_RELAYING
from pingora_c.proxy.plan cimport (
    CONNECTED_TO_UPSTREAM, ERROR_WHILE_PROXY, FAIL_TO_CONNECT, PROXY_UPSTREAM_FILTER, RESPONSE_FILTER, UPSTREAM_PEER,
    UPSTREAM_REQUEST_FILTER, UPSTREAM_RESPONSE_FILTER, WEBSOCKET_MESSAGE,
)
from pingora_c.proxy.retry cimport Attempt, attempt_ms, has_time_left, is_retried_status, left_ms
from pingora_c.proxy.retry cimport may_retry as rules_allow
from pingora_c.proxy.selection cimport has_untried, selection_key
from pingora_c.proxy.stream cimport Stream
from pingora_c.proxy.websocket cimport with_known_extensions
from pingora_c.proxy cimport tally
from pingora_c.upstream.balancer cimport KEY_NONE
from pingora_c.upstream.peer cimport PEER_H1


cdef void fire_deadline(void* owner) noexcept:
    cdef Attempts attempts = <Attempts>owner
    cdef Stream up = attempts.up
    if up is not None and up.body_paused and not up.head_done:
        attempts.on_failure(True, CLIENT_STALLED)      # its connection has no room for an answer that may be there
    else:
        attempts.on_failure(False, attempts.deadline_kind)


cdef void fire_call_timeout(void* owner) noexcept:
    cdef Attempts attempts = <Attempts>owner
    if attempts.up is not None and attempts.task is None:
        attempts.on_failure(False, CALL_TIMEOUT)
    else:
        attempts.fail(CALL_TIMEOUT)      # a hook is at work: it is cancelled


cdef class Attempts(Phases):
    """Made by the core."""

    def __cinit__(self):
        timer_init(&self.deadline, fire_deadline, <void*>self)
        timer_init(&self.call_deadline, fire_call_timeout, <void*>self)

    def __dealloc__(self):
        timer_unlink(&self.deadline)
        timer_unlink(&self.call_deadline)

    cdef void watch_call(self) noexcept:
        cdef uint64_t limit_ms = grpc_timeout_ms(self.request_head)
        if limit_ms and self.call_deadline.deadline_ms == 0:
            self.plan.reactor.set_timer(&self.call_deadline, left_ms(limit_ms, self.started_us))

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
        cdef bint may_reuse = not self.reuse_failed
        cdef int switch = switch_of(self.request_head, self.down.framing.upgrade)
        cdef uint64_t limit_ms
        cdef int code = CLIENT_GONE if self.server.is_closed else OK      # and its session has not heard of that yet
        if code == OK and (self.chosen.proxy_protocol is not None or self.greeting is not None):
            code = self.server.introduce_to(self.chosen, self)
        if code != OK:
            self.fail(code)
            return
        self.watch_call()      # a hook may have made one of it
        self.n_attempts += 1
        self.is_connected = self.is_bad_answer = self.request_sent = False
        self.connect_at_us = self.plan.reactor.now_us
        self.endpoint = self.chosen.endpoint
        self.asked = tally.count_attempt(self.plan, self.endpoint, self.n_attempts > 1)
        if self.endpoint is not None:
            self.endpoint.on_start()
        limit_ms = attempt_ms(&self.plan.retry, self.started_us, self.chosen.total_timeout_ms, &self.deadline_kind)
        if limit_ms:
            self.plan.reactor.set_timer(&self.deadline, limit_ms)
        if (self.chosen.spoken != PEER_H1 and self.replay is None and self.received_bytes == 0
                and self.down.framing.kind != BODY_NONE):
            self.keep_body()     # the upstream may say that it did not process the request, whatever its method
        opened = open_stream(self.plan.reactor, self.plan.pool, self.chosen, self, may_reuse, switch)
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
        self.connected_us = self.plan.reactor.now_us
        self.is_connected = True
        self.spoken = self.up.protocol
        tally.count_connected(self.asked, self.is_reused, self.connected_us - self.connect_at_us)
        if self.down.is_shared:
            self.down.is_call = self.up.is_shared and is_grpc(self.request_head)
            self.up.ask_room()
        elif not self.plan.has_response_hooks:
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
        cdef Stream up
        cdef bytes host       # of a request of HTTP/1.0 without one: where it goes, as RFC 9112 §3.2 wants a Host
        if self.up is None:
            return 0     # it failed while the hook ran: on_failure dealt with it
        if self.reader is not None:
            self.end_reading(RuntimeError("read_body: the request is on its way upstream"))  # what came goes out
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
        if self.plan.via is not None:
            how.via = PyBytes_AS_STRING(self.plan.via)
            how.via_size = PyBytes_GET_SIZE(self.plan.via)
        how.is_upgrade = self.down.framing.upgrade == ASKS_UPGRADE
        how.is_connect = self.down.framing.upgrade == ASKS_TUNNEL
        how.drop_expect = self.sent_continue or not self.down.framing.expects
        if (self.down.framing.expects and not self.sent_continue
                and block_find_known(&self.upstream_head.block, NAME_EXPECT, 0) < 0):
            self.sent_continue = True      # a hook removed it: nobody else tells the client (RFC 9110 §10.1.1)
            if self.down.send_continue() < 0:
                self.fail(NO_MEMORY)
                return 0
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
        self.state = SESSION_RELAYING
        up = self.up
        if up.send_request(self.upstream_head, &how) < 0:
            self.fail(NO_MEMORY)
        elif self.up is up and not how.is_connect:     # else it has failed, or the tunnel is open already
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
        attempt.is_idempotent = is_idempotent(<Method>self.request_head.method_id) and (
            self.upstream_head is None or is_idempotent(<Method>self.upstream_head.method_id))
        attempt.was_stale = self.is_reused and self.up is not None and not self.up.got_bytes
        return rules_allow(&self.plan.retry, &attempt, kind)

    cdef void end_attempt(self, int kind) noexcept:
        cdef bint is_stale = (self.up is not None and self.is_reused and kind == UPSTREAM_CLOSED
                              and not self.up.got_bytes)
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
        elif kind == UPSTREAM_REFUSED or kind == NO_UPGRADE:
            is_stale = True      # nothing is wrong with the endpoint: another connection, or this one later, will do
        elif self.endpoint is not None:
            if self.scope is None:
                self.make_scope()
            if self.scope is not None:
                self.scope.mark_tried(self.endpoint)
        # whether a status tells of a failure is decided when it comes
        self.let_upstream_go(False, not is_stale and kind != UPSTREAM_STATUS and is_upstream_failure(kind))

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

    cdef void watch_answer(self, bint is_tunnel) noexcept:
        """Arm the limit of all of the answer, in place of that of the attempt."""
        timer_clear(&self.deadline)
        if is_tunnel and self.plan.limits.tunnel_total_ms:
            self.deadline_kind = TUNNEL_TIMEOUT
            self.plan.reactor.set_timer(&self.deadline, self.plan.limits.tunnel_total_ms)
        elif self.chosen.total_timeout_ms and not is_tunnel:
            self.deadline_kind = UPSTREAM_TOTAL_TIMEOUT
            self.plan.reactor.set_timer(&self.deadline, left_ms(self.chosen.total_timeout_ms, self.connect_at_us))

    cdef void on_response(self, ResponseHead head, const Framing* framing) noexcept:
        self.first_byte_us = self.plan.reactor.now_us
        tally.count_response(self.asked, head.status_code, self.first_byte_us - self.connected_us)
        self.watch_answer(framing.kind == BODY_TUNNEL)
        self.response_head = head
        self.response_framing = framing[0]
        if self.endpoint is not None:
            self.is_bad_answer = note_answer(self.plan, self.endpoint, head.status_code)
        if (self.plan.retry.n_statuses and is_retried_status(&self.plan.retry, head.status_code)
                and has_untried(self.endpoint, self.scope) and self.may_retry(UPSTREAM_STATUS)):
            self.end_attempt(UPSTREAM_STATUS)
            self.settle()
        elif self.plan.has_response_hooks:
            self.up.pause_body()
            self.run(UPSTREAM_RESPONSE_FILTER)
        else:
            self.after(RESPONSE_FILTER, None)
