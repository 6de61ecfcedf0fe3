"""HTTP/2 to origins of others: nghttpd, and hypercorn with an application of ASGI; with and without TLS."""

import contextlib
import hashlib
import shutil
import socket
import subprocess
import sys

import httpx
import pytest
from conversations import wait_until
from free_ports import free_port
from pki import Authority

from pingora import HttpPeer, ProxyHttp, UpstreamTls

LARGE = bytes(range(256)) * 4000
APPLICATION = """
import hashlib
import shutil

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    digest, size, more = hashlib.sha256(), 0, True
    while more:
        event = await receive()
        digest.update(event.get("body", b""))
        size += len(event.get("body", b""))
        more = event.get("more_body", False)
    fields = [(b"x-version", scope["http_version"].encode()), (b"x-size", b"%d" % size), (b"x-path", scope["raw_path"])]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": digest.hexdigest().encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b"!" * int(scope["query_string"] or 0)})
"""


class To(ProxyHttp):
    def __init__(self, address, tls):
        self.peer = HttpPeer(address, protocol="h2", tls=tls)

    def upstream_peer(self, session, ctx):
        return self.peer


@pytest.fixture(scope="module")
def ca():
    return Authority()


@contextlib.contextmanager
def running(port, command, directory):
    """Run an origin that listens on `port` when it is ready."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=directory)
    try:

        def is_listening():
            assert process.poll() is None, "the origin has ended"
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        wait_until(is_listening)
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(params=["plain", "tls"])
def proxy_before(request, ca, tmp_path, proxy_factory):
    """Start an origin, by the function that gives its command, and a proxy before it."""
    chain, key = ca.issue("localhost", "127.0.0.1").write(tmp_path, "origin")
    is_tls = request.param == "tls"
    with contextlib.ExitStack() as stack:

        def start(command):
            port = free_port()
            stack.enter_context(running(port, command(port, is_tls, chain, key), tmp_path))
            tls = UpstreamTls(ca=ca.chain, server_name="localhost") if is_tls else None
            return proxy_factory(To(f"127.0.0.1:{port}", tls))

        yield start


def nghttpd(port, is_tls, chain, key):
    files = [str(key), str(chain)] if is_tls else []
    return ["nghttpd", "--echo-upload", *([] if is_tls else ["--no-tls"]), "--trailer", "x-end: yes", str(port), *files]


def hypercorn(port, is_tls, chain, key):
    files = [f"--keyfile={key}", f"--certfile={chain}"] if is_tls else []
    return [sys.executable, "-m", "hypercorn", f"--bind=127.0.0.1:{port}", *files, "application:app"]


@pytest.mark.skipif(shutil.which("nghttpd") is None, reason="nghttpd is not installed")
def test_nghttpd(tmp_path, proxy_before):
    (tmp_path / "file").write_bytes(LARGE)
    proxy = proxy_before(nghttpd)
    with httpx.Client(base_url=f"http://{proxy.address}") as client:
        answer = client.get("/file")
        assert (answer.status_code, answer.content) == (200, LARGE)
        assert answer.headers["server"].startswith("nghttpd")
        for size in (0, 1, 16384, len(LARGE)):
            assert client.post("/file", content=LARGE[:size]).content == LARGE[:size] or size == 0
        assert client.head("/file").headers["content-length"] == str(len(LARGE))
        assert client.get("/none").status_code == 404
    assert proxy.serving.counters["pingora_upstream_h2_connections_total"] == 1


@pytest.mark.parametrize("size", [0, 1, 70_000, len(LARGE)])
def test_hypercorn(tmp_path, proxy_before, size):
    (tmp_path / "application.py").write_text(APPLICATION)
    proxy = proxy_before(hypercorn)
    with httpx.Client(base_url=f"http://{proxy.address}") as client:
        for length in (0, 100_000):
            answer = client.post(f"/a%20b?{length}", content=LARGE[:size])
            assert (answer.headers["x-version"], answer.headers["x-size"]) == ("2", str(size))
            assert answer.headers["x-path"] == "/a%20b"
            assert answer.text == hashlib.sha256(LARGE[:size]).hexdigest() + "!" * length
    assert proxy.serving.counters["pingora_upstream_h2_connections_total"] == 1
