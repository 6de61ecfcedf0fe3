"""Discovery: where the endpoints of a balancer come from while it runs."""

import asyncio
import functools
from collections.abc import Iterable

from pingora.load_balancing.endpoints import EndpointLike, endpoint_of, is_name, resolve
from pingora.tls.targets import parse_target
from pingora.tls.upstream import UpstreamTls

DAY = 86400


class Discovery:
    """Finds the endpoints of a LoadBalancer, again every `interval` seconds. Subclass it and override `discover`.

    Runs on the loop of every worker. What it finds replaces the set; an endpoint whose address stays keeps its live
    state. One that raises, finds nothing or something that cannot be a set is logged, and the set stays as it was.
    """

    interval: float = 30.0
    tls: UpstreamTls | None = None  # of the balancer, which sets it

    async def discover(self) -> Iterable[EndpointLike]:
        """Find all endpoints, as LoadBalancer takes them. A name among them is resolved, which holds the loop."""
        raise NotImplementedError(f"{type(self).__name__} does not override discover")


class DnsDiscovery(Discovery):
    """Resolves names anew, without holding the loop: each address of a name is an endpoint of its weight.

    `endpoints` are those of LoadBalancer. The system's resolver says nothing of how long an answer holds, so `interval`
    decides. A name that does not resolve keeps the addresses that it had. Raises ValueError for what makes no sense.
    """

    def __init__(self, endpoints: Iterable[EndpointLike], *, interval: float = 30.0) -> None:
        if not 0.01 <= interval <= DAY:
            raise ValueError(f"interval: expected 0.01 to {DAY} seconds, got {interval!r}")
        if isinstance(endpoints, str):
            raise TypeError(f"endpoints: expected a list of addresses, got the text {endpoints!r}")
        self.interval = interval
        self._entries = list(endpoints)
        if not self._entries:
            raise ValueError("endpoints: expected one or more")
        self._known: dict[str, list[str]] = {}  # by name, what it resolved to last

    async def discover(self) -> list[EndpointLike]:
        """Resolve all names at once."""
        found: list[EndpointLike] = []
        rows = await asyncio.gather(*(self._entry(entry) for entry in self._entries))
        for row in rows:
            found += row
        return found

    async def _entry(self, entry: EndpointLike) -> list[EndpointLike]:
        address, weight = entry if isinstance(entry, tuple) else (entry, 1)
        if not isinstance(address, str):
            return [entry]
        target = parse_target(address, self.tls)
        if not is_name(target.address):
            return [endpoint_of(target, target.address, weight)]
        try:
            found = await lookup(target.address)
        except ValueError:
            if target.address not in self._known:
                raise
            found = self._known[target.address]
        self._known[target.address] = found
        return [endpoint_of(target, one, weight) for one in found]


async def lookup(text: str) -> list[str]:
    """Give the addresses of a "name:port". Raises ValueError."""
    loop = asyncio.get_running_loop()
    return [address.text for address in await loop.run_in_executor(None, functools.partial(resolve, text))]
