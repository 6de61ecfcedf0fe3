"""What a connection of HTTP/2 that ends still owes: answers on their way, requests half read, hooks that log."""

import contextlib
import time

import pytest
from conversations import Forwarding, wait_until
from ending import ENDINGS, Ending
from http2_frames import GET, FrameClient, continuation
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, SettingsFrame, WindowUpdateFrame
from inside import Gate, narrow_client, settle

from pingora import Limits, Response
from pingora_c.base.linked import build_facts

# It ends a connection for a malformed message; 1.70 does not.
NGHTTP2_ENDS_ALL = build_facts()["nghttp2"].startswith(("1.68.", "1.69."))
WINDOW = {SettingsFrame.INITIAL_WINDOW_SIZE: 1 << 24}
SIZE = 600_000  # what the kernel takes for a client that does not read


class Answers(Forwarding):
    """Answers by itself."""

    def __init__(self, body=b"ok"):
        super().__init__("127.0.0.1:1")
        self.body = body

    def request_filter(self, session, ctx):
        return Response(200, body=self.body)


@pytest.mark.parametrize("how", ["connection_requests", *ENDINGS])
def test_a_client_that_reads_slowly_gets_all_of_its_last_answer(proxy_factory, how):
    """The proxy has written all of it long before: the rest is with the kernel."""
    limits = Limits(connection_requests=1) if how == "connection_requests" else None
    proxy = proxy_factory(Answers(b"x" * SIZE), limits)
    got, is_whole = 0, False
    with FrameClient(sock=narrow_client(proxy), settings=WINDOW) as client:
        client.send(WindowUpdateFrame(0, window_increment=1 << 24))
        client.request()
        wait_until(lambda: not proxy.serving.activity()[1] and proxy.serving.counters["pingora_requests_total"])
        ending = Ending(proxy, how) if how in ENDINGS else None
        slow_until = time.monotonic() + 3.5  # what is tested is how slowly it reads
        for frame in client.frames():
            if isinstance(frame, DataFrame):
                got += len(frame.data)
                is_whole = "END_STREAM" in frame.flags
                client.send(WindowUpdateFrame(0, window_increment=max(1, len(frame.data))))
                if is_whole:
                    break
                if time.monotonic() < slow_until:
                    time.sleep(0.15)
    assert (got, is_whole) == (SIZE, True)
    if ending is not None:
        ending.finish()


# -- a request that has come in part

FIELDS = [*GET, ("x-long", "b" * 300)]


def in_two_writes(client):
    """HEADERS whose rest comes later."""
    frame = client.head(FIELDS, 3).serialize()
    return frame[:100], frame[100:]


def in_two_frames(client):
    """HEADERS without END_HEADERS, and CONTINUATION."""
    block = client.encoder.encode(FIELDS)
    return HeadersFrame(3, data=block[:100], flags=["END_STREAM"]).serialize(), continuation(block[100:], 3).serialize()


def read_what_is_said(client):
    """Take frames until the last GOAWAY, or until nothing has come for longer than that takes."""
    client.sock.settimeout(3)
    with contextlib.suppress(TimeoutError):
        client.until(lambda frame: isinstance(frame, GoAwayFrame) and frame.last_stream_id < 2**31 - 1)
    client.sock.settimeout(10)


@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("cut", [in_two_writes, in_two_frames])
@pytest.mark.parametrize("is_first", [False, True], ids=["behind another", "first"])
def test_a_request_that_has_come_in_part_is_answered_when_the_rest_comes(proxy_factory, how, cut, is_first):
    proxy = proxy_factory(Answers())
    with FrameClient(proxy) as client:
        assert client.is_alive()
        if not is_first:
            client.request()
            assert client.answer()["body"] == b"ok"
        begin, rest = cut(client)
        client.send(begin)
        settle(proxy)
        ending = Ending(proxy, how)
        read_what_is_said(client)
        client.send(rest)
        answer = client.answer(3)
        assert (answer["status"], answer["body"], answer["reset"]) == (200, b"ok", None)
    ending.finish()


@pytest.mark.parametrize("how", ENDINGS)
def test_a_request_that_never_comes_whole_ends_at_the_limit_of_heads(proxy_factory, how):
    proxy = proxy_factory(Answers(), Limits(head_timeout=0.3))
    with FrameClient(proxy) as client:
        begin, _ = in_two_frames(client)
        client.send(begin)
        settle(proxy)
        ending = Ending(proxy, how)
        assert client.is_closed()
    ending.finish()


@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("field", [("X-Upper", "1"), (":path", "again")], ids=["bad name", "second path"])
def test_a_request_that_was_refused_for_its_fields_keeps_no_connection(proxy_factory, how, field):
    """The library passes over it without a word."""
    proxy = proxy_factory(Answers())
    with FrameClient(proxy) as client:
        client.send(client.head([*GET, field]))
        if NGHTTP2_ENDS_ALL:
            assert client.goaway() == "PROTOCOL_ERROR"
            return
        assert client.is_alive()
        ending = Ending(proxy, how, 60)
        assert client.is_closed()
        ending.finish()
    assert proxy.serving.counters['pingora_refusals_total{reason="head_timeout"}'] == 0


# -- hooks that log


class LogsLater(Answers):
    def __init__(self):
        super().__init__()
        self.gate, self.logged = Gate(), []

    async def logging(self, session, error, ctx):
        await self.gate.wait()
        self.logged.append(error)


@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("stays", [False, True], ids=["the client is gone", "the client is there"])
def test_a_session_that_still_logs_is_waited_for(proxy_factory, how, stays):
    hooks = LogsLater()
    proxy = proxy_factory(hooks)
    with FrameClient(proxy) as client:
        client.request()
        assert client.answer()["body"] == b"ok"
        hooks.gate.await_hook()
        if not stays:
            client.sock.close()
            settle(proxy)
        ending = Ending(proxy, how)
        assert not ending.is_over()
        hooks.gate.open()
        ending.finish()
    assert hooks.logged == [None]


@pytest.mark.parametrize("how", ENDINGS)
def test_a_session_that_logs_for_ever_is_not_waited_for_beyond_the_deadline(proxy_factory, how):
    hooks = LogsLater()
    proxy = proxy_factory(hooks)
    with FrameClient(proxy) as client:
        client.request()
        hooks.gate.await_hook()
    Ending(proxy, how, 0.3).finish()
    assert not hooks.logged
