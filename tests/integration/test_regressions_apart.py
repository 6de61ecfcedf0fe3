"""More of what prototypes got wrong, where proxy, origin or client must be a process of its own: starvation, forks,
memory.
"""

import contextlib
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from conversations import wait_until

from pingora import LoadBalancer, ProxyHttp
from pingora.testing import read_all

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

# Serves `Proxy`; the path /counters tells connections, sessions, living children and resident KiB.
SERVE = """
import asyncio, os, sys
import uvloop
from pingora import Limits, LoadBalancer, ProxyHttp, Response
from pingora.serving import serve

children = []

def count_living():
    children[:] = [pid for pid in children if os.waitpid(pid, os.WNOHANG) == (0, 0)]
    return len(children)

def resident_kib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024

class Counted(ProxyHttp):
    upstreams = LoadBalancer(sys.argv[1:])

    def early_request_filter(self, session, ctx):
        if session.request.path == "/counters":
            service = self.serving.services[0]
            counters = (service.n_connections, service.n_active, count_living(), resident_kib())
            return Response(200, {}, " ".join(map(str, counters)))

async def main():
    proxy = Proxy()
    async with serve(proxy, limits=Limits(connection_requests=None)) as proxy.serving:
        print(proxy.serving.address, flush=True)
        await asyncio.Event().wait()
"""
RUN = "\nuvloop.run(main())\n"


class Program:
    """A Python program that prints its address first. Its standard input stays open until it, or the test, ends."""

    def __init__(self, source: str, *arguments: str) -> None:
        command = [sys.executable, "-c", source, *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        assert self.address, "the program did not start"

    def connect(self) -> socket.socket:
        host, _, port = self.address.rpartition(":")
        return socket.create_connection((host, int(port)), 10)

    def ask(self, path: str) -> bytes:
        """Return all that comes for one request; the connection must end by itself."""
        with self.connect() as client:
            client.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode())
            return read_all(client)

    def counters(self) -> list[int]:
        """Give connections, sessions (that of the question left out), living children, resident KiB."""
        n_connections, n_active, *others = map(int, self.ask("/counters").rpartition(b"\r\n\r\n")[2].split())
        return [n_connections - 1, n_active - 1, *others]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    """Start programs: `program(source, *arguments)`."""
    with contextlib.ExitStack() as running:
        yield lambda *arguments: running.enter_context(contextlib.closing(Program(*arguments)))


@pytest.fixture
def many_descriptors():
    """Programs started now may open a few thousand descriptors, and so may the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


ENDLESS = """
import socket, threading

def serve(connection):
    try:
        while data := connection.recv(65536):
            if b"/endless" not in data:
                connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello")
                continue
            connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
            block = bytes(1 << 20)
            while True:
                connection.sendall(block)
    except OSError:
        pass

with socket.create_server(("127.0.0.1", 0)) as listener:
    print("127.0.0.1:%d" % listener.getsockname()[1], flush=True)
    while True:
        threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
"""
DOWNLOAD = """
import socket, sys

host, port = sys.argv[1].split(":")
with socket.create_connection((host, int(port))) as client:
    client.sendall(b"GET /endless HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    n = 0
    while data := client.recv(1 << 20):
        n += len(data)
        if n >= 1 << 26:
            print(n, flush=True)
            n = 0
"""


def test_small_requests_are_answered_while_a_download_runs_at_full_speed(proxy_factory, program):
    """The download has no end: a proxy that serves it for as long as there is something to read never comes back."""
    proxy = ProxyHttp()
    proxy.upstreams = LoadBalancer([program(ENDLESS).address])
    running = proxy_factory(proxy)
    download = program(DOWNLOAD, running.address)  # is at full speed when it prints for the first time
    with running.connect() as client:
        for _ in range(200):
            client.sendall(GET)
            assert client.recv(4096).endswith(b"hello")
    (service,) = running.serving.services
    assert download.process.stdout.readline(), "the download went on beside them"
    assert (download.process.poll(), service.n_active) == (None, 1)


ANSWERS = """
class Proxy(Counted):
    def request_filter(self, session, ctx):
        return Response(200, {}, "hello")
"""
FLOOD = """
import socket, sys, threading

host, port = sys.argv[1].split(":")
with socket.create_connection((host, int(port))) as client:
    batch = b"GET /a HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n" * 10000
    sender = threading.Thread(target=lambda: [client.sendall(batch) for _ in iter(int, 1)], daemon=True)
    sender.start()
    n = 0
    while data := client.recv(1 << 20):
        n += len(data)
        if n >= 1 << 20:
            print(n, flush=True)
            n = 0
"""


def test_small_requests_are_answered_while_a_client_sends_requests_without_an_end(program):
    """There is always something to read of that client: a proxy without a limit of a turn reads on for ever."""
    server = program(SERVE + ANSWERS + RUN, "127.0.0.1:1")
    flood = program(FLOOD, server.address)  # is at full speed when it prints for the first time
    with server.connect() as client:
        for _ in range(20):
            client.sendall(GET)
            assert client.recv(4096).endswith(b"hello")
    assert flood.process.poll() is None
    assert flood.process.stdout.readline(), "the flood went on beside them"


FORKS = """
import subprocess

class Proxy(Counted):
    def request_filter(self, session, ctx):
        path = session.request.path
        if path == "/fork":
            begun, begins = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.write(begins, b".")   # it has closed what it must not hold
                os.read(0, 1)   # until the test closes its end
                os._exit(0)
            os.read(begun, 1)
            os.close(begun)
            os.close(begins)
            children.append(pid)
            return Response(200, {}, str(pid))
        if path == "/run":
            return Response(200, {}, subprocess.run(["echo", "ran"], capture_output=True).stdout)
        if path == "/wait":
            return self.wait()
        return None if path == "/upstream" else Response(200, {}, "hello")

    async def wait(self):
        await asyncio.sleep(3600)
"""


def test_a_thousand_clients_may_leave_while_hooks_fork(many_descriptors, program, origin_factory):
    origin = origin_factory(lambda connection, _received: connection.recv(1))  # never answers
    server = program(SERVE + FORKS + RUN, origin.address)
    requests = [
        GET,  # answered, kept
        GET[:-5],
        b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /upstream HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
    ]
    clients = [server.connect() for _ in range(1000)]
    for i, client in enumerate(clients):
        client.sendall(requests[i % 5])
    for client in clients[::5]:
        assert client.recv(4096).endswith(b"hello")
    wait_until(lambda: server.counters()[:2] == [1000, 600])
    for i, client in enumerate(clients):
        if i % 100 == 0:
            assert b"200 OK" in server.ask("/fork")
            assert server.ask("/run").endswith(b"ran\n")
        if i % 2 or i % 5 in (2, 3):  # a mere end is a half-close: what waits then goes on
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    wait_until(lambda: server.counters()[:2] == [0, 0])
    assert server.counters()[2] == 10, "the children lived all the time"
    server.process.stdin.close()
    wait_until(lambda: server.counters()[2] == 0)


@pytest.fixture
def orphans(program):
    """A proxy that was killed while children of its hooks live on, and a client that was connected to it."""
    server = program(SERVE + FORKS + RUN, "127.0.0.1:1")
    with server.connect() as client:
        client.sendall(GET)
        assert client.recv(4096).endswith(b"hello")
        children = [int(server.ask("/fork").rpartition(b"\r\n\r\n")[2]) for _ in range(3)]
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(10)
        yield server, client
        for pid in children:
            os.kill(pid, 0)  # raises for one that has ended: they lived all the time


def test_children_of_hooks_hold_no_client_of_a_proxy_that_died(orphans):
    _server, client = orphans
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""


def test_children_of_hooks_hold_no_port_of_a_proxy_that_died(orphans):
    server, _client = orphans
    with pytest.raises(ConnectionRefusedError):
        server.connect()


RAISES = """
import collections, logging
logging.disable()
kept = collections.deque(maxlen=2000)

class Proxy(Counted):
    def request_filter(self, session, ctx):
        try:
            raise LookupError(session.request.target)
        except LookupError as error:
            kept.append(error)
            HOW
"""


@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="the sanitizer keeps what is freed for a while")
@pytest.mark.parametrize(
    "how", ["raise", "raise RuntimeError('of another') from error", "return Response(200, {}, 'a')"]
)
def test_memory_stays_bounded_where_a_hook_keeps_its_last_exceptions(program, how):
    server = program(SERVE + RAISES.replace("HOW", how) + RUN, "127.0.0.1:1")
    sizes = [server.counters()[3]]
    batch = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\nX-Some: %s\r\n\r\n" % (i, b"a" * 500) for i in range(100))
    for _ in range(3):
        for _ in range(40):
            with server.connect() as client:
                client.sendall(batch)
                client.shutdown(socket.SHUT_WR)
                assert read_all(client).count(b"HTTP/1.1 ") == 100
        sizes.append(server.counters()[3])
    assert sizes[1] - sizes[0] < 64 * 1024, "2,000 exceptions with their frames and sessions"
    assert sizes[3] - sizes[1] < 16 * 1024, "those that are no longer kept were let go"
