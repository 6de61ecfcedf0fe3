"""What a client of HTTP/2 can do to a proxy by valid or invalid frames: each ends at a limit, others are served on.

The rows are those of docs/http2.md. Memory here is that of the core's buffers; test_http2_attack_costs.py has that of a
process, and its time. That another client waits no longer than without the attack is measured by benches/attacks.py.
"""

import itertools
import socket
import threading
from collections import Counter

import pytest
from conversations import proxy_to, wait_until
from http2_attacks import FLOODS, HOLDS, LARGE_PATH, recorded
from http2_frames import CODES, GET, POST, FrameClient, continuation, replaced
from hyperframe.frame import (
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from unread_answers import held, wait_still

from pingora import HttpPeer, Limits, ProxyHttp, Response
from pingora.testing import read_all

GROWTH = 2 << 20
ANSWERS = 20  # that the other client gets while an attack goes on
SESSIONS_MOST = 400  # that one connection may begin before it ends at a limit
FLOOD = 'pingora_connections_closed_total{reason="http2_flood"}'
BROKEN = 'pingora_connections_closed_total{reason="http2_error"}'
REQUESTS = "pingora_requests_total"
HELD_MOST = {"bomb_within_limits": 1 << 19}  # 400 KiB
UNREAD_MOST = 1 << 20  # of twenty answers: 760 KiB
ENDS = ["ENHANCE_YOUR_CALM", "closed"]  # the latter where what the client still sends meets a closed socket
BREACHES = ["FLOW_CONTROL_ERROR", "PROTOCOL_ERROR", "FRAME_SIZE_ERROR", "STREAM_CLOSED"]
WINDOW = SettingsFrame.INITIAL_WINDOW_SIZE
UNKNOWN = b"\0\0\0\x7f\0\0\0\0\0"  # a frame of no type


class Answering(ProxyHttp):
    """Answers everything itself, but for what is large: that comes from an origin, as long as somebody takes it."""

    def __init__(self, address="127.0.0.1:1"):
        self.peer = HttpPeer(address)

    def upstream_peer(self, session, ctx):
        assert session.request.path == LARGE_PATH
        return self.peer

    async def request_filter(self, session, ctx):
        if session.request.path == LARGE_PATH:
            return None
        if session.request.method == "POST":
            await session.read_body()
        return Response(200, {}, b"hi")

    def suppress_error_log(self, session, error, ctx):
        return True  # pytest would keep each record


def large(connection, _data):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 9000000)


class Neighbour:
    """A client that asks one request after the other over one connection, and checks each answer."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.n_answers = 0
        self.trouble = None
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        self.wait_for(1)
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()
        assert self.trouble is None, self.trouble

    def wait_for(self, number):
        """Wait for so many answers more."""
        wanted = self.n_answers + number
        wait_until(lambda: self.trouble or self.n_answers >= wanted)

    def run(self):
        try:
            with FrameClient(self.proxy) as client:
                while not self.is_over.is_set():
                    stream_id = 2 * self.n_answers + 1
                    client.request(stream_id=stream_id)
                    answer = client.answer(stream_id)
                    assert (answer["status"], answer["body"]) == (200, b"hi"), answer
                    self.n_answers += 1
        except Exception as trouble:
            self.trouble = trouble


@pytest.mark.parametrize("attack", FLOODS, ids=lambda attack: attack.__name__)
def test_a_flood_ends_its_connection_and_others_are_served_meanwhile(proxy_factory, attack):
    proxy, opening = proxy_factory(Answering()), recorded(attack.__name__)
    codes, counters = ENDS, [FLOOD]
    if attack.__name__.startswith("made_resets"):  # nghttp2, by its version, ends the connection at some
        codes, counters = [*codes, *BREACHES], [FLOOD, BROKEN]
    n_attacks = 0
    with Neighbour(proxy) as neighbour:
        n_before = neighbour.n_answers
        while neighbour.trouble is None and neighbour.n_answers < n_before + ANSWERS:
            begun = proxy.serving.counters[REQUESTS] - neighbour.n_answers
            with FrameClient(proxy, opening=opening) as client:
                assert client.goaway() in codes
                assert client.is_closed()
            n_attacks += 1
            assert proxy.serving.counters[REQUESTS] - neighbour.n_answers - begun < SESSIONS_MOST
    assert wait_until(lambda: sum(proxy.serving.counters[name] for name in counters) == n_attacks)
    assert wait_until(lambda: proxy.serving.counters["pingora_requests_active"] == 0)


@pytest.mark.parametrize("attack", HOLDS, ids=lambda attack: attack.__name__)
def test_what_a_client_can_hold_is_bounded_and_others_are_served_meanwhile(proxy_factory, origin_factory, attack):
    proxy, opening = proxy_factory(Answering(origin_factory(large).address)), recorded(attack.__name__)
    with Neighbour(proxy) as neighbour:
        before, n_before = held(), neighbour.n_answers
        with FrameClient(proxy, opening=opening) as client:
            neighbour.wait_for(ANSWERS)
            assert held() - before < HELD_MOST.get(attack.__name__, GROWTH)
            assert neighbour.n_answers >= n_before + ANSWERS
            assert not client.is_over
    assert wait_until(lambda: proxy.serving.counters["pingora_requests_active"] == 0)
    assert wait_until(lambda: held() == before)


def test_streams_beyond_the_limit_are_refused_and_reach_no_origin(proxy_factory, origin_factory):
    def silent(connection, _data):
        connection.recv(1)

    origin = origin_factory(silent)
    proxy = proxy_factory(proxy_to(origin.address), Limits(http2_streams=4))
    with FrameClient(proxy) as client:
        client.send(*[client.head(GET, i) for i in range(1, 13, 2)])
        assert client.refusal() == "REFUSED_STREAM"
        assert proxy.serving.counters["pingora_requests_active"] == 4
    assert wait_until(lambda: proxy.serving.counters["pingora_requests_active"] == 0)


def test_streams_beyond_the_limit_with_their_bodies_leave_the_others_alone(proxy_factory):
    """As a client may send them that has not seen our SETTINGS yet."""
    with FrameClient(proxy_factory(Answering(), Limits(http2_streams=4))) as client:
        ids = range(1, 13, 2)
        bodies = [DataFrame(i, data=b"body", flags=["END_STREAM"]) for i in ids]
        client.send(
            *[frame for i, body in zip(ids, bodies, strict=True) for frame in (client.head(POST, i, False), body)]
        )
        ended = {}
        for frame in client.frames():
            if isinstance(frame, RstStreamFrame):
                ended[frame.stream_id] = CODES[frame.error_code]
            elif isinstance(frame, DataFrame):
                ended[frame.stream_id] = frame.data
            if len(ended) == len(ids):
                break
        assert ended == {1: b"hi", 3: b"hi", 5: b"hi", 7: b"hi", 9: "REFUSED_STREAM", 11: "REFUSED_STREAM"}
        assert client.is_alive()


def test_one_read_begins_so_many_requests_and_the_others_in_the_next_turns(proxy_factory):
    class Counting(Answering):
        def __init__(self):
            self.turns = Counter()

        async def request_filter(self, session, ctx):
            self.turns[proxy.serving.reactor.n_ticks] += 1
            return Response(200, {}, b"hi")

    hooks = Counting()
    proxy = proxy_factory(hooks, Limits(http2_streams=1000))
    with FrameClient(proxy) as client:
        ids = range(1, 1001, 2)
        client.send(*[client.head(GET, i) for i in ids])
        got = set()
        for frame in client.frames():
            if isinstance(frame, DataFrame) and "END_STREAM" in frame.flags:
                got.add(frame.stream_id)
            if len(got) == len(ids):
                break
    assert hooks.turns.total() == 500
    assert max(hooks.turns.values()) <= 16


def test_resets_within_the_budget_are_allowed(proxy_factory):
    with FrameClient(proxy_factory(Answering())) as client:
        for i in range(1, 201, 2):
            client.send(client.head(GET, i), RstStreamFrame(i, error_code=8))
        assert client.is_alive()
        client.request(stream_id=301)
        assert client.answer(301)["status"] == 200


def test_a_client_that_does_not_read_holds_no_more_than_its_streams(proxy_factory, origin_factory):
    """Windows wide open, the socket full: what waits is bounded for each stream."""
    proxy = proxy_factory(proxy_to(origin_factory(large).address))
    before = held()
    with FrameClient(proxy, settings={WINDOW: 2**31 - 1}) as client, FrameClient(proxy) as other:
        client.send(WindowUpdateFrame(0, window_increment=2**30))
        client.send(*[client.head(GET, i) for i in range(1, 41, 2)])
        for i in range(1, 21, 2):
            assert other.is_alive()
            other.request(replaced(GET, method="TRACE"), i)
            assert other.answer(i)["status"] == 405
        wait_still(held)
        assert held() - before < UNREAD_MOST


def pings(count):
    return [PingFrame(opaque_data=number.to_bytes(8)) for number in range(count)]


def pongs(client, count):
    """Read so many answers to PING."""
    answers = (frame for frame in client.frames() if isinstance(frame, PingFrame))
    return [int.from_bytes(frame.opaque_data) for frame in itertools.islice(answers, count)]


def test_answers_to_frames_that_wait_to_leave_are_limited(proxy_factory):
    """All of them come in one read, so that none can leave before."""
    proxy = proxy_factory(Answering())
    with FrameClient(proxy) as client:
        client.send(*pings(200))
        assert pongs(client, 200) == list(range(200))
        assert client.is_alive()
    assert proxy.serving.counters[FLOOD] == 0
    with FrameClient(proxy) as client:
        client.send(*pings(300))
        assert client.goaway() in ENDS
        assert client.is_closed()
    assert wait_until(lambda: proxy.serving.counters[FLOOD] == 1)


@pytest.fixture
def unread(proxy_factory, origin_factory):
    """A client that has asked for more than it takes, once nothing more leaves."""
    proxy = proxy_factory(proxy_to(origin_factory(large).address))
    with FrameClient(proxy, settings={WINDOW: 2**31 - 1}) as client:
        client.send(WindowUpdateFrame(0, window_increment=2**30))
        client.request()
        wait_still(held)
        client.proxy = proxy
        yield client


def test_a_client_that_does_not_read_gets_two_hundred_answers_later(unread):
    unread.send(*pings(200))
    assert pongs(unread, 200) == list(range(200))
    assert unread.is_alive()


@pytest.mark.parametrize("frames", [pings(300), [UNKNOWN] * 1001], ids=["answers", "frames"])
def test_a_flood_of_a_client_that_does_not_read_is_counted_at_once_and_answered_when_it_reads(unread, frames):
    unread.send(*frames)
    assert wait_until(lambda: unread.proxy.serving.counters[FLOOD] == 1)
    assert unread.goaway() == "ENHANCE_YOUR_CALM"
    assert unread.is_closed()


def test_a_flood_is_counted_though_its_client_has_left_when_it_is_read(proxy_factory):
    arrived, left = threading.Event(), threading.Event()

    class Holding(Answering):
        def request_filter(self, session, ctx):
            arrived.set()
            left.wait()  # the worker reads nothing meanwhile

    proxy = proxy_factory(Holding())
    with FrameClient(proxy) as client:
        client.request()
        arrived.wait()
        client.send(*[UNKNOWN] * 1001)
        client.sock.shutdown(socket.SHUT_WR)  # one that closes may take back what is not read yet, with a reset
        left.set()
        assert wait_until(lambda: proxy.serving.counters[FLOOD] == 1)


def test_priorities_are_limited_and_each_request_gives_two_back(proxy_factory):
    priority = PriorityFrame(9, depends_on=0, stream_weight=1)
    with FrameClient(proxy_factory(Answering())) as client:
        client.send(*[priority] * 356)
        assert client.is_alive()
        client.request()
        assert client.answer()["status"] == 200
        client.send(priority, priority)
        assert client.is_alive()
        client.send(priority)
        assert client.goaway() == "ENHANCE_YOUR_CALM"
        assert client.is_closed()


def test_each_request_gives_updates_back(proxy_factory):
    """Clients widen a stream's window as they open it, also where the answer has no body to fill it."""

    class Empty(Answering):
        def request_filter(self, session, ctx):
            return Response(204)

    with FrameClient(proxy_factory(Empty())) as client:
        for i in range(1, 1001, 2):
            client.send(client.head(GET, i), WindowUpdateFrame(i, window_increment=1 << 20))
            assert client.answer(i)["status"] == 204
        assert client.is_alive()


def section_of(client, size):
    """Frames of a head whose field section has `size` bytes as it is sent, and more fields than are allowed."""
    block = client.encoder.encode(GET)
    while size > len(block):
        value_size = min(100, size - len(block) - 4) if size - len(block) not in range(105, 109) else 50
        block += b"\x10\x01a" + bytes([value_size]) + b"b" * value_size
    assert len(block) == size
    parts = [block[at : at + 16384] for at in range(0, size, 16384)]
    rest = [continuation(part, is_last=part is parts[-1]) for part in parts[1:]]
    return [HeadersFrame(1, data=parts[0], flags=["END_STREAM"]), *rest]


def test_a_field_section_is_limited_as_it_is_sent(proxy_factory):
    proxy = proxy_factory(Answering())
    with FrameClient(proxy) as client:
        client.send(*section_of(client, 65536))
        assert client.answer()["status"] == 431
        assert client.is_alive()
    with FrameClient(proxy) as client:
        client.send(*section_of(client, 65537))
        assert client.goaway() == "ENHANCE_YOUR_CALM"
        assert client.is_closed()
    assert proxy.serving.counters[FLOOD] == 1


def test_after_all_that_http_1_is_served(proxy_factory):
    proxy = proxy_factory(Answering())
    with FrameClient(proxy, opening=recorded("ping_flood")) as client:
        assert client.is_closed()
    with proxy.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert read_all(sock).endswith(b"hi")
