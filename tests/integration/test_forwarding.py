"""Requests and answers through a live proxy: framing, persistence, hop-by-hop fields, truncation, retries."""

import asyncio
import contextlib
import hashlib
import os
import socket

import pytest
from conversations import more_of, proxy_to

from pingora import Limits, LoadBalancer, ProxyHttp, serve
from pingora.testing import read_all

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        pytest.param(HELLO, b"hello", id="by length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n",
            b"3\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n",
            id="chunked, extensions dropped, trailers kept",
        ),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", b"", id="204"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", b"", id="304"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO, b"hello", id="interim, then final"),
    ],
)
def test_an_answer_arrives_as_the_origin_framed_it(proxy_factory, origin_factory, answer, body):
    proxy = proxy_factory(proxy_to(origin_factory(answer).address))
    got = proxy.exchange(GET)
    assert got.endswith(b"\r\n\r\n" + body)


def test_an_answer_to_the_end_of_the_connection_goes_out_chunked(proxy_factory, origin_factory):
    def script(connection, data):
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nto the end")
        connection.close()

    got = proxy_factory(proxy_to(origin_factory(script).address)).exchange(GET)
    assert got.endswith(b"\r\n\r\na\r\nto the end\r\n0\r\n\r\n")


def test_head_gets_the_length_and_no_body(proxy_factory, origin_factory):
    origin = origin_factory(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    got = proxy_factory(proxy_to(origin.address)).exchange(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"Content-Length: 5\r\n" in got
    assert got.endswith(b"\r\n\r\n")


def test_pipelined_requests_are_answered_in_order(proxy_factory, origin_factory):
    def script(connection, data):
        path = data.split()[1]
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))

    proxy = proxy_factory(proxy_to(origin_factory(script).address))
    got = proxy.exchange(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(50)))
    assert [line for line in got.replace(b"HTTP/1.1", b"\r\n").split(b"\r\n") if line.startswith(b"/")] == [
        b"/%d" % i for i in range(50)
    ]


def test_hop_by_hop_fields_stop_here_and_forwarded_ones_are_replaced(proxy_factory, origin_factory):
    origin = origin_factory(
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: a\r\nX-Stay: 1\r\n\r\n"
    )
    got = proxy_factory(proxy_to(origin.address)).exchange(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x-secret, host\r\nX-Secret: 1\r\nTE: gzip\r\nKeep-Alive: 5\r\n"
        b"X-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Stay: 1\r\n\r\n"
    )
    head = origin.heads[0].lower()
    assert b"x-forwarded-for: 127.0.0.1\r\n" in head
    assert b"host: a\r\n" in head
    assert b"x-stay: 1\r\n" in head
    for gone in (b"x-secret", b"te:", b"keep-alive", b"6.6.6.6", b"\r\nconnection"):
        assert gone not in head
    assert b"x-stay: 1\r\n" in got.lower()
    assert b"x-hop" not in got.lower()
    assert b"keep-alive" not in got.lower()


@pytest.mark.parametrize("size", [1, 65536, 3_000_000])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_upload_arrives_whole(proxy_factory, origin_factory, size, is_chunked):
    body = os.urandom(size)

    def script(connection, data):
        _head, _, rest = data.partition(b"\r\n\r\n")
        payload = bytearray(rest)
        if is_chunked:
            while not payload.endswith(b"0\r\n\r\n"):
                payload += more_of(connection, 1 << 20)
            plain = bytearray()
            at = 0
            while True:
                end = payload.index(b"\r\n", at)
                n = int(payload[at:end], 16)
                plain += payload[end + 2 : end + 2 + n]
                at = end + 4 + n
                if n == 0:
                    break
            payload = plain
        else:
            while len(payload) < size:
                payload += more_of(connection, 1 << 20)
        digest = hashlib.sha256(payload).hexdigest().encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n" + digest)

    proxy = proxy_factory(proxy_to(origin_factory(script).address))
    if is_chunked:
        rest = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (size, body)
    else:
        rest = b"Content-Length: %d\r\n\r\n%s" % (size, body)
    request = b"POST / HTTP/1.1\r\nHost: a\r\n" + rest
    assert proxy.exchange(request).endswith(hashlib.sha256(body).hexdigest().encode())


def test_a_slow_reader_gets_a_large_answer_whole(proxy_factory, origin_factory):
    body = os.urandom(8_000_000)
    origin = origin_factory(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    with proxy_factory(proxy_to(origin.address)).connect() as client:
        client.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        got = bytearray()
        while more := client.recv(10_000):
            got += more
    assert got.partition(b"\r\n\r\n")[2] == body


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", b"400", id="no host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400", id="two hosts"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", b"400", id="space before colon"),
        pytest.param(b"GET / HTTP/1.1\nHost: a\n\n", b"400", id="bare line feeds"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", b"400", id="signed length"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"400",
            id="length beside coding",
        ),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", b"501", id="unknown coding"),
        pytest.param(b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 9000), b"414", id="long target"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nA: %s\r\n\r\n" % (b"a" * 40000), b"431", id="large head"),
        pytest.param(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", b"405", id="connect"),
        pytest.param(b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", b"400", id="asterisk without OPTIONS"),
        pytest.param(b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", b"400", id="a target of no form"),
        pytest.param(b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", b"400", id="another scheme"),
        pytest.param(b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", b"400", id="userinfo"),
    ],
)
def test_a_bad_head_is_refused_and_never_forwarded(proxy_factory, origin_factory, request_bytes, status):
    origin = origin_factory(HELLO)
    got = proxy_factory(proxy_to(origin.address)).exchange(request_bytes + GET)
    assert got.startswith(b"HTTP/1.1 " + status)
    assert got.count(b"HTTP/1.1") == 1
    assert b"Connection: close" in got
    assert origin.heads == []


@pytest.mark.parametrize(
    ("request_line", "sent_line", "sent_host"),
    [
        (b"GET http://b.example:81/x?y HTTP/1.1", b"GET /x?y HTTP/1.1", b"b.example:81"),
        (b"GET http://b.example HTTP/1.1", b"GET / HTTP/1.1", b"b.example"),
        (b"GET HTTP://b.example?y HTTP/1.1", b"GET /?y HTTP/1.1", b"b.example"),
        (b"OPTIONS * HTTP/1.1", b"OPTIONS * HTTP/1.1", b"a.example"),
        (b"GET /%61//b/../c?d=%20 HTTP/1.1", b"GET /%61//b/../c?d=%20 HTTP/1.1", b"a.example"),
    ],
    ids=["absolute", "absolute without path", "absolute without path but a query", "asterisk", "origin, unchanged"],
)
def test_a_target_decides_host_and_goes_on_in_origin_form(
    proxy_factory, origin_factory, request_line, sent_line, sent_host
):
    origin = origin_factory(HELLO)
    proxy_factory(proxy_to(origin.address)).exchange(request_line + b"\r\nHost: a.example\r\n\r\n")
    lines = origin.heads[0].split(b"\r\n")
    assert lines[0] == sent_line
    assert [line for line in lines if line.lower().startswith(b"host:")] == [b"Host: " + sent_host]
    assert b"X-Forwarded-Host: " + sent_host in lines


def test_forwarding_fields_of_a_trusted_sender_are_continued(origin_factory):
    origin = origin_factory(HELLO)

    async def ask(trusted):
        async with serve(proxy_to(origin.address), trusted=trusted) as serving:
            host, port = serving.address.split(":")
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\n\r\n")
            await reader.readuntil(b"hello")
            writer.close()

    for trusted in (["127.0.0.0/8"], ["10.0.0.0/8"], []):
        asyncio.run(ask(trusted))
    assert [b"X-Forwarded-For: 9.9.9.9, 127.0.0.1\r\n" in head for head in origin.heads] == [True, False, False]
    assert [b"X-Forwarded-Proto: https\r\n" in head for head in origin.heads] == [True, False, False]


@pytest.mark.parametrize(
    ("forwarded", "trusted", "expected"),
    [
        ("x-forwarded", [], ["X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: a:80", "X-Forwarded-Proto: http"]),
        ("forwarded", [], ['Forwarded: for=127.0.0.1;host="a:80";proto=http']),
        ("forwarded", ["127.0.0.1"], ['Forwarded: for=9.9.9.9, for=127.0.0.1;host="a:80";proto=http']),
        ("off", [], []),
        ("off", ["127.0.0.1"], ["Forwarded: for=9.9.9.9"]),
        (
            "both",
            [],
            [
                'Forwarded: for=127.0.0.1;host="a:80";proto=http',
                "X-Forwarded-For: 127.0.0.1",
                "X-Forwarded-Host: a:80",
                "X-Forwarded-Proto: http",
            ],
        ),
    ],
    ids=["X-Forwarded", "Forwarded", "Forwarded continued", "none", "only the trusted sender's", "both"],
)
def test_forwarding_fields_are_those_that_were_asked_for(origin_factory, forwarded, trusted, expected):
    origin = origin_factory(HELLO)

    async def ask():
        async with serve(proxy_to(origin.address), trusted=trusted, forwarded=forwarded) as serving:
            host, port = serving.address.split(":")
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET / HTTP/1.1\r\nHost: a:80\r\nForwarded: for=9.9.9.9\r\n\r\n")
            await reader.readuntil(b"hello")
            writer.close()

    asyncio.run(ask())
    lines = origin.heads[0].decode().split("\r\n")
    assert sorted(line for line in lines if "forwarded" in line.lower()) == expected


@pytest.mark.parametrize("size", [10_000, 31_000, 32_500])
def test_a_head_up_to_its_limit_goes_through_both_ways(proxy_factory, origin_factory, size):
    filling = b"X-Fill: %s\r\n" % (b"f" * size)
    origin = origin_factory(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n%s%s\r\nhello" % (filling, filling[:-10] + b"\r\n")
    )
    proxy = ProxyHttp()
    proxy.upstreams = LoadBalancer([origin.address])
    answer = proxy_factory(proxy).exchange(b"GET / HTTP/1.1\r\nHost: a\r\n%s\r\n" % filling)
    assert filling in origin.heads[0]
    assert filling in answer
    assert answer.endswith(b"hello")


def test_a_request_may_come_byte_by_byte(proxy_factory, origin_factory):
    proxy = proxy_factory(proxy_to(origin_factory(HELLO).address))
    with proxy.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(GET)):
            client.sendall(GET[i : i + 1])
        assert client.recv(4096).endswith(b"hello")


def test_a_head_that_does_not_end_is_answered_408(proxy_factory, origin_factory):
    proxy = proxy_factory(proxy_to(origin_factory(HELLO).address), Limits(head_timeout=0.2))
    with proxy.connect() as client:
        client.sendall(b"GET / HTT")
        assert read_all(client).startswith(b"HTTP/1.1 408")


def test_a_truncated_answer_is_cut_and_never_completed(proxy_factory, origin_factory):
    def script(connection, data):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        connection.close()

    got = proxy_factory(proxy_to(origin_factory(script).address)).exchange(GET)
    assert b"hello" in got
    assert not got.endswith(b"0\r\n\r\n")


def test_the_next_endpoint_is_tried_where_one_refuses(proxy_factory, origin_factory):
    proxy = proxy_factory(proxy_to(closed_port(), origin_factory(HELLO).address))
    for _ in range(4):
        assert proxy.exchange(GET).endswith(b"hello")


def test_no_endpoint_that_answers_gives_an_error_page(proxy_factory):
    got = proxy_factory(proxy_to(closed_port())).exchange(GET)
    assert got.startswith(b"HTTP/1.1 50")


@pytest.mark.parametrize("method", [b"GET", b"DELETE"])
def test_a_pooled_connection_that_died_is_replaced_unseen(proxy_factory, origin_factory, method):
    served = []

    def script(connection, data):
        if connection in served:
            connection.close()  # dies on its second request, before an answer
            return
        served.append(connection)
        connection.sendall(HELLO)

    origin = origin_factory(script)
    proxy = proxy_factory(proxy_to(origin.address))
    request = GET.replace(b"GET", method)
    assert proxy.exchange(request).endswith(b"hello")
    assert proxy.exchange(request).endswith(b"hello")
    assert origin.n_connections == 2


def test_upstream_connections_are_reused(proxy_factory, origin_factory):
    origin = origin_factory(HELLO)
    proxy = proxy_factory(proxy_to(origin.address))
    for _ in range(5):
        assert proxy.exchange(GET).endswith(b"hello")
    assert origin.n_connections == 1


def test_a_tunnel_carries_bytes_both_ways_after_101(proxy_factory, origin_factory):
    def script(connection, data):
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        with contextlib.suppress(OSError):
            while more := connection.recv(65536):
                connection.sendall(more)
        connection.close()

    proxy = proxy_factory(proxy_to(origin_factory(script).address))
    with proxy.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 101")
        client.sendall(b"ping")
        assert client.recv(4096) == b"ping"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(4096) == b""


def test_a_client_that_leaves_in_the_middle_harms_nobody(proxy_factory, origin_factory):
    origin = origin_factory(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n" + bytes(4_000_000))
    proxy = proxy_factory(proxy_to(origin.address))
    for _ in range(20):
        with proxy.connect() as client:
            client.sendall(GET)
            client.recv(1000)
    assert proxy.exchange(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")).startswith(b"HTTP/1.1 200")


TRUST_FIELDS = ["x-real-ip", "x-forwarded-for", "x-forwarded-port", "client-ip", "x-original-url", "forwarded"]


class WritesFirst(ProxyHttp):
    def request_filter(self, session, ctx):
        self.write(session.request)

    def write(self, request):
        for name in TRUST_FIELDS:
            request.headers[name] = "of a hook"


class WritesLast(WritesFirst):
    def request_filter(self, session, ctx):
        pass

    def upstream_request_filter(self, session, request, ctx):
        self.write(request)


def fields_of(head):
    return sorted(line for line in head.decode().lower().split("\r\n") if line.split(":")[0] in TRUST_FIELDS)


@pytest.mark.parametrize("sent", [b"", b"".join(b"%s: 6.6.6.6\r\n" % name.title().encode() for name in TRUST_FIELDS)])
@pytest.mark.parametrize("kind", [WritesFirst, WritesLast])
def test_what_a_hook_writes_of_an_untrusted_client_reaches_the_origin(origin_factory, kind, sent):
    origin = origin_factory(HELLO)
    hooks = kind()
    hooks.upstreams = LoadBalancer([origin.address])

    async def ask():
        async with serve(hooks, forwarded="off") as serving:
            host, port = serving.address.split(":")
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n" + sent + b"\r\n")
            await reader.readuntil(b"hello")
            writer.close()

    asyncio.run(ask())
    assert fields_of(origin.heads[0]) == sorted(f"{name}: of a hook" for name in TRUST_FIELDS)


@pytest.mark.parametrize("kind", [WritesFirst, WritesLast])
def test_what_a_hook_writes_reaches_the_origin_but_where_the_proxy_writes_itself(proxy_factory, origin_factory, kind):
    origin = origin_factory(HELLO)
    hooks = kind()
    hooks.upstreams = LoadBalancer([origin.address])
    proxy_factory(hooks).exchange(GET)
    got = fields_of(origin.heads[0])
    for name in ("x-real-ip", "x-forwarded-port", "client-ip", "x-original-url"):
        assert f"{name}: of a hook" in got
    assert [line for line in got if line.startswith("x-forwarded-for:")] == ["x-forwarded-for: 127.0.0.1"]


def test_a_hook_that_writes_one_field_lets_no_other_of_the_client_through(proxy_factory, origin_factory):
    class WritesOne(ProxyHttp):
        def request_filter(self, session, ctx):
            session.request.headers["x-real-ip"] = "of a hook"

    origin = origin_factory(HELLO)
    hooks = WritesOne()
    hooks.upstreams = LoadBalancer([origin.address])
    proxy_factory(hooks).exchange(GET[:-2] + b"X-Real-IP: 6.6.6.6\r\nClient-IP: 6.6.6.6\r\n\r\n")
    assert b"\r\nx-real-ip: of a hook\r\n" in origin.heads[0].lower()
    assert b"6.6.6.6" not in origin.heads[0]
