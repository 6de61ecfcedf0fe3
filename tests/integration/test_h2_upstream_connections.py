"""Connections of HTTP/2 to origins: how many requests share one, and how many there are."""

import contextlib
import os
import socket
import threading
import time

import pytest
from conversations import wait_until
from h2_origin import RawPeer
from h2_upstream import To, ask, many
from http2_frames import GET, FrameClient, replaced
from hyperframe.frame import (
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from pingora import HttpPeer, LoadBalancer, Response, RetryPolicy
from pingora.testing import read_all

WAITS = "pingora_upstream_h2_waits_total"


def test_concurrent_first_requests_share_one_connection(proxy_factory, h2_origin):
    origin = h2_origin(lambda request: (200, [], b"hi", []))
    proxy = proxy_factory(To(origin.address))
    answers = many(proxy, 50)
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in answers)
    assert len(origin.connections) == 1
    assert proxy.serving.counters["pingora_upstream_h2_connections_total"] == 1


def test_a_full_connection_is_joined_by_further_ones(proxy_factory, h2_origin):
    gate = threading.Barrier(40, timeout=20)

    def script(peer, number):
        stream = peer.start()
        open_streams = [stream]
        while len(open_streams) < 10:
            open_streams.append(peer.request())
        for _ in open_streams:
            pass
        answering.release()
        assert all_open.wait(20)
        for stream in open_streams:
            peer.answer(stream)
        peer.rest()

    answering, all_open = threading.Semaphore(0), threading.Event()
    origin = h2_origin.raw(script)
    proxy = proxy_factory(To(origin.address, max_h2_streams=10))

    def release():
        for _ in range(4):
            assert answering.acquire(timeout=20)
        all_open.set()

    threading.Thread(target=release, daemon=True).start()
    answers = many(proxy, 40)
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in answers)
    assert len(origin.connections) == 4
    gate.abort()


def test_the_origins_own_limit_of_streams_holds(proxy_factory, h2_origin):
    is_busy = threading.Event()

    def answer(request):
        if is_busy.is_set():
            wait_until(lambda: len(origin.connections) >= 2)
        return 200, [], b"hi", []

    origin = h2_origin(answer, settings={3: 5})
    proxy = proxy_factory(To(origin.address))
    assert ask(proxy).startswith(b"HTTP/1.1 200 OK\r\n")
    is_busy.set()
    answers = many(proxy, 60)
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in answers)
    assert len(origin.connections) <= 13
    assert proxy.serving.counters["pingora_upstream_h2_refused_streams_total"] == 0


def test_where_all_connections_are_full_requests_wait_for_the_end_of_others(proxy_factory, h2_origin):
    origin = h2_origin(lambda request: (200, [], b"hi", []))
    proxy = proxy_factory(To(origin.address, max_h2_streams=2, max_h2_connections=3))
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in many(proxy, 50))
    assert 1 <= len(origin.connections) <= 3
    assert proxy.serving.counters["pingora_upstream_h2_connections_open"] <= 3


def test_they_wait_as_long_as_for_a_connection(proxy_factory, h2_origin):
    busy = threading.Event()

    def script(peer, number):
        peer.start()
        busy.set()
        peer.rest()

    origin = h2_origin.raw(script)
    proxy = proxy_factory(To(origin.address, max_h2_streams=1, max_h2_connections=1, connect_timeout=0.2))
    with proxy.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert busy.wait(20)
        assert ask(proxy).startswith(b"HTTP/1.1 504 ")
    assert len(origin.connections) == 1
    assert proxy.serving.counters[WAITS] >= 1
    assert proxy.serving.counters['pingora_failures_total{reason="connect_timeout"}'] == 1


def test_who_waits_is_served_by_another_connection_when_the_full_one_ends(proxy_factory, h2_origin):
    proxies, busy = [], threading.Event()

    def script(peer, number):
        stream = peer.start()
        if number == 0:
            busy.set()
            wait_until(lambda: proxies[0].serving.counters[WAITS] == 1)
            return
        peer.answer(stream)
        peer.rest()

    origin = h2_origin.raw(script)
    options = {"max_h2_streams": 1, "max_h2_connections": 1, "connect_timeout": 30, "retry": RetryPolicy(attempts=1)}
    proxies.append(proxy_factory(To(origin.address, **options)))
    with proxies[0].connect() as first:
        first.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert busy.wait(20)
        assert ask(proxies[0]).startswith(b"HTTP/1.1 200 ")
        assert read_all(first).startswith(b"HTTP/1.1 502 ")
    assert len(origin.connections) == 2


def test_the_proxys_pings_do_not_prolong_an_unused_connection(proxy_factory, h2_origin):
    seen = []

    def script(peer, number):
        peer.answer(peer.start())
        while not seen or seen[-1] is PingFrame:
            frame = peer.frame()
            if isinstance(frame, PingFrame):
                seen.append(PingFrame)
                peer.send(PingFrame(0, opaque_data=frame.opaque_data, flags=["ACK"]))
            elif isinstance(frame, GoAwayFrame):
                seen.append(frame.error_code)

    proxy = proxy_factory(To(h2_origin.raw(script).address, idle_timeout=0.5, h2_ping_interval=0.1))
    began = time.monotonic()
    assert ask(proxy).startswith(b"HTTP/1.1 200 ")
    wait_until(lambda: seen and seen[-1] == 0)
    assert time.monotonic() - began >= 0.5
    assert PingFrame in seen
    assert proxy.serving.counters["pingora_upstream_h2_ping_timeouts_total"] == 0


def test_pings_of_the_upstream_do_not_prolong_an_unused_connection(proxy_factory, h2_origin):
    ended = threading.Event()

    def script(peer, number):
        peer.answer(peer.start())
        while True:
            peer.send(PingFrame(0, opaque_data=b"12345678"))
            if isinstance(peer.next((PingFrame, GoAwayFrame)), GoAwayFrame):
                break
            time.sleep(0.05)
        ended.set()

    proxy = proxy_factory(To(h2_origin.raw(script).address, idle_timeout=0.3))
    assert ask(proxy).startswith(b"HTTP/1.1 200 ")
    assert ended.wait(20)


def test_an_unused_connection_that_does_not_answer_a_ping_ends_at_the_earlier_limit(proxy_factory, h2_origin):
    pinged = threading.Event()

    def script(peer, number):
        peer.answer(peer.start())
        peer.next(PingFrame)
        pinged.set()
        peer.rest()

    options = {"idle_timeout": 20, "h2_ping_interval": 0.05, "h2_ping_timeout": 0.05}
    proxy = proxy_factory(To(h2_origin.raw(script).address, **options))
    assert ask(proxy).startswith(b"HTTP/1.1 200 ")
    assert pinged.wait(20)
    wait_until(lambda: proxy.serving.counters["pingora_upstream_h2_ping_timeouts_total"] == 1)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("code", [0, 2, 8], ids=["no_error", "internal_error", "cancel"])
def test_a_reset_on_a_connection_that_served_before_is_502_and_no_second_request(
    proxy_factory, h2_origin, code, method
):
    """The origin has seen the request: its reset is an answer of a kind, unlike a connection that had died."""
    asked = []

    def script(peer, number):
        peer.answer(peer.start())
        while True:
            head = peer.next(HeadersFrame)
            asked.append((number, dict(head.fields)[b":method"].decode()))
            peer.send(RstStreamFrame(head.stream_id, error_code=code))

    proxy = To(h2_origin.raw(script).address)
    proxy.upstreams = LoadBalancer([f"h2c://{proxy.peer.address}"])
    proxy.peer = HttpPeer(proxy.upstreams.endpoints[0])
    proxy_of_test = proxy_factory(proxy)
    with FrameClient(proxy_of_test) as client:
        client.request()
        assert client.answer()["status"] == 200
        client.request(replaced(GET, method=method), 3)
        assert client.answer(3)["status"] == 502
        assert asked == [(0, method)]
    assert proxy.upstreams.endpoints[0].failures_in_row == 1


class Stopping(To):
    """Stops the loop in a request to /stop until it may go on."""

    def __init__(self, address):
        super().__init__(address)
        self.stopped, self.goes_on = threading.Event(), threading.Event()

    def request_filter(self, session, ctx):
        if session.request.path != "/stop":
            return None
        self.stopped.set()
        self.goes_on.wait(20)
        return Response(200)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_given_to_a_connection_that_ends_in_that_turn_goes_by_another(proxy_factory, h2_origin, method):
    """GOAWAY says that the request is not handled, even where the end of the connection is read with it."""
    asked, ends, has_ended = [], threading.Event(), threading.Event()

    def script(peer, number):
        stream = peer.start()
        if number > 0:
            asked.append(number)
        peer.answer(stream)
        if number == 0:
            assert ends.wait(20)
            peer.send(GoAwayFrame(last_stream_id=stream))
            peer.sock.close()
            has_ended.set()
        else:
            peer.rest()

    stopping = Stopping(h2_origin.raw(script).address)
    proxy = proxy_factory(stopping)
    with FrameClient(proxy) as stops, FrameClient(proxy) as client:
        client.request()
        assert client.answer()["status"] == 200
        stops.request(replaced(GET, path="/stop"))
        assert stopping.stopped.wait(20)
        client.request(replaced(GET, method=method), 3)
        time.sleep(0.1)  # the loop finds the request first, then the end
        ends.set()
        assert has_ended.wait(20)
        time.sleep(0.05)
        stopping.goes_on.set()
        assert client.answer(3)["status"] == 200
    assert asked == [1]


def test_a_connection_of_small_windows_serves_where_no_other_can_be_opened(proxy_factory, tmp_path):
    """A client's memory allows so many streams of wide windows; the origin's socket is gone before the next one."""
    n_streams = 40
    path = os.fspath(tmp_path / "origin")
    peers, asked = [], []

    def serve(peer):
        with contextlib.suppress(OSError):
            peer.preface()
            peer.send(SettingsFrame(0, settings={SettingsFrame.MAX_CONCURRENT_STREAMS: 100}))
            while True:
                asked.append((peer, peer.request()))
                if len(asked) > n_streams:
                    peer.answer(asked[-1][1])

    def accept(listener):
        while len(peers) < 2:
            peers.append(RawPeer(listener.accept()[0]))
            threading.Thread(target=serve, args=(peers[-1],), daemon=True).start()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(8)
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        proxy = proxy_factory(To(f"unix:{path}"))
        with FrameClient(proxy) as client:
            client.send(*[client.head(GET, i) for i in range(1, 2 * n_streams, 2)])
            wait_until(lambda: len(asked) == n_streams)
            assert len(peers) == 2
            for peer, stream in asked:
                peer.answer(stream)
            ended = set()
            for frame in client.frames():
                if "END_STREAM" in frame.flags:
                    ended.add(frame.stream_id)
                if len(ended) == n_streams:
                    break
    os.unlink(path)
    wide, small = peers
    wide.send(GoAwayFrame(last_stream_id=999))
    wait_until(lambda: proxy.serving.counters["pingora_upstream_h2_connections_open"] == 1)
    assert ask(proxy).startswith(b"HTTP/1.1 200 ")
    assert asked[-1][0] is small
    for peer in peers:
        peer.sock.shutdown(socket.SHUT_RDWR)
        peer.sock.close()


def test_a_request_that_waited_behind_a_full_socket_is_tried_again(proxy_factory, h2_origin):
    go_on, again = threading.Event(), []

    def script(peer, number):
        stream = peer.start()
        if number == 0:
            peer.send(SettingsFrame(0, settings={4: 2**30}), WindowUpdateFrame(0, window_increment=2**30))
            assert go_on.wait(20)
            return  # what it has not read makes this a reset
        again.append(number)
        peer.answer(stream)
        peer.rest()

    origin = h2_origin.raw(script)
    proxy = proxy_factory(To(origin.address, RetryPolicy(lost=False)))
    (service,) = proxy.serving.services
    with proxy.connect(20) as uploading, proxy.connect(20) as waiting:
        uploading.sendall(b"POST /long HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        uploading.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while True:
                uploading.send(bytes(65536))  # until nobody takes more
        waiting.sendall(b"POST /short HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        wait_until(lambda: service.n_active == 2)
        time.sleep(0.1)
        assert not again
        go_on.set()
        assert read_all(waiting).startswith(b"HTTP/1.1 200 ")
    assert again == [1]
