import asyncio
from collections.abc import Callable
from typing import Any, final

from pingora_c.log.writer import LogWriter
from pingora_c.net.reactor import Reactor
from pingora_c.upstream.balancer import Balancer

@final
class ProxyService:
    def __init__(
        self,
        reactor: Reactor,
        proxy: object,
        hooks: tuple[Any, ...],
        balancer: Balancer | None,
        loop: asyncio.AbstractEventLoop,
        on_hook_error: Callable[[str, str, BaseException], None],
        access_writer: LogWriter | None,
        access_format: int,
        limits: dict[str, int],
        attempts: int,
        hook_timeout: float,
    ) -> None: ...
    def listen(self, fd: int) -> None: ...
    def stop_listening(self) -> None: ...
    def close_idle(self) -> int: ...
    def close(self) -> None: ...
    @property
    def n_connections(self) -> int: ...
    @property
    def n_requests(self) -> int: ...
    @property
    def n_active(self) -> int: ...
