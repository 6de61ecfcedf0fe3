"""A client that takes nothing of an answer while `logging` waits is cut, and gets nothing more."""

import contextlib
import select

import pytest
from conversations import Forwarding
from http2_frames import CODES, FrameClient, replaced
from http2_frames import GET as GET_OF_HTTP2
from hyperframe.frame import RstStreamFrame, SettingsFrame
from inside import Gate, narrow_client

from pingora import Limits, Response
from pingora.testing import read_all

LARGE = 30_000_000  # more than the sockets take


class LogsLater(Forwarding):
    """Answers by itself; `logging` of the large answer waits."""

    def __init__(self):
        super().__init__("127.0.0.1:1")
        self.gate = Gate()

    def request_filter(self, session, ctx):
        return Response(200, body=b"A" * LARGE if session.request.path == "/large" else b"small")

    async def logging(self, session, error, ctx):
        if session.request.path == "/large":
            await self.gate.wait()


def is_reset_within(seconds, client, size):
    """Take `size` bytes now and then until the connection is reset or the time is over."""
    reset = select.poll()
    reset.register(client, 0)
    for _ in range(seconds * 50):
        if reset.poll(20):
            return True
        if size:
            with contextlib.suppress(ConnectionResetError):
                client.recv(size)
    return False


STALLED = pytest.mark.parametrize(
    ("size", "limits"),
    [(0, Limits(write_timeout=0.3)), (1000, Limits(write_timeout=0.3, write_rate=10**9))],
    ids=["write_timeout", "write_rate"],
)


@STALLED
def test_no_answer_follows_within_the_one_that_was_cut(proxy_factory, size, limits):
    hooks = LogsLater()
    proxy = proxy_factory(hooks, limits)
    with narrow_client(proxy) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        client.sendall(b"GET /small HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        hooks.gate.await_hook()
        is_reset_within(3, client, size)
        hooks.gate.open()
        assert b"small" not in read_all(client)


@STALLED
def test_it_is_reset_while_logging_waits(proxy_factory, size, limits):
    hooks = LogsLater()
    proxy = proxy_factory(hooks, limits)
    with narrow_client(proxy) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        hooks.gate.await_hook()
        assert is_reset_within(10, client, size)
    hooks.gate.open()


def test_a_stream_of_http_2_is_reset_and_its_connection_goes_on(proxy_factory):
    hooks = LogsLater()
    proxy = proxy_factory(hooks, Limits(write_timeout=0.3))
    with FrameClient(proxy, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 100}) as client:
        client.request(replaced(GET_OF_HTTP2, path="/large"))
        hooks.gate.await_hook()
        frame = client.until(lambda frame: isinstance(frame, RstStreamFrame))
        client.request(stream_id=3)
        assert client.answer(3)["body"] == b"small"
        hooks.gate.open()
        client.request(stream_id=5)
        assert client.answer(5)["body"] == b"small"
    assert (frame.stream_id, CODES[frame.error_code]) == (1, "CANCEL")
