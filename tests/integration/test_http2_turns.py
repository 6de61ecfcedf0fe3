"""Streams of one connection of HTTP/2 that begin or end at once do so over several turns of the loop."""

import asyncio
import socket
from collections import Counter

import pytest
from conversations import wait_until
from http2_frames import GET, FrameClient
from hyperframe.frame import DataFrame

from pingora import HttpPeer, ProxyHttp, Response, serve

N = 100
ACTIVE = "pingora_requests_active"
BEGIN_MOST = 16
DIAL_MOST = 4
END_MOST = 8


class Turns(ProxyHttp):
    """In which turn how many requests began and ended."""

    def __init__(self, address=None):
        self.peer = address and HttpPeer(address)
        self.began, self.ended = Counter(), Counter()
        self.serving = None
        self.addresses = set()  # where clients connected to

    def request_filter(self, session, ctx):
        self.began[self.serving.reactor.n_ticks] += 1
        return None if self.peer else Response(200, {}, b"hi")

    def upstream_peer(self, session, ctx):
        return self.peer

    def logging(self, session, error, ctx):
        self.ended[self.serving.reactor.n_ticks] += 1
        self.addresses.add(session.server_address)


@pytest.fixture
def silent():
    """An origin that takes connections and answers nothing; its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=2 * N) as listener:
        host, port = listener.getsockname()
        yield f"{host}:{port}"


def start(proxy_factory, hooks):
    proxy = proxy_factory(hooks)
    hooks.serving = proxy.serving
    return proxy


def ask(client):
    client.send(*[client.head(GET, i) for i in range(1, 2 * N, 2)])


def ask_and_wait(client, proxy):
    """Ask, and return when all requests wait for the origin."""
    ask(client)
    assert wait_until(lambda: proxy.serving.counters[ACTIVE] == N)


def test_requests_that_open_connections_begin_few_at_a_time(proxy_factory, silent):
    hooks = Turns(silent)
    proxy = start(proxy_factory, hooks)
    with FrameClient(proxy) as client:
        ask_and_wait(client, proxy)
    assert max(hooks.began.values()) == DIAL_MOST


def test_requests_that_open_none_begin_more_at_a_time_the_longer_that_goes_on(proxy_factory):
    hooks = Turns()
    proxy = start(proxy_factory, hooks)
    with FrameClient(proxy) as client:
        ask(client)
        ended = set()
        for frame in client.frames():
            if isinstance(frame, DataFrame) and "END_STREAM" in frame.flags:
                ended.add(frame.stream_id)
            if len(ended) == N:
                break
    begun = [hooks.began[turn] for turn in sorted(hooks.began)]
    assert begun[:3] == [4, 8, 16]
    assert max(begun) == BEGIN_MOST


def test_requests_of_a_client_that_is_gone_end_few_at_a_time(proxy_factory, silent):
    hooks = Turns(silent)
    proxy = start(proxy_factory, hooks)
    with FrameClient(proxy) as client:
        ask_and_wait(client, proxy)
    assert wait_until(lambda: hooks.ended.total() == N)
    assert max(hooks.ended.values()) == END_MOST
    assert hooks.addresses == {f"127.0.0.1:{proxy.port}"}
    assert proxy.serving.counters[ACTIVE] == 0


@pytest.mark.parametrize("is_gone", [False, True], ids=["present", "gone"])
def test_a_service_that_ends_ends_all_its_requests(silent, is_gone):
    """Those as well whose client has just gone, which end turn by turn."""
    hooks = Turns(silent)

    async def run():
        async with serve(hooks, grace=0.0) as hooks.serving:
            host, _, port = hooks.serving.address.rpartition(":")
            with FrameClient(sock=socket.create_connection((host, int(port)))) as client:
                ask(client)
                while hooks.serving.counters[ACTIVE] < N:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                if is_gone:
                    client.sock.close()
                    while not hooks.ended:  # noqa: ASYNC110
                        await asyncio.sleep(0)
                assert hooks.ended.total() < N

    asyncio.run(run())
    assert hooks.ended.total() == N
