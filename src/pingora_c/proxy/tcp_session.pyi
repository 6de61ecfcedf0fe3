import asyncio
import types
from typing import Any, Generic, final

from typing_extensions import TypeVar

from pingora_c.net.proxy_protocol import ProxyProtocol
from pingora_c.net.tls_info import TlsInfo
from pingora_c.proxy.failure import ProxyError
from pingora_c.proxy.tcp_leg import TcpOwner
from pingora_c.upstream.peer import HttpPeer

_Ctx = TypeVar("_Ctx", default=Any)

TCP_PHASES: tuple[str, ...]

@final
class TcpSession(TcpOwner, Generic[_Ctx]):
    """One connection of a client and what passes over it, as hooks see it. Made by the core."""

    ctx: _Ctx
    """Whatever the hooks keep there, None before they do."""
    def __class_getitem__(cls, ctx: Any, /) -> types.GenericAlias:
        """Name the type of `ctx`, for type checkers: TcpSession[State]."""

    def on_task_done(self, task: asyncio.Future[Any]) -> None: ...
    @property
    def client_address(self) -> str:
        """Address of the client, "ip:port", "[ip]:port" or "unix"."""

    @property
    def server_name(self) -> str | None:
        """The name that the client asks for (SNI), None: none, or its hello was not read."""

    @property
    def alpn(self) -> tuple[str, ...]:
        """The protocols that the client offers in a hello that was read; with TLS here, the one that was chosen."""

    @property
    def tls(self) -> TlsInfo | None:
        """The TlsInfo of the client's connection, None if it is not decrypted here."""

    @property
    def proxy_protocol(self) -> ProxyProtocol | None:
        """How a proxy in front introduced the client, by the PROXY protocol; None if it did not."""

    @property
    def peer(self) -> HttpPeer | None:
        """The HttpPeer of the last attempt, None before the first."""

    @property
    def attempts(self) -> int:
        """Upstreams tried so far."""

    @property
    def bytes_received(self) -> int:
        """Bytes from the client so far."""

    @property
    def bytes_sent(self) -> int:
        """Bytes to the client so far."""

    @property
    def duration(self) -> float:
        """Seconds since the connection was open, up to its end."""

    @property
    def error(self) -> ProxyError | None:
        """The ProxyError of a session that failed, else None."""
