from collections.abc import Hashable
from typing import Protocol, final

from pingora_c.net.tls_client import ClientContext
from pingora_c.net.transport import Tie
from pingora_c.upstream.address import Address
from pingora_c.upstream.endpoint import Endpoint

class _UpstreamTls(Protocol):
    @property
    def context(self) -> ClientContext: ...
    def names_for(self, server_name: str | None) -> tuple[str | None, tuple[str, ...]]: ...

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
        proxy_protocol: str | None = None,
        protocol: str | None = None,
        max_h2_streams: int | None = None,
        max_h2_connections: int | None = None,
        h2_ping_interval: float | None = None,
        h2_ping_timeout: float | None = None,
        h2_window: int | None = None,
        transport: _Transport | None = None,
        head_timeout: float | None = None,
    ) -> None: ...
    @property
    def protocol(self) -> str: ...
    @property
    def max_h2_streams(self) -> int: ...
    @property
    def max_h2_connections(self) -> int: ...
    @property
    def h2_ping_interval_ms(self) -> int: ...
    @property
    def h2_ping_timeout_ms(self) -> int: ...
    @property
    def h2_window(self) -> int: ...
    @property
    def address(self) -> Address: ...  # where it is
    @property
    def endpoint(self) -> Endpoint | None: ...
    @property
    def connect_timeout_ms(self) -> int: ...  # of the connect, a TLS handshake included
    @property
    def first_byte_timeout_ms(self) -> int: ...  # from the request to the first byte of the answer
    @property
    def head_timeout_ms(self) -> int: ...  # from the first byte of an answer's head to its last
    @property
    def read_timeout_ms(self) -> int: ...
    @property
    def write_timeout_ms(self) -> int: ...  # without progress in sending the request
    @property
    def total_timeout_ms(self) -> int: ...
    @property
    def idle_timeout_ms(self) -> int: ...
    @property
    def tls(self) -> _UpstreamTls | None: ...
    @property
    def server_name(self) -> str | None: ...
    @property
    def proxy_protocol(self) -> str | None: ...
    @property
    def transport(self) -> _Transport | None: ...
    @property
    def group(self) -> Hashable: ...
