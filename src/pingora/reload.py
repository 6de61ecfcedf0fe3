"""Reload in place: what another Server serves is built aside, then takes over or is dropped.

No connection and no running session is touched. Sockets of addresses that stay are handed on, connections stay with
their service, which gets another plan.
"""

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pingora.listening import listen_key
from pingora.replaced import start_proxy, stop_proxy
from pingora_c.net.listener import Listener
from pingora_c.proxy.plan import Plan
from pingora_c.proxy.service import ProxyService

if TYPE_CHECKING:
    from pingora.proxy import ProxyHttp
    from pingora.server import Server, Site
    from pingora.serving import Serving
    from pingora.tcp import TcpProxy


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
    started: list["ProxyHttp | TcpProxy"] = field(
        default_factory=list
    )  # proxies that are new, after their worker_start

    def close(self) -> None:
        """Close the listeners that were opened for it; may be called twice."""
        for site in self.server.sites:
            for sock in site.sockets:
                if sock not in self.kept:
                    sock.close()
            site.bound = {}


def sockets_by_key(server: "Server") -> dict[str, list[socket.socket]]:
    """Give the open sockets of a server by address."""
    return {listen_key(address): sockets for site in server.sites for address, sockets in site.bound.items()}


async def prepare(serving: "Serving", server: "Server") -> Change:
    """Build aside, see Serving.prepare."""
    if serving.is_stopping:
        raise RuntimeError("the server is being stopped")
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
        for proxy in new_proxies(serving, server):
            await start_proxy(proxy)
            change.started.append(proxy)
    except BaseException:
        change.close()
        for proxy in change.started:
            await stop_proxy(proxy)
        raise
    return change


def new_proxies(serving: "Serving", server: "Server") -> list["ProxyHttp | TcpProxy"]:
    """Give the proxy objects that do not run yet, each once."""
    running = {id(proxy) for proxy in serving.server.proxies}
    return [proxy for proxy in server.proxies if id(proxy) not in running]


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
            fitting = [service for service in left if type(service) is site.service_kind]
            if found[index] is None and fitting:
                best = max(fitting, key=lambda service: len(left[service].intersection(site.sockets)))
                if not needs_shared or left[best].intersection(site.sockets):
                    found[index] = best
                    del left[best]
    return found


def commit(serving: "Serving", change: Change) -> None:
    """Take over, see Serving.commit."""
    if change.base is not serving.server or serving.is_stopping:
        change.close()
        raise RuntimeError("the change was prepared for a server that does not run any more")
    encrypted = {sock: tls for site in change.base.sites for sock, tls in site.encrypted().items()}
    services = [place.service or place.site.service_kind(serving.reactor, place.plan) for place in change.places]
    listen_to_new(serving, change, services)
    for place, service in zip(change.places, services, strict=True):
        if place.service is not None:
            serving.replaced.adopt(service, place.plan)
        for sock in place.site.sockets:
            serving.encrypt(service, sock, place.site)
        for sock, tls in place.site.encrypted().items():
            if sock in encrypted:
                encrypted[sock].context.hand_over(tls.context)
    bound = {sock for site in change.server.sites for sock in site.sockets}
    gone = change.kept - bound
    stop_listeners({serving.listeners.pop(sock) for sock in gone}, serving.services)
    for sock in gone:
        sock.close()
    for site in change.base.sites:
        site.bound = {}
    removed = [service for service in serving.services if service not in services]
    serving.server = change.server
    for sock in bound:
        serving.set_defer_accept(sock)
    serving.services = [*services, *removed]
    for service in removed:
        serving.replaced.take_out(service)
    serving.upkeep.follow(change.server)
    serving.watch()


def drop(serving: "Serving", change: Change) -> None:
    """Undo what `prepare` did, see Serving.drop."""
    change.close()
    for proxy in change.started:
        serving.replaced.end(proxy, is_closed=False)
    change.started = []


def listen_to_new(serving: "Serving", change: Change, services: list[ProxyService]) -> None:
    """Accept from sockets that are new, or another site's now; from all of them or, raising OSError, from none."""
    old_places = zip(serving.server.sites, serving.services, strict=False)
    owners = {sock: service for site, service in old_places for sock in site.sockets}
    before = dict(serving.listeners)
    try:
        for place, service in zip(change.places, services, strict=True):
            for sock in place.site.sockets:
                if owners.get(sock) is not service:
                    serving.listen(service, sock, place.site)
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
