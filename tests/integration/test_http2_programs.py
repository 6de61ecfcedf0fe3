"""HTTP/2 from clients by others: curl, nghttp, h2load, httpx, h2; h2spec where it is installed."""

import re
import shutil
import ssl
import subprocess
import sys

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
from conversations import echo, proxy_to
from pki import Authority

from pingora.tls import Certificate, TlsSettings
from pingora_c.base.linked import build_facts

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
H2SPEC = shutil.which("h2spec") or shutil.which(f"{sys.prefix}/bin/h2spec")
NGHTTP2 = tuple(int(part) for part in build_facts()["nghttp2"].split("."))


def needs(program):
    """Skip where a program is missing."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@pytest.fixture(scope="module")
def ca():
    return Authority()


@pytest.fixture
def start(ca, proxy_factory, origin_factory):
    """Start a proxy, plain or with TLS."""

    def run(script=OK, secure=False):
        issued = ca.issue("localhost", "127.0.0.1")
        tls = TlsSettings([Certificate(issued.chain, issued.key)]) if secure else None
        return proxy_factory(proxy_to(origin_factory(script).address), None, tls)

    return run


def output(*command):
    """Run a program; what it says."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs("curl")
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_curl(start, tmp_path, secure):
    proxy = start(echo, secure)
    body = tmp_path / "body"
    body.write_bytes(b"q" * 300_000)
    how = ["-k", "--http2"] if secure else ["--http2-prior-knowledge"]
    url = f"{'https' if secure else 'http'}://{proxy.host}:{proxy.port}/"
    command = ["curl", "-s", "--max-time", "20", *how, "--data-binary", f"@{body}", "-w", "%{http_version}"]
    assert output(*command, url) == "q" * 300_000 + "2"


@needs("nghttp")
def test_nghttp(start):
    proxy = start()
    assert output("nghttp", f"http://{proxy.host}:{proxy.port}/") == "hi"


@needs("h2load")
def test_h2load(start):
    proxy = start()
    said = output("h2load", "-n", "500", "-c", "4", "-m", "16", f"http://{proxy.host}:{proxy.port}/")
    assert "500 succeeded, 0 failed" in said


def test_httpx(ca, start):
    proxy = start(echo, secure=True)
    with httpx.Client(http2=True, verify=ca.trusts()) as client:
        for size in (1, 100_000):
            answer = client.post(f"https://localhost:{proxy.port}/", content=b"w" * size)
            assert (answer.http_version, answer.content) == ("HTTP/2", b"w" * size)


def test_the_library_h2_finds_nothing_wrong(start):
    proxy = start(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK)
    events = []
    with proxy.connect() as sock:
        client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="ascii"))
        client.initiate_connection()
        head = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
        for stream_id in (1, 3, 5):
            client.send_headers(stream_id, head, end_stream=True)
        while sum(isinstance(event, h2.events.StreamEnded) for event in events) < 3:
            sock.sendall(client.data_to_send())
            more = client.receive_data(sock.recv(65536))
            events += more
            for event in more:
                if isinstance(event, h2.events.DataReceived):
                    client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
    assert [event.data for event in events if isinstance(event, h2.events.DataReceived)] == [b"hi"] * 3
    assert sum(isinstance(event, h2.events.InformationalResponseReceived) for event in events) == 3


@pytest.mark.skipif(H2SPEC is None, reason="h2spec is not installed")
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_h2spec(start, secure):
    """All of it; only nghttp2 from 1.68 on ends the connection, not the stream, in the case that `ends_all` names."""
    ends_all = "3: Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream"
    proxy = start(b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n" + b"x" * 64, secure)
    command = [
        H2SPEC,
        "-h",
        proxy.host,
        "-p",
        str(proxy.port),
        "--strict",
        "-o",
        "5",
        *(["-t", "-k"] if secure else []),
    ]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout
    cross = "\N{MULTIPLICATION SIGN}"
    failed = {line.split(cross)[1].strip() for line in said.splitlines() if cross in line}
    assert failed <= ({ends_all} if NGHTTP2 >= (1, 68) else set())
    n_tests, n_passed, n_skipped = map(int, re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped", said).groups())
    assert n_tests >= 146
    assert (n_passed, n_skipped) == (n_tests - len(failed), 0)


def test_a_client_without_alpn_gets_http_1(ca, start):
    proxy = start(secure=True)
    context = ca.trusts()
    with context.wrap_socket(proxy.connect(), server_hostname="localhost") as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        assert isinstance(client, ssl.SSLSocket)
