"""An endpoint: one address in a balancer's set, with its live state. A balancer never sees a request (DESIGN rule 5)."""
cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from pingora_c.upstream.address cimport Address

cdef enum:
    WEIGHT_MAX = 65535


@cython.final
cdef class Endpoint:
    cdef readonly Address address
    cdef readonly str name              # the text that it was configured with: "app-1:8080"; consistent hashing places it by this
    cdef readonly uint32_t weight       # 1 <= weight <= WEIGHT_MAX
    cdef readonly uint32_t slot         # index in its balancer's set, stable while the set stays
    cdef public bint is_enabled         # an operator's switch
    cdef public bint is_healthy         # set by health checks (later issue); a new endpoint starts healthy
    cdef readonly uint32_t in_flight    # sessions that use it now; counted by the core from taking the peer to the end
    cdef readonly uint64_t started      # sessions so far
    cdef readonly uint64_t failed       # attempts that failed to connect or died before an answer
    cdef object connect_key             # owned by upstream.pool: the interned key of plain HttpPeer(endpoint); None before its first use
    cdef object default_peer            # owned by upstream.peer: the peer for this endpoint with default options; None before its first use
    cdef object owner                   # owned by upstream.balancer: weak reference to the balancer whose set it is in, or None

    cdef void on_start(self) noexcept
    cdef void on_finish(self, bint is_failure) noexcept


# The one eligibility test: enabled, healthy, and not in `tried` (bit `slot` of a 64-bit mask; slots past 63 are never masked out).
cdef inline bint peer_available(Endpoint endpoint, uint64_t tried) noexcept:
    return endpoint.is_enabled and endpoint.is_healthy and not (endpoint.slot < 64 and (tried >> endpoint.slot) & 1)
