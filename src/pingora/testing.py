"""pytest plugin: a proxy on a free port and origins scripted in Python.

    def test_header(proxy_factory, origin_factory):
        origin = origin_factory(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi")
        proxy = proxy_factory(MyProxy(origin.address))
        …talk to proxy.host, proxy.port…

Both run in threads of the test process and end with the test.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

import pytest

from pingora.limits import Limits
from pingora.loop import loop_for, run
from pingora.proxy import ProxyHttp
from pingora.proxy_protocol import AcceptProxyProtocol
from pingora.serving import Serving, serve
from pingora.tcp import TcpProxy
from pingora.tls import TlsSettings

T = TypeVar("T")
Script = bytes | Callable[[socket.socket, bytes], None]


class RunningProxy:
    """A proxy that serves on a loop in a thread of its own; `host`, `port` and `address` say where."""

    def __init__(
        self,
        proxy: ProxyHttp | TcpProxy,
        limits: Limits | None = None,
        tls: TlsSettings | None = None,
        reason_header: str | None = None,
        listen: str = "127.0.0.1:0",
        proxy_protocol: AcceptProxyProtocol | Iterable[str] | None = None,
    ) -> None:
        self._proxy = proxy
        self._listen = listen
        self._tls = tls
        self._reason_header = reason_header
        self._proxy_protocol = proxy_protocol
        self._limits = limits
        self._started = threading.Event()
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait()
        if self._problem is not None:
            raise self._problem
        self.address = self.serving.address
        host, _, port = self.address.rpartition(":")
        self.host, self.port = ("", 0) if host == "unix" else (host, int(port))

    def _run(self) -> None:
        try:
            run(loop_for([self._proxy]), self._main())
        except BaseException as problem:
            self._problem = problem
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        async with serve(
            self._proxy,
            self._listen,
            tls=self._tls,
            proxy_protocol=self._proxy_protocol,
            limits=self._limits,
            reason_header=self._reason_header,
            grace=1.0,
        ) as serving:
            self.serving: Serving = serving
            self._started.set()
            await self._end.wait()

    def close(self) -> None:
        """Stop serving and wait until it has ended. Raises the exception that it ended with."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        if self._problem is not None:
            raise self._problem

    def call(self, coroutine: Coroutine[Any, Any, T], timeout: float = 5.0) -> T:
        """Run a coroutine on the proxy's loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    def connect(self, timeout: float = 5.0) -> socket.socket:
        """Open a client connection to the proxy."""
        if self.address.startswith("unix:"):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(timeout)
            client.connect(self.address.removeprefix("unix:").replace("@", "\0"))
            return client
        return socket.create_connection((self.host, self.port), timeout)

    def exchange(self, request: bytes, timeout: float = 5.0) -> bytes:
        """Send raw bytes, end our side and return everything that comes until the proxy closes."""
        with self.connect(timeout) as client:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            return read_all(client)


class Origin:
    """An origin that answers each request head it gets by a script; `heads` holds what it got.

    A script is the bytes of an answer, or a function of the connection and the bytes read so far (head, and what came
    with it) that answers itself. The connection stays open until the script or the client closes it.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self.heads: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.n_connections = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.n_connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            while True:
                data = b""
                while b"\r\n\r\n" not in data:
                    more = connection.recv(65536)
                    if not more:
                        return
                    data += more
                self.heads.append(data[: data.index(b"\r\n\r\n") + 4])
                if callable(self._script):
                    self._script(connection, data)
                else:
                    connection.sendall(self._script)

    def close(self) -> None:
        """Stop listening."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def read_all(client: socket.socket) -> bytes:
    """Read until the peer closes or resets the connection; give what came."""
    data = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while more := client.recv(65536):
            data += more
    return bytes(data)


@pytest.fixture
def proxy_factory() -> Iterator[Callable[..., RunningProxy]]:
    """Start proxies: `proxy_factory(proxy, limits=None, tls=None, …)` gives a RunningProxy of these arguments."""
    with contextlib.ExitStack() as running:

        def start(
            proxy: ProxyHttp | TcpProxy, limits: Limits | None = None, tls: TlsSettings | None = None, **options: Any
        ) -> RunningProxy:
            started = RunningProxy(proxy, limits, tls, **options)
            running.callback(started.close)
            return started

        yield start


@pytest.fixture
def origin_factory() -> Iterator[Callable[[Script], Origin]]:
    """Start origins: `origin_factory(script)` gives an Origin."""
    running: list[Origin] = []

    def start(script: Script) -> Origin:
        running.append(Origin(script))
        return running[-1]

    yield start
    for origin in running:
        origin.close()
