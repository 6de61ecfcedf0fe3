"""Let an instrumented core work, so that the compiler knows what the next one does often: python tools/train.py.

Builds the core of this tree in place with counters (PINGORA_BUILD=instrumented), runs proxies on it and sends them
requests of each common kind, over TCP on this machine. The counts are in build/profile; a build of this same tree with
PINGORA_BUILD=profiled follows them. Needs gcc, and what the build and the package require.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROFILE = ROOT / "build" / "profile"
CLIENTS = 16
START_S = 60
END_S = 120

FIELDS = (
    b"Host: shop.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://shop.example/\r\n"
    b"Cookie: session=0123456789abcdef\r\nX-Api-Key: secret\r\n"
)
BARE = b"GET /small HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
SMALL = b"GET /small?id=17 HTTP/1.1\r\n" + FIELDS + b"\r\n"
ONCE = b"GET /small HTTP/1.1\r\n" + FIELDS + b"Connection: close\r\n\r\n"
LARGE = b"GET /large HTTP/1.1\r\n" + FIELDS + b"\r\n"
HUGE = b"GET /huge HTTP/1.1\r\n" + FIELDS + b"\r\n"
CHUNKED = b"GET /chunked HTTP/1.1\r\n" + FIELDS + b"\r\n"
POST = b"POST /small HTTP/1.1\r\n" + FIELDS + b"Content-Length: 2048\r\n\r\n" + b"x" * 2048
REFUSED = b"GET /small HTTP/1.1\r\nHost: shop.example\r\n\r\n"  # by a hook, for want of a key
ANSWER_FIELDS = b'Server: origin\r\nDate: Mon, 30 Nov 2026 12:00:00 GMT\r\nContent-Type: text/html\r\nETag: "17"\r\n'


def sized(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + ANSWER_FIELDS + b"Content-Length: %d\r\n\r\n" % size + b"x" * size


ANSWERS = {
    b"/small": sized(100),
    b"/large": sized(64 << 10),
    b"/huge": sized(1 << 20),
    b"/chunked": b"HTTP/1.1 200 OK\r\n"
    + ANSWER_FIELDS
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + (b"800\r\n" + b"x" * 2048 + b"\r\n") * 8
    + b"0\r\n\r\n",
}

# What is sent how often on each of CLIENTS connections, by the name of the proxy.
TO_SERVE = [(BARE, 500), (SMALL, 500), (LARGE, 40), (HUGE, 4), (CHUNKED, 40), (POST, 100), (ONCE, 50)]
TO_HOOKS = [(BARE, 300), (SMALL, 300), (POST, 50), (REFUSED, 50), (ONCE, 20)]


class Origin(asyncio.Protocol):
    """Answers each request by its path; takes bodies with a length or in chunks, and keeps connections."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.data = transport, b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n") + 4) > 3:
            head = self.data[:end].lower()
            if b"\r\ntransfer-encoding: chunked" in head:
                end = self.data.find(b"\r\n0\r\n\r\n") + 7
                if end < 7:
                    return
            elif (at := head.find(b"\r\ncontent-length: ")) >= 0:
                end += int(head[at + 18 : head.index(b"\r\n", at + 2)])
            if len(self.data) < end:
                return
            self.transport.write(ANSWERS[self.data.split(b" ", 2)[1].partition(b"?")[0]])
            self.data = self.data[end:]


@contextlib.contextmanager
def origin() -> Iterator[int]:
    """Serve in a thread; yields the port."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(Origin, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(n)]
        return [sock.getsockname()[1] for sock in listening]


def serve(kind: str, port_of_origin: int, ports: list[int], directory: str) -> None:
    """Be a proxy until SIGTERM. Without `async` hooks it runs on the package's own loop, else on uvloop."""
    sys.path.insert(0, str(ROOT / "examples"))
    from gateway import Gateway

    from pingora import (
        Certificate,
        HttpPeer,
        LoadBalancer,
        ProxyHttp,
        RoundRobin,
        Server,
        TlsSettings,
        UpstreamTls,
    )

    class Forwarding(ProxyHttp):
        def __init__(self, target: str) -> None:
            self.upstreams = LoadBalancer([target], RoundRobin())

    class TwoHooks(Forwarding):
        def request_filter(self, session, ctx):
            headers = session.request.headers
            headers["x-asked-for"] = headers.get("host", "")

        def response_filter(self, session, response, ctx):
            headers = response.headers
            headers["x-kind"] = headers.get("content-type", "")

    class SixHooks(Gateway):
        def __init__(self, target: str) -> None:
            self.upstreams = LoadBalancer([target], RoundRobin())

    class OverTls(ProxyHttp):
        def __init__(self, port: int) -> None:
            self.port, self.tls = port, UpstreamTls(verify=False)

        def upstream_peer(self, session, ctx):
            return HttpPeer(f"127.0.0.1:{self.port}", tls=self.tls, protocol="h2")

    target = f"http://127.0.0.1:{port_of_origin}"
    plain, secure, to_h2c, to_h2, hooks = ports
    server = Server(access_log="json" if kind == "hooks" else "off")
    if kind == "hooks":
        server.add_proxy(SixHooks(target), f"127.0.0.1:{hooks}")
    else:
        tls = TlsSettings(certificates=[Certificate(f"{directory}/cert.pem", f"{directory}/key.pem")])
        server.add_proxy(Forwarding(target), f"127.0.0.1:{plain}")
        server.add_proxy(Forwarding(target), f"127.0.0.1:{secure}", tls=tls)
        server.add_proxy(Forwarding(f"h2c://127.0.0.1:{plain}"), f"127.0.0.1:{to_h2c}")
        server.add_proxy(OverTls(secure), f"127.0.0.1:{to_h2}")
        server.add_proxy(TwoHooks(target), f"127.0.0.1:{hooks}")
    server.run(0)


@contextlib.contextmanager
def proxy(kind: str, port_of_origin: int, directory: str) -> Iterator[list[int]]:
    """Run a proxy in a process of its own, which writes its counts at its end; yields its ports."""
    ports = free_ports(5)
    command = [sys.executable, __file__, kind, str(port_of_origin), directory, *map(str, ports)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    said = Path(directory, f"{kind}.log")
    with (
        said.open("w") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log, cwd=directory) as process,
    ):
        try:
            deadline = time.monotonic() + START_S
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", ports[4])):
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"{said.read_text()}\npingora: the core with counters did not start")
                time.sleep(0.1)
            yield ports
            process.send_signal(signal.SIGTERM)
            if process.wait(END_S):
                sys.exit(f"{said.read_text()}\npingora: the core with counters ended with code {process.returncode}")
        finally:
            process.kill()


def take_answer(client: socket.socket, data: bytearray) -> None:
    """Receive one answer; what comes behind it stays in `data`."""
    while (end := data.find(b"\r\n\r\n") + 4) < 4:
        more(client, data)
    head = bytes(data[:end]).lower()
    if (at := head.find(b"\r\ncontent-length: ")) >= 0:
        end += int(head[at + 18 : head.index(b"\r\n", at + 2)])
        while len(data) < end:
            more(client, data)
    else:
        while (at := data.find(b"\r\n0\r\n\r\n")) < 0:
            more(client, data)
        end = at + 7
    del data[:end]


def more(client: socket.socket, data: bytearray) -> None:
    received = client.recv(1 << 18)
    if not received:
        raise ConnectionError("the proxy closed a connection")
    data += received


def ask(port: int, requests: list[tuple[bytes, int]], tls: ssl.SSLContext | None) -> None:
    """Send each request as often as it says, one after the other, over one connection as far as it lasts."""
    with contextlib.ExitStack() as stack:
        client, data = None, bytearray()
        for request, times in requests:
            for _ in range(times):
                if client is None:
                    client = stack.enter_context(socket.create_connection(("127.0.0.1", port), 60))
                    if tls is not None:
                        client = stack.enter_context(tls.wrap_socket(client))
                client.sendall(request)
                take_answer(client, data)
                if request is ONCE:
                    client.close()
                    client = None


def load(port: int, requests: list[tuple[bytes, int]], tls: ssl.SSLContext | None = None) -> None:
    """Have CLIENTS clients ask at the same time. Raises what one of them raised."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            ask(port, requests, tls)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def write_certificate(directory: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "pingora", "cert", "self-signed", "localhost"],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def train() -> None:
    """Run proxies and clients."""
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    with tempfile.TemporaryDirectory(prefix="profile-") as directory, origin() as port_of_origin:
        write_certificate(directory)
        with proxy("serve", port_of_origin, directory) as (plain, secure, to_h2c, to_h2, hooks):
            load(plain, TO_SERVE)
            load(secure, TO_SERVE, tls)
            load(to_h2c, TO_SERVE)
            load(to_h2, TO_SERVE)
            load(hooks, TO_HOOKS[:3])
        with proxy("hooks", port_of_origin, directory) as ports:
            load(ports[4], TO_HOOKS)


def main() -> None:
    if "clang" in os.environ.get("CC", ""):
        sys.exit("pingora: a profile needs gcc; build without it: PINGORA_BUILD=release")
    shutil.rmtree(PROFILE, ignore_errors=True)
    print("pingora: building the core with counters", file=sys.stderr)
    built = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=ROOT,
        env=os.environ | {"PINGORA_BUILD": "instrumented"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if built.returncode:
        sys.exit(f"{built.stdout}\npingora: the core with counters could not be built")
    print("pingora: counting what requests of each kind do", file=sys.stderr)
    train()
    if not any(PROFILE.glob("*.gcda")):
        sys.exit("pingora: nothing was counted")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        kind, port_of_origin, directory, *ports = sys.argv[1:]
        serve(kind, int(port_of_origin), [int(port) for port in ports], directory)
    else:
        main()
