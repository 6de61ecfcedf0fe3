"""Load balancing: sets of endpoints and the algorithms that choose among them.

    upstreams = LoadBalancer(["10.0.0.1:8080", ("10.0.0.2:8080", 3)], Ketama(), key="client_ip")

`RoundRobin` and `Ketama` run without Python; for an algorithm of your own, subclass `Selection` and override `pick`.
"""

import socket
from collections.abc import Iterable
from typing import TypeAlias

from pingora.tls.targets import parse_target
from pingora.tls.upstream import UpstreamTls
from pingora_c.upstream.address import Address, parse_address, parse_host_port
from pingora_c.upstream.balancer import Balancer, NoUpstream, Selection
from pingora_c.upstream.endpoint import Endpoint
from pingora_c.upstream.select.ketama import Ketama
from pingora_c.upstream.select.round_robin import RoundRobin

__all__ = ["Endpoint", "Ketama", "LoadBalancer", "NoUpstream", "RoundRobin", "Selection"]

EndpointLike: TypeAlias = str | Address | Endpoint | tuple[str | Address, int]


class LoadBalancer(Balancer):
    """A set of endpoints and the selection over it.

    Each of `endpoints` is "ip:port", "[ipv6]:port", "name:port", "unix:/path", an `Address`, an `Endpoint`, or a pair
    of one of the first kinds and a weight (1 to 65535). "https://name:port" is one with TLS, by `tls` if that is given;
    with `tls`, those without a scheme are too; the certificate must be for that name or IP address. A name is resolved
    once, here; each of its addresses becomes an endpoint of that weight. `selection` is `RoundRobin()` by default and
    serves this balancer only. `key` says what the core hashes when it selects without a hook: "client_ip", "uri",
    "host", "header:NAME", or nothing.

    Raises ValueError for a bad address, a name that does not resolve, an address that occurs twice, an empty set.
    """

    def __init__(
        self,
        endpoints: Iterable[EndpointLike],
        selection: Selection | None = None,
        *,
        key: str | None = None,
        tls: UpstreamTls | None = None,
    ) -> None:
        self._tls = tls
        super().__init__(make_endpoints(endpoints, tls), RoundRobin() if selection is None else selection, key=key)

    def update(self, endpoints: Iterable[EndpointLike]) -> None:
        """Replace the set; names are resolved anew, which blocks.

        An endpoint whose address stays keeps its object and live state; its weight and name may change. Sessions that
        use an endpoint that goes finish on it. Raises as the constructor does, and then keeps the old set.
        """
        super().update(make_endpoints(endpoints, self._tls))


def make_endpoints(entries: Iterable[EndpointLike], tls: UpstreamTls | None) -> list[Endpoint]:
    """Turn what a user writes into endpoints, several for a name with several addresses."""
    if isinstance(entries, str):
        raise TypeError(f"endpoints: expected a list of addresses, got the text {entries!r}")
    made: list[Endpoint] = []
    for entry in entries:
        if isinstance(entry, Endpoint):
            made.append(entry)
            continue
        address, weight = entry if isinstance(entry, tuple) else (entry, 1)
        if isinstance(address, str):
            target = parse_target(address, tls)
            made += [
                Endpoint(resolved, weight, name=target.address, tls=target.tls, server_name=target.server_name)
                for resolved in resolve(target.address)
            ]
        else:
            made.append(Endpoint(address, weight, tls=tls))
    return made


def resolve(text: str) -> list[Address]:
    """Give the addresses of an IP literal, a Unix path or a "name:port", in the order of the resolver."""
    if text.startswith("unix:"):
        return [parse_address(text)]
    host, port = parse_host_port(text)
    if is_numeric(host):
        return [parse_address(text)]
    try:
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"address {text!r}: cannot resolve {host!r}: {reason}") from error
    hosts = [f"[{row[4][0]}]" if row[0] == socket.AF_INET6 else row[4][0] for row in rows]
    return [parse_address(f"{host}:{port}") for host in dict.fromkeys(hosts)]


def is_numeric(host: str) -> bool:
    """True for an IP literal, also a wrong one: the resolver would read "127.1" and "0x7f.1" as addresses."""
    last_label = host.rstrip(".").rpartition(".")[2].lower()
    return host.startswith("[") or last_label.isdigit() or last_label.startswith("0x")
