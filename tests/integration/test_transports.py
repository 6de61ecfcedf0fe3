"""Connections that objects carry: to upstreams by a Transport, from clients by serve_connection."""

import asyncio
import contextlib
import socket
import threading

import pytest
from conversations import GET, Forwarding, echo, post, wait_until
from h2_origin import H2Origin
from http2_frames import FrameClient
from pki import Authority
from tls_origin import TlsOrigin

from pingora import (
    HttpPeer,
    Limits,
    LoadBalancer,
    PeerOptions,
    ProxyHttp,
    Response,
    RetryPolicy,
    TcpProxy,
    Transport,
    UpstreamTls,
    serve_connection,
)
from pingora.testing import read_all
from pingora.transport import StreamCarrier
from pingora_c.mem.buffer_pool import stats

MIB = 1024 * 1024
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Memory:
    """A carrier in memory: `said` is what is read from it, `script(self, data)` is told what is written to it."""

    def __init__(self, script=None):
        self.script = script or (lambda self, data: self.said.put_nowait(OK))
        self.said = asyncio.Queue()
        self.rest = b""
        self.closed = threading.Event()

    async def read(self, n):
        data = self.rest or await self.said.get()
        if isinstance(data, Exception):
            raise data
        self.rest = data[n:]
        return data[:n]

    def write(self, data):
        self.script(self, data)

    def close(self):
        self.closed.set()


class Over(ProxyHttp):
    """Everything goes to one peer that `open` connects to."""

    def __init__(self, open, address="unix:@memory", retry=None, **options):
        self.peer = HttpPeer(address, transport=Transport(open), **options)
        self.retry = retry or RetryPolicy()

    def upstream_peer(self, session, ctx):
        return self.peer


def opening(carrier_of, opened):
    """An `open` that notes what it was asked for and what it gave."""

    async def open(address):
        opened.append((address, carrier_of()))
        return opened[-1][1]

    return open


async def dial(address):
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


# -- to upstreams


def test_requests_share_a_connection_in_memory(proxy_factory):
    opened = []
    proxy = proxy_factory(Over(opening(Memory, opened)))
    for _ in range(3):
        assert proxy.exchange(GET).endswith(b"\r\n\r\nhi")
    assert [address for address, _ in opened] == ["unix:@memory"]
    proxy.close()
    assert opened[0][1].closed.wait(10)


def test_streams_of_asyncio_carry_large_bodies_both_ways(proxy_factory, origin_factory):
    proxy = proxy_factory(Over(dial, origin_factory(echo).address))
    body = bytes(range(256)) * 16 * 1024
    assert proxy.exchange(post(body), timeout=20).endswith(body)


def test_http2_over_a_transport(proxy_factory):
    with contextlib.closing(H2Origin()) as origin:
        proxy = proxy_factory(Over(dial, origin.address, protocol="h2"))
        assert proxy.exchange(post(b"hello")).endswith(b"hello\r\n0\r\n\r\n")
        assert proxy.exchange(post(b"again")).endswith(b"again\r\n0\r\n\r\n")
        assert len(origin.connections) == 1


def test_tls_over_a_transport(proxy_factory, tmp_path):
    ca = Authority()
    tls = UpstreamTls(ca=ca.write(tmp_path, "ca")[0], server_name="localhost")
    with TlsOrigin(ca.server_context(ca.issue("localhost"))) as origin:
        proxy = proxy_factory(Over(dial, origin.address, tls=tls))
        assert proxy.exchange(GET).endswith(b"up")
        assert origin.seen[0]["sni"] == "localhost"


def test_a_tcp_proxy_over_a_transport(proxy_factory):
    class Tcp(TcpProxy):
        peer = HttpPeer("unix:@memory", transport=Transport(opening(Memory, [])))

        def upstream_peer(self, session):
            return self.peer

    with proxy_factory(Tcp()).connect() as client:
        client.sendall(b"anything")
        assert client.recv(100) == OK


def test_an_open_that_raises_is_a_connect_that_failed(proxy_factory, caplog):
    async def refuse(address):
        raise ConnectionError("the tunnel is down")

    answer = proxy_factory(Over(refuse)).exchange(GET)
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert answer.endswith(b"connect_failed\n")
    assert "transport to unix:@memory: ConnectionError: the tunnel is down" in caplog.text


def test_an_open_that_fails_once_is_tried_again(proxy_factory):
    opened = []

    async def open(address):
        opened.append(address)
        if len(opened) == 1:
            raise ConnectionError("not yet")
        return Memory()

    assert proxy_factory(Over(open)).exchange(GET).endswith(b"hi")
    assert len(opened) == 2


def test_an_open_that_takes_too_long_is_given_up_and_cancelled(proxy_factory):
    cancelled = threading.Event()

    async def hang(address):
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    proxy = proxy_factory(Over(hang, connect_timeout=0.1, retry=RetryPolicy(attempts=1)))
    answer = proxy.exchange(GET)
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert answer.endswith(b"connect_timeout\n")
    assert cancelled.wait(10)


@pytest.mark.parametrize("given", [None, object(), (1, 2, 3)])
def test_an_open_that_gives_no_connection_is_told(proxy_factory, caplog, given):
    async def open(address):
        return given

    assert proxy_factory(Over(open)).exchange(GET).startswith(b"HTTP/1.1 502 ")
    assert "expected an object with read, write and close" in caplog.text


def failing(*said):
    """A script that says this, then fails."""

    def script(carrier, data):
        for part in said:
            carrier.said.put_nowait(part)
        carrier.said.put_nowait(OSError("cut"))

    return script


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"])
def test_a_connection_that_fails_is_one_that_was_cut(proxy_factory, head):
    script = failing(head) if head else failing()
    opened = []
    answer = proxy_factory(Over(opening(lambda: Memory(script), opened), retry=RetryPolicy(attempts=1))).exchange(GET)
    assert answer.endswith(b"part" if head else b"upstream_closed\n")
    assert all(carrier.closed.wait(10) for _, carrier in opened)


@pytest.mark.parametrize("version", ["1.0", "1.1", "2"])
def test_an_answer_without_a_length_whose_connection_fails_is_never_whole(proxy_factory, version):
    script = failing(b"HTTP/1.1 200 OK\r\n\r\n", b"part")
    proxy = proxy_factory(Over(opening(lambda: Memory(script), [])))
    if version == "2":
        with FrameClient(proxy) as client:
            client.request()
            answer = client.answer()
        assert (answer["body"], answer["reset"]) == (b"part", "INTERNAL_ERROR")
        return
    with proxy.connect(20) as client:
        client.sendall(GET.replace(b"HTTP/1.1", b"HTTP/" + version.encode()))
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while more := client.recv(65536):
                got += more
            assert version == "1.1"  # whose chunks have an end of their own
    assert b"part" in got
    assert not got.endswith(b"0\r\n\r\n")
    assert proxy.serving.counters['pingora_failures_total{reason="upstream_truncated"}'] == 1


def test_endpoints_of_a_balancer_use_the_transport_of_their_options(proxy_factory):
    opened = []
    proxy = ProxyHttp()
    peer = PeerOptions(transport=Transport(opening(Memory, opened)))
    proxy.upstreams = LoadBalancer(["unix:@one", "unix:@two"], peer=peer)
    running = proxy_factory(proxy)
    assert all(running.exchange(GET).endswith(b"hi") for _ in range(4))
    assert sorted(address for address, _ in opened) == ["unix:@one", "unix:@two"]


def test_an_end_of_the_connection_ends_the_answer(proxy_factory):
    def script(carrier, data):
        carrier.said.put_nowait(b"HTTP/1.1 200 OK\r\n\r\nto the end")
        carrier.said.put_nowait(b"")

    answer = proxy_factory(Over(opening(lambda: Memory(script), []))).exchange(GET)
    assert b"to the end" in answer


def test_a_client_that_leaves_closes_the_connection(proxy_factory):
    asked = threading.Event()
    opened = []
    proxy = proxy_factory(Over(opening(lambda: Memory(lambda carrier, data: asked.set()), opened)))
    with proxy.connect() as client:
        client.sendall(GET)
        assert asked.wait(10)
        client.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER of 0 s: close() resets
    assert opened[0][1].closed.wait(10)


def test_a_carrier_that_takes_nothing_stops_the_client(proxy_factory):
    class Stuck(Memory):
        async def write(self, data):
            await asyncio.get_running_loop().create_future()

    proxy = proxy_factory(Over(opening(Stuck, [])))
    with proxy.connect(timeout=1) as client:
        with pytest.raises(TimeoutError):
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" + bytes(64 * MIB))
        now = stats()
        assert now["lent_bytes"] + now["reserved_bytes"] < 2 * MIB


def to_the_end(sock):
    """Read all that comes; a reset is raised."""
    got = b""
    while more := sock.recv(65536):
        got += more
    return got


class Tcp(TcpProxy):
    def __init__(self, peer):
        self.peer = peer

    def upstream_peer(self, session):
        return self.peer


def test_a_failure_behind_a_tcp_proxy_is_a_reset_for_its_client_and_an_end_is_none(proxy_factory):
    def ending(carrier, data):
        carrier.said.put_nowait(b"whole")
        carrier.said.put_nowait(b"")

    for script, is_cut in ((failing(b"part"), True), (ending, False)):
        peer = HttpPeer("unix:@memory", transport=Transport(opening(lambda script=script: Memory(script), [])))
        with proxy_factory(Tcp(peer)).connect(20) as client:
            client.sendall(b"anything")
            if is_cut:
                with pytest.raises(ConnectionResetError):
                    to_the_end(client)
            else:
                assert to_the_end(client) == b"whole"


class Abortable(Memory):
    """A carrier that can be cut."""

    def __init__(self, script=None):
        super().__init__(script)
        self.aborted = threading.Event()

    def abort(self):
        self.aborted.set()


def test_a_client_that_resets_cuts_what_carries_the_upstream(proxy_factory):
    asked = threading.Event()
    opened = []
    transport = Transport(opening(lambda: Abortable(lambda carrier, data: asked.set()), opened))
    with proxy_factory(Tcp(HttpPeer("unix:@memory", transport=transport))).connect() as client:
        client.sendall(b"anything")
        assert asked.wait(10)
        client.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER of 0 s: close() resets
    assert opened[0][1].aborted.wait(10)


def test_a_client_that_resets_cuts_what_carries_tls_to_the_upstream(proxy_factory, tmp_path):
    ca = Authority()
    tls = UpstreamTls(ca=ca.write(tmp_path, "ca")[0], server_name="localhost")
    asked, aborted = threading.Event(), threading.Event()

    async def dial_abortable(address):
        reader, writer = await dial(address)
        abort = writer.transport.abort

        def noted():
            aborted.set()
            abort()

        carrier = StreamCarrier(reader, writer)
        carrier.abort = noted
        return carrier

    with TlsOrigin(ca.server_context(ca.issue("localhost")), lambda connection, data: asked.set()) as origin:
        peer = HttpPeer(origin.address, transport=Transport(dial_abortable), tls=tls)
        with proxy_factory(Tcp(peer)).connect() as client:
            client.sendall(b"anything")
            assert asked.wait(10)
            client.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER of 0 s: close() resets
        assert aborted.wait(10)


# -- from clients


class Hello(ProxyHttp):
    def request_filter(self, session, ctx):
        return Response(200, {}, session.client_address)

    def upstream_peer(self, session, ctx):
        raise NotImplementedError


def ask(proxy, running, said, **options):
    """Serve a client in memory; what it got by the end of its connection."""

    async def converse():
        carrier = Memory(lambda self, data: got.append(data))
        for piece in said:
            carrier.said.put_nowait(piece)
        await asyncio.wait_for(serve_connection(proxy, carrier, **options), 20)
        return carrier.closed.is_set()

    got = []
    assert running.call(converse(), timeout=30)
    return b"".join(got)


@pytest.mark.parametrize(("options", "client"), [({}, b"unix"), ({"client": "192.0.2.1:5000"}, b"192.0.2.1:5000")])
def test_a_client_in_memory_is_served(proxy_factory, options, client):
    proxy = Hello()
    answer = ask(proxy, proxy_factory(proxy), [GET], **options)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n" + client)


def hanging_up(connection, data):
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\npart")
    wait_until(lambda: b"part" in b"".join(hanging_up.got))
    connection.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")


@pytest.mark.parametrize("is_cut", [True, False])
def test_an_answer_that_is_cut_cuts_the_client_and_one_that_ends_does_not(proxy_factory, origin_factory, is_cut):
    """In HTTP/1.0, where a body ends with its connection."""
    got = hanging_up.got = []
    origin = origin_factory(hanging_up if is_cut else b"HTTP/1.1 200 OK\r\n\r\nwhole")
    proxy = Forwarding(origin.address)
    carrier = Abortable(lambda self, data: got.append(data))

    async def converse():
        carrier.said.put_nowait(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        await asyncio.wait_for(serve_connection(proxy, carrier), 20)

    running = proxy_factory(proxy)
    running.call(converse(), timeout=30)
    assert b"".join(got).endswith(b"part" if is_cut else b"whole")
    assert (carrier.aborted.is_set(), carrier.closed.is_set()) == (is_cut, not is_cut)


def test_a_client_that_fails_is_a_reset_for_the_upstream(proxy_factory, peer_factory):
    ended = []

    def script(connection):
        connection.recv(100)
        try:
            ended.append(connection.recv(100))
        except ConnectionResetError:
            ended.append("reset")

    proxy = Tcp(HttpPeer(peer_factory(script).address))
    ask(proxy, proxy_factory(proxy), [b"part", OSError("cut")])
    wait_until(lambda: ended)
    assert ended == ["reset"]


def test_an_end_of_the_client_is_a_half_close(proxy_factory, origin_factory):
    proxy = Forwarding(origin_factory(OK).address)
    answer = ask(proxy, proxy_factory(proxy), [GET[:10], GET[10:], b""])
    assert answer.endswith(b"hi")


def test_limits_hold_for_a_client_in_memory(proxy_factory):
    proxy = Hello()
    answer = ask(proxy, proxy_factory(proxy, Limits(head_timeout=0.1)), [GET[:10]])
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_clients_that_come_through_a_server_of_asyncio(proxy_factory, origin_factory):
    proxy = Forwarding(origin_factory(echo).address)
    running = proxy_factory(proxy)

    async def listen():
        async def serve(reader, writer):
            await serve_connection(proxy, (reader, writer))

        return await asyncio.start_server(serve, "127.0.0.1", 0)

    server = running.call(listen())
    body = b"x" * (3 * MIB)
    with socket.create_connection(server.sockets[0].getsockname(), 20) as client:
        client.sendall(post(body))
        assert read_all(client).endswith(body)
    running._loop.call_soon_threadsafe(server.close)
    wait_until(lambda: not server.is_serving())


def test_a_proxy_that_is_not_served_here_is_told(proxy_factory):
    with pytest.raises(LookupError, match="Hello is not served on this event loop"):
        ask(Hello(), proxy_factory(Hello()), [GET])
