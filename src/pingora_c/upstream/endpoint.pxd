"""An endpoint: one address in a balancer's set, with its live state."""
cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from pingora_c.upstream.address cimport Address

cdef enum:
    WEIGHT_MAX = 65535


@cython.final
cdef class Endpoint:
    cdef readonly Address address
    cdef readonly str name              # the text it was configured with, "app-1:8080"; Ketama places it by this
    cdef readonly uint32_t weight       # 1 <= weight <= WEIGHT_MAX
    cdef readonly uint32_t slot         # index in its balancer's set, stable while the set stays
    cdef public bint is_enabled         # an operator's switch
    cdef public bint is_healthy         # set by health checks; a new endpoint starts healthy
    cdef readonly uint32_t in_flight    # sessions that use it now, from taking the peer to the end
    cdef readonly uint64_t started      # sessions so far
    cdef readonly uint64_t failed       # attempts that failed to connect or died before an answer
    cdef readonly object tls            # UpstreamTls of connections there, None: plain
    cdef readonly str server_name       # what its certificate must be for, None: as `tls` says, or its IP address
    # Three fields that other modules own, each None before its first use:
    cdef object connect_key             # upstream.pool: the interned key of plain HttpPeer(endpoint)
    cdef object default_peer            # upstream.peer: the peer for this endpoint with default options
    cdef object owner                   # upstream.balancer: weak reference to the balancer in whose set it is

    # A session takes the peer.
    cdef void on_start(self) noexcept
    # The session is done with it; once for each on_start.
    cdef void on_finish(self, bint is_failure) noexcept


# The one eligibility test: enabled, healthy, and not in `tried` (bit `slot` of a 64-bit mask; slots past 63 are never
# masked out).
cdef inline bint peer_available(Endpoint endpoint, uint64_t tried) noexcept:
    return endpoint.is_enabled and endpoint.is_healthy and not (endpoint.slot < 64 and (tried >> endpoint.slot) & 1)
