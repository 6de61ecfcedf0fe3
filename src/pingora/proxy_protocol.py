"""AcceptProxyProtocol: who may introduce clients by the PROXY protocol."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from pingora_c.net.networks import Networks


@dataclass(frozen=True)
class AcceptProxyProtocol:
    """Clients of a listener are introduced by a proxy in front: PROXY protocol, version 1 or 2, before TLS.

    `trusted` are the networks of such proxies, such as "10.0.0.0/8"; whoever is on a Unix socket is trusted too. With
    `required` they must introduce every client; without, a connection may also begin without a header. Any other peer
    is served as a client of its own, and refused if it sends a header. Raises ValueError.
    """

    trusted: Iterable[str]
    required: bool = True
    networks: Networks = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check."""
        given = (self.trusted,) if isinstance(self.trusted, str) else tuple(self.trusted)
        try:
            networks = Networks(ipaddress.ip_network(network) for network in given)
        except ValueError as error:
            raise ValueError(f"proxy_protocol: {error}") from None
        object.__setattr__(self, "trusted", given)
        object.__setattr__(self, "networks", networks)


def as_settings(given: AcceptProxyProtocol | Iterable[str] | None) -> AcceptProxyProtocol | None:
    """Take networks for settings that require it of them."""
    return given if given is None or isinstance(given, AcceptProxyProtocol) else AcceptProxyProtocol(given)
