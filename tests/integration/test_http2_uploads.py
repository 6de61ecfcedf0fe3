"""Uploads over one connection of HTTP/2 that wait: how much may wait, and what becomes of the others."""

import asyncio

from conversations import wait_until
from http2_frames import POST, FrameClient, continuation, replaced
from hyperframe.frame import DataFrame, HeadersFrame, PingFrame, RstStreamFrame, WindowUpdateFrame
from unread_answers import held

from pingora import Limits, ProxyHttp, Response

STREAM_WINDOW = 65536
HOLDS_MOST = (384 << 10) + (1 << 20)
N_HELD = 40
LATE = 2 * N_HELD + 1  # the stream that comes when the window is shut


class Gate(ProxyHttp):
    """Takes the bodies of /held once it is opened, others at once; answers with their length."""

    def __init__(self):
        self.opened = asyncio.Event()

    async def request_filter(self, session, ctx):
        if session.request.path == "/held":
            await self.opened.wait()
        body = await session.read_body(1 << 20)
        return Response(200, {}, b"%d" % len(body))

    def upstream_peer(self, session, ctx):
        raise AssertionError

    async def open(self):
        self.opened.set()


class Uploader(FrameClient):
    """Sends bodies as far as the windows allow."""

    def __init__(self, proxy):
        super().__init__(proxy)
        self.windows = {0: 65535}
        self.answers = {}
        assert wait_until(lambda: self.settle() or self.windows[0] > 65535)

    def settle(self):
        """Take what came: windows and answers."""
        self.send(PingFrame(opaque_data=b"all seen"))
        for frame in self.frames():
            if isinstance(frame, PingFrame) and "ACK" in frame.flags:
                return
            if isinstance(frame, WindowUpdateFrame):
                self.windows[frame.stream_id] = self.windows.get(frame.stream_id, 0) + frame.window_increment
            elif isinstance(frame, DataFrame):
                self.answers[frame.stream_id] = self.answers.get(frame.stream_id, b"") + frame.data
        raise AssertionError("the connection ended")

    def begin(self, stream_id, path):
        self.windows[stream_id] = STREAM_WINDOW
        self.send(self.head(replaced(POST, path=path), stream_id, end=False))

    def hold(self, stream_ids):
        """Begin uploads that wait, each with as much as may be; how much that was, by stream."""
        sent = {}
        for stream_id in stream_ids:
            self.begin(stream_id, "/held")
            sent[stream_id] = self.push(stream_id, STREAM_WINDOW, is_last=False)
            self.settle()
        return sent

    def upload(self, stream_id, size):
        """Send a whole body that does not wait, and read its answer."""
        self.begin(stream_id, "/free")
        assert self.push(stream_id, size, is_last=True) == size
        assert wait_until(lambda: self.settle() or self.answers.get(stream_id))
        assert self.answers[stream_id] == b"%d" % size

    def push(self, stream_id, size, is_last):
        """Send part of a body, as much as may be; how much that was."""
        size = min(size, self.windows[0], self.windows[stream_id])
        for place in (0, stream_id):
            self.windows[place] -= size
        for at in range(0, size, 16384):
            part = min(16384, size - at)
            ends = is_last and at + part == size
            self.send(DataFrame(stream_id, data=b"x" * part, flags=["END_STREAM"] * ends))
        return size


class Answering(Gate):
    """Answers while the request's body is on its way, and goes on with the answer until it is opened."""

    async def request_filter(self, session, ctx):
        if session.request.path != "/held":
            return await super().request_filter(session, ctx)

        async def parts():
            yield b"x"
            await self.opened.wait()

        return Response(200, {}, parts())


class LateLog(Gate):
    async def logging(self, session, error, ctx):
        await self.opened.wait()


def test_uploads_that_wait_hold_no_more_than_the_connections_window_allows(proxy_factory):
    gate = Gate()
    proxy = proxy_factory(gate, Limits(body_timeout=0.4))
    before = held()
    with Uploader(proxy) as client:
        sent = client.hold(range(1, LATE, 2))
        assert 384 << 10 < sum(sent.values()) <= HOLDS_MOST
        assert client.windows[0] == 0
        assert held() - before < 2 << 20

        client.begin(LATE, "/free")  # it may send nothing, and is not too slow for that
        proxy.call(asyncio.sleep(1))
        client.settle()
        assert client.windows[0] == 0
        assert LATE not in client.answers

        proxy.call(gate.open())
        assert wait_until(lambda: client.settle() or client.windows[0] > 0)
        assert client.push(LATE, 1000, is_last=True) == 1000
        for stream_id in sent:
            client.settle()
            assert client.push(stream_id, 10, is_last=True) == 10
        assert wait_until(lambda: client.settle() or len(client.answers) == N_HELD + 1)
    assert client.answers == {LATE: b"1000"} | {stream_id: b"%d" % (size + 10) for stream_id, size in sent.items()}
    assert wait_until(lambda: held() == before)


def test_what_streams_that_end_have_left_waiting_opens_the_window_again(proxy_factory):
    gate = Gate()
    proxy = proxy_factory(gate)
    with Uploader(proxy) as client:
        sent = client.hold(range(1, LATE, 2))
        assert client.windows[0] == 0
        client.send(*[RstStreamFrame(stream_id, error_code=8) for stream_id in sent])
        assert wait_until(lambda: client.settle() or client.windows[0] >= STREAM_WINDOW)
        client.upload(LATE, STREAM_WINDOW)


def test_one_upload_that_waits_stops_no_other(proxy_factory):
    gate = Gate()
    proxy = proxy_factory(gate, Limits(http2_window=1 << 20))
    with Uploader(proxy) as client:
        client.begin(1, "/held")
        client.windows[1] = 1 << 20
        while client.push(1, 1 << 18, is_last=False):
            client.settle()
        client.upload(3, 1000)
        proxy.call(gate.open())


def test_bodies_that_nobody_wants_shut_no_window(proxy_factory):
    gate = Answering()
    proxy = proxy_factory(gate)
    with Uploader(proxy) as client:
        for stream_id in range(1, LATE, 2):
            client.begin(stream_id, "/held")
            assert client.push(stream_id, STREAM_WINDOW, is_last=stream_id % 4 == 1) == STREAM_WINDOW
            assert wait_until(lambda: client.settle() or client.windows[0] >= STREAM_WINDOW)
        client.upload(LATE, 1000)
        proxy.call(gate.open())


def test_what_waited_for_a_stream_that_ended_is_given_back_before_its_session_ends(proxy_factory):
    gate = LateLog()
    proxy = proxy_factory(gate)
    before = held()
    with Uploader(proxy) as client:
        for first in range(1, 121, 20):
            sent = client.hold(range(first, first + 20, 2))
            client.send(*[RstStreamFrame(stream_id, error_code=8) for stream_id in sent])
            assert wait_until(lambda: client.settle() or client.windows[0] >= STREAM_WINDOW)
        assert held() - before < 1 << 20
        proxy.call(gate.open())


class Pausing(Gate):
    async def request_filter(self, session, ctx):
        if session.request.path == "/held":
            await asyncio.sleep(0.5)
        return Response(200, {}, b"%d" % len(await session.read_body(1 << 20)))


def test_a_window_that_is_shut_now_and_then_keeps_no_silent_upload(proxy_factory):
    proxy = proxy_factory(Pausing(), Limits(body_timeout=0.8))
    with Uploader(proxy) as client:
        client.begin(1, "/silent")
        timeouts = 'pingora_failures_total{reason="client_timeout"}'
        for first in range(3, 150, 14):
            for stream_id in range(first, first + 14, 2):
                client.begin(stream_id, "/held")
                assert client.push(stream_id, STREAM_WINDOW, is_last=True) == STREAM_WINDOW
                client.settle()
            assert wait_until(lambda last=stream_id: client.settle() or client.answers.get(last))
            if proxy.serving.counters[timeouts]:
                break
        assert proxy.serving.counters[timeouts] == 1


def test_heads_in_pieces_keep_no_silent_upload(proxy_factory):
    proxy = proxy_factory(Gate(), Limits(body_timeout=0.4))
    with FrameClient(proxy) as client:
        client.send(client.head(POST, 1, end=False))
        timeouts = 'pingora_failures_total{reason="client_timeout"}'
        for stream_id in range(3, 200, 2):
            block = client.encoder.encode(replaced(POST, method="TRACE"))
            client.send(HeadersFrame(stream_id, data=block[:1], flags=["END_STREAM"]))
            proxy.call(asyncio.sleep(0.04))
            client.send(continuation(block[1:], stream_id))
            proxy.call(asyncio.sleep(0.04))
            if proxy.serving.counters[timeouts]:
                break
        assert proxy.serving.counters[timeouts] == 1
