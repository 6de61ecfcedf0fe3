"""What a client of HTTP/2 can do to a proxy by valid or invalid frames: each ends at a limit, others are served on.

The rows are those of docs/http2.md. Memory is that of the process and of the core's buffers.
"""

from pathlib import Path

import pytest
from conversations import proxy_to, wait_until
from http2_frames import GET, POST, FrameClient, continuation, replaced
from hyperframe.frame import (
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from pingora import Limits, ProxyHttp, Response
from pingora.testing import read_all
from pingora_c.mem.buffer_pool import stats

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
GROWTH = 2 << 20
FLOOD = 'pingora_connections_closed_total{reason="http2_flood"}'
BROKEN = 'pingora_connections_closed_total{reason="http2_error"}'
WINDOW = SettingsFrame.INITIAL_WINDOW_SIZE


class Answering(ProxyHttp):
    """Answers everything itself."""

    def upstream_peer(self, session, ctx):
        raise AssertionError

    def request_filter(self, session, ctx):
        return Response(200, {}, b"hi")


def resident():
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def settings_flood(client):
    client.send(*[SettingsFrame(settings={4: 65535})] * 5000)


def ping_flood(client):
    client.send(*[PingFrame(opaque_data=b"12345678")] * 5000)


def priority_flood(client):
    client.send(*[PriorityFrame(2 * i + 1, depends_on=0, stream_weight=i % 256) for i in range(5000)])


def unknown_flood(client):
    client.send(b"\0\0\1\xee\0\0\0\0\0x" * 5000)


def empty_data(client):
    client.send(client.head(POST, end=False), *[DataFrame(1)] * 50)


def continuations(client):
    head = HeadersFrame(1, data=client.encoder.encode(GET))
    client.send(head, *[continuation(b"", is_last=False)] * 50)


def window_updates(client):
    client.send(*[WindowUpdateFrame(0, window_increment=1)] * 2000)


def rapid_reset(client):
    for first in range(0, 4000, 100):
        ids = range(2 * first + 1, 2 * (first + 100), 2)
        pairs = [(client.head(GET, i), RstStreamFrame(i, error_code=8)) for i in ids]
        client.send(*[frame for pair in pairs for frame in pair])


def made_resets(client):
    """Streams that the proxy has to reset, since the client breaks a rule on each."""
    for i in range(1, 8001, 2):
        client.send(client.head(GET, i, end=False), WindowUpdateFrame(i, window_increment=2**31 - 1))


def hpack_bomb(client):
    """One large entry of the table, named again and again."""
    entry = [("x-large", "a" * 3500)]
    client.send(client.head([*GET, *entry]))
    for i in range(3, 203, 2):
        client.send(client.head([*GET, *entry * 60], i))


def crumbs(client):
    """Many small fields that cost more than they weigh, cookie crumbs among them."""
    for i in range(1, 201, 2):
        client.send(client.head([*GET, *[("cookie", "a=b")] * 4000], i))


FLOODS = [
    settings_flood, ping_flood, priority_flood, unknown_flood, empty_data, continuations, window_updates, rapid_reset,
    made_resets, hpack_bomb, crumbs,
]  # fmt: skip


@pytest.mark.parametrize("attack", FLOODS, ids=lambda attack: attack.__name__)
def test_a_flood_ends_the_connection_and_costs_no_memory(proxy_factory, attack):
    proxy = proxy_factory(Answering())
    with FrameClient(proxy) as client, FrameClient(proxy) as other:
        other.request()
        assert other.answer()["status"] == 200
        before = resident()
        attack(client)
        assert client.goaway() in ("ENHANCE_YOUR_CALM", "closed")
        assert client.is_closed()
        assert resident() - before < GROWTH
        other.request(stream_id=3)
        assert other.answer(3)["status"] == 200
    assert wait_until(lambda: proxy.serving.counters[FLOOD] == 1)
    assert wait_until(lambda: proxy.serving.counters["pingora_requests_active"] == 0)


def test_more_settings_in_a_frame_than_anybody_needs_end_the_connection(proxy_factory):
    proxy = proxy_factory(Answering())
    with FrameClient(proxy) as client:
        client.send(b"\0\1\x80\4\0\0\0\0\0" + b"\0\1\0\0\x10\0" * 64)
        assert client.is_closed()
    assert proxy.serving.counters[FLOOD] + proxy.serving.counters[BROKEN] == 1


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


def test_resets_within_the_budget_are_allowed(proxy_factory):
    with FrameClient(proxy_factory(Answering())) as client:
        for i in range(1, 201, 2):
            client.send(client.head(GET, i), RstStreamFrame(i, error_code=8))
        assert client.is_alive()
        client.request(stream_id=301)
        assert client.answer(301)["status"] == 200


def test_a_client_that_does_not_read_holds_no_more_than_its_streams(proxy_factory, origin_factory):
    """Windows wide open, the socket full: what waits is bounded for each stream."""

    def endless(connection, _data):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 9000000)

    proxy = proxy_factory(proxy_to(origin_factory(endless).address))
    with FrameClient(proxy, settings={WINDOW: 2**31 - 1}) as client, FrameClient(proxy) as other:
        client.send(WindowUpdateFrame(0, window_increment=2**30))
        client.send(*[client.head(GET, i) for i in range(1, 41, 2)])
        for i in range(1, 21, 2):
            assert other.is_alive()
            other.request(replaced(GET, method="TRACE"), i)
            assert other.answer(i)["status"] == 405
        now = stats()
        assert now["lent_bytes"] + now["reserved_bytes"] < 20 * 192 * 1024 + (1 << 20)


def test_after_all_that_http_1_is_served(proxy_factory):
    proxy = proxy_factory(Answering())
    with FrameClient(proxy) as client:
        ping_flood(client)
        assert client.is_closed()
    with proxy.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert read_all(sock).endswith(b"hi")
