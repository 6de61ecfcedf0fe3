# cython: overflowcheck=False
# The debug build's check breaks Cython 3.3 on sums among the members of an enum.
"""The counters of a worker: a uint64 for each Counter, in one block of memory that one process writes.

Whoever counts writes `reactor.counted[REQUESTS] += 1`. A Counter that ends in _OPEN or _ACTIVE goes down again; all
others only grow. A family is a stretch of counters, one for each of its reasons: FAILURES + a FailureKind, REFUSALS + a
Refusal. Their names are in proxy/counter_names.pyx, the one table of them.
"""
from libc.stdint cimport uint64_t

cdef enum:
    FAILURE_ROOM = 48          # > any FailureKind
    REFUSAL_ROOM = 96          # > any Refusal
    PROXY_REFUSAL_ROOM = 16    # > any IntroductionRefusal

cdef enum Counter:
    CONNECTIONS_ACCEPTED = 0
    CONNECTIONS_OPEN           # of clients
    REQUESTS                   # that a session was made for
    REQUESTS_ACTIVE
    ANSWERS                    # + status // 100, of every head that was written to a client
    ATTEMPTS = ANSWERS + 6     # upstreams that were tried
    RETRIES                    # attempts behind a request's first
    ACCEPT_PAUSES              # + Shortage
    CLIENTS_REFUSED = ACCEPT_PAUSES + 3    # connections beyond Limits.client_connections
    CLOSED_IDLE                # client connections closed after Limits.keep_alive
    CLOSED_STALLED             # the same, after Limits.write_timeout between two requests
    CLOSED_REQUESTS            # the same, after Limits.connection_requests
    CLOSED_FLOOD               # the same, of HTTP/2: frames that make work and carry nothing
    CLOSED_HTTP2_ERROR         # the same, of HTTP/2: what is no HTTP/2
    HTTP2_CONNECTIONS          # connections that turned out to be of HTTP/2
    CLOSED_HANDSHAKE           # the same, after Limits.handshake_timeout
    HANDSHAKES                 # of TLS with clients that succeeded
    HANDSHAKE_FAILURES         # that one side gave up
    PROXY_HEADERS              # of the PROXY protocol that introduced a client
    PROXY_REFUSALS             # + -ProxyCode or IntroductionRefusal: connections closed for their header
    LOOP_BLOCKED = PROXY_REFUSALS + PROXY_REFUSAL_ROOM    # longer than Limits.blocked_after
    ENDPOINT_OUTAGES           # endpoints that failures took out of selection
    ENDPOINT_RETURNS           # that an answer brought in again
    TCP_SESSIONS
    TCP_SESSIONS_ACTIVE
    TCP_RECEIVED               # bytes from clients that were passed on
    TCP_SENT                   # to them
    H2_CONNECTS                # connections to upstreams that may speak HTTP/2
    H2_CONNECTIONS_OPEN        # of these
    H2_GOAWAYS                 # that upstreams sent
    H2_REFUSED_STREAMS         # requests that upstreams say they did not process
    H2_PING_TIMEOUTS           # connections to upstreams that answered no PING
    H2_GUARDED                 # connections to upstreams ended for floods
    UPSTREAMS_CLOSED_IDLE      # connections to upstreams closed after HttpPeer.idle_timeout
    REPLAYS_GIVEN_UP           # requests whose body passed RetryPolicy.replay_bytes: not tried again
    FAILURES                   # + FailureKind: sessions that ended, OK for those that did not fail
    ATTEMPT_FAILURES = FAILURES + FAILURE_ROOM     # + FailureKind: attempts that failed, tried again or not
    REFUSALS = ATTEMPT_FAILURES + FAILURE_ROOM     # + Refusal: messages that no session saw
    COUNTER_END = REFUSALS + REFUSAL_ROOM


cdef class Counters:
    cdef uint64_t* cells       # COUNTER_END of them: `own`, or in `block`
    cdef uint64_t* own         # owned, NULL if a block was given
    cdef Py_buffer block       # held while in use; buf NULL: none was given
