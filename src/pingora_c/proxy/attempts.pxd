"""Attempts: an upstream is chosen, connected to and sent the request; what comes of it is judged, and perhaps another
attempt follows. Knows no hook but those that run between these steps; where the answer goes is decided in the
subclass, Exchange.

    select_peer -> connect -> on_connected -> prepare_request -> send_request -> on_response
    end_attempt, settle, decide: from anywhere between connect and the answer's head; back to select_peer, or fail
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from pingora_c.h1.framing cimport Framing
from pingora_c.http.message cimport RequestHead, ResponseHead
from pingora_c.net.timer cimport Timer
from pingora_c.proxy.phases cimport Phases
from pingora_c.upstream.endpoint cimport Endpoint
from pingora_c.upstream.peer cimport HttpPeer


cdef class Attempts(Phases):
    cdef RequestHead upstream_head    # what goes upstream: request_head itself unless a hook may edit it
    cdef ResponseHead response_head   # None before there is one
    cdef Framing response_framing     # of the answer that comes
    cdef object attempt_error         # ProxyError of the attempt that failed, for the hooks that decide on a retry
    cdef HttpPeer chosen
    cdef const char* spoken           # Stream.protocol of the connection used last, NULL: none
    cdef Endpoint endpoint            # in flight there, None if not
    cdef uint64_t* asked              # the numbers of the present attempt's upstream, NULL without an attempt
    cdef Timer deadline               # limit of the present attempt
    cdef Timer call_deadline          # of a call of gRPC: to the end of its answer, over all attempts and hooks
    cdef uint8_t deadline_kind        # FailureKind, once it has passed
    cdef uint32_t n_attempts
    cdef bint retries                 # what was decided for attempt_failure
    cdef bint is_connected            # this attempt has its connection
    cdef bint is_bad_answer           # its status counts as a failure of the endpoint
    cdef bint is_reused               # over a connection that was there
    cdef bint reuse_failed            # a pooled connection died: the next attempt takes a new one
    cdef bint sent_continue           # we answered Expect ourselves
    cdef bint was_answered            # by a hook or an error page: no further attempt
    cdef uint64_t started_us
    cdef uint64_t connect_at_us
    cdef uint64_t connected_us
    cdef uint64_t first_byte_us

    # Hold a call of gRPC to the time that its client gave it.
    cdef void watch_call(self) noexcept
    cdef int select_peer(self) except -1
    cdef void connect(self) noexcept                  # to `chosen`
    cdef int prepare_request(self) except -1
    cdef int send_request(self) except -1
    cdef bint may_retry(self, int kind) noexcept
    cdef void watch_answer(self, bint is_tunnel) noexcept
    cdef void end_attempt(self, int kind) noexcept    # note why, let the upstream go
    cdef void decide(self) noexcept                   # the next attempt, or fail
    # The upstream's connection, if there is one, goes back to its pool (`is_complete`) or is closed.
    cdef void let_upstream_go(self, bint is_complete, bint is_failure) noexcept
