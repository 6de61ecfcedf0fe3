"""What prototypes of the core got wrong once: stale events, lost ends, starvation, forks, kept objects, kept errors."""

import asyncio
import contextlib
import os
import resource
import socket
import struct
import threading
import time

import pytest

from pingora import LoadBalancer, ProxyHttp
from pingora.testing import read_all

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
RESET = struct.pack("ii", 1, 0)


@pytest.fixture(autouse=True)
def many_descriptors():
    """A thousand clients, their connections here and those to the origin need a few thousand descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def proxy_to(address, kind=ProxyHttp):
    proxy = kind()
    proxy.upstreams = LoadBalancer([address])
    return proxy


def wait_until(is_true):
    give_up = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < give_up, "did not happen within 10 s"
        time.sleep(0.005)


def wait_until_empty(proxy):
    (service,) = proxy.serving.services
    wait_until(lambda: (service.n_connections, service.n_active) == (0, 0))


def wait_until_accepted(proxy, n):
    (service,) = proxy.serving.services
    wait_until(lambda: service.n_connections == n)


@contextlib.contextmanager
def standing_still(proxy):
    """Hold the proxy's loop: what happens in the block comes to it as one batch of events."""
    is_held, go = threading.Event(), threading.Event()
    proxy._loop.call_soon_threadsafe(lambda: (is_held.set(), go.wait(10)))
    assert is_held.wait(10)
    try:
        yield
    finally:
        go.set()


def leave(client, is_reset):
    if is_reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


class Suspends(ProxyHttp):
    """Every phase that may suspend does so once."""

    async def request_filter(self, session, ctx):
        await asyncio.sleep(0)

    async def response_filter(self, session, response, ctx):
        await asyncio.sleep(0)

    async def logging(self, session, error, ctx):
        await asyncio.sleep(0)


ends = pytest.mark.parametrize("is_reset", [False, True], ids=["end", "reset"])
hooks = pytest.mark.parametrize("kind", [ProxyHttp, Suspends], ids=["no hooks", "coroutines"])


@hooks
@ends
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(GET, id="a request"),
        pytest.param(GET * 3, id="three requests"),
        pytest.param(GET[:-5], id="half a head"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf", id="half a body"),
    ],
)
def test_clients_that_send_and_leave_in_one_batch_leave_nothing_behind(
    proxy_factory, origin_factory, kind, is_reset, sent
):
    proxy = proxy_factory(proxy_to(origin_factory(HELLO).address, kind))
    clients = [proxy.connect() for _ in range(300)]
    wait_until_accepted(proxy, 300)
    with standing_still(proxy):
        for i, client in enumerate(clients):
            client.sendall(sent)
            leave(client, is_reset and i % 3 != 0)  # some end among those that reset
    assert proxy.exchange(GET).endswith(b"hello")
    wait_until_empty(proxy)


@hooks
@ends
@pytest.mark.parametrize("origin_does", ["answers", "answers and ends", "ends", "resets"])
def test_both_sides_of_many_sessions_may_end_in_one_batch(proxy_factory, origin_factory, kind, is_reset, origin_does):
    go = threading.Event()
    n_done = threading.Semaphore(0)

    def script(connection, _received):
        if not go.wait(10):
            return
        if "answers" in origin_does:
            connection.sendall(HELLO)
        if origin_does != "answers":
            leave(connection, origin_does == "resets")
        n_done.release()

    origin = origin_factory(script)
    proxy = proxy_factory(proxy_to(origin.address, kind))
    clients = [proxy.connect() for _ in range(100)]
    for client in clients:
        client.sendall(GET)
    wait_until(lambda: len(origin.heads) == 100)
    with standing_still(proxy):
        go.set()
        for _ in clients:
            assert n_done.acquire(timeout=10)
        for client in clients:
            leave(client, is_reset)
    wait_until_empty(proxy)


def test_clients_that_leave_while_their_hook_waits_leave_nothing_behind(proxy_factory, origin_factory):
    class Waits(ProxyHttp):
        async def request_filter(self, session, ctx):
            if session.request.path != "/now":
                await self.go.wait()

        async def logging(self, session, error, ctx):
            self.n_logged += 1

    hooks = proxy_to(origin_factory(HELLO).address, Waits)
    hooks.go = asyncio.Event()
    hooks.n_logged = 0
    proxy = proxy_factory(hooks)
    (service,) = proxy.serving.services
    clients = [proxy.connect() for _ in range(300)]
    for client in clients:
        client.sendall(GET)
    wait_until(lambda: service.n_active == 300)
    with standing_still(proxy):
        for i, client in enumerate(clients):
            leave(client, i % 2 == 0)
    assert proxy.exchange(GET.replace(b"/ ", b"/now ")).endswith(b"hello")
    proxy._loop.call_soon_threadsafe(hooks.go.set)
    wait_until_empty(proxy)
    assert hooks.n_logged == 301


SIZES = [5, 70_000, 2_000_000]
IN_KERNEL = 100_000  # fits into the buffers of a connection that nobody reads


@hooks
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("framing", ["length", "chunked", "end"])
def test_an_answer_and_the_end_behind_it_in_one_event_arrive_whole(proxy_factory, origin_factory, kind, size, framing):
    body = os.urandom(size)
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    answer = {
        "length": head[:-2] + b"Content-Length: %d\r\n\r\n%s" % (size, body),
        "chunked": head[:-2] + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (size, body),
        "end": head + body,
    }[framing]
    go, is_sent = threading.Event(), threading.Event()

    def script(connection, _received):
        assert go.wait(10)
        if size > IN_KERNEL:
            is_sent.set()  # the kernel does not take it all while the proxy stands still
        connection.sendall(answer)
        connection.close()
        is_sent.set()

    origin = origin_factory(script)
    proxy = proxy_factory(proxy_to(origin.address, kind))
    with proxy.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        wait_until(lambda: origin.heads)
        with standing_still(proxy):
            go.set()
            assert is_sent.wait(10)
        head, _, got = read_all(client).partition(b"\r\n\r\n")
    assert (b"".join(dechunk(got)) if b"chunked" in head else got) == body


def dechunk(data):
    while True:
        size, _, data = data.partition(b"\r\n")
        if size == b"0":
            assert data == b"\r\n"
            return
        yield data[: int(size, 16)]
        data = data[int(size, 16) + 2 :]


@hooks
@pytest.mark.parametrize("size", [0, *SIZES])
@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
def test_a_request_and_the_end_behind_it_in_one_event_are_answered(
    proxy_factory, origin_factory, kind, size, is_chunked
):
    body = os.urandom(size)

    def script(connection, received):
        missing = size - len(received.partition(b"\r\n\r\n")[2])
        while missing > 0:
            missing -= len(connection.recv(1 << 20))
        connection.sendall(HELLO)
        if is_chunked:
            connection.close()  # what is left of the framing does not become the next head

    proxy = proxy_factory(proxy_to(origin_factory(script).address, kind))
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (size, body)
    if is_chunked:
        chunk = b"%x\r\n%s\r\n" % (size, body) if size else b""
        request = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n" % chunk
    with proxy.connect() as client:
        wait_until_accepted(proxy, 1)
        with standing_still(proxy) if size < IN_KERNEL else contextlib.nullcontext():
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
        assert read_all(client).endswith(b"\r\n\r\nhello")
    wait_until_empty(proxy)
