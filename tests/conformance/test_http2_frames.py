"""Frames that RFC 9113 refuses, and what it asks in return: the cases of h2spec that matter, without h2spec."""

import pytest
from http2_frames import GET, POST, FrameClient, continuation, replaced
from hyperframe.frame import (
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from pingora import ProxyHttp, Response


class Answering(ProxyHttp):
    """Answers everything itself, but not before a body has ended."""

    def upstream_peer(self, session, ctx):
        raise AssertionError

    async def request_filter(self, session, ctx):
        await session.read_body()
        return Response(200, {}, b"hi")


def raw(kind, flags, stream_id, payload):
    """Make a frame that no library would."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + payload


def answered(client, stream_id=1):
    client.request(stream_id=stream_id)
    assert client.answer(stream_id)["status"] == 200


def head_without_end(client):
    return HeadersFrame(1, data=client.encoder.encode(GET), flags=["END_STREAM"])


CASES = {
    "data on stream 0": ("PROTOCOL_ERROR", lambda c: c.send(raw(0, 0, 0, b"x"))),
    "data on an idle stream": ("PROTOCOL_ERROR", lambda c: c.send(DataFrame(1, data=b"x"))),
    "data on a closed stream": ("STREAM_CLOSED", lambda c: (answered(c), c.send(DataFrame(1, data=b"x")))),
    "data behind a reset": (
        "STREAM_CLOSED",
        lambda c: (c.send(c.head(POST, end=False), RstStreamFrame(1)), c.send(DataFrame(1, data=b"x"))),
    ),
    "data behind its end": (
        "STREAM_CLOSED",
        lambda c: c.send(c.head(POST, end=False), DataFrame(1, flags=["END_STREAM"]), DataFrame(1, data=b"x")),
    ),
    "padding longer than the frame": (
        "PROTOCOL_ERROR",
        lambda c: c.send(c.head(POST, end=False), raw(0, 8, 1, b"\xffx")),
    ),
    "a head on a closed stream": ("STREAM_CLOSED", lambda c: (answered(c), c.send(c.head(GET)))),
    "a stream with an even number": ("PROTOCOL_ERROR", lambda c: c.send(c.head(GET, 2))),
    "a stream below the last": ("PROTOCOL_ERROR", lambda c: (answered(c, 5), c.send(c.head(GET, 3)))),
    "a head within a head": ("PROTOCOL_ERROR", lambda c: c.send(head_without_end(c), c.head(GET, 3))),
    "a PING within a head": ("PROTOCOL_ERROR", lambda c: c.send(head_without_end(c), PingFrame())),
    "CONTINUATION of nothing": ("PROTOCOL_ERROR", lambda c: c.send(continuation(b""))),
    "CONTINUATION of no head": ("PROTOCOL_ERROR", lambda c: c.send(continuation(b"abc"))),
    "a head that HPACK does not know": ("COMPRESSION_ERROR", lambda c: c.send(raw(1, 5, 1, b"\xff\xff\xff\xff\xff"))),
    "a head that depends on itself": (
        "PROTOCOL_ERROR",
        lambda c: c.send(raw(1, 0x25, 1, b"\0\0\0\1\x10" + c.encoder.encode(GET))),
    ),
    "a priority that depends on itself": ("PROTOCOL_ERROR", lambda c: c.send(raw(2, 0, 1, b"\0\0\0\1\x10"))),
    "a priority of the connection": ("PROTOCOL_ERROR", lambda c: c.send(raw(2, 0, 0, b"\0\0\0\1\x10"))),
    "a reset of an idle stream": ("PROTOCOL_ERROR", lambda c: c.send(RstStreamFrame(1))),
    "a reset of stream 0": ("PROTOCOL_ERROR", lambda c: c.send(raw(3, 0, 0, b"\0\0\0\0"))),
    "a reset that is too short": ("FRAME_SIZE_ERROR", lambda c: c.send(c.head(POST, end=False), raw(3, 0, 1, b"\0"))),
    "SETTINGS of a stream": ("PROTOCOL_ERROR", lambda c: c.send(raw(4, 0, 1, b""))),
    "SETTINGS that say nothing whole": ("FRAME_SIZE_ERROR", lambda c: c.send(raw(4, 0, 0, b"\0\1\0"))),
    "an ACK with settings": ("FRAME_SIZE_ERROR", lambda c: c.send(raw(4, 1, 0, b"\0\1\0\0\0\0"))),
    "a push that is neither on nor off": ("PROTOCOL_ERROR", lambda c: c.send(raw(4, 0, 0, b"\0\2\0\0\0\2"))),
    "a window beyond 31 bits": ("FLOW_CONTROL_ERROR", lambda c: c.send(raw(4, 0, 0, b"\0\4\xff\xff\xff\xff"))),
    "frames larger than there are": ("PROTOCOL_ERROR", lambda c: c.send(raw(4, 0, 0, b"\0\5\1\0\0\0"))),
    "a push of a client": ("PROTOCOL_ERROR", lambda c: c.send(raw(5, 4, 1, b"\0\0\0\2"))),
    "a PING of a stream": ("PROTOCOL_ERROR", lambda c: c.send(raw(6, 0, 1, b"12345678"))),
    "a PING of 6 octets": ("FRAME_SIZE_ERROR", lambda c: c.send(raw(6, 0, 0, b"123456"))),
    "GOAWAY of a stream": ("PROTOCOL_ERROR", lambda c: c.send(raw(7, 0, 1, b"\0" * 8))),
    "a window that grows by nothing": ("PROTOCOL_ERROR", lambda c: c.send(raw(8, 0, 0, b"\0\0\0\0"))),
    "a window that grows too far": (
        "FLOW_CONTROL_ERROR",
        lambda c: c.send(*[WindowUpdateFrame(0, window_increment=2**31 - 1)] * 2),
    ),
    "a window of an idle stream": ("PROTOCOL_ERROR", lambda c: c.send(WindowUpdateFrame(1, window_increment=1))),
    "a frame that is too large": ("FRAME_SIZE_ERROR", lambda c: c.send(raw(0, 0, 1, b"x" * 16385))),
    "trailers that do not end": (
        "PROTOCOL_ERROR",
        lambda c: c.send(c.head(POST, end=False), c.head([("x-t", "1")], end=False)),
    ),
    "pseudo fields in trailers": (
        "PROTOCOL_ERROR",
        lambda c: c.send(c.head(POST, end=False), c.head([(":path", "/")])),
    ),
    "no path": ("PROTOCOL_ERROR", lambda c: c.send(c.head(replaced(GET, path=None)))),
    "no scheme": ("PROTOCOL_ERROR", lambda c: c.send(c.head(replaced(GET, scheme=None)))),
    "no method": ("PROTOCOL_ERROR", lambda c: c.send(c.head(replaced(GET, method=None)))),
    "pseudo fields behind others": ("PROTOCOL_ERROR", lambda c: c.send(c.head([*GET[1:], ("x", "1"), GET[0]]))),
}


@pytest.mark.parametrize(("code", "act"), CASES.values(), ids=CASES)
def test_what_is_wrong_is_refused(proxy_factory, code, act):
    with FrameClient(proxy_factory(Answering())) as client:
        act(client)
        assert client.refusal() == code


ALLOWED = {
    "a frame of an unknown type": lambda c: c.send(raw(0xEE, 0, 0, b"x")),
    "an unknown setting": lambda c: c.send(raw(4, 0, 0, b"\x7f\x7f\0\0\0\1")),
    "unknown flags": lambda c: c.send(raw(6, 0xFE, 0, b"12345678")),
    "a reserved bit": lambda c: c.send(raw(6, 0, 1 << 31, b"12345678")),
    "a priority of an idle stream": lambda c: c.send(PriorityFrame(7, depends_on=0, stream_weight=1)),
    "an unknown code": lambda c: c.send(c.head(POST, 9, end=False), RstStreamFrame(9, error_code=0xFF)),
    "a changed window": lambda c: c.send(SettingsFrame(settings={4: 10}), SettingsFrame(settings={4: 65535})),
    "padding": lambda c: c.send(c.head(POST, 9, end=False), raw(0, 9, 9, b"\3hi\0\0\0")),
}


@pytest.mark.parametrize("act", ALLOWED.values(), ids=ALLOWED)
def test_what_is_unusual_changes_nothing(proxy_factory, act):
    with FrameClient(proxy_factory(Answering())) as client:
        act(client)
        answered(client, 11)
        assert client.is_alive()


def test_a_head_may_come_in_pieces(proxy_factory):
    with FrameClient(proxy_factory(Answering())) as client:
        block = client.encoder.encode([*GET, ("x-long", "abc" * 20)])
        parts = [block[i : i + 20] for i in range(0, len(block), 20)]
        last = len(parts) - 1
        pieces = [continuation(part, is_last=i == last) for i, part in enumerate(parts) if i]
        client.send(HeadersFrame(1, data=parts[0], flags=["END_STREAM"]), *pieces)
        assert client.answer()["status"] == 200


def test_a_conversation_may_come_octet_by_octet(proxy_factory):
    with FrameClient(proxy_factory(Answering())) as client:
        frames = [client.head(POST, end=False), DataFrame(1, data=b"abc"), DataFrame(1, flags=["END_STREAM"])]
        for octet in b"".join(frame.serialize() for frame in frames):
            client.send(bytes([octet]))
        assert client.answer()["status"] == 200


def test_a_client_that_goes_away_is_let_go(proxy_factory):
    with FrameClient(proxy_factory(Answering())) as client:
        answered(client)
        client.send(GoAwayFrame(last_stream_id=0))
        assert client.is_closed()
