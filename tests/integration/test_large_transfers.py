"""Bodies through every pairing of HTTP/1.1 and HTTP/2, plain and over TLS: there and back, in constant memory.

32 MiB each; PINGORA_LONG=1 makes it 1 GiB.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import zlib
from pathlib import Path

import pytest
from conversations import wait_until
from free_ports import free_port
from pki import Authority
from running import Running

SIZE = 1 << (30 if os.environ.get("PINGORA_LONG") else 25)
BLOCK = bytes(range(251)) * 4177  # about 1 MiB, and no power of two: what is out of place shows
GROWTH_KIB = 16384
PROGRAM = """
import pingora

server = pingora.Server()
for name, target, options in ORIGINS:
    proxy = pingora.ProxyHttp()
    proxy.upstreams = pingora.LoadBalancer([target], **options)
    tls = pingora.TlsSettings(pingora.Certificate("CHAIN", "KEY"))
    server.add_proxy(proxy, "unix:PATH." + name)
    server.add_proxy(proxy, "unix:PATH.s" + name, tls=tls)
"""

pytestmark = pytest.mark.skipif(
    shutil.which("curl") is None or shutil.which("nghttpd") is None, reason="curl or nghttpd is not installed"
)


def blocks():
    """Yield SIZE bytes."""
    left = SIZE
    while left:
        part = BLOCK[:left]
        yield part
        left -= len(part)


def echo_http1(listener, context):
    """Answer the body of one PUT after the other, once it is whole."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=echo_one, args=(connection, context), daemon=True).start()


def echo_one(connection, context):
    with contextlib.suppress(OSError), tempfile.TemporaryFile() as body:
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True)
        with connection, connection.makefile("rb") as source:
            while source.readline() != b"\r\n":
                pass
            while size := int(source.readline(), 16):  # all of them are chunked: nobody knows their length
                body.write(source.read(size))
                source.readline()
            source.readline()
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % body.tell())
            body.seek(0)
            while part := body.read(1 << 20):
                connection.sendall(part)


@pytest.fixture(scope="module")
def origins(tmp_path_factory):
    """Four origins that echo: (name, target, options of the balancer as source)."""
    directory = tmp_path_factory.mktemp("origins")
    ca = Authority()
    issued = ca.issue("localhost", "127.0.0.1")
    chain, key = issued.write(directory, "origin")
    trusted = directory / "ca.pem"
    trusted.write_bytes(ca.chain)
    tls = f"dict(tls=pingora.UpstreamTls(ca={str(trusted)!r}))"
    found = []
    with contextlib.ExitStack() as stack:
        for name, context in (("h1", None), ("h1s", ca.server_context(issued))):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            threading.Thread(target=echo_http1, args=(listener, context), daemon=True).start()
            scheme = "http" if context is None else "https"
            target = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
            found.append((name, target, tls if context else "{}"))
        for name, arguments in (("h2", ["--no-tls"]), ("h2s", [])):
            port = free_port()
            files = [] if arguments else [str(key), str(chain)]
            command = [
                "nghttpd",
                "--echo-upload",
                "-a",
                "127.0.0.1",
                "-d",
                str(directory),
                *arguments,
                str(port),
                *files,
            ]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            wait_until(lambda port=port: not socket.socket().connect_ex(("127.0.0.1", port)))
            target = f"h2c://127.0.0.1:{port}" if arguments else f"https://127.0.0.1:{port}?protocol=h2"
            found.append((name, target, "{}" if arguments else tls))
        yield found


@pytest.fixture(scope="module")
def proxy(tmp_path_factory, origins):
    """A proxy with one worker before all of them, whose certificate is signed by nobody whom anybody knows."""
    directory = tmp_path_factory.mktemp("proxy")
    chain, key = Authority().issue("localhost").write(directory, "proxy")
    rows = ", ".join(f"({name!r}, {target!r}, {options})" for name, target, options in origins)
    source = PROGRAM.replace("ORIGINS", f"[{rows}]").replace("CHAIN", str(chain)).replace("KEY", str(key))
    running = Running(directory, source, ["--workers", "1"])
    wait_until(lambda: running.path.with_name("proxy.sock.sh2s").exists())
    running.pids = running.workers(1)
    yield running
    running.end()


def peak_kib(pid):
    """The most memory that a process has had."""
    rows = dict(row.split(":", 1) for row in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(rows["VmHWM"].split()[0])


def feed(curl, sums):
    """Send the body to curl."""
    checksum = 0
    with contextlib.suppress(BrokenPipeError):
        for part in blocks():
            checksum = zlib.crc32(part, checksum)
            curl.stdin.write(part)
        curl.stdin.close()
    sums.append(checksum)


def transfer(path, is_tls, is_h2):
    """PUT through the proxy; the size and the checksum of what comes back, and the checksum of what was sent."""
    how = "--http1.1" if not is_h2 else "--http2" if is_tls else "--http2-prior-knowledge"
    url = f"{'https' if is_tls else 'http'}://localhost/body"
    command = ["curl", "-sSkN", "--fail", how, "--unix-socket", path, "-T", "-", "-H", "Expect:", url]
    sums, size, checksum = [], 0, 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as curl:
        feeder = threading.Thread(target=feed, args=(curl, sums))
        feeder.start()
        while part := curl.stdout.read(1 << 20):
            size += len(part)
            checksum = zlib.crc32(part, checksum)
        feeder.join()
        assert curl.wait() == 0, curl.stderr.read()
    return size, checksum, sums[0]


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("origin", ["h1", "h2"])
@pytest.mark.parametrize("client", ["h1", "h2"])
def test_a_large_body_goes_there_and_back_in_constant_memory(proxy, client, origin, is_tls):
    name = f"s{origin}s" if is_tls else origin
    before = {pid: peak_kib(pid) for pid in proxy.pids}
    size, received, sent = transfer(f"{proxy.path}.{name}", is_tls, client == "h2")
    assert (size, received) == (SIZE, sent)
    if "ASAN_OPTIONS" not in os.environ:  # the sanitizer keeps what is freed for a while
        grown = max(peak_kib(pid) - before[pid] for pid in proxy.pids)
        assert grown < GROWTH_KIB, f"{grown} KiB"
