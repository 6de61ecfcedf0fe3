"""PeerOptions: how a balancer's upstreams are connected to."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class PeerOptions:
    """Limits of connections to all endpoints of a LoadBalancer, in seconds; `HttpPeer` may set those of one request.

    Raises ValueError for what makes no sense.
    """

    connect_timeout: float = 5.0  # to connect, TLS handshake included: the next attempt, or 504
    read_timeout: float = 60.0  # between two reads of the answer: 504
    first_byte_timeout: float | None = None  # from the end of the request to the answer; None: as read_timeout
    write_timeout: float | None = None  # without progress in sending the request; None: as read_timeout
    total_timeout: float | None = None  # from the connect to the end of the answer; None: no limit
    idle_timeout: float = 60.0  # unused in the pool: closed
    proxy_protocol: str | None = None  # "v1" or "v2": each connection begins with a header that says who the client is

    def __post_init__(self) -> None:
        """Check."""
        if self.proxy_protocol not in (None, "v1", "v2"):
            raise ValueError(f'proxy_protocol: expected "v1" or "v2", got {self.proxy_protocol!r}')
        for field in fields(self):
            seconds = getattr(self, field.name)
            if field.name.endswith("timeout") and seconds is not None and not 0.001 <= seconds <= 86400:
                raise ValueError(f"{field.name}: expected 0.001 to 86400 seconds, got {seconds!r}")
