"""Which connections serve another request: those on which nothing of the last one is left, either way."""

import socket
import threading

import pytest
from conversations import GET, Forwarding, wait_until
from inside import Gate, narrow, settle

from pingora import HttpPeer

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
