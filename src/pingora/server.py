"""Server: listeners with their proxies, and how they are to be served."""

import ipaddress
import logging
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import TYPE_CHECKING

from pingora.background import BackgroundService
from pingora.checks import check_key, check_proxy, ineffective_names
from pingora.choices import ACCESS_FORMATS, CLIENT_CERT_FIELDS, FORWARDED_FIELDS, LOG_LEVELS
from pingora.error_pages import ErrorPage, read_error_pages
from pingora.limits import Limits
from pingora.listening import addresses_of, open_listener
from pingora.load_balancing import LoadBalancer
from pingora.loop import LoopFactory, loop_for
from pingora.proxy import ProxyHttp, own_hook
from pingora.proxy_protocol import AcceptProxyProtocol, as_settings
from pingora.retry import RetryPolicy
from pingora.tcp import TcpProxy
from pingora.tls.listen import parse_listen
from pingora.tls.server import TlsSettings
from pingora.usage import UsageError, is_loading
from pingora.via import WANTED_IN_VIA, is_received_by
from pingora_c.proxy.error_page import ErrorPages
from pingora_c.proxy.service import ProxyService
from pingora_c.proxy.tcp_service import TcpService
from pingora_c.upstream.address import parse_address

if TYPE_CHECKING:
    from pingora.config.reloader import Reloader
    from pingora.serving import Serving

log = logging.getLogger("pingora")


@dataclass
class Site:
    """A proxy and where it listens."""

    proxy: ProxyHttp | TcpProxy
    addresses: list[str]
    tls: dict[str, TlsSettings] = field(default_factory=dict)  # by address; an address without is plain
    bound: dict[str, list[socket.socket]] = field(default_factory=dict)  # by address; several are slots of workers
    upstreams: LoadBalancer | None = None  # in place of the proxy's own
    retry: RetryPolicy | None = None  # in place of the proxy's own
    proxy_protocol: dict[str, AcceptProxyProtocol] = field(default_factory=dict)  # by address, where it is read
    abort_on_half_close: bool | None = None  # in place of the proxy's own

    @property
    def name(self) -> str:
        """Its first address, by which it is counted."""
        return self.addresses[0] if self.addresses else "_other"

    @property
    def sockets(self) -> list[socket.socket]:
        """All that listen."""
        return [sock for sockets in self.bound.values() for sock in sockets]

    def encrypted(self) -> dict[socket.socket, TlsSettings]:
        """Give the TLS of the sockets that have it."""
        return {sock: tls for address, tls in self.tls.items() for sock in self.bound.get(address, ())}

    @property
    def service_kind(self) -> type[ProxyService]:
        """What serves it in a worker."""
        return TcpService if isinstance(self.proxy, TcpProxy) else ProxyService

    def introduced(self) -> dict[socket.socket, AcceptProxyProtocol]:
        """Say of which sockets clients are introduced, and by whom."""
        return {sock: found for address, found in self.proxy_protocol.items() for sock in self.bound.get(address, ())}

    @property
    def balancer(self) -> LoadBalancer | None:
        """Who chooses upstreams if the proxy does not."""
        return self.proxy.upstreams if self.upstreams is None else self.upstreams


class Server:
    """Listeners and their proxies.

    `access_log` is "combined", "json" or "off"; None means "off". `log_level` is what of the error log is written by a
    process that only serves: "debug", "info", "warning" or "error". `limits` are those of client connections. `trusted`
    names the networks of proxies in front, such as "10.0.0.0/8": their X-Forwarded-* fields are kept and continued,
    those of all other clients are replaced. `forwarded` says which fields tell upstreams about the client:
    "x-forwarded" (-For, -Host, -Proto), "forwarded" (RFC 7239), "both" or "off". `client_cert` says which tell hooks
    and upstreams about the certificate that a client was verified by: "certificate" is Client-Cert (RFC 9440), "chain"
    Client-Cert-Chain too; what clients write there is removed then. With "off" they pass as other fields do.
    `via` is the name, such as "edge" or "edge.example:8080", by which requests and answers passed on say in Via that
    they came this way.

    `error_pages` gives, by status, what is answered where no hook answers: a Response, bytes of HTML, or the path of a
    file, which is read now. `reason_header` names a header field that tells clients the reason of such an answer.

    `defer_accept`: the kernel hands a client over when it has sent something, or after a second (TCP_DEFER_ACCEPT),
    which costs less for clients of one request. `metrics` is the address, such as "127.0.0.1:9090" or "unix:/path",
    where the metrics of all workers are shown to Prometheus; docs/metrics.md lists them. `loop_factory` makes the event
    loop of each process; None takes uvloop's if a hook is `async def`, else asyncio's with the core doing the waiting.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        access_log: str | None = None,
        log_level: str = "info",
        trusted: Iterable[str] = (),
        forwarded: str = "x-forwarded",
        client_cert: str = "off",
        error_pages: Mapping[int, ErrorPage] | None = None,
        reason_header: str | None = None,
        via: str | None = None,
        defer_accept: bool = True,
        metrics: str | None = None,
        loop_factory: LoopFactory | None = None,
    ) -> None:
        if forwarded not in FORWARDED_FIELDS:
            raise ValueError(f"forwarded: expected one of {', '.join(FORWARDED_FIELDS)}, got {forwarded!r}")
        if client_cert not in CLIENT_CERT_FIELDS:
            raise ValueError(f"client_cert: expected one of {', '.join(CLIENT_CERT_FIELDS)}, got {client_cert!r}")
        if access_log is not None and access_log not in ACCESS_FORMATS:
            raise ValueError(f"access_log: expected one of {', '.join(ACCESS_FORMATS)}, got {access_log!r}")
        if not isinstance(limits, (Limits, NoneType)):
            raise TypeError(f"limits: expected a Limits, got {limits!r}: Limits(head_timeout=10)")
        self.limits = limits or Limits()
        if log_level not in LOG_LEVELS:
            raise ValueError(f"log_level: expected one of {', '.join(LOG_LEVELS)}, got {log_level!r}")
        self.access_log = access_log
        self.log_level = log_level
        if isinstance(trusted, str):
            raise TypeError(f"trusted: expected a list of networks, got {trusted!r}; write trusted=[{trusted!r}]")
        self.trusted = tuple(ipaddress.ip_network(network) for network in trusted)
        self.forwarded = forwarded
        self.client_cert = client_cert
        self.pages = ErrorPages(read_error_pages(error_pages or {}), reason_header)
        if via is not None and not is_received_by(via):
            raise ValueError(f"via: {WANTED_IN_VIA}, got {via!r}")
        self.via = via
        self.defer_accept = defer_accept
        if metrics is not None:
            parse_address(metrics, is_listen=True)
        self.metrics = metrics
        self.loop_factory = loop_factory
        self.sites: list[Site] = []
        self.services: list[BackgroundService] = []

    def add_proxy(
        self,
        proxy: ProxyHttp | TcpProxy,
        listen: str | Iterable[str],
        *,
        tls: TlsSettings | None = None,
        proxy_protocol: AcceptProxyProtocol | Iterable[str] | None = None,
    ) -> None:
        """Serve `proxy` on "host:port", ":port" or "unix:/path", or several, with `tls` if given.

        `proxy_protocol` names the networks of proxies in front that introduce each client by the PROXY protocol. An
        address may say itself what it is: "http://:8080" without TLS, "tls://:8443?cert=FILE&key=FILE" with its own,
        "http://:8080?proxy_protocol=10.0.0.0/8" with its own proxies in front; "tcp://" for a TcpProxy. Raises
        TypeError for no proxy, ValueError for an address or a certificate that will not do.
        """
        if not isinstance(proxy, (ProxyHttp, TcpProxy)):
            raise TypeError(f"add_proxy: expected a ProxyHttp or a TcpProxy, got {proxy!r}")
        for warning in ineffective_names(proxy):
            log.warning(warning)
        front = as_settings(proxy_protocol)
        plain = "tcp" if isinstance(proxy, TcpProxy) else "http"
        places = [parse_listen(text, tls, front, plain) for text in addresses_of(listen)]
        site = Site(proxy, [place.address for place in places])
        site.tls = {place.address: place.tls for place in places if place.tls is not None}
        site.proxy_protocol = {place.address: place.proxy_protocol for place in places if place.proxy_protocol}
        self.sites.append(site)

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
    def proxies(self) -> list[ProxyHttp | TcpProxy]:
        """The proxy objects, each once."""
        return list({id(site.proxy): site.proxy for site in self.sites}.values())

    def choose_loop(self) -> LoopFactory:
        """Give what makes the event loop of a process."""
        return self.loop_factory or loop_for(self.proxies)

    def reloader(self, serving: "Serving") -> "Reloader | None":
        """Make what keeps `serving` in step with the file that describes this server. Default: there is none."""
        return None

    def check(self) -> None:
        """Find what makes serving impossible. Raises UsageError."""
        if not self.sites:
            raise UsageError("the server has no proxy: call add_proxy first")
        for site in self.sites:
            check_proxy(site.proxy)
            name = type(site.proxy).__name__
            if not isinstance(site.balancer, (LoadBalancer, NoneType)):
                given = type(site.balancer).__name__
                raise UsageError(f"{name}.upstreams: expected a LoadBalancer, got {given}: LoadBalancer([...])")
            if getattr(site.proxy, "takes_connect", False) and own_hook(site.proxy, "upstream_peer") is None:
                raise UsageError(f"{name}.takes_connect: override upstream_peer, which says where a tunnel may lead")
            if site.balancer is None and own_hook(site.proxy, "upstream_peer") is None:
                raise UsageError(
                    f"{name} has no upstream: set self.upstreams to a LoadBalancer or override upstream_peer"
                )
            if site.balancer is not None and own_hook(site.proxy, "upstream_peer") is None:
                check_key(name, site.balancer)

    def check_addresses(self) -> None:
        """Find that nothing would be listened on, as `serve()` may for `serve_connection`. Raises UsageError."""
        if not self.addresses:
            raise UsageError('the server listens nowhere: give add_proxy an address, such as ":8080"')

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
            self.check()
            self.check_addresses()
            self.bind()
            shown = None if self.metrics is None else open_listener(self.metrics)
            serve_until_signal(self, grace, shown)
        except UsageError as error:
            print(error.told, file=sys.stderr)
            sys.exit(2)
