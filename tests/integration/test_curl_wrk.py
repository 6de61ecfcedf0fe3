"""curl and wrk as clients."""

import hashlib
import os
import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pingora import LoadBalancer, ProxyHttp, Response

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
LARGE = os.urandom(20 * 1024 * 1024)


class Origin(BaseHTTPRequestHandler):
    """The standard library's server: files of /large, and what it got for an upload."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        is_large = self.path.startswith("/large")
        self.answer(LARGE if is_large else b"hello\n", is_chunked=self.path.endswith("chunked"))

    do_HEAD = do_GET

    def do_PUT(self):
        """Answer with the framing and the digest of the body."""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = bytearray()
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        framing = self.headers.get("Transfer-Encoding") or self.headers["Content-Length"]
        self.answer(f"{framing} {digest(body)}".encode())

    do_POST = do_PUT

    def answer(self, body, is_chunked=False):
        self.send_response(200)
        if is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def digest(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def proxy(proxy_factory):
    """A proxy before the standard library's HTTP server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Origin) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        reverse = ProxyHttp()
        reverse.upstreams = LoadBalancer([f"127.0.0.1:{server.server_port}"])
        running = proxy_factory(reverse)
        yield running
        running.close()  # the origin's threads wait for the ends of its connections
        server.shutdown()
        thread.join()


def curl(proxy, path, *options, body=None):
    """Run curl; return its output (bytes) and what it tells of the exchange (-v)."""
    command = ["curl", "-sS", "-v", "--noproxy", "*", "--max-time", "20", *options, f"http://{proxy.address}{path}"]
    ended = subprocess.run(command, input=body or b"", capture_output=True, timeout=30)
    told = ended.stderr.decode(errors="replace")
    assert ended.returncode == 0, told
    return ended.stdout, told


@needs_curl
@pytest.mark.parametrize("path", ["/large", "/large/chunked"])
@pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
def test_a_large_download_arrives_whole(proxy, path, version):
    output, told = curl(proxy, path, version)
    assert digest(output) == digest(LARGE)
    assert ("Transfer-Encoding: chunked" in told) == (path == "/large/chunked" and version == "--http1.1")


@needs_curl
def test_a_download_that_is_throttled_arrives_whole(proxy):
    assert digest(curl(proxy, "/large", "--limit-rate", "40M")[0]) == digest(LARGE)


@needs_curl
@pytest.mark.parametrize(
    ("options", "framing"),
    [
        pytest.param(["-T", "FILE"], str(len(LARGE)), id="file by length"),
        pytest.param(["-T", "FILE", "--http1.0"], str(len(LARGE)), id="file by length, HTTP/1.0"),
        pytest.param(["-T", "-"], "chunked", id="stdin chunked"),
        pytest.param(["--data-binary", "@-"], str(len(LARGE)), id="stdin by length"),
        pytest.param(["--data-binary", "@-", "-H", "Transfer-Encoding: chunked"], "chunked", id="data chunked"),
        pytest.param(["-T", "FILE", "-H", "Expect:"], str(len(LARGE)), id="file without Expect"),
        pytest.param(["-T", "FILE", "-H", "Expect: 100-continue"], str(len(LARGE)), id="file with Expect"),
        pytest.param(["-T", "-", "-H", "Expect: 100-continue"], "chunked", id="stdin chunked with Expect"),
    ],
)
def test_a_large_upload_arrives_whole(proxy, tmp_path, options, framing):
    file = tmp_path / "file"
    file.write_bytes(LARGE)
    options = [str(file) if option == "FILE" else option for option in options]
    output, told = curl(proxy, "/upload", *options, body=LARGE)
    assert output.decode() == f"{framing} {digest(LARGE)}"
    if "Expect: 100-continue" in options:
        assert told.count("< HTTP/1.1 100 Continue") == 1


@needs_curl
def test_one_connection_serves_many_transfers_of_curl(proxy):
    command = ["curl", "-sS", "-w", "%{http_code} %{num_connects}\n", "--noproxy", "*", "--max-time", "20"]
    paths = ["", "large", "a?b=c", "large/chunked", "%2e%2e/x"]
    urls = [option for path in paths for option in (f"http://{proxy.address}/{path}", "-o", os.devnull)]
    ended = subprocess.run([*command, *urls], capture_output=True, text=True, timeout=30)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["200 1", *["200 0"] * 4]


@needs_curl
def test_head_of_a_large_file_ends_at_once(proxy):
    output, told = curl(proxy, "/large", "--head")
    assert f"Content-Length: {len(LARGE)}" in output.decode()
    assert "left intact" in told


@needs_curl
def test_a_refused_upload_is_not_sent_by_a_client_that_expects(proxy_factory, tmp_path):
    class Refuses(ProxyHttp):
        upstreams = LoadBalancer(["127.0.0.1:1"])

        def request_filter(self, session, ctx):
            return Response(413, {}, "too large\n")

    file = tmp_path / "file"
    file.write_bytes(LARGE)
    running = proxy_factory(Refuses())
    output, told = curl(
        running, "/", "-T", str(file), "-w", " %{size_upload} %{http_code}", "--expect100-timeout", "10"
    )
    assert output == b"too large\n 0 413", told


class Answers(ProxyHttp):
    """A proxy that asks no origin."""

    upstreams = LoadBalancer(["127.0.0.1:1"])

    async def request_filter(self, session, ctx):
        return Response(200, {}, "hello\n")


def wrk(proxy, *options):
    """Run wrk for a second; return its number of requests. Fails for socket errors and answers that are no 2xx."""
    command = ["wrk", "-t1", "-c64", "-d1s", *options, f"http://{proxy.address}/"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 0, ended.stderr
    assert "Socket errors" not in ended.stdout, ended.stdout
    assert "Non-2xx" not in ended.stdout, ended.stdout
    return int(re.search(r"(\d+) requests in", ended.stdout)[1])


@needs_wrk
@pytest.mark.parametrize("options", [[], ["-H", "Connection: close"]], ids=["kept", "closed"])
def test_wrk_sees_no_error_behind_a_proxy(proxy_factory, options):
    origin = proxy_factory(Answers())
    reverse = ProxyHttp()
    reverse.upstreams = LoadBalancer([origin.address])
    running = proxy_factory(reverse)
    n_requests = wrk(running, *options)
    (service,) = running.serving.services
    assert service.n_requests >= n_requests > 64
