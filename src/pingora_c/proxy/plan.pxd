"""What the sessions of one proxy share in this process: hooks, limits, pool, balancer. Frozen before the first
session; a change of the configuration is another plan, and sessions end on the one they began with.
"""
cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from pingora_c.log.writer cimport LogWriter
from pingora_c.net.reactor cimport Reactor
from pingora_c.proxy.error_page cimport ErrorPages
from pingora_c.proxy.server_connection cimport ServerLimits
from pingora_c.proxy.task cimport TaskStarter
from pingora_c.upstream.balancer cimport Balancer
from pingora_c.upstream.pool cimport Pool

# The hooks, in the order of a session's life; index into Plan.hooks.
cdef enum Phase:
    NEW_CTX = 0
    ON_CONNECTION_REUSE
    EARLY_REQUEST_FILTER
    REQUEST_FILTER
    PROXY_UPSTREAM_FILTER
    UPSTREAM_PEER
    FAIL_TO_CONNECT
    CONNECTED_TO_UPSTREAM
    UPSTREAM_REQUEST_FILTER
    REQUEST_BODY_FILTER
    UPSTREAM_RESPONSE_FILTER
    UPSTREAM_RESPONSE_BODY_FILTER
    UPSTREAM_RESPONSE_TRAILER_FILTER
    RESPONSE_FILTER
    RESPONSE_BODY_FILTER
    RESPONSE_TRAILER_FILTER
    WEBSOCKET_MESSAGE
    ERROR_WHILE_PROXY
    FAIL_TO_PROXY
    SUPPRESS_ERROR_LOG
    REQUEST_SUMMARY
    LOGGING
    PERSIST_CONNECTION_CONTEXT
    PHASE_END
    ANSWER_BODY = PHASE_END     # no hook: the asynchronous body of a Response is being sent

# When a request is tried again; times in milliseconds, 0: no limit.
cdef struct RetryRules:
    uint32_t attempts_max
    uint32_t try_ms              # one attempt, from its connect to the head of the answer
    uint32_t total_ms            # from the request's head to the head of the answer
    size_t replay_bytes          # of a request body kept for sending it again
    bint any_method              # methods that are not idempotent as well
    bint lost                    # a new connection that died, or stayed silent, before an answer
    int n_statuses
    uint16_t[16] statuses        # answers that count as failed attempts


@cython.final
cdef class Plan:
    cdef readonly object proxy   # whose hooks these are
    cdef Reactor reactor
    cdef ServerLimits limits
    cdef tuple hooks             # PHASE_END entries: a bound method, or None where the class does not override it
    cdef bint has_hooks          # any hook at all
    cdef bint has_response_hooks
    cdef bint has_request_body_hooks
    cdef bint has_response_body_hooks
    cdef bint has_retry_hooks    # fail_to_connect or error_while_proxy
    cdef bint keeps_body         # a hook may ask for a retry, so the bodies of all methods are kept for one
    cdef Balancer balancer       # of self.upstreams; None if there is none
    cdef Pool pool               # of the service, so it outlives the plan; None until a service takes the plan
    cdef tuple trusted           # networks whose X-Forwarded-* fields are kept
    cdef object loop
    cdef TaskStarter tasks
    # Gives the Session of an exchange: that module knows exchanges, and so cannot be cimported by them.
    cdef object (*new_session)(object exchange)
    cdef object on_hook_error    # callable(hook name, request line, exception)
    cdef ErrorPages pages
    cdef object on_refused       # callable(reason, status, client): its line of a message that no session saw
    cdef object on_outage        # callable(address, failures, seconds): an endpoint is out, or (None) in again
    cdef object on_failure       # callable(summary, ProxyError): the error log's line of a session that failed
    cdef LogWriter access_writer  # None: no access log
    cdef uint8_t access_format   # AccessFormat
    cdef uint8_t forwarded       # ForwardedFields
    cdef uint8_t client_cert     # ClientCertFields
    cdef RetryRules retry
    cdef object answer_filter    # callable(session, head, ctx) for answers made here, None: none
    cdef dict hook_timeouts_ms   # by phase, where it is not the default
    cdef uint32_t hook_timeout_ms
    cdef bint takes_connect      # CONNECT is served; else it is refused
    cdef bint aborts_half_close  # a client of HTTP/1 that ends its side is gone
    cdef bytes via               # our name in Via, None: none is written
    cdef bint reads_hello        # of a TcpProxy: the TLS client's first message, without decrypting anything
    cdef bint is_stopping        # heads of answers say Connection: close; a connection that was not told stays open
    cdef uint64_t* tally         # the cells of the service in the reactor's counters; NULL until a service has the plan
    cdef readonly str name       # of the service, where it is counted
    cdef uint64_t n_requests
    cdef uint64_t n_active
    cdef set websockets          # WebSocket objects of sessions that run
    cdef object on_idle          # callable(): the plan was replaced and its last session has ended; None before
    # `n_active` has come to 0: have the loop call `on_idle`.
    cdef void tell_idle(self) noexcept
