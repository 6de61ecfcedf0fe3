"""Endpoints of a balancer: an address, its weight and its live state.

Owns the counts. Never decides whether it is chosen (`peer_available` and the selection do), never connects.
"""


cdef class Endpoint:
    """One address of a balancer's set.

    `address` is an `Address` or the text of one; `weight` is 1–65535. `name` is the text by which consistent hashing
    places the endpoint, the address as written by default. `tls` is an UpstreamTls, `server_name` what the certificate
    must be for. Raises ValueError.
    """

    def __init__(self, address not None, weight=1, *, str name=None, tls=None, str server_name=None):
        if not 1 <= weight <= WEIGHT_MAX:
            raise ValueError(f"endpoint {address}: weight {weight} is outside 1–{WEIGHT_MAX}")
        self.address = Address.parse(address) if isinstance(address, str) else address
        if self.address.port == 0 and not self.address.is_unix:
            raise ValueError(f"endpoint {address}: port 0 is outside 1–65535")
        self.name = str(address) if name is None else name
        self.weight = weight
        self.tls = tls
        self.server_name = server_name
        self.is_enabled = True
        self.is_healthy = True

    cdef void on_start(self) noexcept:
        self.in_flight += 1
        self.started += 1

    cdef void on_finish(self, bint is_failure) noexcept:
        if self.in_flight:
            self.in_flight -= 1
        if is_failure:
            self.failed += 1

    @property
    def is_available(self):
        """True if a selection may choose the endpoint: enabled and healthy."""
        return peer_available(self, 0)

    def __repr__(self):
        state = "" if self.is_enabled else " disabled"
        if not self.is_healthy:
            state += " unhealthy"
        return f"<Endpoint {self.address.text} weight={self.weight} in_flight={self.in_flight}{state}>"
