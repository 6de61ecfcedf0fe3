"""A client of HTTP/1 that ends its side of the connection behind a whole request: answered, or gone if so wanted."""

import asyncio
import socket
import threading

import pytest
from configured import starting
from conversations import GET, Forwarding, more_of, post, wait_until
from pki import Authority

from pingora import Certificate, Response, TlsSettings
from pingora.testing import read_all

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
COUNTED = 'pingora_connections_closed_total{reason="half_close"}'


class Waiting(Forwarding):
    """A hook that waits, and what became of it and of its request."""

    abort_on_half_close = True

    def __init__(self, address="127.0.0.1:1"):
        super().__init__(address)
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.ended = []
        self.logged = []

    async def request_filter(self, session, ctx):
        if session.request.path != "/":
            return Response(200, {}, "at once")
        self.begun.set()
        try:
            while not self.may_end.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        return Response(200, {}, "waited")

    def logging(self, session, error, ctx):
        self.logged.append((session.response.status, error and error.reason))


def end(client, how):
    if how == "close":
        client.close()
    else:
        client.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("how", ["close", "shutdown"])
@pytest.mark.parametrize("is_at_once", [False, True], ids=["while the hook runs", "with the request"])
def test_a_running_hook_is_cancelled(proxy_factory, how, is_at_once):
    waiting = Waiting()
    proxy = proxy_factory(waiting)
    client = proxy.connect()
    client.sendall(GET)
    if not is_at_once:
        assert waiting.begun.wait(30)
    end(client, how)
    wait_until(lambda: waiting.logged)
    assert (waiting.ended, waiting.logged) == (["cancelled"], [(499, "client_gone")])
    if how == "shutdown":
        assert client.recv(1) == b""
    client.close()
    wait_until(lambda: not proxy.serving.n_connections)
    assert proxy.serving.counters[COUNTED] == 1
    assert proxy.serving.counters['pingora_failures_total{reason="client_gone"}'] == 1


def test_a_client_that_leaves_over_tls_is_gone_too(proxy_factory):
    waiting, ca = Waiting(), Authority()
    issued = ca.issue("localhost")
    proxy = proxy_factory(waiting, None, TlsSettings([Certificate(issued.chain, issued.key)]))
    with (
        socket.create_connection((proxy.host, proxy.port), 30) as raw,
        ca.trusts().wrap_socket(raw, server_hostname="localhost") as client,
    ):
        client.sendall(GET)
        assert waiting.begun.wait(30)
        client.shutdown(socket.SHUT_WR)
        wait_until(lambda: waiting.logged)
    assert (waiting.ended, waiting.logged) == (["cancelled"], [(499, "client_gone")])


def test_it_is_answered_by_default(proxy_factory):
    waiting = Waiting()
    waiting.abort_on_half_close = False
    proxy = proxy_factory(waiting)
    with proxy.connect() as client:
        client.sendall(GET)
        client.shutdown(socket.SHUT_WR)
        assert waiting.begun.wait(30)
        waiting.may_end.set()
        assert read_all(client).endswith(b"waited")
    assert waiting.ended == []
    assert proxy.serving.counters[COUNTED] == 0


@pytest.mark.parametrize("with_head", [0, 3, 20_000], ids=["later", "in part with the head", "with the head"])
def test_a_body_that_nobody_has_read_does_not_change_that(proxy_factory, with_head):
    waiting = Waiting()
    proxy = proxy_factory(waiting)
    request = post(b"b" * 20_000)
    with proxy.connect() as client:
        cut = len(request) - 20_000 + with_head
        client.sendall(request[:cut])
        assert waiting.begun.wait(30)
        client.sendall(request[cut:])
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
    assert waiting.ended == ["cancelled"]


def test_a_request_that_is_still_to_be_read_is_answered_after_the_one_before(proxy_factory):
    waiting = Waiting()
    proxy = proxy_factory(waiting)
    first = GET.replace(b"Connection: close\r\n", b"")
    with proxy.connect() as client:
        client.sendall(first + GET.replace(b"GET / ", b"GET /last "))
        client.shutdown(socket.SHUT_WR)
        assert waiting.begun.wait(30)
        waiting.may_end.set()
        answers = read_all(client)
    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert answers.endswith(b"at once")
    assert waiting.ended == []


def test_the_last_of_several_requests_is_cancelled(proxy_factory):
    waiting = Waiting()
    proxy = proxy_factory(waiting)
    with proxy.connect() as client:
        client.sendall(GET.replace(b"GET / ", b"GET /first ").replace(b"Connection: close\r\n", b"") + GET)
        client.shutdown(socket.SHUT_WR)
        answers = read_all(client)
    assert answers.count(b"HTTP/1.1 ") == 1
    wait_until(lambda: waiting.ended == ["cancelled"])


@pytest.mark.parametrize("begins", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"], ids=["before", "in"])
def test_an_upstream_is_left_before_and_in_its_answer(proxy_factory, origin_factory, begins):
    asked, left = threading.Event(), threading.Event()

    def script(connection, data):
        connection.sendall(begins)
        asked.set()
        if not connection.recv(1):
            left.set()

    class Plain(Forwarding):
        abort_on_half_close = True

    proxy = proxy_factory(Plain(origin_factory(script).address))
    with proxy.connect() as client:
        client.sendall(GET)
        assert asked.wait(30)
        if begins:
            assert client.recv(1) == b"H"
        client.shutdown(socket.SHUT_WR)
        assert left.wait(30)
        assert not read_all(client).endswith(b"\r\n0\r\n\r\n")
    wait_until(lambda: proxy.serving.counters[COUNTED] == 1)


def test_a_body_that_breaks_off_while_a_hook_runs_is_a_400_at_once(proxy_factory):
    waiting = Waiting()
    proxy = proxy_factory(waiting)
    with proxy.connect() as client:
        client.sendall(post(b"body")[:-1])
        assert waiting.begun.wait(30)
        client.shutdown(socket.SHUT_WR)
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert waiting.ended == ["cancelled"]
    assert proxy.serving.counters[COUNTED] == 0


def test_a_body_that_breaks_off_is_still_a_400(proxy_factory, origin_factory):
    class Plain(Forwarding):
        abort_on_half_close = True

    proxy = proxy_factory(Plain(origin_factory(lambda connection, data: connection.recv(1)).address))
    with proxy.connect() as client:
        client.sendall(post(b"body")[:-1])
        client.shutdown(socket.SHUT_WR)
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"client_truncated" in answer


def test_a_tunnel_has_two_sides_as_before(proxy_factory, origin_factory):
    def script(connection, data):
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        said = b""
        while more := connection.recv(100):
            said += more
        connection.sendall(b"you said " + said)

    class Plain(Forwarding):
        abort_on_half_close = True

    proxy = proxy_factory(Plain(origin_factory(script).address))
    with proxy.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += more_of(client, 1000)
        client.sendall(b"bye")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"you said bye"
    assert proxy.serving.counters[COUNTED] == 0


def test_a_connection_goes_on_if_it_is_not_ended(proxy_factory, origin_factory):
    class Plain(Forwarding):
        abort_on_half_close = True

    proxy = proxy_factory(Plain(origin_factory(HELLO).address))
    with proxy.connect() as client:
        for _ in range(3):
            client.sendall(GET.replace(b"Connection: close\r\n", b""))
            answer = b""
            while not answer.endswith(b"hello"):
                answer += more_of(client, 1000)


HOOK = """
import asyncio, pingora

class Waits(pingora.ProxyHttp):
    upstreams = pingora.LoadBalancer(["127.0.0.1:1"])

    async def request_filter(self, session, ctx):
        try:
            await asyncio.sleep(3600)
        finally:
            print("cancelled", flush=True)
"""


def test_a_configuration_file_says_it(tmp_path):
    (tmp_path / "half_closed.py").write_text(HOOK)
    file = tmp_path / "pingora.toml"
    file.write_text(f'listeners = ["unix:{tmp_path}/a"]\nhook = "half_closed:Waits"\nabort_on_half_close = true\n')
    with starting(tmp_path) as start:
        running = start(file)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(f"{tmp_path}/a")
            client.sendall(GET)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
        running.stop()
    assert "cancelled\n" in running.output
