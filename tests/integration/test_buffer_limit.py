"""What all buffers together may have: new requests are refused before those that run lack memory."""

import asyncio
import contextlib
import gc
import socket
import threading

import pytest
from conversations import GET, Forwarding, post, wait_until
from http2_frames import POST, FrameClient
from hyperframe.frame import DataFrame
from inside import Gate, narrow, settle
from unread_answers import held

from pingora import Limits, LoadBalancer, ProxyHttp, Response, RetryPolicy
from pingora.testing import read_all
from pingora_c.mem.buffer_pool import set_limit, stats

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
LIMIT = 1 << 20
REFUSED = 'pingora_refusals_total{reason="buffers_full"}'


@pytest.fixture
def before():
    """What the process's buffers hold from earlier tests: limits are told from there on."""
    gc.collect()
    return held()


class Reads(Forwarding):
    """Keeps what a client sent until it is let go."""

    def __init__(self, address):
        super().__init__(address)
        self.ended = threading.Event()

    async def request_filter(self, session, ctx):
        if session.request.method == "POST":
            await session.read_body(8 * LIMIT)
        return Response(200, body=b"hello")


def begin_upload(stack, proxy, sent, length):
    client = stack.enter_context(proxy.connect(30))
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % length)
    client.sendall(bytes(sent))
    return client


def test_a_new_request_is_refused_while_the_buffers_are_nearly_full_and_served_afterwards(before, proxy_factory):
    proxy = proxy_factory(Reads("127.0.0.1:1"), Limits(buffered_bytes=before + LIMIT))
    with contextlib.ExitStack() as stack:
        running = []
        while not (answer := proxy.exchange(GET)).startswith(b"HTTP/1.1 503 "):
            assert answer.endswith(b"hello")
            running.append(begin_upload(stack, proxy, 20_000, 20_001))  # less than what is kept for those that run
            settle(proxy)
        assert answer.endswith(b"503 buffers_full\n")
        assert proxy.serving.counters[REFUSED] == 1
        assert held() <= before + LIMIT
        for client in running:
            client.sendall(b"x")
            assert read_all(client).endswith(b"hello"), "those that run are not refused"
    wait_until(lambda: held() <= before)
    assert proxy.exchange(GET).endswith(b"hello")
    assert proxy.serving.counters[REFUSED] == 1


def test_a_body_that_the_buffers_have_no_room_for_is_answered_503(before, proxy_factory):
    proxy = proxy_factory(Reads("127.0.0.1:1"), Limits(buffered_bytes=before + LIMIT))
    with contextlib.ExitStack() as stack:
        client = begin_upload(stack, proxy, 0, 4 * LIMIT)
        with contextlib.suppress(ConnectionError):
            client.sendall(bytes(4 * LIMIT))
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b"503 no_memory\n")
    wait_until(lambda: held() <= before)


def test_slow_receivers_hold_no_more_than_the_limit_and_all_is_given_back(before, proxy_factory, origin_factory):
    done = threading.Event()

    def read_nothing(connection, data):
        done.wait(30)
        connection.close()

    origin = origin_factory(read_nothing)
    origin._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    proxy = proxy_factory(Forwarding(origin.address), Limits(buffered_bytes=before + LIMIT))
    with contextlib.ExitStack() as stack:
        stack.callback(done.set)
        for n in range(1, 13):
            client = begin_upload(stack, proxy, 0, 100 * LIMIT)
            wait_until(lambda n=n: origin.n_connections == n or proxy.serving.counters[REFUSED])
            if not proxy.serving.counters[REFUSED]:
                narrow(origin._listener.getsockname())
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError, ConnectionError):
                for _ in range(40):
                    client.send(bytes(65536))
        assert held() <= before + LIMIT
        if not proxy.serving.counters[REFUSED]:
            wait_until(lambda: held() > before)
    wait_until(lambda: held() <= before)


@pytest.mark.parametrize("size", [5, 300_000])
def test_with_the_default_a_body_that_is_read_whole_has_room(proxy_factory, size):
    proxy = proxy_factory(Reads("127.0.0.1:1"))
    assert proxy.exchange(post(bytes(size))).endswith(b"hello")


ROOM = 16384  # for a head, and not for a body that waits


@pytest.fixture
def restored():
    """Set the limit of the buffers as it was."""
    limit = stats()["limit_bytes"]
    yield
    set_limit(limit)


def test_a_body_that_finds_no_room_while_the_upstream_takes_nothing_fails_at_once(
    restored, proxy_factory, origin_factory
):
    """The upstream knows nothing of it, and waits for the rest: so would we, until read_timeout."""
    may_send = threading.Event()
    ended = threading.Event()

    def take_nothing(connection, data):
        narrow(origin._listener.getsockname())
        set_limit(held() + ROOM)
        may_send.set()
        ended.wait(30)

    origin = origin_factory(take_nothing)
    proxy = proxy_factory(Forwarding(origin.address))
    with proxy.connect(20) as client:
        client.sendall(post(bytes(300_000))[:-300_000])
        assert may_send.wait(10)
        with contextlib.suppress(ConnectionError):
            client.sendall(bytes(300_000))
        assert read_all(client).startswith(b"HTTP/1.1 503 ")
    ended.set()
    assert proxy.serving.counters['pingora_failures_total{reason="no_memory"}'] == 1


def test_a_request_whose_interim_answer_finds_no_room_fails(restored, proxy_factory, origin_factory):
    """A client may wait for it: it is not left out."""
    has_ended = threading.Event()

    def hint(connection, data):
        set_limit(held() + 4096)  # for the head that comes, and not for the one that goes on
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        if not connection.recv(1):
            has_ended.set()

    proxy = proxy_factory(Forwarding(origin_factory(hint).address))
    with proxy.connect(20) as client:
        client.sendall(GET)
        assert not read_all(client).startswith(b"HTTP/1.1 200 ")
    assert has_ended.wait(10)
    assert proxy.serving.counters['pingora_failures_total{reason="no_memory"}'] == 1


@pytest.mark.parametrize("then", ["reads", "answers"])
def test_an_upload_of_http2_that_finds_no_room_while_a_hook_works_is_answered_503(restored, proxy_factory, then):
    class Waits(Forwarding):
        async def request_filter(self, session, ctx):
            await self.gate.wait()
            if then == "reads":
                await session.read_body(LIMIT)
            return Response(200)

        def logging(self, session, error, ctx):
            self.logged.append((session.response.status, error and error.reason))

    hooks = Waits("127.0.0.1:1")
    hooks.gate, hooks.logged = Gate(), []
    proxy = proxy_factory(hooks)
    before = held()
    with FrameClient(proxy) as client:
        client.send(client.head(POST, end=False))
        hooks.gate.await_hook()
        whole = stats()["limit_bytes"]
        set_limit(held() + 12000)  # for the answer, which takes two small buffers
        client.send(DataFrame(1, data=bytes(16000)))
        for _ in range(3):  # in which it is taken
            proxy.call(asyncio.sleep(0))
        set_limit(whole)
        hooks.gate.open()
        answer = client.answer()
        assert (answer["status"], answer["body"]) == (503, b"503 no_memory\n")
        assert client.is_alive()
    wait_until(lambda: hooks.logged)
    assert hooks.logged == [(503, "no_memory")]
    assert proxy.serving.counters['pingora_failures_total{reason="no_memory"}'] == 1
    wait_until(lambda: held() <= before)


class Waits(ProxyHttp):
    """Hooks that wait, for which the rest of a message has to be kept; and what became of it."""

    def __init__(self, address):
        self.upstreams = LoadBalancer([address])
        self.retry = RetryPolicy(attempts=1)
        self.gate = Gate()
        self.logged = []

    async def request_filter(self, session, ctx):
        if session.request.method == "POST":
            await self.gate.wait()

    async def response_filter(self, session, response, ctx):
        await self.gate.wait()

    def logging(self, session, error, ctx):
        self.logged.append((error and error.reason, error and error.source))


def run_out_of_memory(send):
    """Send what finds no room; everything else does from then on."""
    now = stats()
    set_limit(held() + ROOM)
    send()
    wait_until(lambda: stats()["refused"] > now["refused"])
    set_limit(now["limit_bytes"])


def test_an_answer_that_finds_no_room_is_no_fault_of_the_upstream(restored, proxy_factory, origin_factory):
    def answer(connection, data):
        size = 40_000
        run_out_of_memory(
            lambda: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        )
        hooks.gate.open()

    origin = origin_factory(answer)
    hooks = Waits(origin.address)
    answered = proxy_factory(hooks).exchange(GET)
    assert answered.startswith(b"HTTP/1.1 503 ")
    assert answered.endswith(b"503 no_memory\n")
    assert hooks.logged == [("no_memory", "internal")]
    assert hooks.upstreams.endpoints[0].failures_in_row == 0


def test_a_request_that_finds_no_room_is_no_fault_of_the_client(restored, proxy_factory):
    """Nothing behind it is read as a request: what was lost may have had its end."""
    hooks = Waits("127.0.0.1:1")
    with proxy_factory(hooks).connect(20) as client:
        run_out_of_memory(lambda: client.sendall(post(bytes(40_000)).replace(b"Connection: close\r\n", b"") + GET))
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"503 no_memory\n")
    assert hooks.logged == [("no_memory", "internal")]
