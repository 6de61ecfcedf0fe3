"""From a checked configuration to a Server: names resolved, the hook imported and constructed."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pingora.config.hook import ProxyClass, construct, find_hook
from pingora.config.model import Config, HealthTable, ListenerTable, UpstreamsTable
from pingora.config.problems import Source
from pingora.config.reader import read_tables
from pingora.config.tls import Files, UpstreamTlsTable
from pingora.config.units import shown
from pingora.error_pages import read_page
from pingora.load_balancing import (
    DnsDiscovery,
    FnvHash,
    HealthCheck,
    HttpHealthCheck,
    Ketama,
    LeastConnections,
    LoadBalancer,
    Random,
    RoundRobin,
    Selection,
    TcpHealthCheck,
)
from pingora.load_balancing.endpoints import make_endpoints
from pingora.proxy import ProxyHttp, own_hook
from pingora.proxy_protocol import AcceptProxyProtocol
from pingora.retry import RetryPolicy
from pingora.server import Server
from pingora.tcp import TcpProxy
from pingora.tls.server import TlsSettings
from pingora.tls.upstream import UpstreamTls
from pingora.usage import ConfigError
from pingora_c.proxy.response import Response
from pingora_c.upstream.endpoint import Endpoint

if TYPE_CHECKING:
    from pingora.config.reloader import Reloader
    from pingora.serving import Serving

STATUS = re.compile(r"[45][0-9][0-9]")
SELECTIONS: dict[str, type[Selection]] = {
    "round_robin": RoundRobin,
    "random": Random,
    "least_connections": LeastConnections,
    "ketama": Ketama,
    "fnv_hash": FnvHash,
}


@dataclass
class Hook:
    """A proxy object, and what its constructor gave it: the file may set both anew, and leave them out again."""

    proxy: ProxyHttp | TcpProxy
    upstreams: LoadBalancer | None
    retry: RetryPolicy


@dataclass
class Parts:
    """What a file names, read and found: all that a server is made of but the objects of this process."""

    config: Config
    kind: ProxyClass
    endpoints: list[Endpoint]
    pages: dict[int, Response]
    tls: dict[str, TlsSettings]


class ConfiguredServer(Server):
    """A Server that a file describes."""

    def __init__(self, parts: Parts, hook: Hook, upstreams: LoadBalancer | None, access_log: str | None) -> None:
        config = parts.config
        super().__init__(
            limits=config.limits,
            access_log=access_log or config.logs.access,
            log_level=config.logs.level,
            trusted=config.trusted,
            forwarded=config.forwarded,
            client_cert=config.client_cert,
            error_pages=parts.pages,
            reason_header=config.reason_header,
            via=config.via,
            defer_accept=config.defer_accept,
        )
        self.config = config
        self.hook = hook
        self.given_access_log = access_log  # in place of the file's
        self.add_proxy(hook.proxy, [listener.address for listener in config.listeners])
        self.site = self.sites[0]
        self.site.tls = parts.tls
        self.site.proxy_protocol = {
            listener.address: AcceptProxyProtocol(listener.proxy_protocol.trusted, listener.proxy_protocol.required)
            for listener in config.listeners
            if listener.proxy_protocol is not None
        }
        self.site.upstreams = upstreams or hook.upstreams
        self.site.retry = config.retry or hook.retry
        self.site.abort_on_half_close = config.abort_on_half_close

    def reloader(self, serving: "Serving") -> "Reloader":
        """Make what keeps `serving` in step with the file."""
        from pingora.config.reloader import Reloader  # which makes servers of this kind

        return Reloader(serving, self)

    def rebuilt(self, path: str | Path, text: str) -> "ConfiguredServer":
        """Make the server that comes after this one; `equip_proxy` is due when it does. Raises ConfigError."""
        return load_config(path, text, access_log=self.given_access_log, before=self)

    def equip_proxy(self) -> None:
        """Let the proxy object see what its sessions use, when this server begins to run."""
        self.hook.proxy.upstreams = self.site.upstreams  # type: ignore[assignment]
        self.hook.proxy.retry = self.site.retry or self.hook.retry


def load_config(
    path: str | Path, text: str | None = None, *, access_log: str | None = None, before: ConfiguredServer | None = None
) -> ConfiguredServer:
    """Make the server that a file, or `text` in its place, describes.

    Imports and constructs the hook, resolves names, which blocks. `access_log` holds instead of what the file says.
    `before` is what was made of the file earlier: a hook that stays keeps its object. Raises ConfigError with all that
    is wrong.
    """
    source, tables = read_tables(path, text)
    parts = find_parts(source, tables, resolve_endpoints(source, tables.get("upstreams")))
    is_new = before is None or not is_same_hook(before.config, parts.config)
    hook = new_hook(parts.config, parts.kind) if before is None or is_new else before.hook
    upstreams = new_balancer(parts.config, parts.endpoints)
    source.check()
    assert hook is not None
    try:
        server = ConfiguredServer(parts, hook, upstreams, access_log)
    except ValueError as error:  # of a rule that the reader does not know
        raise ConfigError([f"{path}: {error}"]) from None
    if is_new:
        server.equip_proxy()
    return server


def is_same_hook(old: Config, new: Config) -> bool:
    """True if the object of the old configuration serves the new one as well."""
    return (
        old.hook == new.hook
        and old.protocol == new.protocol
        and Path(old.source.name).resolve() == Path(new.source.name).resolve()
    )


def find_parts(source: Source, tables: dict[str, Any], endpoints: list[Endpoint]) -> Parts:
    """Read the files that a file names and import its hook's class, also for one with faults, so that all are told.

    `endpoints` are resolved. Raises ConfigError.
    """
    pages = read_pages(source, tables.get("error_pages", {}))
    tls = read_tls(source, tables.get("listeners", []))
    is_readable = "hook" in tables or "hook" not in source.values
    base = TcpProxy if tables.get("protocol") == "tcp" else ProxyHttp
    kind = find_hook(source, tables.get("hook"), base) if is_readable else None
    source.check()
    assert kind is not None
    return Parts(Config(source=source, **tables), kind, endpoints, pages, tls)


def resolve_endpoints(source: Source, upstreams: UpstreamsTable | None) -> list[Endpoint]:
    """Resolve the names of the upstreams; note what is wrong."""
    made: list[Endpoint] = []
    if upstreams is None:
        return made
    is_encrypted = [entry.address.startswith(("https://", "grpcs://")) for entry in upstreams.endpoints]
    tls = None
    if any(is_encrypted):
        tls = Files(source).upstream(upstreams.tls or UpstreamTlsTable(), ("upstreams", "tls"))
    elif upstreams.tls is not None:
        source.key_problem(("upstreams", "tls"), "no endpoint begins with https://")
    for index, entry in enumerate(upstreams.endpoints):
        path = ("upstreams", "endpoints", index)
        try:
            made += make_endpoints([(entry.address, entry.weight)], tls if is_encrypted[index] else None)
        except ValueError as error:
            is_table = isinstance(source.values["upstreams"]["endpoints"][index], dict)
            message = str(error).removeprefix(f"address {entry.address!r}: ")
            source.value_problem((*path, "address") if is_table else path, message)
    seen: set[Any] = set()
    for endpoint in made:
        if endpoint.address in seen:
            source.value_problem(("upstreams", "endpoints"), f"{endpoint.address} occurs twice")
        seen.add(endpoint.address)
    return made


def read_tls(source: Source, listeners: list[ListenerTable]) -> dict[str, TlsSettings]:
    """Make the TLS of the listeners that have it, by address; note what is wrong."""
    settings: dict[str, TlsSettings] = {}
    for index, listener in enumerate(listeners):
        if listener.tls is not None:
            made = Files(source).listener(listener.tls, ("listeners", index, "tls"))
            if made is not None:
                settings[listener.address] = made
    return settings


def read_pages(source: Source, names: dict[str, Any]) -> dict[int, Response]:
    """Read the error pages, whose paths are relative to the file; note what is wrong."""
    pages: dict[int, Response] = {}
    for key, name in names.items():
        path = ("error_pages", key)
        if not STATUS.fullmatch(key):
            source.key_problem(path, "expected a status from 400 to 599")
        elif not isinstance(name, str):
            source.value_problem(path, f"expected the path of a file, got {shown(name)}")
        else:
            try:
                pages[int(key)] = read_page(int(key), Path(source.name).parent / name)
            except (OSError, ValueError) as error:
                source.value_problem(path, f"{name}: {getattr(error, 'strerror', None) or error}")
    return pages


def new_hook(config: Config, kind: ProxyClass) -> Hook | None:
    """Make the proxy object; None, with the reason noted, if that cannot be."""
    proxy = construct(config.source, kind, config.hook)
    if proxy is None:
        return None
    hook = Hook(proxy, proxy.upstreams, proxy.retry)
    if not config.upstreams and not hook.upstreams and own_hook(proxy, "upstream_peer") is None:
        message = f"missing: {kind.__name__} has no upstreams of its own and does not override upstream_peer"
        config.source.key_problem(("upstreams",), message)
        return None
    return hook


def new_balancer(config: Config, endpoints: list[Endpoint]) -> LoadBalancer | None:
    """Make a balancer over resolved endpoints; None without [upstreams], or if that cannot be, which is noted."""
    if config.upstreams is None or config.source.problems:
        return None
    try:
        balancer = LoadBalancer(
            endpoints,
            SELECTIONS[config.upstreams.selection](),
            key=config.upstreams.key,
            peer=config.upstreams.peer,
            passive=config.upstreams.passive,
        )
        equip_balancer(balancer, config.upstreams, endpoints)
        return balancer
    except ValueError as error:
        config.source.value_problem(("upstreams", "endpoints"), str(error))
        return None


def equip_balancer(balancer: LoadBalancer, upstreams: UpstreamsTable, endpoints: list[Endpoint]) -> None:
    """Give a balancer what looks after its endpoints, which are resolved."""
    balancer.health = None if upstreams.health is None else new_health(upstreams.health)
    balancer.discovery = None
    if upstreams.resolve_interval is not None:
        tls = next((endpoint.tls for endpoint in endpoints if endpoint.tls is not None), None)
        entries = [
            (entry.address if "://" in entry.address else f"http://{entry.address}", entry.weight)
            for entry in upstreams.endpoints
        ]
        balancer.discovery = DnsDiscovery(entries, interval=upstreams.resolve_interval)
        balancer.discovery.tls = cast("UpstreamTls | None", tls)  # as it was given to the endpoints


def new_health(table: HealthTable) -> HealthCheck:
    """Make a health check."""
    common: dict[str, Any] = {
        "interval": table.interval,
        "timeout": table.timeout,
        "consecutive_success": table.consecutive_success,
        "consecutive_failure": table.consecutive_failure,
        "parallel": table.parallel,
    }
    if table.kind == "tcp":
        return TcpHealthCheck(**common)
    return HttpHealthCheck(table.path, host=table.host, statuses=table.statuses, **common)
