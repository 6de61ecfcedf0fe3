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
from conversations import wait_until

from pingora import LoadBalancer, ProxyHttp, Response
from pingora.limits import Limits
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


class Answers(ProxyHttp):
    """Answers itself: 204 without a body, or as many bytes as the path says."""

    upstreams = LoadBalancer(["127.0.0.1:1"])

    def request_filter(self, session, ctx):
        size = int(session.request.path[1:] or 0)
        return Response(200, {}, bytes(size)) if size else Response(204)


@pytest.mark.parametrize(
    "request_bytes", [pytest.param(GET, id="204"), pytest.param(GET.replace(b"GET /", b"HEAD /5"), id="HEAD")]
)
def test_an_answer_without_body_to_a_request_with_the_end_behind_it_arrives(proxy_factory, request_bytes):
    proxy = proxy_factory(Answers())
    with proxy.connect() as client:
        wait_until_accepted(proxy, 1)
        with standing_still(proxy):
            client.sendall(request_bytes)
            client.shutdown(socket.SHUT_WR)
        assert read_all(client).startswith(b"HTTP/1.1 20")


LARGE = 16_000_000  # more than the kernel takes


def client_of_a_large_answer(proxy):
    """A client that has read nothing yet of an answer whose session has ended."""
    client = proxy.connect()
    client.sendall(GET.replace(b"/", b"/%d" % LARGE, 1))
    (service,) = proxy.serving.services
    wait_until(lambda: (service.n_requests, service.n_active) == (1, 0))
    return client


def test_a_client_that_ends_its_side_before_it_read_gets_all(proxy_factory):
    with client_of_a_large_answer(proxy_factory(Answers())) as client:
        client.shutdown(socket.SHUT_WR)
        assert len(read_all(client)) > LARGE


def test_a_client_that_reads_slowly_but_all_the_time_gets_all(proxy_factory):
    limits = Limits(write_timeout=0.5, keep_alive=0.5)
    with client_of_a_large_answer(proxy_factory(Answers(), limits)) as client:
        got = 0
        while more := client.recv(LARGE // 20, socket.MSG_WAITALL):
            got += len(more)
            time.sleep(0.08)  # twenty of these are three times the limits
            if got > LARGE:
                break
        assert got > LARGE


@pytest.mark.parametrize("kind", [Answers, Suspends], ids=["hook", "origin"])
def test_a_client_that_sends_requests_and_reads_no_answer_is_held_back(proxy_factory, origin_factory, kind):
    origin = origin_factory(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(1_000_000))
    proxy = proxy_factory(Answers() if kind is Answers else proxy_to(origin.address, Suspends))
    (service,) = proxy.serving.services

    def has_stalled():
        before = service.n_requests
        time.sleep(0.2)
        return 0 < before == service.n_requests

    with proxy.connect() as client:
        client.sendall(GET.replace(b"/", b"/1000000", 1) * 100)
        wait_until(has_stalled)
        assert service.n_requests < 50, "their answers are more than the kernel takes: the proxy kept them"
        client.shutdown(socket.SHUT_WR)
        got = read_all(client)
    assert got.count(b"HTTP/1.1 200 OK") == 100
    assert len(got) > 100_000_000


def test_a_client_that_takes_nothing_is_cut(proxy_factory):
    proxy = proxy_factory(Answers(), Limits(write_timeout=0.1, keep_alive=0.1))
    with client_of_a_large_answer(proxy) as client:
        wait_until_empty(proxy)
        assert len(read_all(client)) < LARGE


def test_a_client_that_has_not_read_yet_when_the_proxy_ends_gets_all(proxy_factory):
    proxy = proxy_factory(Answers())
    with client_of_a_large_answer(proxy) as client:
        ending = threading.Thread(target=proxy.close)
        ending.start()
        wait_until(lambda: is_refused(proxy))
        assert len(read_all(client)) > LARGE
        ending.join()


def is_refused(proxy):
    try:
        proxy.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def contents(session):
    """All that a hook can reach of a session, as text."""
    request, response, peer = session.request, session.response, session.peer
    timings = session.timings
    return [
        (request.method, request.target, request.target_bytes, request.path, request.query, request.host),
        list(request.headers.items()),
        request.headers.get_all("x-many"),
        (response.status, response.reason, response.version),
        list(response.headers.items()),
        (session.client_address, session.attempts, session.bytes_received, session.bytes_sent),
        (str(peer.address), peer.read_timeout_ms, peer.group, str(peer.endpoint)),
        (timings.connect_ms, timings.first_byte_ms, timings.total_ms),  # hooks_ms: asking costs time itself
        str(session.error),
    ]


class Keeps(ProxyHttp):
    """Keeps all it is given, and what that said when the session ended."""

    def __init__(self):
        self.sessions = []
        self.heads = []

    def upstream_request_filter(self, session, request, ctx):
        request.headers["x-added"] = session.request.path * 20
        if len(self.heads) < 50:
            self.heads.append((request, request.headers, iter(request.headers), list(request.headers.items())))

    def response_filter(self, session, response, ctx):
        response.headers["x-path"] = session.request.path * 20

    def logging(self, session, error, ctx):
        if len(self.sessions) < 50:
            self.sessions.append((session, session.request, session.response, contents(session)))


def test_what_hooks_keep_says_the_same_after_a_thousand_other_sessions(proxy_factory, origin_factory):
    def script(connection, received):
        path = received.split()[1]
        connection.sendall(b"HTTP/1.1 200 Fine\r\nX-Echo: %s\r\nContent-Length: 5\r\n\r\nhello" % (path * 50))

    hooks = Keeps()
    hooks.upstreams = LoadBalancer([origin_factory(script).address])
    proxy = proxy_factory(hooks)
    for batch in range(21):
        paths = [b"/%d-%d?%s" % (batch, i, b"q" * (i % 7) * 100) for i in range(50)]
        head = b"POST %s HTTP/1.1\r\nHost: %s\r\nX-Many: %s\r\nX-Many: 2\r\nContent-Length: 0\r\n\r\n"
        got = proxy.exchange(b"".join(head % (path, path[1:4].strip(b"-?") or b"a", path * 3) for path in paths))
        assert got.count(b"HTTP/1.1 200 Fine") == 50
    assert len(hooks.sessions) == len(hooks.heads) == 50
    for session, request, response, before in hooks.sessions:
        assert (session.request, session.response) == (request, response)
        assert contents(session) == before
    for request, headers, names, before in hooks.heads:
        assert list(headers.items()) == list(request.headers.items()) == before
        assert list(names) == [name for name, _ in before]


def test_a_client_that_pipelines_thousands_of_requests_is_answered_in_turns(proxy_factory):
    n = 5000
    proxy = proxy_factory(Answers())
    with proxy.connect() as client, proxy.connect() as other:
        sending = threading.Thread(target=client.sendall, args=(GET * n,))
        sending.start()
        other.sendall(GET)
        assert other.recv(100).startswith(b"HTTP/1.1 204")
        answers = b""
        while answers.count(b"HTTP/1.1 204") < n:
            more = client.recv(1 << 20)
            assert more
            answers += more
        sending.join()
