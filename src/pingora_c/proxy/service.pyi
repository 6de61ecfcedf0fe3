import asyncio
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Protocol, final

from pingora_c.log.writer import LogWriter
from pingora_c.net.listener import Listener
from pingora_c.net.networks import Networks
from pingora_c.net.reactor import Reactor
from pingora_c.net.tls_hello import ClientHello
from pingora_c.net.tls_server import ServerContext
from pingora_c.net.transport import Tie
from pingora_c.proxy.error_page import ErrorPages
from pingora_c.proxy.failure import ProxyError
from pingora_c.proxy.plan import Plan
from pingora_c.upstream.address import Address
from pingora_c.upstream.balancer import Balancer

class _Report(Protocol):
    def hook_raised(self, hook: str, request: str, error: BaseException) -> None: ...
    def failed(
        self,
        summary: str,
        error: ProxyError,
        client: str,
        upstream: str | None,
        attempts: int,
        cut: tuple[int, int] | None = None,
    ) -> None: ...
    def refused(self, reason: str, status: int, client: str) -> None: ...
    def outage(self, address: str, failures: int, seconds: float | None) -> None: ...

def make_plan(
    reactor: Reactor,
    proxy: object,
    hooks: tuple[Any, ...],
    *,
    balancer: Balancer | None,
    loop: asyncio.AbstractEventLoop,
    report: _Report,
    access_writer: LogWriter | None,
    access_format: int,
    limits: dict[str, int],
    retry: dict[str, Any],
    hook_timeout: float,
    hook_limits: dict[str, float],
    trusted: tuple[IPv4Network | IPv6Network, ...],
    forwarded: int,
    client_cert: int,
    pages: ErrorPages,
    name: str = "_other",
    takes_connect: bool = False,
    abort_on_half_close: bool = False,
    via: str | None = None,
    answer_filter: Callable[..., object] | None = None,
) -> Plan: ...

@final
class TlsAcceptor: ...

class ProxyService:
    def __init__(self, reactor: Reactor, plan: Plan) -> None: ...
    @property
    def plan(self) -> Plan: ...
    def adopt(self, plan: Plan, on_idle: Callable[[], object]) -> None: ...
    def listen(self, fd: int) -> Listener: ...
    def use_tls(
        self, listener: Listener, tls: ServerContext | None, chooser: Callable[[ClientHello], Any] | None = None
    ) -> None: ...
    def expect_introduction(
        self, listener: Listener, trusted: Networks | None, is_required: bool = True, limit_ms: int = 5000
    ) -> None: ...
    def serve_socket(self, fd: int, client: Address | None = None, tie: Tie | None = None) -> None: ...
    def stop_listener(self, listener: Listener) -> None: ...
    def stop_listening(self) -> None: ...
    def leave_websockets(self) -> int: ...
    @property
    def n_websockets(self) -> int: ...
    def close_idle(self) -> int: ...
    def close(self) -> None: ...
    @property
    def n_connections(self) -> int: ...
    def most_connections(self) -> int: ...
    @property
    def n_idle_upstream(self) -> int: ...
    @property
    def n_requests(self) -> int: ...
    @property
    def n_active(self) -> int: ...
