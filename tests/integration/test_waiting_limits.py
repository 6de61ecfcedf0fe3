"""Whoever keeps the proxy waiting is limited: in time, in requests it may have under way, in what is kept for it."""

import asyncio
import logging
import threading

import pytest
from conversations import GET, Forwarding, post, wait_until
from inside import settle

from pingora import HttpPeer, Limits, Response
from pingora.testing import read_all

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
SOON = 0.05
KEEP = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Hurried(Forwarding):
    def __init__(self, address):
        self.peer = HttpPeer(address, read_timeout=SOON)


class Filters(Hurried):
    async def request_body_filter(self, session, chunk, end, ctx):
        await asyncio.sleep(3 * SOON)  # the client need not send meanwhile


@pytest.mark.parametrize(
    ("kind", "begun"), [(Hurried, b""), (Filters, b"ab")], ids=["never begins", "stops after a filter took its time"]
)
def test_a_body_that_does_not_come_is_answered_408(proxy_factory, origin_factory, kind, begun):
    def never(connection, data):
        connection.recv(65536)

    proxy = proxy_factory(kind(origin_factory(never).address), Limits(body_timeout=SOON))
    with proxy.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n" + begun)
        assert read_all(client).startswith(b"HTTP/1.1 408 ")


class Streams(Forwarding):
    """Answers with 24 MB in large parts that are there at once."""

    def __init__(self, n_parts):
        self.part = bytes(24_000_000 // n_parts)
        self.n_parts = n_parts
        self.n_taken = 0

    def request_filter(self, session, ctx):
        return Response(200, body=self.parts(session))

    async def parts(self, session):
        for _ in range(self.n_parts):
            self.n_taken += 1
            yield self.part


class ReadsAndStreams(Streams):
    async def parts(self, session):
        await asyncio.sleep(0)  # what follows is written outside of any turn
        if session.request.method == "POST":
            await session.read_body()
        async for part in super().parts(session):
            yield part


def test_a_client_that_takes_nothing_of_a_streamed_response_is_cut_after_write_timeout(proxy_factory):
    proxy = proxy_factory(ReadsAndStreams(3), Limits(write_timeout=SOON))
    with proxy.connect() as client:
        client.sendall(KEEP)
        client.recv(1)
        wait_until(lambda: proxy.serving.activity()[1] == 0)


def test_a_client_may_take_a_streamed_response_later_than_it_had_to_send_its_body(proxy_factory):
    hooks = ReadsAndStreams(3)
    proxy = proxy_factory(hooks, Limits(body_timeout=SOON))
    with proxy.connect(10) as client:
        client.sendall(post(b"hello"))
        client.recv(1)
        proxy.call(asyncio.sleep(3 * SOON))  # what is tested is that nothing happens meanwhile
        assert read_all(client).endswith(b"\r\n0\r\n\r\n")
    assert hooks.n_taken == hooks.n_parts


def test_a_streamed_response_that_never_suspends_goes_no_faster_than_the_client(proxy_factory):
    hooks = Streams(24)
    proxy = proxy_factory(hooks)
    with proxy.connect() as client:
        client.sendall(KEEP)
        client.recv(1)
        settle(proxy)
        assert hooks.n_taken < hooks.n_parts // 2, "the rest is not even made"


def test_a_client_that_reads_no_answers_has_few_requests_under_way(proxy_factory):
    """Or its answers would use up the memory, and the buffers of everybody else."""
    n, size = 400, 60_000
    body = b"x" * size

    class Large(Forwarding):
        def request_filter(self, session, ctx):
            return Response(200, body=body)

    proxy = proxy_factory(Large("127.0.0.1:1"))
    (service,) = proxy.serving.services
    with proxy.connect(10) as client:
        client.sendall(KEEP * (n - 1) + GET)
        client.recv(1)
        settle(proxy)
        assert service.n_requests < n // 2
        assert proxy.exchange(GET).endswith(body), "others are served"
        assert read_all(client).count(b" 200 OK\r\n") == n, "all are answered once it reads"


@pytest.mark.parametrize(("n", "status"), [(16, 200), (17, 502)])
def test_interim_answers_are_counted(proxy_factory, origin_factory, caplog, n, status):
    caplog.set_level(logging.CRITICAL + 1)
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    answer = proxy_factory(Forwarding(origin_factory(hints * n + HELLO).address)).exchange(GET)
    assert answer.count(b"HTTP/1.1 103 ") == 16
    assert b"HTTP/1.1 %d " % status in answer


def test_a_logging_hook_that_takes_too_long_leaves_a_good_session_good(proxy_factory, origin_factory):
    sessions = []
    is_cancelled = threading.Event()

    class Logs(Forwarding):
        async def logging(self, session, error, ctx):
            sessions.append(session)
            try:
                await asyncio.sleep(3600)
            finally:
                is_cancelled.set()

    proxy = proxy_factory(Logs(origin_factory(HELLO).address), Limits(hook_timeout=SOON))
    assert proxy.exchange(GET).endswith(b"hello")
    assert is_cancelled.wait(10)
    assert sessions[0].error is None
