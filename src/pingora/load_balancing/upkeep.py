"""What balancers need beside the sessions: discovery, and health checks or what the agent found by them.

In an instance with an agent only that one checks, and tells the workers; discovery runs in each process.
"""

import asyncio
import json
import logging
import random
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from pingora import snapshots
from pingora.background import BackgroundService
from pingora.load_balancing import LoadBalancer
from pingora.load_balancing.discovery import Discovery
from pingora.load_balancing.health import HealthCheck, told
from pingora_c.upstream.endpoint import Endpoint

if TYPE_CHECKING:
    from pingora.server import Server

log = logging.getLogger("pingora")

SNAPSHOT = "pingora.health"
FIRST_DISCOVERY_S = 5.0  # that a start waits for the endpoints of a balancer without any
SPREAD = 0.1  # of an interval, so that processes do not ask in step


class BalancerService(BackgroundService):
    """Runs the discovery and the health checks of a balancer that is no proxy's `upstreams`; see Server.add_service."""

    where: ClassVar[str] = "worker"  # the health checks of all workers run in one process

    def __init__(self, balancer: LoadBalancer) -> None:
        if not isinstance(balancer, LoadBalancer):
            raise TypeError(f"BalancerService: expected a LoadBalancer, got {balancer!r}")
        self.balancer = balancer

    async def run(self) -> None:
        """Do nothing: the server looks after the balancers of all such services."""


def balancers_of(server: "Server") -> list[LoadBalancer]:
    """Give the balancers that are looked after, each once, in an order that is the same in all processes."""
    found = [site.balancer for site in server.sites]
    found += [service.balancer for service in server.services if isinstance(service, BalancerService)]
    return list({id(balancer): balancer for balancer in found if balancer is not None}.values())


def needs_agent(server: "Server") -> bool:
    """Whether there are health checks, which one process makes for all."""
    return any(balancer.health is not None for balancer in balancers_of(server))


class Upkeep:
    """Looks after balancers on the present loop until `stop`."""

    def __init__(self) -> None:
        self._balancers: list[LoadBalancer] = []
        self._tasks: dict[tuple[int, int], asyncio.Task[None]] = {}  # by balancer and what is done for it
        self._first: dict[tuple[int, int], asyncio.Event] = {}  # of discoveries: they have tried once
        self._kept: list[Any] = []  # whose ids these are
        snapshots.listeners[SNAPSHOT] = self._take

    async def start(self, server: "Server") -> None:
        """Look after the balancers of a server; wait a while for the endpoints of those that have none."""
        self.follow(server)
        empty = [balancer for balancer in self._balancers if not balancer.endpoints]
        first = [asyncio.ensure_future(self._first[id(one), id(one.discovery)].wait()) for one in empty]
        if first:
            _, late = await asyncio.wait(first, timeout=FIRST_DISCOVERY_S)
            for waiting in late:
                waiting.cancel()

    def follow(self, server: "Server") -> None:
        """Look after the balancers of another server; what stays goes on."""
        self._balancers = balancers_of(server)
        wanted: dict[tuple[int, int], Coroutine[Any, Any, None]] = {}
        self._kept = []
        used: set[tuple[int, int]] = set()
        for balancer in self._balancers:
            for part in (balancer.discovery, None if snapshots.is_reader else balancer.health):
                if part is not None:
                    key = id(balancer), id(part)
                    self._kept += [balancer, part]
                    used.add(key)
                    if key in self._tasks:
                        continue
                    if isinstance(part, Discovery):
                        self._first[key] = asyncio.Event()
                        wanted[key] = discover(balancer, part, self._first[key])
                    else:
                        wanted[key] = self._check(balancer, part)
        for key in [key for key in self._tasks if key not in used]:
            self._tasks.pop(key).cancel()
            self._first.pop(key, None)
        for key, work in wanted.items():
            self._tasks[key] = asyncio.get_running_loop().create_task(work)
        if (told_before := snapshots.shared(SNAPSHOT)) is not None:
            self._take(told_before)

    def stop(self) -> None:
        """End."""
        if snapshots.listeners.get(SNAPSHOT) == self._take:
            del snapshots.listeners[SNAPSHOT]
        for task in self._tasks.values():
            task.cancel()
        self._tasks, self._first = {}, {}

    def _take(self, data: memoryview) -> None:
        """Take over what the agent found; one that checks does so only until its first round."""
        for balancer, states in zip(self._balancers, json.loads(bytes(data)), strict=False):
            for endpoint in balancer.endpoints:
                if (is_healthy := states.get(endpoint.address.text)) is not None and balancer.health is not None:
                    endpoint.is_healthy = is_healthy

    def _publish(self) -> None:
        if snapshots.send is None:
            return
        states = [
            {} if balancer.health is None else {one.address.text: one.is_healthy for one in balancer.endpoints}
            for balancer in self._balancers
        ]
        snapshots.publish(SNAPSHOT, json.dumps(states).encode())

    async def _check(self, balancer: LoadBalancer, health: HealthCheck) -> None:
        rounds = Rounds(balancer, health)
        while True:
            before = states_of(balancer)
            await rounds.run()
            if before != states_of(balancer):
                self._publish()
            await asyncio.sleep(health.interval * random.uniform(1 - SPREAD, 1 + SPREAD))


def states_of(balancer: LoadBalancer) -> dict[str, bool]:
    """Give the health of all endpoints."""
    return {endpoint.address.text: endpoint.is_healthy for endpoint in balancer.endpoints}


class Rounds:
    """The health checks of one balancer: who passed or failed how often in a row."""

    def __init__(self, balancer: LoadBalancer, health: HealthCheck) -> None:
        self._balancer = balancer
        self._health = health
        self._rows: dict[Endpoint, int] = {}  # of results that speak against the present state
        self._turn = asyncio.Semaphore(health.parallel)

    async def run(self) -> None:
        """Ask every endpoint once."""
        endpoints = self._balancer.endpoints
        self._rows = {endpoint: row for endpoint, row in self._rows.items() if endpoint in endpoints}
        await asyncio.gather(*(self._ask(endpoint) for endpoint in endpoints))

    async def _ask(self, endpoint: Endpoint) -> None:
        async with self._turn:
            problem: Exception | None = None
            try:
                async with asyncio.timeout(self._health.timeout):
                    await self._health.check(endpoint)
            except Exception as error:
                problem = error
        if endpoint.is_healthy == (problem is None):
            self._rows.pop(endpoint, None)
            return
        row = self._rows[endpoint] = self._rows.get(endpoint, 0) + 1
        wanted = self._health.consecutive_failure if endpoint.is_healthy else self._health.consecutive_success
        if row >= wanted:
            del self._rows[endpoint]
            self._change(endpoint, problem)

    def _change(self, endpoint: Endpoint, problem: Exception | None) -> None:
        endpoint.is_healthy = problem is None
        if problem is None:
            log.info("upstream %s is healthy", endpoint.address.text)
        else:
            log.warning("upstream %s is unhealthy: %s", endpoint.address.text, told(problem))
        try:
            self._health.health_changed(endpoint, endpoint.is_healthy)
        except Exception:
            log.exception("%s.health_changed failed", type(self._health).__name__)


async def discover(balancer: LoadBalancer, discovery: Discovery, first: asyncio.Event) -> None:
    """Keep the endpoints of a balancer up to date. What goes wrong is logged, and the set stays."""
    was_good = True
    while True:
        try:
            found: Iterable[Any] = list(await discovery.discover())
            balancer.update(found)
            if not was_good:
                log.info("%s finds endpoints again", type(discovery).__name__)
            was_good = True
        except Exception as error:
            if was_good:
                log.warning("%s: %s; the endpoints stay as they were", type(discovery).__name__, error or repr(error))
            was_good = False
        first.set()
        await asyncio.sleep(discovery.interval * random.uniform(1 - SPREAD, 1 + SPREAD))
