"""Requests for URLs through a forward proxy, as `curl -x http://proxy http://host/` makes them, and its toml block."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from configured import Connection, starting
from conversations import more_of
from http2_frames import GET as H2_GET
from http2_frames import FrameClient, replaced

from pingora import ForwardProxy, Response

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "forward_proxy.md"
GET = b"GET %s HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n%s\r\n"


def ask(proxy, url, extra=b""):
    return proxy.exchange(GET % (url.encode(), extra))


def recording(seen):
    def script(connection, data):
        seen.append(data)
        connection.sendall(OK)

    return script


@pytest.mark.parametrize("path", ["/", "/a/b?q=http://x/", "", "?q=1"])
def test_a_url_is_asked_for_at_its_host_and_as_the_host_expects(proxy_factory, origin_factory, path):
    seen = []
    origin = origin_factory(recording(seen))
    answer = ask(proxy_factory(ForwardProxy([origin.address])), f"http://{origin.address}{path}")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"ok")
    line, _, fields = seen[0].partition(b"\r\n")
    assert line == b"GET %b HTTP/1.1" % (path if path.startswith("/") else "/" + path).encode()
    assert re.search(rb"(?im)^host: (.*)\r$", fields)[1] == origin.address.encode()


def test_a_body_goes_there_too_and_the_connection_is_used_again(proxy_factory, origin_factory):
    seen = []
    origin = origin_factory(recording(seen))
    proxy = proxy_factory(ForwardProxy([origin.address]))
    with proxy.connect(20) as client:
        for size in (3, 5):
            head = f"POST http://{origin.address}/ HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
            client.sendall(head.encode() + b"x" * size)
            answer = b""
            while not answer.endswith(b"ok"):
                answer += more_of(client)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [data.endswith(b"\r\n\r\n" + b"x" * size) for data, size in zip(seen, (3, 5), strict=True)] == [True, True]


def test_what_is_meant_for_the_proxy_goes_no_further(proxy_factory, origin_factory):
    seen = []
    origin = origin_factory(recording(seen))
    asked = []

    class Members(ForwardProxy):
        def request_filter(self, session, ctx):
            asked.append(session.request.headers.get("proxy-authorization"))

    extra = b"Proxy-Authorization: Basic YTpi\r\nProxy-Connection: keep-alive\r\nAuthorization: Basic eA==\r\n"
    ask(proxy_factory(Members([origin.address])), f"http://{origin.address}/", extra)
    assert asked == ["Basic YTpi"]
    assert b"proxy-" not in seen[0].lower()
    assert b"\r\nAuthorization: Basic eA==\r\n" in seen[0]


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ([], "http://127.0.0.1:PORT/"),
        (["127.0.0.1:1"], "http://127.0.0.1:PORT/"),
        (["*:PORT"], "http://127.0.0.1:PORT/"),
        (["*:PORT"], "http://localhost:PORT/"),
        (["*:PORT"], "http://[::ffff:127.0.0.1]:PORT/"),
        (["localhost:PORT"], "HTTP://127.0.0.1:PORT/"),
        (["127.0.0.1:PORT"], "http://127.0.0.1/"),
        (["127.0.0.1:PORT"], "http://127.0.0.1:/"),
        (["127.0.0.1:PORT"], "http://127.0.0.1?:PORT"),
    ],
)
def test_what_is_not_allowed_is_403_and_not_connected_to(proxy_factory, origin_factory, allowed, url):
    origin = origin_factory(OK)
    port = origin.address.rpartition(":")[2]
    proxy = proxy_factory(ForwardProxy([entry.replace("PORT", port) for entry in allowed]))
    answer = ask(proxy, url.replace("PORT", port))
    assert answer.startswith(b"HTTP/1.1 403 ") or (b"[" not in url.encode() and answer.startswith(b"HTTP/1.1 400 "))
    assert origin.n_connections == 0


def test_without_a_port_it_is_80(proxy_factory):
    asked = []

    class Names(ForwardProxy):
        async def lookup(self, host, port):
            asked.append((host, port))
            raise OSError

    proxy = proxy_factory(Names(["*:80", "*:8080"]))
    for url in ("http://a.example/", "http://B.example", "http://c.example:8080/x", "http://d.example?:9"):
        assert ask(proxy, url).startswith(b"HTTP/1.1 502 ")
    assert asked == [("a.example", 80), ("b.example", 80), ("c.example", 8080), ("d.example", 80)]


@pytest.mark.parametrize("target", ["/", "https://127.0.0.1/", "*"])
def test_what_is_no_url_of_http_is_not_served(proxy_factory, origin_factory, target):
    origin = origin_factory(OK)
    proxy = proxy_factory(ForwardProxy(["127.0.0.0/8:1-65535"]))
    method = b"OPTIONS" if target == "*" else b"GET"
    answer = proxy.exchange(method + b" %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % (
        target.encode(), origin.address.encode(),
    ))  # fmt: skip
    assert answer.startswith((b"HTTP/1.1 405 ", b"HTTP/1.1 421 "))
    assert origin.n_connections == 0


def test_http_2_has_tunnels_only(proxy_factory, origin_factory):
    origin = origin_factory(OK)
    with FrameClient(proxy_factory(ForwardProxy([origin.address]))) as client:
        client.request(replaced(H2_GET, authority=origin.address))
        answer = client.answer()
    assert (answer["status"], answer["fields"]["allow"]) == (405, "CONNECT")
    assert origin.n_connections == 0


def test_a_hook_refuses_a_url(proxy_factory, origin_factory):
    class Strict(ForwardProxy):
        def request_filter(self, session, ctx):
            if session.request.target.endswith("/secret"):
                return Response(403, {}, b"not that\n")

    origin = origin_factory(OK)
    proxy = proxy_factory(Strict([origin.address]))
    assert ask(proxy, f"http://{origin.address}/").endswith(b"ok")
    assert ask(proxy, f"http://{origin.address}/secret").endswith(b"not that\n")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_reaches_an_origin(proxy_factory, origin_factory):
    origin = origin_factory(OK)
    proxy = proxy_factory(ForwardProxy([origin.address]))
    command = ["curl", "-s", "--max-time", "20", "-x", f"http://{proxy.address}", "--noproxy", ""]
    for url, body in ((f"http://{origin.address}/", b"ok"), ("http://127.0.0.2:1/", b"this proxy does not go there\n")):
        done = subprocess.run([*command, url], capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, body)


def test_the_block_of_the_document_serves_as_it_stands(tmp_path, origin_factory):
    """But for where it listens, and the one destination that a test has."""
    seen = []
    origin = origin_factory(recording(seen))
    blocks = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (block,) = [part for part in blocks if "ForwardProxy" in part]
    block = block.replace("127.0.0.1:3128", f"unix:{tmp_path}/a").replace("10.20.0.0/16:22", origin.address)
    file = tmp_path / "pingora.toml"
    file.write_text(block)
    with starting(tmp_path) as start:
        running = start(file)
        assert Connection(tmp_path / "a").get(f"http://{origin.address}/x") == b"ok"
        assert Connection(tmp_path / "a").get("http://127.0.0.2:1/") == b"this proxy does not go there\n"
        running.stop()
    assert seen[0].startswith(b"GET /x HTTP/1.1\r\n")
