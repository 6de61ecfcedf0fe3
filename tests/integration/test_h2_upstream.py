"""Requests to origins that speak HTTP/2: what arrives there, what comes back, and connections that many share."""

import contextlib
import http.client
import socket
import threading

import pytest
from conversations import wait_until
from h2_origin import Listening, RawPeer
from h2_upstream import To, ask, many
from hpack import Encoder
from hyperframe.frame import (
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from pingora import LoadBalancer, ProxyHttp, RetryPolicy
from pingora.testing import read_all


def test_a_request_arrives_as_http2_has_it(proxy_factory, h2_origin):
    origin = h2_origin()
    proxy = proxy_factory(To(origin.address))
    answer = ask(
        proxy,
        b"POST /p?q=1 HTTP/1.1\r\nHost: a.example:80\r\nX-Mixed-Case: 1\r\nCookie: a=1; b=2\r\nKeep-Alive: 5\r\n"
        b"Connection: close, X-Named, TE\r\nX-Named: gone\r\nTE: trailers\r\nContent-Length: 4\r\n\r\nbody",
    )
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"body") or b"4\r\nbody\r\n0\r\n\r\n" in answer
    (request,) = origin.requests
    assert request.headers[:4] == [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":authority", b"a.example:80"),
        (b":path", b"/p?q=1"),
    ]
    rest = dict(request.headers[4:])
    assert rest[b"x-mixed-case"] == b"1"
    assert rest[b"cookie"] == b"a=1; b=2"
    assert rest[b"te"] == b"trailers"
    assert rest[b"content-length"] == b"4"
    assert rest[b"x-forwarded-for"] == b"127.0.0.1"
    assert rest[b"x-forwarded-host"] == b"a.example:80"
    assert not {b"connection", b"keep-alive", b"x-named", b"host", b"transfer-encoding"} & set(rest)


def test_trailers_go_both_ways(proxy_factory, h2_origin):
    origin = h2_origin(lambda request: (200, [], b"answer", [(b"x-sum", b"2")]))
    proxy = proxy_factory(To(origin.address))
    answer = ask(
        proxy,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close, TE\r\nTE: trailers\r\n\r\n"
        b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
    )
    assert (origin.requests[0].body, origin.requests[0].trailers) == (b"abc", [(b"x-sum", b"1")])
    assert answer.endswith(b"6\r\nanswer\r\n0\r\nx-sum: 2\r\n\r\n")


@pytest.mark.parametrize(
    ("request_head", "status", "fields", "expected"),
    [
        (b"HEAD", 200, [(b"content-length", b"5")], b"Content-Length: 5\r\n"),
        (b"GET", 204, [], b"HTTP/1.1 204 No Content\r\n"),
        (b"GET", 304, [(b"etag", b'"a"')], b'etag: "a"\r\n'),
        (b"GET", 200, [], b"Content-Length: 0\r\n"),
    ],
    ids=["head", "204", "304", "empty"],
)
def test_answers_without_a_body(proxy_factory, h2_origin, request_head, status, fields, expected):
    origin = h2_origin(lambda request: (status, fields, b"", []))
    proxy = proxy_factory(To(origin.address))
    answer = ask(proxy, request_head + b" / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert expected in answer
    assert answer.endswith(b"\r\n\r\n")


def test_interim_answers_are_passed_on(proxy_factory, h2_origin):
    def script(peer, number):
        stream = peer.start()
        peer.send(HeadersFrame(stream, data=b"\x08\x03103\x00\x04link\x04</a>", flags=["END_HEADERS"]))
        peer.answer(stream)
        peer.rest()

    proxy = proxy_factory(To(h2_origin.raw(script).address))
    answer = ask(proxy)
    assert answer.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_expect_100_continue_reaches_the_origin_which_answers_it(proxy_factory, h2_origin):
    def script(peer, number):
        peer.preface()
        peer.send(SettingsFrame(0))
        head = peer.next(HeadersFrame)
        assert (b"expect", b"100-continue") in head.fields
        peer.send(HeadersFrame(head.stream_id, data=b"\x08\x03100", flags=["END_HEADERS"]))
        body = b""
        while len(body) < 4:
            body += peer.next(DataFrame).data
        peer.answer(head.stream_id, body)
        peer.rest()

    proxy = proxy_factory(To(h2_origin.raw(script).address))
    with socket.create_connection((proxy.host, proxy.port), timeout=20) as client:
        client.sendall(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"body")
        assert b"4\r\nbody\r\n" in client.recv(1000)


def test_large_bodies_arrive_whole_both_ways(proxy_factory, h2_origin):
    origin = h2_origin()
    proxy = proxy_factory(To(origin.address))
    body = bytes(range(256)) * 8192
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection((proxy.host, proxy.port), timeout=20) as client:
        sender = threading.Thread(target=client.sendall, args=(head + body,))
        sender.start()
        with client.makefile("rb") as file:
            answer = http.client.HTTPResponse(client)
            answer.fp = file
            answer.begin()
            assert answer.read() == body
        sender.join()


def test_streams_above_goaways_last_one_are_repeated_elsewhere_even_a_post(proxy_factory, h2_origin):
    def script(peer, number):
        stream = peer.start()
        if number == 0:
            peer.send(GoAwayFrame(0, last_stream_id=0, error_code=0))
            peer.rest()
        else:
            peer.answer(stream, b"second")
            peer.rest()

    origin = h2_origin.raw(script)
    proxy = proxy_factory(To(origin.address))
    answer = ask(proxy, b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc")
    assert b"second" in answer
    assert len(origin.connections) == 2
    assert proxy.serving.counters["pingora_upstream_h2_goaways_total"] == 1


def test_a_stream_below_goaways_last_one_is_finished(proxy_factory, h2_origin):
    def script(peer, number):
        stream = peer.start()
        peer.send(GoAwayFrame(0, last_stream_id=stream, error_code=0))
        peer.answer(stream, b"number %d" % number)
        peer.rest()

    origin = h2_origin.raw(script)
    proxy = proxy_factory(To(origin.address))
    assert b"number 0" in ask(proxy)
    assert b"number 1" in ask(proxy)


def test_a_refused_stream_is_repeated_even_a_post(proxy_factory, h2_origin):
    def script(peer, number):
        stream = peer.start()
        peer.send(RstStreamFrame(stream, error_code=7))
        peer.answer(peer.request(), b"second try")
        peer.rest()

    proxy = proxy_factory(To(h2_origin.raw(script).address))
    answer = ask(proxy, b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc")
    assert b"second try" in answer


def test_refusing_for_ever_ends_in_502(proxy_factory, h2_origin):
    def script(peer, number):
        stream = peer.start()
        while True:
            peer.send(RstStreamFrame(stream, error_code=7))
            stream = peer.request()

    proxy = proxy_factory(To(h2_origin.raw(script).address, retry=RetryPolicy(attempts=3)))
    answer = ask(proxy)
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert answer.endswith(b"upstream_refused\n")


# what an origin does instead of answering, and what the client is told
FAILURES = {
    "reset": (lambda peer, stream: peer.send(RstStreamFrame(stream, error_code=2)), b"upstream_closed"),
    "close": (lambda peer, stream: peer.sock.close(), b"upstream_closed"),
    "goaway with an error": (
        lambda peer, stream: peer.send(GoAwayFrame(0, last_stream_id=stream, error_code=2), b""),
        b"first_byte_timeout",
    ),
    "bad fields": (
        lambda peer, stream: peer.send(HeadersFrame(stream, data=b"\x88\x00\x01A\x01b", flags=["END_HEADERS"])),
        b"upstream_bad_head",
    ),
    "101": (
        lambda peer, stream: peer.send(HeadersFrame(stream, data=b"\x08\x03101", flags=["END_HEADERS"])),
        b"upstream_bad_head",
    ),
    "seventeen interim answers": (
        lambda peer, stream: peer.send(*[HeadersFrame(stream, data=b"\x08\x03103", flags=["END_HEADERS"])] * 17),
        b"upstream_bad_head",
    ),
    "breaks the rules": (
        lambda peer, stream: peer.send(WindowUpdateFrame(0, window_increment=0)),
        b"upstream_bad_head",
    ),
    "flood": (lambda peer, stream: peer.send(*[PingFrame(0)] * 3000), b"upstream_bad_head"),
    "silence": (lambda peer, stream: None, b"first_byte_timeout"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_an_origin_that_does_not_answer(proxy_factory, h2_origin, name):
    act, reason = FAILURES[name]

    def script(peer, number):
        stream = peer.start()
        act(peer, stream)
        peer.rest()

    proxy = proxy_factory(To(h2_origin.raw(script).address, first_byte_timeout=0.5, retry=RetryPolicy(attempts=1)))
    answer = ask(proxy)
    if name != "seventeen interim answers":
        assert answer.startswith((b"HTTP/1.1 502 ", b"HTTP/1.1 504 "))
    assert answer.endswith(reason + b"\n")


FLOODS = {
    "unknown frames": [b"\0\0\0\x7f\0\0\0\0\0"] * 1100,
    "answers that wait": [PingFrame(0)] * 300,
    "entries of SETTINGS": [SettingsFrame(settings=dict.fromkeys(range(100, 133), 1))],
}


@pytest.mark.parametrize("frames", FLOODS.values(), ids=FLOODS)
def test_an_origin_that_floods_its_connection_is_counted(proxy_factory, h2_origin, frames):
    def script(peer, number):
        peer.start()
        peer.send(*frames)
        peer.rest()

    proxy = proxy_factory(To(h2_origin.raw(script).address, retry=RetryPolicy(attempts=1)))
    assert ask(proxy).endswith(b"upstream_bad_head\n")
    assert proxy.serving.counters["pingora_upstream_h2_floods_total"] == 1


def test_an_origin_of_http1_is_a_clear_failure(proxy_factory, origin_factory):
    origin = origin_factory(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    answer = ask(proxy_factory(To(origin.address, retry=RetryPolicy(attempts=1))))
    assert answer.startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize("how", ["reset", "close", "wrong length"])
def test_an_answer_that_breaks_off_is_cut_for_the_client(proxy_factory, h2_origin, how):
    def script(peer, number):
        stream = peer.start()
        peer.send(
            HeadersFrame(stream, data=b"\x88\x0f\x0d\x0210", flags=["END_HEADERS"]), DataFrame(stream, data=b"part")
        )
        if how == "reset":
            peer.send(RstStreamFrame(stream, error_code=2))
        elif how == "close":
            peer.sock.close()
        else:
            peer.send(DataFrame(stream, data=b"", flags=["END_STREAM"]))
        peer.rest()

    proxy = proxy_factory(To(h2_origin.raw(script).address))
    answer = ask(proxy)
    assert b"Content-Length: 10\r\n" in answer
    assert answer.endswith(b"\r\n\r\npart")


def test_one_streams_failure_does_not_touch_its_neighbour(proxy_factory, h2_origin):
    def script(peer, number):
        first = peer.start()
        second = peer.request()
        peer.send(RstStreamFrame(first, error_code=2))
        peer.answer(second, b"well")
        peer.rest()

    proxy = proxy_factory(To(h2_origin.raw(script).address, retry=RetryPolicy(attempts=1)))
    answers = many(proxy, 2)
    assert sorted(answer[:12] for answer in answers) == [b"HTTP/1.1 200", b"HTTP/1.1 502"]


def test_a_client_that_leaves_cancels_its_stream_only(proxy_factory, h2_origin):
    asked, cancelled = threading.Event(), threading.Event()

    def script(peer, number):
        stream = peer.start()
        asked.set()
        assert peer.next(RstStreamFrame).stream_id == stream
        cancelled.set()
        peer.answer(peer.request(), b"next")
        peer.rest()

    origin = h2_origin.raw(script)
    proxy = proxy_factory(To(origin.address))
    with socket.create_connection((proxy.host, proxy.port), timeout=20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert asked.wait(20)
    assert cancelled.wait(20)
    assert b"next" in ask(proxy)
    assert len(origin.connections) == 1


def test_a_client_that_does_not_read_stops_its_stream_at_the_window_and_no_other(proxy_factory, h2_origin):
    window = 131072
    sent = []
    is_stalled = threading.Event()

    def script(peer, number):
        peer.preface()
        left, idle_rounds = peer.next(SettingsFrame).settings[SettingsFrame.INITIAL_WINDOW_SIZE], 0
        peer.send(SettingsFrame(0), SettingsFrame(0, flags=["ACK"]))
        slow = peer.request()
        peer.send(HeadersFrame(slow, data=b"\x88", flags=["END_HEADERS"]))
        while idle_rounds < 5:  # the proxy answered so many PINGs and gave nothing of the window back
            while left >= 16384:
                peer.send(DataFrame(slow, data=b"x" * 16384))
                left -= 16384
                sent.append(16384)
                idle_rounds = 0
            peer.send(PingFrame(0))
            while not isinstance(frame := peer.frame(), PingFrame):
                assert not isinstance(frame, (RstStreamFrame, GoAwayFrame))
                if isinstance(frame, WindowUpdateFrame) and frame.stream_id == slow:
                    left += frame.window_increment
            idle_rounds += left < 16384
        is_stalled.set()
        peer.answer(peer.request(), b"quick")
        peer.rest()

    proxy = proxy_factory(To(h2_origin.raw(script).address, h2_window=window))
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect((proxy.host, proxy.port))
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert is_stalled.wait(20)
        assert window <= sum(sent) < 8 * 1048576
        assert b"quick" in ask(proxy)


def test_a_full_window_of_the_origin_holds_the_upload_back(proxy_factory, h2_origin):
    go_on = threading.Event()

    def script(peer, number):
        stream = peer.start()
        received = 0
        while received < 65535:
            received += len(peer.next(DataFrame).data)
        assert go_on.wait(20)
        peer.send(WindowUpdateFrame(0, window_increment=2**24), WindowUpdateFrame(stream, window_increment=2**24))
        while received < 4 * 1048576:
            received += len(peer.next(DataFrame).data)
        peer.answer(stream, b"all")
        peer.rest()

    proxy = proxy_factory(To(h2_origin.raw(script).address))
    with socket.create_connection((proxy.host, proxy.port), timeout=1) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (4 * 1048576))
        left = 4 * 1048576
        with contextlib.suppress(TimeoutError):
            while left:
                left -= client.send(b"x" * min(left, 65536))
        go_on.set()
        client.settimeout(20)
        while left:
            left -= client.send(b"x" * min(left, 65536))
        assert b"all" in read_all(client)


def test_ping_finds_a_dead_connection(proxy_factory, h2_origin):
    def script(peer, number):
        stream = peer.start()
        if number == 0:
            peer.next(PingFrame)
            peer.rest()
        peer.answer(stream, b"alive")
        peer.rest()

    origin = h2_origin.raw(script)
    retry = RetryPolicy(attempts=2, lost=True)
    proxy = proxy_factory(To(origin.address, retry=retry, h2_ping_interval=0.05, h2_ping_timeout=0.05))
    assert b"alive" in ask(proxy)
    assert proxy.serving.counters["pingora_upstream_h2_ping_timeouts_total"] == 1


def test_a_connection_that_nobody_uses_is_closed_with_goaway(proxy_factory, h2_origin):
    seen = []

    def script(peer, number):
        peer.answer(peer.start())
        seen.append(peer.next(GoAwayFrame).error_code)
        peer.rest()
        seen.append("closed")

    proxy = proxy_factory(To(h2_origin.raw(script).address, idle_timeout=0.05))
    ask(proxy)
    wait_until(lambda: seen == [0, "closed"])
    assert proxy.serving.counters["pingora_upstream_h2_connections_open"] == 0


def test_a_connection_that_nobody_uses_and_the_origin_does_not_read_is_closed(proxy_factory, h2_origin):
    is_full, is_over = threading.Event(), threading.Event()

    def script(peer, number):
        stream = peer.start()
        peer.send(*(WindowUpdateFrame(of, window_increment=1 << 29) for of in (0, stream)))
        is_full.wait(30)
        peer.send(RstStreamFrame(stream, error_code=8))
        is_over.wait(60)

    proxy = proxy_factory(To(h2_origin.raw(script).address, idle_timeout=0.2, retry=RetryPolicy(attempts=1)))
    with proxy.connect(1) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        with contextlib.suppress(TimeoutError):
            while True:
                client.send(b"x" * 65536)
        is_full.set()
        assert read_all(client).startswith(b"HTTP/1.1 502 ")
    wait_until(lambda: proxy.serving.counters["pingora_upstream_h2_connections_open"] == 0)
    is_over.set()


class SaysTheEndApart(Listening):
    """An origin that ends an answer with an empty DATA frame, but not while the stream's window is closed.

    So do those on nghttp2, this proxy among them.
    """

    def __init__(self, size):
        super().__init__()
        self.size = size

    def serve(self, sock, number):
        frames, window, stream = RawPeer(sock), 65535, 0
        frames.preface()
        frames.send(SettingsFrame(0))
        opened, left = {}, 0
        while True:
            frame = frames.frame()
            if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
                window = frame.settings.get(SettingsFrame.INITIAL_WINDOW_SIZE, window)
                frames.send(SettingsFrame(0, flags=["ACK"]))
            elif isinstance(frame, HeadersFrame):
                stream, left = frame.stream_id, self.size
                opened[stream] = window
                fields = [(":status", "200"), ("content-length", str(left))]
                frames.send(HeadersFrame(stream, Encoder().encode(fields), flags=["END_HEADERS"]))
            elif isinstance(frame, WindowUpdateFrame) and frame.stream_id in opened:
                opened[frame.stream_id] += frame.window_increment
            while stream and left and opened[stream]:
                part = min(left, opened[stream], 16384)
                frames.send(DataFrame(stream, b"x" * part))
                left -= part
                opened[stream] -= part
            if stream and not left and opened[stream]:
                frames.send(DataFrame(stream, flags=["END_STREAM"]))
                stream = 0


@pytest.mark.parametrize("size", [4000, 65535, 65536, 65537, 100_000, 262_143, 262_144, 262_145])
def test_an_end_that_comes_behind_the_body_finds_the_window_open(proxy_factory, size):
    with contextlib.closing(SaysTheEndApart(size)) as origin, proxy_factory(To(origin.address)).connect() as client:
        for _ in range(3):
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = http.client.HTTPResponse(client)
            answer.begin()
            assert len(answer.read()) == size


def test_waiting_for_a_connection_has_a_limit_of_its_own(proxy_factory):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        fillers = []
        address = listening.getsockname()
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        proxy = proxy_factory(To(f"127.0.0.1:{address[1]}", connect_timeout=0.1, retry=RetryPolicy(attempts=1)))
        answers = many(proxy, 5)
        assert all(answer.endswith(b"connect_timeout\n") for answer in answers)
        for filler in fillers:
            filler.close()


def test_a_refused_connect_fails_all_who_wait(proxy_factory):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    proxy = proxy_factory(To(f"127.0.0.1:{port}", retry=RetryPolicy(attempts=1)))
    assert all(answer.endswith(b"connect_failed\n") for answer in many(proxy, 20))


def test_an_upgrade_is_refused_where_the_protocol_has_none(proxy_factory, h2_origin):
    proxy = proxy_factory(To(h2_origin().address, retry=RetryPolicy(attempts=1)))
    answer = ask(
        proxy, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert answer.endswith(b"no_upgrade\n")


def test_endpoints_by_scheme_speak_http2(proxy_factory, h2_origin):
    origin = h2_origin(lambda request: (200, [], b"hi", []))

    class Balanced(ProxyHttp):
        upstreams = LoadBalancer([f"h2c://{origin.address}"])

    assert ask(proxy_factory(Balanced())).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_thousand_requests_at_once(proxy_factory, h2_origin):
    origin = h2_origin(lambda request: (200, [], b"x" * 100, []))
    proxy = proxy_factory(To(origin.address))
    for _ in range(4):
        answers = many(proxy, 250)
        assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in answers)
    assert len(origin.connections) <= 6


def test_forwarding_fields_that_a_hook_writes_reach_the_origin(proxy_factory, h2_origin):
    class Writes(To):
        def upstream_request_filter(self, session, request, ctx):
            request.headers["x-real-ip"] = "of a hook"

    origin = h2_origin()
    ask(
        proxy_factory(Writes(origin.address)),
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Real-IP: 6.6.6.6\r\nConnection: close\r\n\r\n",
    )
    assert origin.requests[0].get(b"x-real-ip") == b"of a hook"
