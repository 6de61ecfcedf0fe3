from collections.abc import Hashable
from typing import Literal, Protocol, final

from pingora_c.net.transport import Tie
from pingora_c.upstream.address import Address
from pingora_c.upstream.endpoint import Endpoint, _UpstreamProtocol, _UpstreamTls

_HeaderVersion = Literal["v1", "v2"]

class _Transport(Protocol):
    def dial(self, address: str) -> int: ...
    def tie_of(self, fd: int) -> Tie | None: ...

PROTOCOLS: tuple[str, ...]

@final
class PeerKey:
    """What the connections of equal peers have in common, with its hash."""

    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class HttpPeer:
    """An origin server: an `Endpoint` chosen by a balancer, or "ip:port", "[ipv6]:port", "unix:/path"."""

    def __init__(
        self,
        target: Endpoint | str,
        *,
        connect_timeout: float | None = None,
        read_timeout: float | None = None,
        first_byte_timeout: float | None = None,
        write_timeout: float | None = None,
        total_timeout: float | None = None,
        idle_timeout: float | None = None,
        group: Hashable = None,
        tls: _UpstreamTls | None = None,
        server_name: str | None = None,
        proxy_protocol: _HeaderVersion | None = None,
        protocol: _UpstreamProtocol | None = None,
        max_h2_streams: int | None = None,
        max_h2_connections: int | None = None,
        h2_ping_interval: float | None = None,
        h2_ping_timeout: float | None = None,
        h2_window: int | None = None,
        transport: _Transport | None = None,
        head_timeout: float | None = None,
    ) -> None: ...
    @property
    def protocol(self) -> _UpstreamProtocol:
        """What is spoken: h1, h2 or h2h1 (the upstream chooses by ALPN)."""

    @property
    def max_h2_streams(self) -> int:
        """Requests that share a connection; the upstream may allow fewer."""

    @property
    def max_h2_connections(self) -> int:
        """Connections of HTTP/2 that are open or being opened, at most."""

    @property
    def h2_ping_interval_ms(self) -> int:
        """After so long without a byte a PING is sent; 0: only where an answer is overdue."""

    @property
    def h2_ping_timeout_ms(self) -> int:
        """For the answer to a PING."""

    @property
    def h2_window(self) -> int:
        """Most bytes of an answer that may wait for a slow client."""

    @property
    def address(self) -> Address:
        """Where it is."""

    @property
    def endpoint(self) -> Endpoint | None:
        """The balancer's endpoint, None for a peer made from an address."""

    @property
    def connect_timeout_ms(self) -> int:
        """Of the connect, a TLS handshake included."""

    @property
    def first_byte_timeout_ms(self) -> int:
        """From the request to the first byte of the answer."""

    @property
    def head_timeout_ms(self) -> int:
        """From the first byte of an answer's head to its last."""

    @property
    def read_timeout_ms(self) -> int:
        """Between two reads of the answer."""

    @property
    def write_timeout_ms(self) -> int:
        """Without progress in sending the request."""

    @property
    def total_timeout_ms(self) -> int:
        """From the connect to the end of the answer; 0: no limit."""

    @property
    def idle_timeout_ms(self) -> int:
        """Unused in the pool."""

    @property
    def tls(self) -> _UpstreamTls | None:
        """The UpstreamTls that it was given, None: plain."""

    @property
    def server_name(self) -> str | None:
        """Sent as SNI, and what the certificate must be for; None: the IP address."""

    @property
    def proxy_protocol(self) -> _HeaderVersion | None:
        """The PROXY protocol by which each connection begins with who the client is, None: without."""

    @property
    def transport(self) -> _Transport | None:
        """What opens the connections in place of the kernel, None: nothing."""

    @property
    def group(self) -> Hashable:
        """Peers of different groups share no connection."""
