"""Which connections serve another request: those on which nothing of the last one is left, either way."""

import contextlib
import socket
import threading

import pytest
from apart import descriptors
from conversations import GET, Forwarding, wait_until
from inside import Gate, narrow, settle

from pingora import HttpPeer, Response
from pingora.testing import read_all

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def test_a_connection_on_which_request_bytes_wait_serves_no_other_request(proxy_factory, origin_factory):
    """Else the next request would be read as the rest of this one's body: smuggling."""
    may_read = threading.Event()

    def answer_early(connection, data):
        connection.sendall(HELLO)
        may_read.wait(10)

    origin = origin_factory(answer_early)
    origin._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    class Narrow(Forwarding):
        def connected_to_upstream(self, session, peer, reused, ctx):
            narrow(origin._listener.getsockname())

    proxy = proxy_factory(Narrow(origin.address))
    with proxy.connect() as client:
        client.sendall(b"POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"1" * 60_000)
        assert client.recv(1000).endswith(b"hello")
    may_read.set()
    assert proxy.exchange(GET.replace(b"/ ", b"/second ")).endswith(b"hello")
    assert origin.heads[-1].startswith(b"GET /second ")
    assert origin.n_connections == 2


def test_bytes_behind_an_answer_never_become_the_next_answer(proxy_factory, origin_factory):
    """They come while a hook waits: unread, so they are not seen when the connection is let go."""
    gate = Gate()
    is_sent = threading.Event()

    def script(connection, data):
        if b"/first" not in data:
            connection.sendall(HELLO)
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        gate.await_hook()
        connection.sendall(HELLO.replace(b"hello", b"wrong"))
        is_sent.set()
        connection.recv(65536)

    class Waits(Forwarding):
        async def response_filter(self, session, response, ctx):
            if session.request.path == "/first":
                await gate.wait()

    proxy = proxy_factory(Waits(origin_factory(script).address))
    with proxy.connect() as client:
        client.sendall(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
        assert is_sent.wait(10)
        settle(proxy)
        gate.open()
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
        client.sendall(b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(1000).endswith(b"hello")


@pytest.mark.parametrize("kind", ["whole", "half"])
def test_an_answer_that_comes_before_the_request_is_none(proxy_factory, origin_factory, kind):
    gate = Gate()
    origin = origin_factory(HELLO)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peers = [HttpPeer(f"127.0.0.1:{listener.getsockname()[1]}"), HttpPeer(origin.address)]

        class Waits(Forwarding):
            def __init__(self):
                """There are two peers."""

            def upstream_peer(self, session, ctx):
                return peers[session.attempts]

            async def upstream_request_filter(self, session, request, ctx):
                if session.attempts == 1:
                    await gate.wait()

            def response_filter(self, session, response, ctx):
                """Being there, it is a reason to keep the answer waiting."""

        proxy = proxy_factory(Waits())
        with proxy.connect() as client:
            client.sendall(GET)
            gate.await_hook()
            with listener.accept()[0] as upstream:
                upstream.settimeout(10)
                upstream.sendall(HELLO.replace(b"hello", b"wrong")[: -2 if kind == "half" else None])
                settle(proxy)
                gate.open()
                assert upstream.recv(1000) == b"", "the request was not sent here"
            assert client.recv(1000).endswith(b"hello")
    wait_until(lambda: proxy.serving.activity()[1] == 0)


class Blocks(Forwarding):
    """Holds the loop at /block, so that all that comes meanwhile is one batch of events."""

    def __init__(self, address):
        super().__init__(address)
        self.is_blocked, self.may_go_on = threading.Event(), threading.Event()

    def request_filter(self, session, ctx):
        if session.request.path == "/block":
            self.is_blocked.set()
            assert self.may_go_on.wait(10)
            return Response(200, body="blocked")


@contextlib.contextmanager
def one_batch(proxy, hooks):
    """Hold the loop; let it go on at the end."""
    with proxy.connect() as blocking:
        blocking.sendall(GET.replace(b"/ ", b"/block "))
        assert hooks.is_blocked.wait(10)
        yield
        hooks.may_go_on.set()
        assert read_all(blocking).endswith(b"blocked")


@pytest.mark.parametrize("first", ["client", "origin"])
@pytest.mark.parametrize("kind", ["bytes", "FIN"])
def test_what_comes_of_an_idle_connection_in_the_same_batch_as_a_request_is_seen_first(
    proxy_factory, origin_factory, first, kind
):
    """The request is a POST: it would not be sent again."""
    idle = []

    def script(connection, data):
        if not idle:
            idle.append(connection)
        connection.sendall(HELLO)

    def from_the_origin():
        if kind == "bytes":
            idle[0].sendall(HELLO.replace(b"hello", b"wrong"))
        else:
            idle[0].shutdown(socket.SHUT_WR)

    def from_the_client():
        client.sendall(b"POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345")

    origin = origin_factory(script)
    hooks = Blocks(origin.address)
    proxy = proxy_factory(hooks)
    with proxy.connect() as client:
        client.sendall(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(1000).endswith(b"hello")
        wait_until(lambda: proxy.serving.services[0].n_idle_upstream == 1)
        with one_batch(proxy, hooks):
            for send in (from_the_client, from_the_origin)[:: 1 if first == "client" else -1]:
                send()
        answer = client.recv(1000)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"hello")
    assert origin.n_connections == 2


N_IDLE = 512  # of one service


def test_the_pool_keeps_so_many_and_closes_what_is_beyond(proxy_factory, origin_factory):
    n_clients = N_IDLE + 8
    all_here = threading.Barrier(n_clients)

    def script(connection, data):
        if data.startswith(b"GET /together "):
            all_here.wait(30)
        connection.sendall(HELLO)

    origin = origin_factory(script)
    with descriptors(4 * n_clients + 500) as is_permitted, contextlib.ExitStack() as open_clients:
        if not is_permitted:
            pytest.skip("the hard limit of descriptors is too low")
        proxy = proxy_factory(Forwarding(origin.address))
        clients = [open_clients.enter_context(proxy.connect(30)) for _ in range(n_clients)]
        for client in clients:
            client.sendall(b"GET /together HTTP/1.1\r\nHost: a\r\n\r\n")
        for client in clients:
            assert client.recv(1000).endswith(b"hello")
        (service,) = proxy.serving.services
        wait_until(lambda: proxy.serving.activity()[1] == 0)
        assert (origin.n_connections, service.n_idle_upstream) == (n_clients, N_IDLE)
        assert proxy.serving.counters['pingora_upstream_connections_closed_total{reason="pool_full"}'] == 8
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(1000).endswith(b"hello")
        assert (origin.n_connections, service.n_idle_upstream) == (n_clients, N_IDLE)


def test_a_connection_that_nobody_uses_is_closed_and_counted(proxy_factory, origin_factory):
    origin = origin_factory(HELLO)
    forwarding = Forwarding(origin.address)
    forwarding.peer = HttpPeer(origin.address, idle_timeout=0.05)
    proxy = proxy_factory(forwarding)
    closed = 'pingora_upstream_connections_closed_total{reason="idle_timeout"}'
    for n in (1, 2):
        assert proxy.exchange(GET).endswith(b"hello")
        wait_until(lambda n=n: proxy.serving.counters[closed] == n)
        assert proxy.serving.services[0].n_idle_upstream == 0
    assert origin.n_connections == 2
