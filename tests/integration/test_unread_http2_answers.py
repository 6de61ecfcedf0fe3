"""What upstreams of HTTP/2 send for a client that does not read: little, however many answers it asks for."""

import contextlib
import threading
from collections import Counter

import pytest
from h2_upstream import To
from h2_upstream import ask as http1
from http2_frames import FrameClient
from hyperframe.frame import DataFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame
from unread_answers import HELD_MOST, OPEN, WIDE, WINDOW, ask, bodies, held, wait_still

from pingora import Limits

SIZE = 400_000  # more than a stream's whole window
LARGE = b"0123456789" * (SIZE // 10)
WIDE_WINDOW = 65537  # that a stream begins with, if it can be promised
NARROW_WINDOW = 4000  # else
EACH = 4 * 4096  # of a stream: its request, its answer, what it began with, and its narrow window


def large(request):
    """An answer that says its length, unless the path ends in "u"."""
    is_known = not request.get(b":path").endswith(b"u")
    return 200, [(b"content-length", b"%d" % SIZE)] if is_known else [], LARGE, []


def settle(proxy, origin, count):
    """Wait until the origin has seen so many requests, and nothing more comes in."""
    wait_still(lambda: held() if len(origin.requests) >= count else None)


@pytest.mark.parametrize("path", ["/known", "/u"], ids=["length", "no length"])
@pytest.mark.parametrize("settings", [OPEN, {WINDOW: 0}], ids=["windows open", "windows shut"])
@pytest.mark.parametrize("count", [20, 100, 200])
def test_answers_to_a_client_that_does_not_read(proxy_factory, h2_origin, count, settings, path):
    origin = h2_origin(large)
    proxy = proxy_factory(To(origin.address), Limits(http2_streams=1000))
    ids = range(1, 2 * count, 2)
    with FrameClient(proxy, timeout=30) as client:  # after this, large answers are what is expected
        ask(client, path, [1])
        assert bodies(client, [1]) == [LARGE]
    before = held()
    with FrameClient(proxy, settings=settings, timeout=30) as client:
        client.sock.setsockopt(1, 8, 65536)  # SO_RCVBUF
        client.send(WIDE)
        ask(client, path, ids)
        settle(proxy, origin, 1 + count)
        assert held() - before < HELD_MOST + count * EACH
        if settings is not OPEN:
            client.send(*[WindowUpdateFrame(i, window_increment=100_000) for i in ids])
        assert bodies(client, ids) == [LARGE] * count


def test_what_was_promised_to_streams_comes_back_when_they_end(proxy_factory, h2_origin):
    """Streams that the client resets, again and again, leave the next one the whole window."""
    widened = []
    is_widened = threading.Semaphore(0)
    rounds = 10

    def script(peer, number):
        stream = peer.start()
        for _ in range(rounds):
            peer.send(HeadersFrame(stream, data=b"\x88\x0f\x0d\x06400000", flags=["END_HEADERS"]))
            frame = peer.next(WindowUpdateFrame)
            assert frame.stream_id == stream
            widened.append(frame.window_increment)
            is_widened.release()
            assert peer.next(RstStreamFrame).stream_id == stream
            stream = peer.request()
        peer.answer(stream)
        peer.rest()

    proxy = proxy_factory(To(h2_origin.raw(script).address))
    with FrameClient(proxy, settings={WINDOW: 0}, timeout=30) as client:
        for number in range(rounds):
            ask(client, "/", [1 + 2 * number])
            next(frame for frame in client.frames() if isinstance(frame, HeadersFrame))
            assert is_widened.acquire(timeout=20)
            client.send(RstStreamFrame(1 + 2 * number, error_code=8))
        ask(client, "/", [1 + 2 * rounds])
        client.send(WindowUpdateFrame(1 + 2 * rounds, window_increment=10))
        assert bodies(client, [1 + 2 * rounds]) == [b"ok"]
    assert widened == [262144 - WIDE_WINDOW] * rounds


def answers_nothing(windows, streams, is_seen):
    """A script that notes with which window each connection begins, and how many streams it carries."""

    def script(peer, number):
        peer.preface()
        windows[number] = peer.next(SettingsFrame).settings[WINDOW]
        peer.send(SettingsFrame(0), SettingsFrame(0, flags=["ACK"]))
        with contextlib.suppress(ConnectionError, OSError):
            while peer.request():
                streams[number] += 1
                is_seen.release()

    return script


def test_streams_that_cannot_be_promised_a_wide_window_go_over_narrow_connections(proxy_factory, h2_origin):
    windows, streams, is_seen = {}, Counter(), threading.Semaphore(0)
    proxy = proxy_factory(To(h2_origin.raw(answers_nothing(windows, streams, is_seen)).address))
    with FrameClient(proxy, timeout=30) as client, proxy.connect() as of_http1:
        ask(client, "/", range(1, 201, 2))
        for _ in range(100):
            assert is_seen.acquire(timeout=20)
        assert windows == {0: WIDE_WINDOW, 1: NARROW_WINDOW}
        assert streams == {0: 16, 1: 84}
        of_http1.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert is_seen.acquire(timeout=20)
        assert streams == {0: 17, 1: 84}


def test_the_only_connection_is_narrow(proxy_factory, h2_origin):
    windows, streams, is_seen = {}, Counter(), threading.Semaphore(0)
    origin = h2_origin.raw(answers_nothing(windows, streams, is_seen))
    proxy = proxy_factory(To(origin.address, max_h2_connections=1))
    with FrameClient(proxy, timeout=30) as client:
        ask(client, "/", range(1, 201, 2))
        for _ in range(100):
            assert is_seen.acquire(timeout=20)
    assert windows == {0: NARROW_WINDOW}


def test_no_window_is_given_back_for_what_has_room(proxy_factory, h2_origin):
    part = b"x" * 15000

    def script(peer, number):
        stream = peer.start()
        peer.send(HeadersFrame(stream, data=b"\x88\x0f\x0d\x0560001", flags=["END_HEADERS"]))
        peer.send(*[DataFrame(stream, data=part)] * 4, PingFrame(0))
        while not isinstance(frame := peer.frame(), PingFrame):
            assert not (isinstance(frame, WindowUpdateFrame) and frame.stream_id == stream)
        peer.send(DataFrame(stream, data=b"x", flags=["END_STREAM"]))
        peer.rest()

    proxy = proxy_factory(To(h2_origin.raw(script).address))
    assert http1(proxy).endswith(b"\r\n\r\n" + 4 * part + b"x")


def test_a_window_is_given_back_to_an_origin_that_acknowledges_it_late(proxy_factory, h2_origin):
    """Until it does, nghttp2 takes the window for the 65,535 bytes of an origin that knows of none."""
    body = b"x" * NARROW_WINDOW

    def script(peer, number):
        peer.preface()
        peer.send(SettingsFrame(0))
        if number == 0:  # streams that leave no wider window for those of other connections
            for _ in range(4):
                peer.send(HeadersFrame(peer.request(), data=b"\x88\x0f\x0d\x06400000", flags=["END_HEADERS"]))
            peer.rest()
            return
        stream = peer.request()
        peer.send(HeadersFrame(stream, data=b"\x88", flags=["END_HEADERS"]), DataFrame(stream, data=body))
        peer.send(PingFrame(0))
        while not isinstance(frame := peer.frame(), PingFrame):
            assert not (isinstance(frame, WindowUpdateFrame) and frame.stream_id == stream)
        peer.send(SettingsFrame(0, flags=["ACK"]))
        while peer.next(WindowUpdateFrame).stream_id != stream:
            pass
        peer.send(DataFrame(stream, data=body, flags=["END_STREAM"]))
        peer.rest()

    proxy = proxy_factory(To(h2_origin.raw(script).address, max_h2_streams=4, h2_window=270_000))
    with FrameClient(proxy, timeout=30) as client:
        for number in range(5):
            ask(client, "/", [1 + 2 * number])
            if number < 4:
                next(frame for frame in client.frames() if isinstance(frame, HeadersFrame))
        assert bodies(client, [9]) == [body + body]


def test_a_client_that_reads_little_by_little_gets_all_of_many_answers(proxy_factory, h2_origin):
    origin = h2_origin(large)
    proxy = proxy_factory(To(origin.address))
    ids = range(1, 41, 2)
    with FrameClient(proxy, settings={WINDOW: 1000}, timeout=30) as client:
        ask(client, "/known", ids)
        assert bodies(client, ids) == [LARGE] * len(ids)
