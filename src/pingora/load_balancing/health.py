"""Health checks: endpoints are asked whether they work, and left out of selection while they do not."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import Iterable
from typing import cast

from pingora.tls.probing import ssl_context
from pingora.tls.upstream import UpstreamTls
from pingora_c.upstream.endpoint import Endpoint
from pingora_c.upstream.peer import HttpPeer

DAY = 86400
STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])[ \r]")
LINE_BYTES = 8192  # of a status line and of a field
INTERIM_MOST = 16
# What begins a connection on which nobody is introduced, by version of the PROXY protocol.
OWN = {"v1": b"PROXY UNKNOWN\r\n", "v2": b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"}
ONLY_HTTP2 = 'it speaks HTTP/2 and no HTTP/1.1: check it by TcpHealthCheck, kind = "tcp"'
VISIBLE = re.compile(r"[!-~]+")


class HealthCheck:
    """Asks endpoints whether they work. Subclass it and override `check`, or use TcpHealthCheck or HttpHealthCheck.

    Every endpoint is asked every `interval` seconds (give or take a tenth), up to `parallel` at a time; an answer may
    take `timeout`. `consecutive_failure` failures in a row make an endpoint unhealthy, `consecutive_success` healthy
    again; a new one is healthy. Raises ValueError for what makes no sense.
    """

    def __init__(
        self,
        *,
        interval: float = 5.0,
        timeout: float = 1.0,
        consecutive_success: int = 1,
        consecutive_failure: int = 1,
        parallel: int = 16,
    ) -> None:
        for name, seconds in (("interval", interval), ("timeout", timeout)):
            if not 0.01 <= seconds <= DAY:
                raise ValueError(f"{name}: expected 0.01 to {DAY} seconds, got {seconds!r}")
        counts = {
            "consecutive_success": consecutive_success,
            "consecutive_failure": consecutive_failure,
            "parallel": parallel,
        }
        for name, count in counts.items():
            if not 1 <= count <= 1000:
                raise ValueError(f"{name}: expected 1 to 1000, got {count!r}")
        self.interval = interval
        self.timeout = timeout
        self.consecutive_success = consecutive_success
        self.consecutive_failure = consecutive_failure
        self.parallel = parallel

    async def check(self, endpoint: Endpoint) -> None:
        """Ask an endpoint. One that raises is taken as a failure, whose text the log tells."""
        raise NotImplementedError(f"{type(self).__name__} does not override check")

    def health_changed(self, endpoint: Endpoint, is_healthy: bool) -> None:
        """Hear of a change, in the process that checks. Default: nothing."""


class TcpHealthCheck(HealthCheck):
    """Connects, with the TLS handshake if the endpoint has TLS, and closes."""

    async def check(self, endpoint: Endpoint) -> None:
        """Connect."""
        _reader, writer = await connect(endpoint, None)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class HttpHealthCheck(HealthCheck):
    """Asks over HTTP/1.1, on a connection of its own, with the TLS of the endpoint.

    `host` is the Host to ask for, by default the endpoint's name; `statuses` are the answers of one that works.
    `port` is where to ask, if it is not the endpoint's own. Override `is_good` to decide otherwise.
    """

    def __init__(
        self,
        path: str = "/",
        *,
        host: str | None = None,
        method: str = "GET",
        statuses: Iterable[int] = (200,),
        port: int | None = None,
        headers: Iterable[tuple[str, str]] = (),
        interval: float = 5.0,
        timeout: float = 1.0,
        consecutive_success: int = 1,
        consecutive_failure: int = 1,
        parallel: int = 16,
    ) -> None:
        super().__init__(
            interval=interval,
            timeout=timeout,
            consecutive_success=consecutive_success,
            consecutive_failure=consecutive_failure,
            parallel=parallel,
        )
        self.path = path
        self.host = host
        self.method = method
        self.statuses = frozenset(statuses)
        self.port = port
        self.headers = tuple(headers)
        if not path.startswith("/") or not VISIBLE.fullmatch(path):
            raise ValueError(f"path: expected one that begins with / and has no spaces, got {path!r}")
        if not self.statuses or any(not 100 <= status <= 599 for status in self.statuses):
            raise ValueError(f"statuses: expected some from 100 to 599, got {sorted(self.statuses)}")
        if port is not None and not 1 <= port <= 65535:
            raise ValueError(f"port: expected 1 to 65535, got {port!r}")
        words = [method, *([] if host is None else [host]), *(name for name, _ in self.headers)]
        values = [value for _, value in self.headers]
        if not all(VISIBLE.fullmatch(word) for word in words) or any(set("\r\n\0") & set(value) for value in values):
            raise ValueError("method, host, headers: expected visible characters")

    def is_good(self, status: int) -> bool:
        """Decide by the status of the answer. Default: one of `statuses`."""
        return status in self.statuses

    async def check(self, endpoint: Endpoint) -> None:
        """Send a request and read the answer's status."""
        reader, writer = await connect(endpoint, self.port)
        try:
            writer.write(self._request(endpoint))
            status = await read_status(reader)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        if not self.is_good(status):
            raise ValueError(f"status {status}")

    def _request(self, endpoint: Endpoint) -> bytes:
        host = self.host or ("localhost" if endpoint.address.is_unix else endpoint.name)
        fields = [("Host", host), ("User-Agent", "pingora-health"), ("Connection", "close"), *self.headers]
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
        return "\r\n".join(lines).encode("latin-1", "replace")


async def connect(endpoint: Endpoint, port: int | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to an endpoint, with TLS and the PROXY protocol as its requests do, the latter only on its own port."""
    header = None if port is not None else OWN.get(HttpPeer(endpoint).proxy_protocol or "")
    context, server_name = (None, None) if endpoint.tls is None else tls_of(endpoint)
    if header is None:
        return await open_connection(endpoint, port, context, server_name)
    reader, writer = await open_connection(endpoint, port, None, None)
    try:
        writer.write(header)
        if context is not None:
            await writer.start_tls(context, server_hostname=server_name)
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


def tls_of(endpoint: Endpoint) -> tuple[ssl.SSLContext, str]:
    """Give what its TLS takes: the context, and the name to ask for."""
    tls = cast("UpstreamTls", endpoint.tls)  # of which the core knows less
    name = tls.names_for(endpoint.server_name)[0]
    return ssl_context(tls), name or ("localhost" if endpoint.address.is_unix else endpoint.address.host)


async def open_connection(
    endpoint: Endpoint, port: int | None, context: ssl.SSLContext | None, server_name: str | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection, with TLS if there is a context."""
    address = endpoint.address
    if address.is_unix:
        path = address.text.removeprefix("unix:")
        path = "\0" + path[1:] if path.startswith("@") else path
        return await asyncio.open_unix_connection(path, ssl=context, server_hostname=server_name, limit=LINE_BYTES)
    return await asyncio.open_connection(
        address.host,
        address.port if port is None else port,
        ssl=context,
        server_hostname=server_name,
        limit=LINE_BYTES,
    )


async def read_status(reader: asyncio.StreamReader) -> int:
    """Read the status of the final answer. Raises ValueError for what is no HTTP."""
    for _ in range(INTERIM_MOST):
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            if is_settings(error.partial):
                raise ValueError(ONLY_HTTP2) from None
            raise
        if is_settings(line):
            raise ValueError(ONLY_HTTP2)
        found = STATUS_LINE.match(line)
        if found is None:
            raise ValueError(f"no answer of HTTP/1.1: {line[:40]!r}")
        status = int(found[1])
        if status >= 200 or status == 101:
            return status
        while await reader.readuntil(b"\n") != b"\r\n":
            pass
    raise ValueError("too many interim answers")


def is_settings(data: bytes) -> bool:
    """Whether this is a SETTINGS frame, which a server of HTTP/2 begins with whatever it is asked (RFC 9113 §3.4)."""
    return len(data) >= 9 and data[3:4] == b"\4" and data[5:9] == bytes(4)


def told(error: BaseException) -> str:
    """Say in a few words why a check failed."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, asyncio.IncompleteReadError):
        return "closed without an answer"
    if isinstance(error, asyncio.LimitOverrunError):
        return "a line that is too long"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    return str(error) or type(error).__name__
