"""Serving: the proxies of a Server at work on an event loop, from the first listener to the last connection."""

import asyncio
import contextlib
import functools
import os
import socket
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

from pingora import metrics, reload, snapshots
from pingora.background import RunningServices
from pingora.choices import ACCESS_FORMATS, CLIENT_CERT_FIELDS, FORWARDED_FIELDS
from pingora.error_pages import ErrorPage
from pingora.limits import Limits
from pingora.listening import name_of
from pingora.load_balancing.upkeep import Upkeep
from pingora.loop import new_reactor
from pingora.observe.blocked import HookNames, LoopWatch
from pingora.observe.collector import Collector
from pingora.observe.exposition import render
from pingora.observe.notices import Notices
from pingora.observe.report import Report
from pingora.observe.watchdog import Watchdog
from pingora.proxy import ProxyHttp, all_hooks, answer_filter, overridden_hooks, own_hook, tcp_hooks
from pingora.proxy_protocol import AcceptProxyProtocol
from pingora.reload import Change
from pingora.replaced import Replaced, start_proxy, stop_proxy
from pingora.server import Server, Site
from pingora.tcp import TcpProxy
from pingora.tls.chooser import Chooser
from pingora.tls.server import TlsSettings
from pingora_c.log.writer import LogWriter
from pingora_c.mem import buffer_pool
from pingora_c.net.introducer import n_newcomers
from pingora_c.net.listener import Listener
from pingora_c.proxy.counter_names import COUNTER_NAMES
from pingora_c.proxy.plan import Plan
from pingora_c.proxy.service import ProxyService, make_plan
from pingora_c.proxy.tcp_service import make_tcp_plan
from pingora_c.stats.counters import Counters

LEAVING_S = 1.2  # for WebSockets to be closed in order; the core gives both sides a second

serving_here: "weakref.WeakSet[Serving]" = weakref.WeakSet()


def close_listeners_in_child() -> None:
    """In a child that a hook forks: hold no port open after the proxy has died. The core closes its own sockets.

    A supervisor's children are not meant: it serves nothing itself.
    """
    for serving in list(serving_here):
        serving.server.close_listeners()


os.register_at_fork(after_in_child=close_listeners_in_child)


class Serving:
    """Services that run on a loop. They accept clients after `start()` and `accept()`."""

    def __init__(
        self,
        server: Server,
        loop: asyncio.AbstractEventLoop,
        access_writer: LogWriter | None,
        counters: Counters | None = None,
        make_watchdog: Callable[[float, Callable[[], None]], LoopWatch] = Watchdog,
    ) -> None:
        self.server = server
        self.loop = loop
        self.make_watchdog = make_watchdog
        self.access_writer = access_writer
        serving_here.add(self)
        self.reactor = new_reactor(loop, counters)
        self.services: list[ProxyService] = []
        self.listeners: dict[socket.socket, Listener] = {}
        self.is_accepting = False  # on every listener; a worker of a supervisor chooses among them
        self.is_stopping = False
        self.is_closed = False  # all connections are cut; what worker_start began may still end
        self.replaced = Replaced(self)
        self.background = RunningServices([])
        self.upkeep = Upkeep()
        self.watchdog: LoopWatch | None = None
        self.collector: Collector | None = None
        self.notices = Notices(self.reactor.counters, self.reactor.admission)
        self.notices.start(loop)
        try:
            for site in server.sites:
                service = site.service_kind(self.reactor, self.plan_of(server, site))
                self.services.append(service)
                for sock in site.sockets:
                    self.listen(service, sock, site)
            self.watch()
        except BaseException:
            self.close()
            raise

    def plan_of(self, server: Server, site: Site) -> Plan:
        """Make what the sessions of a site share."""
        if isinstance(site.proxy, TcpProxy):
            return self.tcp_plan_of(server, site, site.proxy)
        return make_plan(
            self.reactor,
            site.proxy,
            overridden_hooks(site.proxy),
            balancer=site.balancer,
            loop=self.loop,
            report=Report(),
            access_writer=self.access_writer,
            access_format=ACCESS_FORMATS[server.access_log or "off"],
            limits=server.limits.for_core(),
            retry=(site.retry or site.proxy.retry).for_core(),
            hook_timeout=server.limits.hook_timeout,
            hook_limits=dict(site.proxy.hook_timeouts),
            answer_filter=answer_filter(site.proxy),
            trusted=server.trusted,
            forwarded=FORWARDED_FIELDS[server.forwarded],
            client_cert=CLIENT_CERT_FIELDS[server.client_cert],
            pages=server.pages,
            name=site.name,
            takes_connect=site.proxy.takes_connect,
            abort_on_half_close=(
                site.proxy.abort_on_half_close if site.abort_on_half_close is None else site.abort_on_half_close
            ),
            via=server.via,
        )

    def tcp_plan_of(self, server: Server, site: Site, proxy: TcpProxy) -> Plan:
        """Make what the connections of a site share."""
        return make_tcp_plan(
            self.reactor,
            proxy,
            tcp_hooks(proxy),
            balancer=site.balancer,
            loop=self.loop,
            report=Report(),
            access_writer=self.access_writer,
            access_format=ACCESS_FORMATS[server.access_log or "off"],
            limits=server.limits.for_core(),
            retry=(site.retry or proxy.retry).for_core(),
            hook_timeout=server.limits.hook_timeout,
            hook_limits=dict(proxy.hook_timeouts),
            trusted=server.trusted,
            reads_hello=proxy.reads_client_hello,
        )

    def set_defer_accept(self, sock: socket.socket) -> None:
        """Tell the kernel whether it keeps a client until it has sent something, at most for a second."""
        if sock.family != socket.AF_UNIX:
            is_deferred = self.server.defer_accept and sock not in self.spoken_to_first
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, int(is_deferred))

    @property
    def spoken_to_first(self) -> set[socket.socket]:
        """The sockets whose clients may wait for us to speak first: of TcpProxies."""
        return {sock for site in self.server.sites if isinstance(site.proxy, TcpProxy) for sock in site.sockets}

    def listen(self, service: ProxyService, sock: socket.socket, site: Site) -> None:
        """Give a listening socket of its site to a service."""
        self.set_defer_accept(sock)
        self.listeners[sock] = service.listen(os.dup(sock.fileno()))
        self.encrypt(service, sock, site)
        if self.is_accepting:
            self.listeners[sock].watch()

    def encrypt(self, service: ProxyService, sock: socket.socket, site: Site) -> None:
        """Have what is accepted from a socket introduced and encrypted, or not, as its site says."""
        tls, hook = site.encrypted().get(sock), own_hook(site.proxy, "certificate")
        if tls is None:
            service.use_tls(self.listeners[sock], None)
        else:
            start = functools.partial(self.replaced.start_hook, site.proxy)
            chooser = None if hook is None else Chooser(hook, tls, start)
            if self.server.client_cert == "chain":
                tls.context.keep_chains()
            service.use_tls(self.listeners[sock], tls.context, chooser)
        front = site.introduced().get(sock)
        if front is not None:
            limit_ms = int(self.server.limits.proxy_header_timeout * 1000)
            service.expect_introduction(self.listeners[sock], front.networks, front.required, limit_ms)

    async def start(self) -> None:
        """Let every proxy make what its hooks need on this loop, see ProxyHttp.worker_start; begin what runs beside."""
        for proxy in self.server.proxies:
            await start_proxy(proxy)
        await self.upkeep.start(self.server)
        # Outside a supervisor's worker there is no agent beside us.
        here = [one for one in self.server.services if one.where == "worker" or not snapshots.is_reader]
        self.background = RunningServices(here)

    def accept(self) -> None:
        """Accept clients on all listeners."""
        self.is_accepting = True
        for listener in self.listeners.values():
            listener.watch()

    def watch(self) -> None:
        """Start a watchdog that knows the hooks of the present server, in place of the one that runs."""
        if self.watchdog is not None:
            self.watchdog.stop()
            self.watchdog = None
        blocked_after = self.server.limits.blocked_after
        if blocked_after is not None:
            hooks = [hook for site in self.server.sites for hook in all_hooks(site.proxy)]
            on_blocked = self.reactor.counters.count_blocked_loop
            self.watchdog = self.make_watchdog(blocked_after, on_blocked)
            self.watchdog.start(self.loop, HookNames(hooks))

    @property
    def addresses(self) -> list[str]:
        """Where it listens, with the ports that were chosen for port 0."""
        return list(dict.fromkeys(name_of(sock) for site in self.server.sites for sock in site.sockets))

    async def prepare(self, server: Server) -> Change:
        """Build aside what serves `server`; nothing that runs changes yet. Raises UsageError, or as make_plan does.

        Opens the listeners of new addresses, those of addresses that stay are kept; awaits `worker_start` of proxies
        that are new here, whose exception is raised.
        """
        return await reload.prepare(self, server)

    def commit(self, change: Change) -> None:
        """Serve `change.server` from now on, without touching a connection.

        Sessions that begin now use it, also on open connections, and running ones end as they began. Then `worker_stop`
        and `close()` of a proxy that is no longer used are called. Raises OSError, and then nothing has changed, if a
        listener cannot be watched.
        """
        reload.commit(self, change)

    def drop(self, change: Change) -> None:
        """Forget a change: close the listeners that it opened, and let proxies end what their worker_start began."""
        reload.drop(self, change)

    @property
    def address(self) -> str:
        """The first listening address, with the port that was chosen for port 0."""
        return self.addresses[0]

    def own_collector(self) -> None:
        """Decide from now on when the process's garbage collector runs: for processes that do nothing else."""
        self.collector = Collector(self.activity)
        for generation, pauses in enumerate(self.collector.pauses):
            pauses.observe = metrics.pauses_of(generation).observe
        self.collector.start(asyncio.get_running_loop())

    def activity(self) -> tuple[int, int]:
        """Return the number of requests so far and of those that run now."""
        return sum(service.n_requests for service in self.services), sum(service.n_active for service in self.services)

    @property
    def counters(self) -> dict[str, float]:
        """What was counted so far in this process, by Prometheus name with labels; docs/counters.md lists them."""
        counted: dict[str, float] = {} if self.collector is None else self.collector.counters()
        for name, value in zip(COUNTER_NAMES, self.reactor.counters.values(), strict=True):
            if name:
                counted[name] = counted.get(name, 0) + value
        return counted

    def metrics(self, openmetrics: bool = False) -> str:
        """Write the metrics of this process as Prometheus or OpenMetrics text; docs/metrics.md lists them."""
        from pingora.observe.scrape import collect_here  # only here: a worker has no use for it

        return render(collect_here(self), openmetrics)

    def sample(self) -> None:
        """Note what is counted only by looking at it, for those who read the counters' memory."""
        held = buffer_pool.stats()["lent_bytes"]
        self.reactor.counters.sample(held, sum(service.n_idle_upstream for service in self.services))

    @property
    def n_connections(self) -> int:
        """Open client connections."""
        return sum(service.n_connections for service in self.services)

    def most_connections(self) -> int:
        """Return how many client connections were open at once since the last call of this, or a few more."""
        return sum(service.most_connections() for service in self.services)

    def stop_accepting(self) -> None:
        """Close the listeners. Open connections go on; their next answer says Connection: close."""
        self.is_stopping = True
        for service in self.services:
            service.stop_listening()
        self.listeners.clear()
        self.server.close_listeners()

    async def drain(self, seconds: float) -> None:
        """Stop accepting, close idle connections, let running requests finish for up to `seconds`, then cut."""
        self.stop_accepting()
        deadline = self.loop.time() + seconds
        while (self.close_idle() or self.is_busy()) and self.loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await self.stop()

    async def retire(self, seconds: float) -> None:
        """Stop accepting and serve what is connected for up to `seconds`, then cut.

        Idle connections stay open until their next answer: closing one at once would race with a request on its way.
        """
        self.stop_accepting()
        deadline = self.loop.time() + seconds
        while (self.n_connections or self.is_busy()) and self.loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await self.stop()

    def close_idle(self) -> int:
        """Close connections between two exchanges; return how many are left."""
        return sum(service.close_idle() for service in self.services)

    def is_busy(self) -> bool:
        """Tell whether something goes on without a connection that is counted.

        That is a session whose client has gone, or a client that a proxy in front has not introduced yet.
        """
        return any(service.n_active for service in self.services) or n_newcomers(self.reactor) > 0

    async def stop(self) -> None:
        """Close WebSockets, cut what is left, then let every proxy end what its worker_start began."""
        if sum(service.leave_websockets() for service in self.services):
            deadline = self.loop.time() + LEAVING_S
            while any(one.n_websockets for one in self.services) and self.loop.time() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        self.close()
        await self.background.stop()
        await self.replaced.finish()
        for proxy in self.server.proxies:
            await stop_proxy(proxy)

    def close(self) -> None:
        """Cut all connections and leave the loop."""
        self.is_closed = True
        self.background.cancel()
        self.upkeep.stop()
        serving_here.discard(self)
        self.notices.stop()
        if self.watchdog is not None:
            self.watchdog.stop()
        if self.collector is not None:
            self.collector.stop()
        for service in self.services:
            service.close()
        self.reactor.close()


@contextlib.asynccontextmanager
async def serve(
    proxy: ProxyHttp | TcpProxy,
    listen: str | Iterable[str] = "127.0.0.1:0",
    *,
    tls: TlsSettings | None = None,
    proxy_protocol: AcceptProxyProtocol | Iterable[str] | None = None,
    limits: Limits | None = None,
    trusted: Iterable[str] = (),
    forwarded: str = "x-forwarded",
    client_cert: str = "off",
    error_pages: Mapping[int, ErrorPage] | None = None,
    reason_header: str | None = None,
    via: str | None = None,
    grace: float = 5.0,
) -> AsyncIterator[Serving]:
    """Serve `proxy` inside the running asyncio or uvloop program until the block ends; `address` says where.

    `tls` and `proxy_protocol` are those of Server.add_proxy; the other options are those of Server. Clients are
    accepted at once, also if they send nothing. At the end running requests get `grace` seconds.
    """
    server = Server(
        limits=limits,
        trusted=trusted,
        forwarded=forwarded,
        client_cert=client_cert,
        error_pages=error_pages,
        reason_header=reason_header,
        via=via,
        defer_accept=False,
    )
    server.add_proxy(proxy, listen, tls=tls, proxy_protocol=proxy_protocol)
    server.bind()
    try:
        serving = Serving(server, asyncio.get_running_loop(), None)
        try:
            await serving.start()
            serving.accept()
            yield serving
        finally:
            await serving.drain(grace)
    finally:
        server.close_listeners()
