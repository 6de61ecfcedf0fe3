"""Endpoints of a balancer: an address, its weight and its live state.

Owns the counts, and decides when failures take it out and for how long. Never decides whether it is chosen
(`peer_available` and the selection do), never connects.
"""
from pingora_c.base.clock cimport now_us


cdef class FailureRules:
    """When failures take an endpoint out of selection: `PassiveHealth` in the core's units.

    `failures` in a row within `window_ms`, for `back_off_ms`, which doubles up to `longest_ms`; `statuses` are answers
    that count as failed. Raises ValueError.
    """

    def __init__(self, uint32_t failures, uint64_t window_ms, uint64_t back_off_ms, uint64_t longest_ms, statuses=()):
        if failures == 0 or len(statuses) > FAILED_STATUSES_MAX:
            raise ValueError("expected a failure or more, and at most 16 statuses")
        self.failures = failures
        self.window_us = 1000 * window_ms
        self.back_off_us = 1000 * back_off_ms
        self.longest_us = 1000 * longest_ms
        for i, status in enumerate(statuses):
            self.statuses[<int>i] = status

    cdef bint counts(self, uint16_t status) noexcept:
        cdef int i
        for i in range(FAILED_STATUSES_MAX):
            if self.statuses[i] == 0:
                break
            if self.statuses[i] == status:
                return True
        return False

    cdef uint64_t outage_us(self, uint32_t number) noexcept:
        cdef uint64_t lasts = self.back_off_us
        while number > 1 and lasts < self.longest_us:
            lasts *= 2
            number -= 1
        return min(lasts, self.longest_us)

    def outage(self, uint32_t number):
        """How long the outage of this number lasts, from 1 on, in seconds."""
        return <double>self.outage_us(number) / 1e6


cdef class Endpoint:
    """One address of a balancer's set.

    `address` is an `Address` or the text of one; `weight` is 1–65535. `name` is the text by which consistent hashing
    places the endpoint, the address as written by default. `tls` is an UpstreamTls, `server_name` what the certificate
    must be for, `protocol` the one to speak there, as HttpPeer has it. Raises ValueError.
    """

    def __init__(self, address not None, weight=1, *, str name=None, tls=None, str server_name=None,
                 str protocol=None):
        if not 1 <= weight <= WEIGHT_MAX:
            raise ValueError(f"endpoint {address}: weight {weight} is outside 1–{WEIGHT_MAX}")
        self.address = Address.parse(address) if isinstance(address, str) else address
        if self.address.port == 0 and not self.address.is_unix:
            raise ValueError(f"endpoint {address}: port 0 is outside 1–65535")
        self.name = str(address) if name is None else name
        self.weight = weight
        self.tls = tls
        self.server_name = server_name
        self.protocol = protocol
        self.is_enabled = True
        self.is_healthy = True

    cdef void on_start(self) noexcept:
        self.in_flight += 1
        self.started += 1
        if self.out_until_us:
            self.is_probed = True

    cdef bint on_answer(self) noexcept:
        cdef bint was_out = self.out_until_us != 0
        self.out_until_us = 0
        self.is_probed = False
        return was_out

    cdef bint on_finish(self, Use use) noexcept:
        if self.in_flight:
            self.in_flight -= 1
        if use == USE_FAILED:
            self.failed += 1
            return self.rules is not None and self.note_failure()
        self.is_probed = False
        if use == USE_GOOD:
            self.failures_in_row = 0
            self.outages = 0
        return False

    cdef bint note_failure(self) noexcept:
        cdef uint64_t now = now_us()
        self.is_probed = False
        if self.out_until_us:
            if now < self.out_until_us:
                return False      # of a session that began before it was out, or since all are
        elif self.failures_in_row == 0 or now - self.row_since_us > self.rules.window_us:
            self.failures_in_row = 1
            self.row_since_us = now
        else:
            self.failures_in_row += 1
        if self.out_until_us == 0 and self.failures_in_row < self.rules.failures:
            return False
        self.outages += 1
        self.out_until_us = now + self.rules.outage_us(self.outages)
        return True

    cdef bint may_probe(self) noexcept:
        return self.is_forced or not (self.is_probed or now_us() < self.out_until_us)

    @property
    def is_available(self):
        """True if a selection may choose the endpoint: enabled, healthy, and not out after failures."""
        return peer_available(self, 0)

    @property
    def out_for(self):
        """Seconds until an endpoint that failed is tried again, 0.0 from then on; None if it is not out."""
        cdef uint64_t now
        if self.out_until_us == 0:
            return None
        now = now_us()
        return 0.0 if now >= self.out_until_us else <double>(self.out_until_us - now) / 1e6

    def __repr__(self):
        state = "" if self.is_enabled else " disabled"
        if not self.is_healthy:
            state += " unhealthy"
        if self.out_until_us:
            state += " out"
        return f"<Endpoint {self.address.text} weight={self.weight} in_flight={self.in_flight}{state}>"


def use_endpoint(Endpoint endpoint not None, str how not None):
    """Do with `endpoint` what a session does, for tests: "start", "answer", "failed", "good" or "unknown"."""
    if how == "start":
        endpoint.on_start()
        return False
    if how == "answer":
        return endpoint.on_answer()
    return endpoint.on_finish(USE_FAILED if how == "failed" else USE_GOOD if how == "good" else USE_UNKNOWN)
