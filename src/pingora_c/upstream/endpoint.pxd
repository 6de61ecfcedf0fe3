"""An endpoint: one address in a balancer's set, with its live state."""
cimport cython
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from pingora_c.upstream.address cimport Address

cdef enum:
    WEIGHT_MAX = 65535
    FAILED_STATUSES_MAX = 16

# How a session's use of an endpoint ended.
cdef enum Use:
    USE_UNKNOWN = 0      # nothing is known: the client left, or a connection from the pool had ended
    USE_FAILED = 1       # no connection, none or only part of an answer, or an answer that counts as failed
    USE_GOOD = 2


# When failures take an endpoint out of selection; one object for all endpoints of a balancer. Constant.
@cython.final
cdef class FailureRules:
    cdef readonly uint32_t failures          # in a row that take it out, > 0
    cdef readonly uint64_t window_us         # in which they count as a row
    cdef readonly uint64_t back_off_us       # for how long, the first time; doubles up to longest_us
    cdef readonly uint64_t longest_us
    cdef uint16_t[FAILED_STATUSES_MAX] statuses   # answers that count as failed, 0 behind the last

    cdef bint counts(self, uint16_t status) noexcept
    # How long the outage of this number (from 1) lasts.
    cdef uint64_t outage_us(self, uint32_t number) noexcept


# An endpoint that failed is out until `out_until_us`; then one session tries it (`is_probed`), and it is in again with
# that one's answer, or out for longer. 0 == out_until_us: in.
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
    cdef readonly str protocol          # that HttpPeer(endpoint) speaks, None: as peer_options say
    cdef FailureRules rules             # None: failures do not take it out
    cdef uint64_t out_until_us          # of CLOCK_MONOTONIC; 0: it is in
    cdef uint64_t row_since_us          # when the first of failures_in_row was
    cdef readonly uint32_t failures_in_row
    cdef readonly uint32_t outages      # since it last ended a session well
    cdef bint is_probed                 # out, and a session tries it
    cdef bint is_forced                 # chosen although out: its whole set is; only while a balancer selects
    # Fields that other modules own, each None or 0 before its first use:
    cdef uint64_t* cells                # proxy.tally: its numbers; good only in the Counters with this serial
    cdef uint64_t counters_serial
    cdef object peer_options            # upstream.peer: PeerOptions of HttpPeer(endpoint), None: the defaults
    cdef object connect_key             # upstream.pool: the interned key of plain HttpPeer(endpoint)
    cdef object default_peer            # upstream.peer: the peer for this endpoint with default options
    cdef object owner                   # upstream.balancer: weak reference to the balancer in whose set it is

    # A session takes the peer.
    cdef void on_start(self) noexcept
    # An answer came that does not count as failed. True if that brought the endpoint in again.
    cdef bint on_answer(self) noexcept
    # The session is done with it; once for each on_start. True if that took the endpoint out.
    cdef bint on_finish(self, Use use) noexcept
    cdef bint note_failure(self) noexcept
    # Whether one that is out may be chosen all the same.
    cdef bint may_probe(self) noexcept


# The one eligibility test: enabled, healthy, not out after failures, and not in `tried` (bit `slot` of a 64-bit mask;
# slots past 63 are never masked out).
cdef inline bint peer_available(Endpoint endpoint, uint64_t tried) noexcept:
    return (endpoint.is_enabled and endpoint.is_healthy and not (endpoint.slot < 64 and (tried >> endpoint.slot) & 1)
            and (endpoint.out_until_us == 0 or endpoint.may_probe()))
