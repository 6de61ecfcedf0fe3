"""Server: listeners with their proxies, served by worker processes or inside a running asyncio program."""

import asyncio
import contextlib
import errno
import functools
import ipaddress
import logging
import os
import socket
import stat
import sys
import weakref
from collections.abc import AsyncIterator, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import NoneType

from pingora import reload, snapshots
from pingora.background import BackgroundService, RunningServices
from pingora.error_pages import ErrorPage, read_error_pages
from pingora.limits import Limits
from pingora.load_balancing import LoadBalancer
from pingora.observe.collector import Collector
from pingora.observe.notices import Notices
from pingora.observe.watchdog import HookNames, Watchdog
from pingora.proxy import ProxyHttp, all_hooks, misspelt_hooks, overridden_hooks, own_hook
from pingora.reload import Change
from pingora.replaced import Replaced, stop_proxy
from pingora.retry import RetryPolicy
from pingora.tls.chooser import Chooser
from pingora.tls.listen import parse_listen
from pingora.tls.server import TlsSettings
from pingora_c.log.writer import LogWriter
from pingora_c.net.listener import Listener
from pingora_c.net.reactor import Reactor
from pingora_c.proxy.counter_names import COUNTER_NAMES
from pingora_c.proxy.error_page import ErrorPages
from pingora_c.proxy.failure import ProxyError
from pingora_c.proxy.plan import Plan
from pingora_c.proxy.service import ProxyService, make_plan
from pingora_c.upstream.address import Address, parse_address

log = logging.getLogger("pingora")

BACKLOG = 4096
ACCESS_FORMATS = {"off": 0, "combined": 1, "json": 2}
LOG_LEVELS = ("debug", "info", "warning", "error")
REMEDIES = {
    errno.EADDRINUSE: "; end what listens there (`ss -ltnp` names it), or choose another port",
    errno.EADDRNOTAVAIL: "; this machine has no such address, ':8080' listens on all that it has",
    errno.EACCES: "; choose a port from 1024 on, or give the process CAP_NET_BIND_SERVICE",
}
UNIX_REMEDIES = {
    errno.EADDRINUSE: "; end what listens there, or choose another path",
    errno.ENOENT: "; make its directory first",
    errno.EACCES: "; choose a directory that this user may write to",
}
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
    tls: dict[str, TlsSettings] = field(default_factory=dict)  # by address; an address without is plain
    bound: dict[str, list[socket.socket]] = field(default_factory=dict)  # by address; several are slots of workers
    upstreams: LoadBalancer | None = None  # in place of the proxy's own
    retry: RetryPolicy | None = None  # in place of the proxy's own

    @property
    def sockets(self) -> list[socket.socket]:
        """All that listen."""
        return [sock for sockets in self.bound.values() for sock in sockets]

    def encrypted(self) -> dict[socket.socket, TlsSettings]:
        """Give the TLS of the sockets that have it."""
        return {sock: tls for address, tls in self.tls.items() for sock in self.bound.get(address, ())}

    @property
    def balancer(self) -> LoadBalancer | None:
        """Who chooses upstreams if the proxy does not."""
        return self.proxy.upstreams if self.upstreams is None else self.upstreams


def listening_address(text: str) -> Address:
    """Read where to listen. Raises UsageError that names the address."""
    try:
        return parse_address(text, is_listen=True)
    except ValueError as error:
        raise UsageError(f"cannot listen on {text!r}: {error}") from None


def name_of(sock: socket.socket) -> str:
    """Give the address that a socket is bound to, "ip:port", "[ip]:port" or "unix:/path"."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return "unix:" + os.fsdecode(name).replace("\0", "@")
    return f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def open_listener(text: str, reuse_port: bool = False) -> socket.socket:
    """Bind and listen. Raises UsageError that names the address."""
    address = listening_address(text)
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
        raise cannot_listen(text, error) from None
    return sock


def listen_unix(text: str, address: Address) -> socket.socket:
    """Listen on a Unix socket; a socket file that nobody listens on is replaced, any other file stays."""
    path = address.text.removeprefix("unix:")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.startswith("@"):
            path = "\0" + path[1:]
        else:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, contextlib.suppress(FileNotFoundError):
                if stat.S_ISSOCK(os.stat(path).st_mode) and probe.connect_ex(path) != 0:
                    os.unlink(path)
        sock.bind(path)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise cannot_listen(text, error) from None
    return sock


def cannot_listen(text: str, error: OSError) -> UsageError:
    """Say why an address cannot be listened on, and what helps."""
    remedy = UNIX_REMEDIES if text.startswith("unix:") else REMEDIES
    return UsageError(f"cannot listen on {text!r}: {error.strerror}{remedy.get(error.errno or 0, '')}")


def is_awaitable_misused(error: BaseException) -> bool:
    """Whether something was done with a coroutine or a future that only its result allows."""
    return isinstance(error, (TypeError, AttributeError)) and ("coroutine" in str(error) or "Future" in str(error))


class Report:
    """Where the core tells what went wrong with a request: the error log."""

    def hook_raised(self, hook: str, request: str, error: BaseException) -> None:
        """Log the traceback of a hook that raised."""
        hint = "; is an await missing?" if is_awaitable_misused(error) else ""
        log.error("hook %s raised for %s%s", hook, request, hint, exc_info=error)

    def failed(self, summary: str, error: ProxyError, client: str, upstream: str | None, attempts: int) -> None:
        """Log a request that failed."""
        log.warning(
            "%s: %s%s, status %d, client %s, upstream %s, attempts %d",
            summary,
            error.reason,
            f" ({error.detail})" if error.detail else "",
            error.status,
            client,
            upstream or "-",
            attempts,
        )

    def refused(self, reason: str, status: int, client: str) -> None:
        """Log a message that was refused before there was a request."""
        log.warning("refused: %s, status %d, client %s", reason, status, client)


class Server:
    """Listeners and their proxies.

    `access_log` is "combined", "json" or "off"; None means "off". `log_level` is what of the error log is written by a
    process that only serves: "debug", "info", "warning" or "error". `limits` are those of client connections. `trusted`
    names the networks of proxies in front, such as "10.0.0.0/8": their X-Forwarded-* fields are kept and continued,
    those of all other clients are replaced. `forwarded` says which fields tell upstreams about the client:
    "x-forwarded" (-For, -Host, -Proto), "forwarded" (RFC 7239), "both" or "off".

    `error_pages` gives, by status, what is answered where no hook answers: a Response, bytes of HTML, or the path of a
    file, which is read now. `reason_header` names a header field that tells clients the reason of such an answer.

    `defer_accept`: the kernel hands a client over when it has sent something, or after a second (TCP_DEFER_ACCEPT),
    which costs less for clients of one request.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        access_log: str | None = None,
        log_level: str = "info",
        trusted: Iterable[str] = (),
        forwarded: str = "x-forwarded",
        error_pages: Mapping[int, ErrorPage] | None = None,
        reason_header: str | None = None,
        defer_accept: bool = True,
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
        self.pages = ErrorPages(read_error_pages(error_pages or {}), reason_header)
        self.defer_accept = defer_accept
        self.sites: list[Site] = []
        self.services: list[BackgroundService] = []

    def add_proxy(self, proxy: ProxyHttp, listen: str | Iterable[str], *, tls: TlsSettings | None = None) -> None:
        """Serve `proxy` on "host:port", ":port" or "unix:/path", or several, with `tls` if given.

        An address may say itself what it is: "http://:8080" without TLS, "tls://:8443?cert=FILE&key=FILE" with its
        own. Raises TypeError for no ProxyHttp, ValueError for an address or a certificate that will not do.
        """
        if not isinstance(proxy, ProxyHttp):
            raise TypeError(f"add_proxy: expected a ProxyHttp, got {proxy!r}")
        for name, near in misspelt_hooks(proxy):
            log.warning("%s.%s is no hook, did you mean %s?", type(proxy).__name__, name, near)
        places = [parse_listen(text, tls) for text in ([listen] if isinstance(listen, str) else listen)]
        encrypted = {address: settings for address, settings in places if settings is not None}
        self.sites.append(Site(proxy, [address for address, _ in places], encrypted))

    def add_service(self, service: BackgroundService) -> None:
        """Run a service beside the sessions; its `where` says in which processes. Raises TypeError for none."""
        if not isinstance(service, BackgroundService):
            raise TypeError(f"add_service: expected a BackgroundService, got {service!r}")
        if service.where not in ("worker", "agent"):
            raise ValueError(f'{type(service).__name__}.where: expected "worker" or "agent", got {service.where!r}')
        self.services.append(service)

    @property
    def addresses(self) -> list[str]:
        """Where it is to listen, as it was given."""
        return [address for site in self.sites for address in site.addresses]

    @property
    def proxies(self) -> list[ProxyHttp]:
        """The proxy objects, each once."""
        return list({id(site.proxy): site.proxy for site in self.sites}.values())

    def follow_changes(self, serving: "Serving") -> None:
        """Begin to look for changes of what this server was made of. Default: there are none."""

    def check(self) -> None:
        """Find what makes serving impossible. Raises UsageError."""
        if not self.sites:
            raise UsageError("the server has no proxy: call add_proxy first")
        for site in self.sites:
            name = type(site.proxy).__name__
            if not isinstance(site.balancer, (LoadBalancer, NoneType)):
                given = type(site.balancer).__name__
                raise UsageError(f"{name}.upstreams: expected a LoadBalancer, got {given}: LoadBalancer([...])")
            if site.balancer is None and type(site.proxy).upstream_peer is ProxyHttp.upstream_peer:
                raise UsageError(
                    f"{name} has no upstream: set self.upstreams to a LoadBalancer or override upstream_peer"
                )

    def bind(self) -> None:
        """Open all listening sockets that are not open yet. Raises UsageError."""
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

        After SIGTERM running requests have `grace` seconds; SIGINT, or a second signal, cuts them. Exits with code 2
        and one line on stderr if it cannot start.
        """
        if is_loading.get():
            raise UsageError('server.run() belongs under `if __name__ == "__main__":` in a file for `pingora run`')
        if workers < 0:
            raise ValueError(f"workers: expected 0 or more, got {workers}")
        if workers:
            from pingora.supervisor.embedded import supervise  # only here: who serves inside a program needs none of it

            supervise(self, workers, grace)
            return
        from pingora.foreground import serve_until_signal

        try:
            self.bind()
        except UsageError as error:
            print(f"pingora: {error}", file=sys.stderr)
            sys.exit(2)
        serve_until_signal(self, grace)


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

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop, access_writer: LogWriter | None) -> None:
        self.server = server
        self.loop = loop
        self.access_writer = access_writer
        serving_here.add(self)
        self.reactor = Reactor(loop)
        self.services: list[ProxyService] = []
        self.listeners: dict[socket.socket, Listener] = {}
        self.is_accepting = False  # on every listener; a worker of a supervisor chooses among them
        self.is_stopping = False
        self.replaced = Replaced(self)
        self.background = RunningServices([])
        self.watchdog: Watchdog | None = None
        self.collector: Collector | None = None
        self.notices = Notices(lambda: self.counters, self.reactor.admission)
        self.notices.start(loop)
        try:
            for site in server.sites:
                service = ProxyService(self.reactor, self.plan_of(server, site))
                self.services.append(service)
                for sock in site.sockets:
                    self.listen(service, sock, site)
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
            pages=server.pages,
        )

    def set_defer_accept(self, sock: socket.socket) -> None:
        """Tell the kernel whether it keeps a client until it has sent something, at most for a second."""
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, int(self.server.defer_accept))

    def listen(self, service: ProxyService, sock: socket.socket, site: Site) -> None:
        """Give a listening socket of its site to a service."""
        self.set_defer_accept(sock)
        self.listeners[sock] = service.listen(os.dup(sock.fileno()))
        self.encrypt(service, sock, site)
        if self.is_accepting:
            self.listeners[sock].watch()

    def encrypt(self, service: ProxyService, sock: socket.socket, site: Site) -> None:
        """Have what is accepted from a socket encrypted, or not, as its site says."""
        tls, hook = site.encrypted().get(sock), own_hook(site.proxy, "certificate")
        if tls is None:
            service.use_tls(self.listeners[sock], None)
        else:
            start = functools.partial(self.replaced.start_hook, site.proxy)
            chooser = None if hook is None else Chooser(hook, tls, start)
            service.use_tls(self.listeners[sock], tls.context, chooser)

    async def start(self) -> None:
        """Let every proxy make what its hooks need on this loop; see ProxyHttp.worker_start."""
        for proxy in self.server.proxies:
            await proxy.worker_start()
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
            self.watchdog = Watchdog(blocked_after / 4, blocked_after, on_blocked)
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

    @property
    def n_connections(self) -> int:
        """Open client connections."""
        return sum(service.n_connections for service in self.services)

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
        while sum(service.close_idle() for service in self.services) and self.loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await self.stop()

    async def retire(self, seconds: float) -> None:
        """Stop accepting and serve what is connected for up to `seconds`, then cut.

        Idle connections stay open until their next answer: closing one at once would race with a request on its way.
        """
        self.stop_accepting()
        deadline = self.loop.time() + seconds
        while self.n_connections and self.loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await self.stop()

    async def stop(self) -> None:
        """Cut what is left, then let every proxy end what its worker_start began."""
        self.close()
        await self.background.stop()
        await self.replaced.finish()
        for proxy in self.server.proxies:
            await stop_proxy(proxy)

    def close(self) -> None:
        """Cut all connections and leave the loop."""
        self.background.cancel()
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
    proxy: ProxyHttp,
    listen: str | Iterable[str] = "127.0.0.1:0",
    *,
    tls: TlsSettings | None = None,
    limits: Limits | None = None,
    trusted: Iterable[str] = (),
    forwarded: str = "x-forwarded",
    error_pages: Mapping[int, ErrorPage] | None = None,
    reason_header: str | None = None,
    grace: float = 5.0,
) -> AsyncIterator[Serving]:
    """Serve `proxy` inside the running asyncio or uvloop program until the block ends; `address` says where.

    `tls` is that of Server.add_proxy; the other options are those of Server. Clients are accepted at once, also if
    they send nothing. At the end running requests get `grace` seconds.
    """
    server = Server(
        limits=limits,
        trusted=trusted,
        forwarded=forwarded,
        error_pages=error_pages,
        reason_header=reason_header,
        defer_accept=False,
    )
    server.add_proxy(proxy, listen, tls=tls)
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
