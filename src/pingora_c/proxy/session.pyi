from collections.abc import Awaitable
from typing import Literal, final

from pingora_c.http.message import RequestHead, ResponseHead
from pingora_c.net.proxy_protocol import ProxyProtocol
from pingora_c.net.tls_info import TlsInfo
from pingora_c.proxy.failure import ProxyError
from pingora_c.proxy.timings import Timings
from pingora_c.proxy.websocket import WebSocket
from pingora_c.upstream.peer import HttpPeer

@final
class Session:
    """One request and its response, as hooks see it. Made by the core."""

    def __init__(self) -> None: ...
    def read_body(self, limit: int = 1048576) -> Awaitable[bytes]:
        """Wait for the whole body of the request and give it; it is still sent upstream. `limit` is in bytes."""

    def pass_request_body(self) -> None:
        """Leave this request's body alone: no body filter sees it, and its Content-Length stays."""

    def pass_response_body(self) -> None:
        """Leave this answer's body alone: no body filter sees it, and its Content-Length stays."""

    @property
    def request(self) -> RequestHead:
        """The client's request head; editing it after `upstream_request_filter` changes nothing."""

    @property
    def response(self) -> ResponseHead | None:
        """The response head, None before there is one; in `logging` always one: 499 if nothing was answered."""

    @property
    def body_limit(self) -> int | None:
        """Bytes that the request's body may have, None for any number; 413 beyond. `Limits.body_bytes` at first."""

    @body_limit.setter
    def body_limit(self, limit: int | None) -> None: ...
    @property
    def peer(self) -> HttpPeer | None:
        """The HttpPeer in use or used last, None before one was chosen."""

    @property
    def upstream_protocol(self) -> Literal["h1", "h2"] | None:
        """What is spoken with the upstream, "h1" or "h2"; None: no HTTP, or no connection yet."""

    @property
    def client_address(self) -> str:
        """Address of the client, "ip:port", or "unix"."""

    @property
    def server_address(self) -> str:
        """The address that the client connected to, "ip:port" or "unix:/path"."""

    @property
    def websocket(self) -> WebSocket | None:
        """The WebSocket that the session carries, if `websocket_message` is overridden; else None."""

    @property
    def tls(self) -> TlsInfo | None:
        """The TlsInfo of the client's connection, None if it is not encrypted."""

    @property
    def proxy_protocol(self) -> ProxyProtocol | None:
        """How a proxy in front introduced the client, by the PROXY protocol; None if it did not."""

    @property
    def timings(self) -> Timings:
        """How long its parts took so far."""

    @property
    def attempts(self) -> int:
        """How many times an upstream was tried."""

    @property
    def reused(self) -> bool:
        """Whether the last attempt went over a connection that was already open."""

    @property
    def bytes_received(self) -> int:
        """Body bytes from the client."""

    @property
    def bytes_sent(self) -> int:
        """Body bytes to the client."""

    @property
    def error(self) -> ProxyError | None:
        """The ProxyError of a session that failed, else None."""
