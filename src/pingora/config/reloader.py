"""Reload of a configuration in a process that serves: prepared aside, then committed or dropped."""

import asyncio
import logging
import signal
import socket
from pathlib import Path

from pingora.config.build import (
    ConfiguredServer,
    Parts,
    equip_balancer,
    find_parts,
    is_same_hook,
    new_balancer,
    new_hook,
    resolve_endpoints,
)
from pingora.config.hook import class_path, told
from pingora.config.model import Config
from pingora.config.reader import read_tables
from pingora.load_balancing import LoadBalancer
from pingora.observe import logs
from pingora.reload import Change
from pingora.serving import Serving
from pingora.usage import ConfigError, UsageError
from pingora_c.upstream.endpoint import Endpoint

log = logging.getLogger("pingora")


class Reloader:
    """Keeps what a process serves in step with a file.

    A hook whose class and options are unchanged keeps its object, upstreams that are selected in the same way keep
    their balancer: endpoints whose address stays go on with their state.
    """

    def __init__(self, serving: Serving, server: ConfiguredServer) -> None:
        self._serving = serving
        self._server = server
        self._prepared: tuple[Change, ConfiguredServer, list[Endpoint]] | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_asked = False

    def follow_signals(self) -> None:
        """Read the file anew at each SIGHUP of this process."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.ask)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGHUP,))  # one that came during the start is not lost

    def ask(self) -> None:
        """Reload soon; asking while a reload is under way brings one more."""
        self._is_asked = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._reload())

    async def _reload(self) -> None:
        while self._is_asked:
            self._is_asked = False
            name = self._server.config.source.name
            problems = await self.prepare(name)
            for problem in problems:
                log.error("%s", problem)
            if problems:
                log.error("%s was not reloaded, what was served before goes on", name)
                continue
            try:
                self.commit()
                log.info("%s has taken over in place", name)
            except (OSError, RuntimeError) as error:
                log.error("%s was not reloaded, what was served before goes on: %s", name, error)

    async def prepare(
        self, path: str | Path, text: str | None = None, listeners: dict[str, list[socket.socket]] | None = None
    ) -> list[str]:
        """Build what the file, or `text` in its place, describes; return what is wrong with it, nothing if it is ready.

        Until `commit` all goes on as it was. `listeners` are open sockets by address as the file has it; those that are
        neither there nor open already are opened. What was prepared before is dropped.
        """
        self.drop()
        if self._serving.is_stopping:
            return [f"{path}: nothing is changed any more, the end was asked for"]
        try:
            source, tables = read_tables(path, text)
        except ConfigError as error:
            return error.problems
        try:
            upstreams = tables.get("upstreams")
            endpoints = await asyncio.to_thread(resolve_endpoints, source, upstreams)
            self._prepared = await self._build(find_parts(source, tables, endpoints), listeners or {})
        except ConfigError as error:
            return error.problems
        except UsageError as error:
            return [f"{path}: {error}"]
        except Exception as error:  # of the hook: its worker_start, or something that it has set
            source.value_problem(class_path(source), f"the hook cannot serve: {told(error, source)}")
            return source.lines()
        return []

    async def _build(
        self, parts: Parts, listeners: dict[str, list[socket.socket]]
    ) -> tuple[Change, ConfiguredServer, list[Endpoint]]:
        old, config = self._server, parts.config
        hook = old.hook if is_same_hook(old.config, config) else None
        is_new = hook is None
        hook = hook or new_hook(config, parts.kind)
        upstreams = new_balancer(config, [copy_of(endpoint) for endpoint in parts.endpoints])
        try:
            config.source.check()
            assert hook is not None
            kept: list[Endpoint] = []
            if upstreams is not None and is_same_selection(old.config, config):
                upstreams, kept = own_balancer(old), parts.endpoints
            server = ConfiguredServer(parts, hook, upstreams, old.given_access_log)
            server.site.bound = {address: sockets for address, sockets in listeners.items() if sockets}
            if is_new:
                server.equip_proxy()
            return await self._serving.prepare(server), server, kept
        except BaseException:
            if is_new and hook is not None:
                self._serving.replaced.end(hook.proxy, is_started=False)
            raise

    def commit(self) -> None:
        """Serve what was prepared. Raises OSError, and then nothing has changed, if a listener cannot be watched."""
        assert self._prepared is not None
        change, server, endpoints = self._prepared
        self._prepared = None
        self._serving.commit(change)
        if endpoints:
            own_balancer(server).update(endpoints)
            look_after(server, endpoints)
            self._serving.upkeep.follow(server)
        else:
            keep_states(self._server, server)
        server.equip_proxy()
        logs.set_level(server.log_level)
        self._server = server

    def drop(self) -> None:
        """Forget what was prepared, if anything was."""
        if self._prepared is None:
            return
        change, server, _ = self._prepared
        self._prepared = None
        change.close()
        if server.hook is not self._server.hook:
            self._serving.replaced.end(server.hook.proxy)


def is_same_selection(old: Config, new: Config) -> bool:
    """True if the balancer of the old configuration can take the endpoints of the new one."""
    if old.upstreams is None or new.upstreams is None:
        return False
    before, after = old.upstreams, new.upstreams
    return (before.selection, before.key, before.passive, before.peer) == (
        after.selection,
        after.key,
        after.passive,
        after.peer,
    )


def look_after(server: ConfiguredServer, endpoints: list[Endpoint]) -> None:
    """Have the balancer of a server, which was there before it, looked after as its configuration says."""
    upstreams = server.config.upstreams
    assert upstreams is not None
    balancer = own_balancer(server)
    equip_balancer(balancer, upstreams, endpoints)
    if balancer.health is None:
        for endpoint in balancer.endpoints:
            endpoint.is_healthy = True  # nobody would find that out any more


def own_balancer(server: ConfiguredServer) -> LoadBalancer:
    """Give the balancer of a server whose file has [upstreams]."""
    assert server.site.upstreams is not None
    return server.site.upstreams


def copy_of(endpoint: Endpoint) -> Endpoint:
    """Give an endpoint for a balancer that only tries whether there can be one."""
    return Endpoint(
        endpoint.address,
        endpoint.weight,
        name=endpoint.name,
        tls=endpoint.tls,
        server_name=endpoint.server_name,
    )


def keep_states(old: ConfiguredServer, new: ConfiguredServer) -> None:
    """Give the endpoints of another balancer the switches and the health of those of the same address."""
    if old.site.upstreams is None or new.site.upstreams is None or old.site.upstreams is new.site.upstreams:
        return
    before = {endpoint.address: endpoint for endpoint in old.site.upstreams.endpoints}
    for endpoint in new.site.upstreams.endpoints:
        if (known := before.get(endpoint.address)) is not None:
            endpoint.is_enabled = known.is_enabled
            endpoint.is_healthy = known.is_healthy or new.site.upstreams.health is None
