"""Load balancing: sets of endpoints and the algorithms that choose among them.

    upstreams = LoadBalancer(["10.0.0.1:8080", ("10.0.0.2:8080", 3)], Ketama(), key="client_ip")

`RoundRobin`, `Random`, `LeastConnections`, `Ketama` and `FnvHash` run without Python; for an algorithm of your own,
subclass `Selection` and override `pick`.
"""

from collections.abc import Iterable

from pingora.load_balancing.discovery import Discovery, DnsDiscovery
from pingora.load_balancing.endpoints import EndpointLike, make_endpoints
from pingora.load_balancing.health import HealthCheck, HttpHealthCheck, TcpHealthCheck
from pingora.load_balancing.passive import PassiveHealth
from pingora.peer import PeerOptions
from pingora.tls.upstream import UpstreamTls
from pingora_c.upstream.balancer import Balancer, NoUpstream, Selection
from pingora_c.upstream.endpoint import Endpoint
from pingora_c.upstream.select.fnv_hash import FnvHash
from pingora_c.upstream.select.ketama import Ketama
from pingora_c.upstream.select.least_connections import LeastConnections
from pingora_c.upstream.select.random import Random
from pingora_c.upstream.select.round_robin import RoundRobin

__all__ = [
    "Discovery",
    "DnsDiscovery",
    "Endpoint",
    "FnvHash",
    "HealthCheck",
    "HttpHealthCheck",
    "Ketama",
    "LeastConnections",
    "LoadBalancer",
    "NoUpstream",
    "PassiveHealth",
    "Random",
    "RoundRobin",
    "Selection",
    "TcpHealthCheck",
]


class LoadBalancer(Balancer):
    """A set of endpoints and the selection over it.

    Each of `endpoints` is "ip:port", "[ipv6]:port", "name:port", "unix:/path", an `Address`, an `Endpoint`, or a pair
    of one of the first kinds and a weight (1 to 65535). "https://name:port" is one with TLS, by `tls` if that is given;
    with `tls`, those without a scheme are too; the certificate must be for that name or IP address. A name is resolved
    once, here; each of its addresses becomes an endpoint of that weight. `selection` is `RoundRobin()` by default and
    serves this balancer only. `key` says what the core hashes when it selects without a hook: "client_ip", "uri",
    "host", "header:NAME", or nothing. `peer` gives the times of connections to all endpoints.

    `passive` says when failures of requests take an endpoint out, `health` asks endpoints whether they work, and
    `discovery` finds the endpoints anew; with it, `endpoints` may be empty. Those of `self.upstreams` of a proxy run by
    themselves, those of another balancer with `Server.add_service(BalancerService(balancer))`.

    Raises ValueError for a bad address, a name that does not resolve, an address that occurs twice, an empty set.
    """

    def __init__(
        self,
        endpoints: Iterable[EndpointLike] = (),
        selection: Selection | None = None,
        *,
        key: str | None = None,
        tls: UpstreamTls | None = None,
        peer: PeerOptions | None = None,
        passive: PassiveHealth | None = None,
        health: HealthCheck | None = None,
        discovery: Discovery | None = None,
    ) -> None:
        self._tls = tls
        self.health = health
        self.discovery = discovery
        if discovery is not None:
            discovery.tls = tls
        super().__init__(
            make_endpoints(endpoints, tls),
            RoundRobin() if selection is None else selection,
            key=key,
            failure_rules=(passive or PassiveHealth()).for_core(),
            peer_options=peer,
            may_be_empty=discovery is not None,
        )

    def update(self, endpoints: Iterable[EndpointLike]) -> None:
        """Replace the set; names are resolved anew, which blocks.

        An endpoint whose address stays keeps its object and live state; its weight and name may change. Sessions that
        use an endpoint that goes finish on it. Raises as the constructor does, and then keeps the old set.
        """
        super().update(make_endpoints(endpoints, self._tls))
