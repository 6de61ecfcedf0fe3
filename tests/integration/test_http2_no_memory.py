"""Memory for buffers that runs out in the middle of a frame of HTTP/2: nothing crashes, nothing gets into the frame."""

import contextlib
import threading

import pytest
from conversations import dechunk, wait_until
from h2_origin import RawOrigin
from http2_frames import GET, FrameClient, replaced
from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame, SettingsFrame
from scarce import Scarce

from pingora.testing import read_all

ROOMS = [0, 2000, 4000, 8000, 12000, 16000, 20000]
WHOLE = 60_000  # too much to be promised its room before it comes
PART = 20_000  # what comes of that while memory is scarce
STEPS = ("asked", "may_send", "has_sent", "may_end")  # of an answer
REST = 30_000


class Origin:
    """Sends a part of the answer to /part when it may, and whole answers else; for `origin_factory`."""

    def __init__(self):
        self.may_send, self.has_sent, self.may_end = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, connection, data):
        if b"/part" not in data:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (REST, b"B" * REST))
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % WHOLE)
        assert self.may_send.wait(10)
        connection.sendall(b"A" * PART)
        self.has_sent.set()
        self.may_end.wait(10)


def settled(proxy):
    """What is held when no client is there."""
    wait_until(lambda: proxy.ask("proxy.serving.n_connections") == 0)
    return proxy.held()


def bodies(client, last):
    """Read until stream `last` or the connection has ended; the bytes of each stream, and how it went."""
    got = {}
    try:
        for frame in client.frames():
            if isinstance(frame, DataFrame):
                got[frame.stream_id] = got.get(frame.stream_id, b"") + frame.data
            if frame.stream_id == last and "END_STREAM" in frame.flags:
                return got, "answered"
            if frame.stream_id == last and isinstance(frame, RstStreamFrame):
                return got, "reset"
    except TimeoutError:
        return got, f"{len(client.buffer)} bytes of a frame whose rest does not come"
    return got, "closed"


@contextlib.contextmanager
def partly_answered(origin_factory, room):
    """A proxy, and a client of whom a part of an answer has met `room` bytes of memory; more is there again."""
    origin = Origin()
    with Scarce(origin_factory(origin).address) as proxy, FrameClient(proxy, timeout=3) as client:
        client.request(replaced(GET, path="/part"))
        client.until(lambda frame: isinstance(frame, HeadersFrame))
        proxy.leave_room(room)
        origin.may_send.set()
        assert origin.has_sent.wait(10)
        proxy.turn()
        proxy.leave_all()
        yield proxy, client
        origin.may_end.set()


def others_are_served(proxy):
    with FrameClient(proxy) as other:
        other.request()
        return other.answer()["body"] == b"B" * REST


@pytest.mark.parametrize("room", ROOMS)
def test_an_answer_that_finds_no_memory_takes_no_other_connection_with_it(origin_factory, room):
    with partly_answered(origin_factory, room) as (proxy, _):
        assert others_are_served(proxy)


@pytest.mark.parametrize("room", ROOMS)
def test_no_other_answer_comes_within_a_frame_that_found_no_memory(origin_factory, room):
    with partly_answered(origin_factory, room) as (proxy, client):
        client.request(stream_id=3)
        got, outcome = bodies(client, 3)
        assert set(got.get(1, b"")) <= set(b"A")
        assert set(got.get(3, b"")) <= set(b"B")
        assert outcome in ("answered", "closed")
        assert outcome == "closed" or len(got[3]) == REST
        assert others_are_served(proxy)


@pytest.mark.parametrize("room", ROOMS)
def test_what_an_answer_held_that_found_no_memory_is_given_back(origin_factory, room):
    with Scarce(origin_factory(b"HTTP/1.1 204 No Content\r\n\r\n").address) as proxy:
        before = proxy.held()
    with partly_answered(origin_factory, room) as (proxy, client):
        assert others_are_served(proxy)
        client.sock.close()
        wait_until(lambda: settled(proxy) <= before)


def test_whatever_room_a_whole_answer_finds_all_goes_on(origin_factory):
    """One process for all: what one round breaks, the next ones show."""
    turns = {}

    def script(connection, data):
        turn = turns.get(data.split()[1])
        if turn is None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (REST, b"B" * REST))
            return
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % WHOLE
        turn["asked"].set()
        assert turn["may_send"].wait(10)
        connection.sendall(head + b"A" * PART)
        turn["has_sent"].set()
        assert turn["may_end"].wait(10)
        connection.sendall(b"A" * (WHOLE - PART))

    with Scarce(origin_factory(script).address) as proxy:
        assert others_are_served(proxy)
        before = settled(proxy)
        for room in range(0, 32_000, 1000):
            path = f"/{room}"
            turn = turns[path.encode()] = {name: threading.Event() for name in STEPS}
            with FrameClient(proxy) as client:
                client.request(replaced(GET, path=path))
                assert turn["asked"].wait(10)
                proxy.leave_room(room)
                turn["may_send"].set()
                assert turn["has_sent"].wait(10)
                proxy.turn()
                proxy.leave_all()
                turn["may_end"].set()
                got, outcome = bodies(client, 1)
                body = got.get(1, b"")
                assert set(body) <= set(b"A") or body == b"503 no_memory\n", room
                assert outcome in ("answered", "reset", "closed"), room
                assert outcome != "answered" or body in (b"A" * WHOLE, b"503 no_memory\n"), room
            assert others_are_served(proxy)
        wait_until(lambda: settled(proxy) <= before)


def read_frames(heads, frames):
    """A script that notes the frames of each connection until it ends, and answers what is whole."""

    def script(peer, number):
        peer.preface()
        peer.send(SettingsFrame(0), SettingsFrame(0, flags=["ACK"]))
        while True:
            frame = peer.frame()
            if isinstance(frame, HeadersFrame):
                heads.append(frame.stream_id)
            elif isinstance(frame, DataFrame):
                frames.append((number, frame.stream_id, bytes(frame.data)))
            if isinstance(frame, HeadersFrame | DataFrame) and "END_STREAM" in frame.flags:
                peer.answer(frame.stream_id)

    return script


UPLOAD = b"POST /%c HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize("room", ROOMS)
def test_no_other_request_comes_within_a_frame_that_found_no_memory(room):
    heads, frames = [], []
    with (
        contextlib.closing(RawOrigin(read_frames(heads, frames))) as origin,
        Scarce(origin.address, "h2") as proxy,
        proxy.connect() as first,
        proxy.connect() as second,
    ):
        first.sendall(UPLOAD % (b"A", WHOLE))
        wait_until(lambda: heads)
        proxy.leave_room(room)
        first.sendall(b"A" * PART)
        proxy.turn()
        proxy.leave_all()
        second.sendall(UPLOAD % (b"B", PART) + b"B" * PART)
        answer = read_all(second)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert dechunk(answer) == (b"ok", b"\r\n")
        by_stream = {}
        for number, stream_id, piece in frames:
            by_stream[number, stream_id] = by_stream.get((number, stream_id), b"") + piece
        bodies = sorted(body for body in by_stream.values() if body)
        assert bodies[-1] == b"B" * PART
        assert all(set(body) <= set(b"A") for body in bodies[:-1])
