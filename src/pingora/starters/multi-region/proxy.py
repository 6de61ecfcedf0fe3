"""Regions: a client is served by the one that is nearest to his network, and by the next if that fails."""

import ipaddress

from pingora import HttpPeer, LoadBalancer, ProxyError, ProxyHttp, ResponseHead, Session


class Regions(ProxyHttp):
    """`regions` has the addresses of each, `networks` the clients that are near to it; all others are at `home`."""

    def __init__(self, home: str, regions: dict[str, list[str]], networks: dict[str, list[str]]) -> None:
        unknown = ({home} | set(networks)) - set(regions)
        if unknown:
            raise ValueError(f"no region {', '.join(sorted(unknown))}; there are {', '.join(regions)}")
        self.home = home
        self.regions = {name: LoadBalancer(addresses) for name, addresses in regions.items()}
        self.networks = [(ipaddress.ip_network(text), name) for name, texts in networks.items() for text in texts]

    def new_ctx(self) -> dict[str, list[str]]:
        """Make what a request knows of itself: the regions that it tried, the last one last."""
        return {"tried": []}

    def region_of(self, client: str) -> str:
        """Give the region of a client's address, "ip:port" or "[ip]:port"."""
        try:
            address = ipaddress.ip_address(client.rpartition(":")[0].strip("[]"))
        except ValueError:  # over a Unix socket
            return self.home
        return next((name for network, name in self.networks if address in network), self.home)

    def upstream_peer(self, session: Session, ctx: dict[str, list[str]]) -> HttpPeer:
        """Choose the nearest region that was not tried yet."""
        nearest = self.region_of(session.client_address)
        order = [nearest, *(name for name in self.regions if name != nearest)]
        left = [name for name in order if name not in ctx["tried"]] or [nearest]
        ctx["tried"].append(left[0])
        return HttpPeer(self.regions[left[0]].select(), connect_timeout=1.0)

    def fail_to_connect(self, session: Session, peer: HttpPeer, error: ProxyError, ctx: dict[str, list[str]]) -> None:
        """Try another region, as long as there is one."""
        error.retry = len(set(ctx["tried"])) < len(self.regions)

    def response_filter(self, session: Session, response: ResponseHead, ctx: dict[str, list[str]]) -> None:
        """Say who answered."""
        response.headers["x-region"] = ctx["tried"][-1]
