"""A session: one request and its response through the proxy. Runs the phases in order, relays between its two
streams, decides on retries.

    FILTERS -> CONNECTING -> RELAYING -> LOGGING -> DONE; a failure or an answer of a hook goes to LOGGING from anywhere
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from pingora_c.h1.framing cimport Framing
from pingora_c.http.message cimport RequestHead, ResponseHead
from pingora_c.net.timer cimport Timer
from pingora_c.proxy.downstream cimport H1Server, H1ServerStream
from pingora_c.proxy.plan cimport Plan
from pingora_c.proxy.response cimport Response
from pingora_c.proxy.stream cimport StreamOwner
from pingora_c.proxy.upstream_leg cimport H1ClientStream
from pingora_c.upstream.balancer cimport SelectionScope
from pingora_c.upstream.endpoint cimport Endpoint
from pingora_c.upstream.peer cimport HttpPeer

cdef enum SessionState:
    SESSION_FILTERS = 0
    SESSION_CONNECTING = 1
    SESSION_RELAYING = 2
    SESSION_LOGGING = 3
    SESSION_DONE = 4


cdef class Session(StreamOwner):
    cdef Plan plan
    cdef H1Server server              # the client's connection
    cdef H1ServerStream down
    cdef H1ClientStream up            # None while there is none
    cdef RequestHead request_head
    cdef RequestHead upstream_head    # what goes upstream: request_head itself unless a hook may edit it
    cdef ResponseHead response_head   # None before there is one
    cdef Framing response_framing     # of the answer that comes
    cdef object ctx_object
    cdef object context               # contextvars.Context of this session's hooks
    cdef SelectionScope scope
    cdef object task                  # the running coroutine hook, None if none
    cdef object cause                 # exception of a hook that failed
    cdef bytes answer_body            # keeps the bytes of a Response while they are written
    cdef HttpPeer chosen
    cdef Endpoint endpoint            # in flight there, None if not
    cdef Timer timer                  # limit of the running hook
    cdef uint8_t state
    cdef uint8_t task_phase
    cdef uint8_t failure              # FailureKind, OK if none
    cdef uint8_t first_failure        # of an attempt; what is told if no other endpoint is left
    cdef uint32_t n_attempts
    cdef bint request_sent
    cdef bint response_sent           # a final head went to the client
    cdef bint upstream_ended          # the answer came to its end
    cdef bint was_answered            # by a hook or an error page
    cdef bint reuse_failed            # a pooled connection died: the next attempt takes a new one
    cdef uint64_t received_bytes
    cdef uint64_t sent_bytes
    cdef uint64_t started_us
    cdef uint64_t connect_at_us
    cdef uint64_t connected_us
    cdef uint64_t first_byte_us
    cdef uint64_t ended_us
    cdef uint64_t hooks_us

    cdef void start(self) noexcept
    cdef void run(self, int phase) noexcept
    cdef int run_or_raise(self, int phase) except -1
    cdef object call(self, int phase, object hook)
    cdef void after(self, int phase, object result) noexcept
    cdef int after_or_raise(self, int phase, object result) except -1
    cdef void hook_failed(self, int phase, object error) noexcept
    cdef int select_peer(self) except -1
    cdef void connect(self) noexcept
    cdef int prepare_request(self) except -1
    cdef void send_request(self) noexcept
    cdef void send_response(self) noexcept
    cdef int answer(self, Response response) except -1
    cdef void fail(self, int kind) noexcept
    cdef void default_page(self) noexcept
    cdef bint may_retry(self, int kind) noexcept
    cdef void retry(self, int kind) noexcept
    cdef void let_upstream_go(self, bint is_complete, bint is_failure) noexcept
    cdef void finish(self) noexcept
    cdef void conclude(self) noexcept
    cdef int write_access_log(self) except -1
    cdef object caught(self, int phase, object result, bint is_over)
    cdef void cancel_task(self) noexcept
    cdef void report(self, int phase, object error) noexcept
    cdef void make_scope(self) noexcept
