from collections.abc import Sequence
from typing import Literal, Protocol, final

from pingora_c.net.tls_client import ClientContext
from pingora_c.upstream.address import Address

_UpstreamProtocol = Literal["h1", "h2", "h2h1"]

class _UpstreamTls(Protocol):
    @property
    def context(self) -> ClientContext: ...
    def names_for(self, server_name: str | None) -> tuple[str | None, tuple[str, ...]]: ...

@final
class FailureRules:
    def __init__(
        self, failures: int, window_ms: int, back_off_ms: int, longest_ms: int, statuses: Sequence[int] = ()
    ) -> None: ...
    def outage(self, number: int) -> float: ...
    @property
    def failures(self) -> int: ...
    @property
    def window_us(self) -> int: ...
    @property
    def back_off_us(self) -> int: ...
    @property
    def longest_us(self) -> int: ...

@final
class Endpoint:
    """One address of a balancer's set."""

    def __init__(
        self,
        address: Address | str,
        weight: int = 1,
        *,
        name: str | None = None,
        tls: _UpstreamTls | None = None,
        server_name: str | None = None,
        protocol: _UpstreamProtocol | None = None,
    ) -> None: ...
    is_enabled: bool
    """An operator's switch."""
    is_healthy: bool
    """Set by health checks; a new endpoint is healthy."""
    @property
    def address(self) -> Address:
        """Where it is."""

    @property
    def name(self) -> str:
        """The text it was configured with, "app-1:8080"; Ketama places it by this."""

    @property
    def tls(self) -> _UpstreamTls | None:
        """UpstreamTls of connections there, None: plain."""

    @property
    def server_name(self) -> str | None:
        """What its certificate must be for, None: as `tls` says, or its IP address."""

    @property
    def protocol(self) -> _UpstreamProtocol | None:
        """What HttpPeer(endpoint) speaks, None: as the `peer` of its balancer says."""

    @property
    def weight(self) -> int:
        """Its share, 1 to 65535."""

    @property
    def slot(self) -> int:
        """Its index in the balancer's set."""

    @property
    def in_flight(self) -> int:
        """Sessions that use it now."""

    @property
    def started(self) -> int:
        """Sessions so far."""

    @property
    def failed(self) -> int:
        """Attempts that failed to connect or died before an answer."""

    @property
    def is_available(self) -> bool:
        """Whether a selection may choose it: enabled, healthy, and not out after failures."""

    @property
    def failures_in_row(self) -> int:
        """Failures since its last good answer."""

    @property
    def outages(self) -> int:
        """How often it was left out since it last ended a session well."""

    @property
    def out_for(self) -> float | None:
        """Seconds until an endpoint that failed is tried again, 0.0 from then on; None if it is not out."""

def use_endpoint(endpoint: Endpoint, how: str) -> bool: ...
