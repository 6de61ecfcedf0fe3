"""An exchange is the core of a session: one request and its response through the proxy. Runs the phases in order over
the relay, decides on retries. Hooks see it as a Session.

    FILTERS -> CONNECTING -> RELAYING -> LOGGING -> DONE; a failure or an answer of a hook goes to LOGGING from anywhere
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from pingora_c.h1.framing cimport Framing
from pingora_c.http.message cimport RequestHead, ResponseHead
from pingora_c.net.timer cimport Timer
from pingora_c.proxy.phases cimport Phases
from pingora_c.proxy.response cimport Response
from pingora_c.upstream.endpoint cimport Endpoint
from pingora_c.upstream.peer cimport HttpPeer


cdef class Exchange(Phases):
    cdef RequestHead upstream_head    # what goes upstream: request_head itself unless a hook may edit it
    cdef ResponseHead response_head   # None before there is one
    cdef Framing response_framing     # of the answer that comes
    cdef object attempt_error         # ProxyError of the attempt that failed, for the hooks that decide on a retry
    cdef bytes answer_body            # keeps the bytes of a Response while they are written
    cdef HttpPeer chosen
    cdef Endpoint endpoint            # in flight there, None if not
    cdef uint64_t* asked              # the numbers of the present attempt's upstream, NULL without an attempt
    cdef Timer deadline               # limit of the present attempt
    cdef uint8_t deadline_kind        # FailureKind, once it has passed
    cdef uint32_t n_attempts
    cdef bint retries                 # what was decided for attempt_failure
    cdef bint is_connected            # this attempt has its connection
    cdef bint is_bad_answer           # its status counts as a failure of the endpoint
    cdef bint is_reused               # over a connection that was there
    cdef bint was_answered            # by a hook or an error page
    cdef bint reuse_failed            # a pooled connection died: the next attempt takes a new one
    cdef bint sent_continue           # we answered Expect ourselves
    cdef uint64_t started_us
    cdef uint64_t head_us             # when the head was complete
    cdef uint64_t connect_at_us
    cdef uint64_t connected_us
    cdef uint64_t first_byte_us
    cdef uint64_t ended_us
    cdef uint64_t hooks_us            # in_hooks_us() of an exchange that has ended

    cdef void start(self) noexcept
    cdef int after_ending(self, int phase, object result) except -1
    # -- upstream
    cdef int select_peer(self) except -1
    cdef void connect(self) noexcept
    cdef int prepare_request(self) except -1
    cdef int send_request(self) except -1
    cdef bint may_retry(self, int kind) noexcept
    cdef void end_attempt(self, int kind) noexcept    # note why, let the upstream go
    cdef void decide(self) noexcept
    cdef void let_upstream_go(self, bint is_complete, bint is_failure) noexcept
    cdef int send_response(self) except -1
    # -- ending
    cdef int answer(self, Response response) except -1    # send what was made here
    cdef int send_answer(self, Response response) except -1
    cdef void note_no_answer(self) noexcept
    cdef void conclude(self) noexcept
    cdef int write_access_log(self) except -1
    cdef void write_error_log(self, object summary) noexcept
    cdef object error(self)
    cdef uint64_t in_hooks_us(self) noexcept
