import asyncio
from ipaddress import IPv4Network, IPv6Network
from typing import Any, final

from pingora_c.log.writer import LogWriter
from pingora_c.net.reactor import Reactor
from pingora_c.proxy.plan import Plan
from pingora_c.proxy.service import ProxyService, _Report
from pingora_c.upstream.balancer import Balancer

def make_tcp_plan(
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
    reads_hello: bool,
) -> Plan: ...

@final
class TcpService(ProxyService): ...
