"""Server: listeners with their proxies, served by worker processes or inside a running asyncio program."""

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import sys
import weakref
from collections.abc import AsyncIterator, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field

import uvloop

from pingora import reload
from pingora.limits import Limits
from pingora.load_balancing import LoadBalancer
from pingora.observe import logs
from pingora.observe.collector import Collector
from pingora.observe.watchdog import HookNames, Watchdog
from pingora.proxy import ProxyHttp, all_hooks, overridden_hooks
from pingora.reload import Change, Replaced
from pingora.retry import RetryPolicy
from pingora.supervisor import Supervisor
from pingora_c.log.writer import LogWriter
from pingora_c.net.listener import Listener
from pingora_c.net.reactor import Reactor
from pingora_c.proxy.counter_names import COUNTER_NAMES
from pingora_c.proxy.failure import ProxyError
from pingora_c.proxy.plan import Plan
from pingora_c.proxy.service import ProxyService, make_plan
from pingora_c.upstream.address import Address, parse_address

log = logging.getLogger("pingora")

BACKLOG = 4096
LOSSES_S = 1.0  # between two looks at how many lines of output were dropped
ACCESS_FORMATS = {"off": 0, "combined": 1, "json": 2}
LOG_LEVELS = ("debug", "info", "warning", "error")
FORWARDED_FIELDS = {"x-forwarded": 1, "forwarded": 2, "both": 3, "off": 0}


# True while the command line executes a user's file, which must not start to serve.
is_loading: ContextVar[bool] = ContextVar("is_loading", default=False)


class UsageError(Exception):
    """What the user asked for cannot be done; the message is one line for a person."""


@dataclass
class Site:
    """A proxy and where it listens."""

    proxy: ProxyHttp
    addresses: list[str]
    bound: dict[str, list[socket.socket]] = field(default_factory=dict)  # by address; several are slots of workers
    upstreams: LoadBalancer | None = None  # in place of the proxy's own
    retry: RetryPolicy | None = None  # in place of the proxy's own

    @property
    def sockets(self) -> list[socket.socket]:
        """All that listen."""
        return [sock for sockets in self.bound.values() for sock in sockets]

    @property
    def balancer(self) -> LoadBalancer | None:
        """Who chooses upstreams if the proxy does not."""
        return self.proxy.upstreams if self.upstreams is None else self.upstreams


def open_listener(text: str, reuse_port: bool = False) -> socket.socket:
    """Bind and listen. Raises UsageError that names the address."""
    try:
        address = parse_address(text, is_listen=True)
    except ValueError as error:
        raise UsageError(f"cannot listen on {text!r}: {error}") from None
    if address.is_unix:
        return listen_unix(text, address)
    host, _, port = address.text.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address.is_dual_stack else 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
        sock.bind((host.strip("[]"), int(port)))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise UsageError(f"cannot listen on {text!r}: {error.strerror}") from None
    return sock


def listen_unix(text: str, address: Address) -> socket.socket:
    """Listen on a Unix socket; a socket file that nobody listens on is replaced."""
    path = address.text.removeprefix("unix:")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.startswith("@"):
            path = "\0" + path[1:]
        else:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, contextlib.suppress(FileNotFoundError):
                if probe.connect_ex(path) != 0:
                    os.unlink(path)
        sock.bind(path)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise UsageError(f"cannot listen on {text!r}: {error.strerror}") from None
    return sock


class Report:
    """Where the core tells what went wrong with a request: the error log."""

    def hook_raised(self, hook: str, request: str, error: BaseException) -> None:
        """Log the traceback of a hook that raised."""
        log.error("hook %s raised for %s", hook, request, exc_info=error)

    def failed(self, summary: str, error: ProxyError, client: str, upstream: str | None, attempts: int) -> None:
        """Log a request that failed."""
        log.warning(
            "%s: %s, status %d, client %s, upstream %s, attempts %d",
            summary,
            error.reason,
            error.status,
            client,
            upstream or "-",
            attempts,
        )


class Server:
    """Listeners and their proxies.

    `access_log` is "combined", "json" or "off"; None means "off". `log_level` is what of the error log is written by a
    process that only serves: "debug", "info", "warning" or "error". `limits` are those of client connections. `trusted`
    names the networks of proxies in front, such as "10.0.0.0/8": their X-Forwarded-* fields are kept and continued,
    those of all other clients are replaced. `forwarded` says which fields tell upstreams about the client:
    "x-forwarded" (-For, -Host, -Proto), "forwarded" (RFC 7239), "both" or "off".
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        access_log: str | None = None,
        log_level: str = "info",
        trusted: Iterable[str] = (),
        forwarded: str = "x-forwarded",
    ) -> None:
        if forwarded not in FORWARDED_FIELDS:
            raise ValueError(f"forwarded: expected one of {', '.join(FORWARDED_FIELDS)}, got {forwarded!r}")
        if access_log is not None and access_log not in ACCESS_FORMATS:
            raise ValueError(f"access_log: expected one of {', '.join(ACCESS_FORMATS)}, got {access_log!r}")
        self.limits = limits or Limits()
        if log_level not in LOG_LEVELS:
            raise ValueError(f"log_level: expected one of {', '.join(LOG_LEVELS)}, got {log_level!r}")
        self.access_log = access_log
        self.log_level = log_level
        self.trusted = tuple(ipaddress.ip_network(network) for network in trusted)
        self.forwarded = forwarded
        self.sites: list[Site] = []

    def add_proxy(self, proxy: ProxyHttp, listen: str | Iterable[str]) -> None:
        """Serve `proxy` on "host:port", ":port" or "unix:/path", or several. Raises TypeError for no ProxyHttp."""
        if not isinstance(proxy, ProxyHttp):
            raise TypeError(f"add_proxy: expected a ProxyHttp, got {proxy!r}")
        self.sites.append(Site(proxy, [listen] if isinstance(listen, str) else list(listen)))

    def follow_changes(self, serving: "Serving") -> None:
        """Begin to look for changes of what this server was made of. Default: there are none."""

    def check(self) -> None:
        """Find what makes serving impossible. Raises UsageError."""
        if not self.sites:
            raise UsageError("the server has no proxy: call add_proxy first")
        for site in self.sites:
            name = type(site.proxy).__name__
            if site.balancer is None and type(site.proxy).upstream_peer is ProxyHttp.upstream_peer:
                raise UsageError(
                    f"{name} has no upstream: set self.upstreams to a LoadBalancer or override upstream_peer"
                )

    def bind(self) -> None:
        """Open all listening sockets. Raises UsageError."""
        self.check()
        for site in self.sites:
            for address in site.addresses:
                if address not in site.bound:
                    site.bound[address] = [open_listener(address)]

    def close_listeners(self) -> None:
        """Close this process's listening sockets; a client is refused once no process has them open."""
        for site in self.sites:
            for sock in site.sockets:
                sock.close()
            site.bound = {}

    def run(self, workers: int = 1, *, grace: float = 5.0) -> None:
        """Serve until SIGINT or SIGTERM. `workers=0` serves in the present process, else in that many forked ones.

        Running requests then have `grace` seconds; a second signal cuts them. Exits with code 2 and one line on stderr
        if it cannot start.
        """
        if is_loading.get():
            raise UsageError('server.run() belongs under `if __name__ == "__main__":` in a file for `pingora run`')
        if workers < 0:
            raise ValueError(f"workers: expected 0 or more, got {workers}")
        try:
            self.bind()
        except UsageError as error:
            print(f"pingora: {error}", file=sys.stderr)
            sys.exit(2)
        if workers == 0:
            serve_until_signal(self, grace)
        else:
            Supervisor(
                lambda lifeline: serve_until_signal(self, grace, lifeline), self.close_listeners, workers, grace
            ).run()


serving_here: "weakref.WeakSet[Serving]" = weakref.WeakSet()


def close_listeners_in_child() -> None:
    """In a child that a hook forks: hold no port open after the proxy has died. The core closes its own sockets.

    A supervisor's children are not meant: it serves nothing itself.
    """
    for serving in list(serving_here):
        serving.server.close_listeners()


os.register_at_fork(after_in_child=close_listeners_in_child)


class Serving:
    """Services that run on a loop."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop, access_writer: LogWriter | None) -> None:
        self.server = server
        self.loop = loop
        self.access_writer = access_writer
        serving_here.add(self)
        self.reactor = Reactor(loop)
        self.services: list[ProxyService] = []
        self.listeners: dict[socket.socket, Listener] = {}
        self.replaced = Replaced(self)
        self.watchdog: Watchdog | None = None
        self.collector: Collector | None = None
        try:
            for site in server.sites:
                service = ProxyService(self.reactor, self.plan_of(server, site))
                self.services.append(service)
                for sock in site.sockets:
                    self.listen(service, sock)
            self.watch()
        except BaseException:
            self.close()
            raise

    def plan_of(self, server: Server, site: Site) -> Plan:
        """Make what the sessions of a site share."""
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
            trusted=server.trusted,
            forwarded=FORWARDED_FIELDS[server.forwarded],
        )

    def listen(self, service: ProxyService, sock: socket.socket) -> None:
        """Have a service accept from a listening socket."""
        self.listeners[sock] = service.listen(os.dup(sock.fileno()))

    def watch(self) -> None:
        """Start a watchdog that knows the hooks of the present server, in place of the one that runs."""
        if self.watchdog is not None:
            self.watchdog.stop()
            self.watchdog = None
        blocked_after = self.server.limits.blocked_after
        if blocked_after is not None:
            hooks = [hook for site in self.server.sites for hook in all_hooks(site.proxy)]
            on_blocked = self.reactor.counters.count_blocked_loop
            self.watchdog = Watchdog(blocked_after / 4, blocked_after, on_blocked)
            self.watchdog.start(self.loop, HookNames(hooks))

    @property
    def addresses(self) -> list[str]:
        """Where it listens, with the ports that were chosen for port 0."""
        names = [sock.getsockname() for site in self.server.sites for sock in site.sockets]
        return [f"{name[0]}:{name[1]}" if isinstance(name, tuple) else f"unix:{name}" for name in names]

    def prepare(self, server: Server) -> Change:
        """Build aside what serves `server`; nothing that runs changes yet. Raises UsageError, or as make_plan does.

        Opens the listeners of new addresses; those of addresses that stay are kept.
        """
        return reload.prepare(self, server)

    def commit(self, change: Change) -> None:
        """Serve `change.server` from now on, without touching a connection.

        Sessions that begin now use it, also on open connections, and running ones end as they began; then `close()` of
        a proxy that is no longer used is called. Raises OSError, and then nothing has changed, if a listener cannot be
        watched.
        """
        reload.commit(self, change)

    def drop(self, change: Change) -> None:
        """Forget a change: close the listeners that it opened."""
        change.close()

    @property
    def address(self) -> str:
        """The first listening address, with the port that was chosen for port 0."""
        return self.addresses[0]

    def own_collector(self) -> None:
        """Decide from now on when the process's garbage collector runs: for processes that do nothing else."""
        self.collector = Collector(self.activity)
        self.collector.start(asyncio.get_running_loop())

    def activity(self) -> tuple[int, int]:
        """Return the number of requests so far and of those that run now."""
        return sum(service.n_requests for service in self.services), sum(service.n_active for service in self.services)

    @property
    def counters(self) -> dict[str, int]:
        """What was counted so far in this process, by Prometheus name with labels; docs/counters.md lists them."""
        counted: dict[str, int] = {}
        for name, value in zip(COUNTER_NAMES, self.reactor.counters.values(), strict=True):
            if name:
                counted[name] = counted.get(name, 0) + value
        return counted

    async def drain(self, seconds: float) -> None:
        """Stop accepting, let running requests finish for up to `seconds`, then cut."""
        for service in self.services:
            service.stop_listening()
        self.server.close_listeners()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while sum(service.close_idle() for service in self.services) and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        self.close()

    def close(self) -> None:
        """Cut all connections and leave the loop."""
        serving_here.discard(self)
        if self.watchdog is not None:
            self.watchdog.stop()
        if self.collector is not None:
            self.collector.stop()
        for service in self.services:
            service.close()
        self.reactor.close()


@contextlib.asynccontextmanager
async def serve(
    proxy: ProxyHttp,
    listen: str | Iterable[str] = "127.0.0.1:0",
    *,
    limits: Limits | None = None,
    trusted: Iterable[str] = (),
    forwarded: str = "x-forwarded",
    grace: float = 5.0,
) -> AsyncIterator[Serving]:
    """Serve `proxy` inside the running asyncio or uvloop program until the block ends; `address` says where.

    `limits`, `trusted` and `forwarded` are those of Server. At the end running requests get `grace` seconds.
    """
    server = Server(limits=limits, trusted=trusted, forwarded=forwarded)
    server.add_proxy(proxy, listen)
    server.bind()
    try:
        serving = Serving(server, asyncio.get_running_loop(), None)
        try:
            yield serving
        finally:
            await serving.drain(grace)
    finally:
        server.close_listeners()


async def serve_forever(server: Server, output: "Output", grace: float, lifeline: int | None) -> None:
    """Serve until SIGTERM, or SIGINT outside a worker, asks for the end; a second one cuts what still runs."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Semaphore(0)
    loop.add_signal_handler(signal.SIGTERM, asked.release)
    if lifeline is None:
        loop.add_signal_handler(signal.SIGINT, asked.release)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))  # none was lost meanwhile
    serving = Serving(server, loop, output.stdout)
    server.follow_changes(serving)
    if lifeline is not None:
        serving.own_collector()
        loop.add_reader(lifeline, on_supervisor_gone, loop, lifeline, asked)
    reports = loop.create_task(output.report_losses())
    await asked.acquire()
    draining = loop.create_task(serving.drain(grace))
    cut = loop.create_task(asked.acquire())
    await asyncio.wait((draining, cut), return_when=asyncio.FIRST_COMPLETED)
    for task in (draining, cut, reports):
        task.cancel()
    serving.close()


def on_supervisor_gone(loop: asyncio.AbstractEventLoop, lifeline: int, asked: asyncio.Semaphore) -> None:
    """End as after a SIGTERM."""
    loop.remove_reader(lifeline)
    log.warning("the supervisor is gone, ending")
    asked.release()


class Output:
    """stdout and stderr of a process that serves: print(), logging and access lines through bounded writers."""

    def __init__(self, level: str) -> None:
        self.stdout, self.stderr = LogWriter(1), LogWriter(2)
        self._losses = logs.Losses({"stdout": self.stdout, "stderr": self.stderr}, self.stderr)
        self._undo = logs.configure(self.stdout, self.stderr, level.upper())

    async def report_losses(self) -> None:
        """Say now and then how many lines were lost."""
        while True:
            await asyncio.sleep(LOSSES_S)
            self._losses.look()

    def close(self) -> None:
        """Write what is left, for at most a second each, and give the streams back."""
        self._losses.look(is_last=True)
        self._undo()
        for writer in (self.stdout, self.stderr):
            writer.close()


def serve_until_signal(server: Server, grace: float, lifeline: int | None = None) -> None:
    """Serve in the present process.

    `lifeline` is what a worker has of its supervisor. A worker's garbage collector is ours; the user's program keeps
    its own.
    """
    output = Output(server.log_level)
    try:
        uvloop.run(serve_forever(server, output, grace, lifeline))
    finally:
        output.close()
