"""Reload in place: what another Server serves is built aside, then takes over or is dropped.

No connection and no running session is touched. Sockets of addresses that stay are handed on, connections stay with
their service, which gets another plan.
"""

import asyncio
import functools
import inspect
import logging
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pingora_c.net.listener import Listener
from pingora_c.proxy.plan import Plan
from pingora_c.proxy.service import ProxyService
from pingora_c.upstream.address import parse_address

if TYPE_CHECKING:
    from pingora.proxy import ProxyHttp
    from pingora.server import Server, Serving, Site

log = logging.getLogger("pingora")

SWEEP_S = 1.0  # between two looks at whether a service that was taken out has connections left


@dataclass
class Place:
    """A site of the new server: its plan, and the service that goes on with it."""

    site: "Site"
    plan: Plan
    service: ProxyService | None  # None: a new one


@dataclass
class Change:
    """What `prepare` built. Either commit or drop it."""

    server: "Server"
    base: "Server"  # what ran when it was prepared
    places: list[Place] = field(default_factory=list)
    kept: set[socket.socket] = field(default_factory=set)  # of the old server

    def close(self) -> None:
        """Close the listeners that were opened for it; may be called twice."""
        for site in self.server.sites:
            for sock in site.sockets:
                if sock not in self.kept:
                    sock.close()
            site.bound = {}


def listen_key(address: str) -> tuple[str, bool]:
    """Give what two ways to write the same listening address have in common. Raises ValueError."""
    parsed = parse_address(address, is_listen=True)
    return parsed.text, parsed.is_dual_stack


def sockets_by_key(server: "Server") -> dict[tuple[str, bool], list[socket.socket]]:
    """Give the open sockets of a server by address."""
    return {listen_key(address): sockets for site in server.sites for address, sockets in site.bound.items()}


def prepare(serving: "Serving", server: "Server") -> Change:
    """Build aside, see Serving.prepare."""
    open_sockets = sockets_by_key(serving.server)
    change = Change(server, serving.server, kept={sock for sockets in open_sockets.values() for sock in sockets})
    try:
        for site in server.sites:
            for address in site.addresses:
                if address not in site.bound and (sockets := open_sockets.get(key_or_none(address))):
                    site.bound[address] = list(sockets)
        server.bind()
        services = match_services(serving, server)
        change.places = [
            Place(site, serving.plan_of(server, site), service)
            for site, service in zip(server.sites, services, strict=True)
        ]
    except BaseException:
        change.close()
        raise
    return change


def key_or_none(address: str) -> Any:
    """Give listen_key, or None for what `bind` will complain about."""
    try:
        return listen_key(address)
    except ValueError:
        return None


def match_services(serving: "Serving", server: "Server") -> list[ProxyService | None]:
    """Say which running service goes on with which site: one that shares addresses, else the next that is left."""
    left = {service: set(site.sockets) for site, service in zip(serving.server.sites, serving.services, strict=False)}
    found: list[ProxyService | None] = [None] * len(server.sites)
    for needs_shared in (True, False):
        for index, site in enumerate(server.sites):
            if found[index] is None and left:
                best = max(left, key=lambda service: len(left[service].intersection(site.sockets)))
                if not needs_shared or left[best].intersection(site.sockets):
                    found[index] = best
                    del left[best]
    return found


def commit(serving: "Serving", change: Change) -> None:
    """Take over, see Serving.commit."""
    if change.base is not serving.server:
        change.close()
        raise RuntimeError("the change was prepared for a server that does not run any more")
    services = [place.service or ProxyService(serving.reactor, place.plan) for place in change.places]
    listen_to_new(serving, change, services)
    for place, service in zip(change.places, services, strict=True):
        if place.service is not None:
            serving.replaced.adopt(service, place.plan)
    bound = {sock for site in change.server.sites for sock in site.sockets}
    gone = change.kept - bound
    stop_listeners({serving.listeners.pop(sock) for sock in gone}, serving.services)
    for sock in gone:
        sock.close()
    for site in change.base.sites:
        site.bound = {}
    removed = [service for service in serving.services if service not in services]
    serving.server = change.server
    serving.services = [*services, *removed]
    for service in removed:
        serving.replaced.take_out(service)
    serving.watch()


def listen_to_new(serving: "Serving", change: Change, services: list[ProxyService]) -> None:
    """Accept from sockets that are new, or another site's now; from all of them or, raising OSError, from none."""
    old_places = zip(serving.server.sites, serving.services, strict=False)
    owners = {sock: service for site, service in old_places for sock in site.sockets}
    before = dict(serving.listeners)
    try:
        for place, service in zip(change.places, services, strict=True):
            for sock in place.site.sockets:
                if owners.get(sock) is not service:
                    serving.listen(service, sock)
    except OSError:
        stop_listeners(set(serving.listeners.values()) - set(before.values()), services)
        serving.listeners = before
        change.close()
        raise
    stop_listeners(set(before.values()) - set(serving.listeners.values()), serving.services)


def stop_listeners(listeners: set[Listener], services: list[ProxyService]) -> None:
    """Close listeners, whichever service has them."""
    for listener in listeners:
        for service in services:
            service.stop_listener(listener)


class Replaced:
    """What no session begins on any more but some may still run on: plans, and services of sites that are gone.

    Calls `close()` of a proxy object once neither the present server nor a running session has it.
    """

    def __init__(self, serving: "Serving") -> None:
        self._serving = serving
        self._plans: list[Plan] = []
        self._services: list[ProxyService] = []
        self._closing: set[asyncio.Task[Any]] = set()

    def adopt(self, service: ProxyService, plan: Plan) -> None:
        """Give a service another plan, and wait for the end of what runs on the one before."""
        before = service.plan
        self._plans.append(before)
        service.adopt(plan, functools.partial(self._on_idle, before))

    def _on_idle(self, plan: Plan) -> None:
        self._plans.remove(plan)
        self._let_go(plan.proxy)

    def take_out(self, service: ProxyService) -> None:
        """Let a service end: no new connections; each of the open ones ends after its next answer, or when idle."""
        if service not in self._services:
            service.stop_listening()
            self._services.append(service)
            self._sweep(service)

    def _sweep(self, service: ProxyService) -> None:
        if service.n_connections and service in self._serving.services:
            self._serving.loop.call_later(SWEEP_S, self._sweep, service)
            return
        self._services.remove(service)
        if service in self._serving.services:
            self._serving.services.remove(service)
        self._let_go(service.plan.proxy)

    def _let_go(self, proxy: Any) -> None:
        """Close a proxy object if nobody has it any more."""
        users: list[object] = [site.proxy for site in self._serving.server.sites]
        users += [plan.proxy for plan in self._plans]
        users += [service.plan.proxy for service in self._services]
        if any(proxy is user for user in users):
            return
        task = self._serving.loop.create_task(close_proxy(proxy))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def close_proxy(proxy: "ProxyHttp") -> None:
    """Call `close()` of a proxy object that is out of use."""
    try:
        result = proxy.close()
        if inspect.isawaitable(result):
            await result
    except Exception:
        log.exception("close() of %s raised", type(proxy).__name__)
