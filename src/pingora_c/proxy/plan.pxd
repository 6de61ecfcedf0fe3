"""What the sessions of one proxy share in this process: hooks, limits, pool, balancer. Frozen before the first
session.
"""
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from pingora_c.log.writer cimport LogWriter
from pingora_c.net.reactor cimport Reactor
from pingora_c.proxy.downstream cimport ServerLimits
from pingora_c.upstream.balancer cimport Balancer
from pingora_c.upstream.pool cimport Pool

# The hooks, in the order of a session's life; index into Plan.hooks.
cdef enum Phase:
    NEW_CTX = 0
    EARLY_REQUEST_FILTER
    REQUEST_FILTER
    PROXY_UPSTREAM_FILTER
    UPSTREAM_PEER
    CONNECTED_TO_UPSTREAM
    UPSTREAM_REQUEST_FILTER
    UPSTREAM_RESPONSE_FILTER
    RESPONSE_FILTER
    FAIL_TO_PROXY
    LOGGING
    PHASE_END


@cython.final
cdef class Plan:
    cdef Reactor reactor
    cdef ServerLimits limits
    cdef tuple hooks             # PHASE_END entries: a bound method, or None where the class does not override it
    cdef bint has_hooks          # any hook at all
    cdef bint has_response_hooks
    cdef Balancer balancer       # of self.upstreams; None if there is none
    cdef Pool pool
    cdef object loop
    cdef object on_hook_error    # callable(hook name, request line, exception)
    cdef LogWriter access_writer  # None: no access log
    cdef uint8_t access_format   # AccessFormat
    cdef uint32_t attempts_max
    cdef uint32_t hook_timeout_ms
    cdef bint is_stopping
    cdef uint64_t n_requests
    cdef uint64_t n_active
