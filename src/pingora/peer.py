"""PeerOptions: how a balancer's upstreams are connected to."""

from dataclasses import dataclass, fields
from typing import Literal

from pingora.transport import Transport
from pingora_c.upstream.peer import PROTOCOLS


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
    head_timeout: float = 30.0  # from the first byte of the answer's head to its last, over HTTP/1: 504
    proxy_protocol: Literal["v1", "v2"] | None = None  # each connection begins with a header: who the client is

    protocol: Literal["h1", "h2", "h2h1"] = "h1"  # h2: by ALPN, without TLS by prior knowledge; h2h1: as ALPN chooses
    max_h2_streams: int = 100  # requests that share a connection; the upstream may allow fewer
    max_h2_connections: int = 100  # that are open; requests beyond wait for a stream, up to connect_timeout
    h2_ping_interval: float | None = None  # without a byte for so long: a PING; None: only where an answer is overdue
    h2_ping_timeout: float = 10.0  # for its answer: the connection is given up
    h2_window: int = 262_144  # most bytes of an answer that may wait for a slow client

    transport: Transport | None = None  # opens the connections in place of the kernel

    def __post_init__(self) -> None:
        """Check."""
        if self.proxy_protocol not in (None, "v1", "v2"):
            raise ValueError(f'proxy_protocol: expected "v1" or "v2", got {self.proxy_protocol!r}')
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {self.protocol!r}")
        if not 1 <= self.max_h2_streams <= 10_000:
            raise ValueError(f"max_h2_streams: expected 1 to 10000, got {self.max_h2_streams!r}")
        if not 1 <= self.max_h2_connections <= 10_000:
            raise ValueError(f"max_h2_connections: expected 1 to 10000, got {self.max_h2_connections!r}")
        if not 65_535 <= self.h2_window <= 16_777_216:
            raise ValueError(f"h2_window: expected 65535 to 16777216 bytes, got {self.h2_window!r}")
        for field in fields(self):
            seconds = getattr(self, field.name)
            is_time = field.name.endswith(("timeout", "interval"))
            if is_time and seconds is not None and not 0.001 <= seconds <= 86400:
                raise ValueError(f"{field.name}: expected 0.001 to 86400 seconds, got {seconds!r}")
