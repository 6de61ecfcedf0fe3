"""Requests over HTTP/2: what reaches the origin, what comes back, what is refused (docs/http2.md)."""

import threading

import pytest
from conversations import Forwarding, echo, proxy_to
from http2_frames import GET, POST, FrameClient, replaced, tls_client
from hyperframe.frame import DataFrame, RstStreamFrame
from inside import Gate
from pki import Authority

from pingora import HttpPeer, Limits, ProxyHttp, Response
from pingora.tls import Certificate, TlsSettings

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-One: 1\r\n\r\nhi"


@pytest.fixture
def ask(proxy_factory, origin_factory):
    """Give a function that sends one request to a proxy before an origin with `script`; the origin's head as well."""

    def exchange(fields=GET, script=OK, limits=None, **request):
        origin = origin_factory(script)
        with FrameClient(proxy_factory(proxy_to(origin.address), limits)) as client:
            client.request(fields, **request)
            got = client.answer()
        got["head"] = origin.heads[0].decode() if origin.heads else None
        return got

    return exchange


def test_a_request_becomes_one_of_http_1_with_a_host(ask):
    got = ask([*replaced(GET, path="/a?b=c", authority="Shop.test:81"), ("x-two", "2"), ("cookie", "a=1")])
    assert (got["status"], got["body"], got["fields"]["x-one"]) == (200, b"hi", "1")
    assert got["fields"]["content-length"] == "2"
    assert "connection" not in got["fields"]
    assert "date" in got["fields"]
    line, *lines = got["head"].split("\r\n")
    assert line == "GET /a?b=c HTTP/1.1"
    assert {"Host: shop.test:81", "x-two: 2", "cookie: a=1"} < set(lines)


def test_crumbs_of_a_cookie_are_joined(ask):
    got = ask([*GET, ("cookie", "a=1"), ("x-between", "x"), ("cookie", "b=2"), ("cookie", "c=3")])
    assert "cookie: a=1; b=2; c=3\r\n" in got["head"]
    assert got["head"].count("cookie") == 1


def test_host_stands_for_an_authority_that_is_missing(ask):
    got = ask([*replaced(GET, authority=None), ("host", "b.test")])
    assert got["status"] == 200
    assert "\r\nhost: b.test\r\n" in got["head"].lower()


def test_a_body_of_known_length_keeps_it(ask):
    got = ask([*POST, ("content-length", "5")], echo, body=b"hello")
    assert (got["body"], got["fields"]["x-framing"]) == (b"hello", "length")


def test_a_body_without_a_length_goes_out_chunked_with_its_trailers(ask):
    got = ask([*POST, ("te", "trailers")], echo, body=b"hello", trailers=[("x-sum", "9")])
    assert (got["body"], got["fields"]["x-framing"]) == (b"hello", "chunked")
    assert "x-sum: 9" in got["fields"]["x-trailers"]


def test_trailers_of_an_answer_arrive(ask):
    script = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n"
    got = ask([*GET, ("te", "trailers")], script)
    assert (got["body"], got["trailers"]) == (b"hi", {"x-sum": "7"})


@pytest.mark.parametrize(
    ("method", "script", "status", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, "5"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, None),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, "5"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "0"),
    ],
)
def test_an_answer_without_a_body_ends_with_its_head(ask, method, script, status, length):
    got = ask(replaced(GET, method=method), script)
    assert (got["status"], got["body"], got["reset"]) == (status, b"", None)
    assert got["fields"].get("content-length") == length


def test_interim_answers_come_before_the_final_one(ask):
    got = ask(script=b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + OK)
    assert got["interim"] == [(103, {"link": "</a.css>"})]
    assert got["status"] == 200


def test_fields_of_a_connection_are_left_out_of_answers(ask):
    script = (
        b"HTTP/1.1 200 OK\r\nConnection: close, x-drop\r\nX-Drop: 1\r\nKeep-Alive: timeout=1\r\nUpgrade: h9\r\n\r\nhi"
    )

    def once(connection, _data):
        connection.sendall(script)
        connection.close()

    got = ask(script=once)
    assert got["body"] == b"hi"
    assert not {"connection", "keep-alive", "upgrade", "x-drop", "transfer-encoding"} & set(got["fields"])


def why_ended(got):
    """Name the code that ended a stream: nghttp2 1.68 ends the connection with it when a message is malformed."""
    return got.get("goaway", got["reset"])


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (replaced(GET, authority="a b"), None),
        (replaced(GET, authority="a:x"), 400),
        ([*GET, ("host", "other")], 400),
        (replaced(GET, path="/a#b"), 400),
        (replaced(GET, path="http://a/"), None),
        (replaced(GET, path="*"), None),
        (replaced(GET, scheme="ftp"), 400),
        (replaced(GET, scheme="https"), 421),
        (replaced(GET, method="M" * 65), 501),
        (replaced(GET, method="TRACE"), 405),
        (replaced(GET, method="CONNECT", scheme=None, path=None), 405),
        ([*GET, ("expect", "a miracle")], 417),
        ([*GET, ("content_length", "3")], 400),
        (replaced(GET, path="/" + "a" * 9000), 414),
        ([*GET, *((f"x-{i}", "1") for i in range(129))], 431),
        ([*GET, *[("x-large", "a" * 4000)] * 9], 431),
    ],
)
def test_a_request_that_http_1_would_refuse_is_refused(ask, fields, status):
    got = ask(fields)
    assert got["status"] == status
    assert got["head"] is None
    if status is None:
        assert why_ended(got) == "PROTOCOL_ERROR"


def test_user_information_in_an_authority_is_refused_by_us_or_by_nghttp2(ask):
    got = ask(replaced(GET, authority="user@a"))
    assert got["head"] is None
    assert got["status"] == 400 or why_ended(got) == "PROTOCOL_ERROR"


@pytest.mark.parametrize(
    "extra",
    [
        ("connection", "close"),
        ("keep-alive", "1"),
        ("proxy-connection", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("x-lf", "a\nb"),
        ("x-cr", "a\rb"),
        ("x-nul", "a\0b"),
        ("X-Upper", "a"),
        ("x space", "a"),
        ("x:colon", "a"),
        ("", "a"),
        (":path", "/twice"),
        (":status", "200"),
    ],
)
def test_a_malformed_request_is_given_up_and_reaches_nobody(ask, extra):
    got = ask([*GET, extra])
    assert (got["status"], why_ended(got), got["head"]) == (None, "PROTOCOL_ERROR", None)


@pytest.mark.parametrize("body", [b"hell", b"hello!"])
def test_a_body_that_is_not_as_long_as_it_says_is_given_up(ask, body):
    got = ask([*POST, ("content-length", "5")], echo, body=body)
    assert (got["status"], why_ended(got)) == (None, "PROTOCOL_ERROR")


def test_an_answer_before_the_body_has_ended_lets_the_client_stop(proxy_factory):
    class Refusing(Forwarding):
        def request_filter(self, session, ctx):
            return Response(403, {}, b"no")

    with FrameClient(proxy_factory(Refusing("127.0.0.1:1"))) as client:
        client.send(client.head(POST, end=False), DataFrame(1, data=b"part"))
        assert client.answer()["status"] == 403
        reset = client.until(lambda frame: isinstance(frame, RstStreamFrame))
        assert reset.error_code == 0
        client.request(stream_id=3)
        assert client.answer(3)["status"] == 403


def test_an_answer_that_the_origin_cuts_is_reset(ask):
    def cut(connection, _data):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi")
        connection.close()

    got = ask(script=cut)
    assert (got["status"], got["body"], got["reset"]) == (200, b"hi", "INTERNAL_ERROR")


def test_a_reset_cancels_the_session(proxy_factory):
    gate, ended, errors = Gate(), threading.Event(), []

    class Waiting(ProxyHttp):
        def upstream_peer(self, session, ctx):
            return HttpPeer("127.0.0.1:1")

        async def request_filter(self, session, ctx):
            await gate.wait()

        def logging(self, session, error, ctx):
            errors.append(error.reason)
            ended.set()

    with FrameClient(proxy_factory(Waiting())) as client:
        client.request()
        gate.await_hook()
        client.send(RstStreamFrame(1, error_code=8))
        assert ended.wait(10)
        assert client.is_alive()
    assert errors == ["client_gone"]


def test_hooks_see_the_version_and_the_address(proxy_factory):
    seen = []

    class Looking(Forwarding):
        def request_filter(self, session, ctx):
            seen.append((session.request.version, session.request.host, session.client_address.partition(":")[0]))
            return Response(200)

    with FrameClient(proxy_factory(Looking("127.0.0.1:1"))) as client:
        client.request()
        assert client.answer()["status"] == 200
    assert seen == [("2", "a", "127.0.0.1")]


def test_http_1_and_http_2_share_a_port(proxy_factory, origin_factory):
    proxy = proxy_factory(proxy_to(origin_factory(OK).address))
    assert b"200 OK" in proxy.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    with FrameClient(proxy) as client:
        client.request()
        assert client.answer()["body"] == b"hi"
    assert proxy.serving.counters["pingora_http2_connections_total"] == 1


def test_a_preface_may_come_byte_by_byte(proxy_factory, origin_factory):
    proxy = proxy_factory(proxy_to(origin_factory(OK).address))
    with proxy.connect() as sock:
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n":
            sock.sendall(bytes([byte]))
        sock.sendall(b"\r\n\0\0\0\4\0\0\0\0\0")
        assert sock.recv(9)[3] == 4  # SETTINGS


def test_without_streams_there_is_no_http_2(proxy_factory):
    proxy = proxy_factory(proxy_to("127.0.0.1:1"), Limits(http2_streams=0))
    assert b" 505 " in proxy.exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


def test_what_begins_as_neither_protocol_is_closed_without_an_answer_where_both_are_spoken(proxy_factory):
    proxy = proxy_factory(proxy_to("127.0.0.1:1"))
    assert proxy.exchange(b"INVALID CONNECTION PREFACE\r\n\r\n") == b""
    counters = proxy.serving.counters
    assert counters['pingora_refusals_total{reason="bad_request_line"}'] == 1
    assert counters['pingora_responses_total{class="4xx"}'] == 0
    assert b" 400 " in proxy.exchange(b"INVALID /PREFACE\r\n\r\n")
    only_http_1 = proxy_factory(proxy_to("127.0.0.1:1"), Limits(http2_streams=0))
    assert b" 400 " in only_http_1.exchange(b"INVALID CONNECTION PREFACE\r\n\r\n")


def test_over_tls_it_is_chosen_by_alpn_and_host_must_be_one_of_the_certificate(proxy_factory, origin_factory):
    ca = Authority()
    issued = ca.issue("localhost")
    tls = TlsSettings([Certificate(issued.chain, issued.key)], strict_host=True)
    proxy = proxy_factory(proxy_to(origin_factory(OK).address), None, tls)
    fields = replaced(GET, scheme="https", authority="localhost")
    with tls_client(proxy, ca) as sock, FrameClient(sock=sock) as client:
        assert sock.selected_alpn_protocol() == "h2"
        client.request(fields)
        assert client.answer()["status"] == 200
        client.request(replaced(fields, authority="other.test"), 3)
        assert client.answer(3)["status"] == 421
