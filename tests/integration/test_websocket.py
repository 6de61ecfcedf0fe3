"""WebSocket through an upgrade, with the `websockets` library as client and as origin."""

import contextlib
import os
import socket
import struct
import time

import pytest
from conversations import wait_until
from websocket_ends import client_of, echo, origins, proxy_before
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from pingora import HttpPeer, ProxyHttp, Response
from pingora.limits import Limits

MIB = 1024 * 1024


@pytest.fixture
def origin():
    """Start a WebSocket origin: `origin(handler, **options)` gives its address and the ends of its connections."""
    with origins() as start:
        yield start


@pytest.fixture
def proxy_to(proxy_factory):
    def start(address, kind=ProxyHttp, limits=None):
        return proxy_before(proxy_factory, address, kind, limits)

    return start


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize(
    "message",
    [
        pytest.param("grüße 👋", id="text"),
        pytest.param(b"\x00\xff\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", id="binary"),
        pytest.param("", id="empty text"),
        pytest.param("a" * MIB, id="text of 1 MiB"),
        pytest.param(os.urandom(MIB), id="binary of 1 MiB"),
    ],
)
def test_a_message_comes_back_the_same(origin, proxy_to, compression, message):
    address, _ends = origin(echo, compression=compression)
    with client_of(proxy_to(address), compression=compression) as client:
        for _ in range(3):
            client.send(message)
            assert client.recv(timeout=10) == message


def test_a_fragmented_message_stays_fragmented(origin, proxy_to):
    def fragments(connection):
        connection.send(["got ", *connection.recv_streaming()])

    address, _ends = origin(fragments)
    with client_of(proxy_to(address)) as client:
        client.send(["a", "b", "c"])
        assert list(client.recv_streaming())[:4] == ["got ", "a", "b", "c"]


def test_many_messages_on_the_way_keep_their_order(origin, proxy_to):
    address, _ends = origin(echo)
    with client_of(proxy_to(address)) as client:
        for i in range(500):
            client.send(str(i))
        assert [client.recv(timeout=10) for _ in range(500)] == [str(i) for i in range(500)]


def test_an_origin_that_speaks_first_is_heard(origin, proxy_to):
    def greet(connection):
        connection.send("welcome")
        connection.send(bytes(100_000))

    address, _ends = origin(greet)
    proxy = proxy_to(address)
    for _ in range(20):
        with client_of(proxy) as client:
            assert client.recv(timeout=10) == "welcome"
            assert client.recv(timeout=10) == bytes(100_000)


def test_pings_are_answered_by_the_other_side_both_ways(origin, proxy_to):
    pongs = []

    def ping(connection):
        pongs.append(connection.ping(b"from the origin").wait(10))
        connection.send("pinged")

    address, _ends = origin(ping)
    with client_of(proxy_to(address)) as client:
        assert client.ping(b"from the client").wait(10)
        assert client.recv(timeout=10) == "pinged"
    assert pongs == [True]


CODES = [(1000, ""), (1001, "going away"), (1011, "broken"), (4321, "of the application")]


@pytest.mark.parametrize(("code", "reason"), CODES)
def test_a_close_of_the_client_reaches_the_origin(origin, proxy_to, code, reason):
    address, ends = origin(echo)
    with client_of(proxy_to(address)) as client:
        client.close(code, reason)
    assert ends.wait() == (code, reason)
    assert (client.close_code, client.close_reason) == (code, reason)


@pytest.mark.parametrize(("code", "reason"), CODES)
def test_a_close_of_the_origin_reaches_the_client(origin, proxy_to, code, reason):
    address, ends = origin(lambda connection: connection.close(code, reason))
    with client_of(proxy_to(address)) as client:
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=10)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, reason)
    assert ends.wait() == (code, reason)


@pytest.mark.parametrize("is_reset", [False, True], ids=["end", "reset"])
def test_a_client_that_vanishes_is_seen_by_the_origin_and_leaves_nothing(origin, proxy_to, is_reset):
    address, ends = origin(echo)
    proxy = proxy_to(address)
    with client_of(proxy) as client:
        client.send("hello")
        assert client.recv(timeout=10) == "hello"
        if is_reset:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close_socket()
    assert ends.wait()[0] == 1006
    (service,) = proxy.serving.services
    wait_until(lambda: (service.n_active, service.n_connections) == (0, 0))


def test_an_origin_that_vanishes_is_seen_by_the_client(origin, proxy_to):
    address, _ends = origin(lambda connection: connection.socket.shutdown(socket.SHUT_RDWR))
    proxy = proxy_to(address)
    with client_of(proxy) as client, pytest.raises(ConnectionClosedError) as closed:
        client.recv(timeout=10)
    assert closed.value.rcvd is None
    (service,) = proxy.serving.services
    wait_until(lambda: (service.n_active, service.n_connections) == (0, 0))


def test_a_refused_upgrade_arrives_and_the_path_stays_usable(origin, proxy_to):
    def refuse(connection, request):
        return connection.respond(403, "not you\n") if request.path == "/secret" else None

    address, _ends = origin(echo, process_request=refuse)
    proxy = proxy_to(address)
    for _ in range(3):
        with pytest.raises(InvalidStatus) as refused:
            client_of(proxy, "/secret")
        assert (refused.value.response.status_code, refused.value.response.body) == (403, b"not you\n")
    with client_of(proxy, "/open") as client:
        client.send("hello")
        assert client.recv(timeout=10) == "hello"


def test_a_hook_may_refuse_an_upgrade(origin, proxy_to):
    class Guarded(ProxyHttp):
        def request_filter(self, session, ctx):
            if session.request.headers.get("authorization") is None:
                return Response(401, {"www-authenticate": "Bearer"}, "who?\n")

    address, ends = origin(echo)
    proxy = proxy_to(address, Guarded)
    with pytest.raises(InvalidStatus) as refused:
        client_of(proxy)
    assert (refused.value.response.status_code, refused.value.response.body) == (401, b"who?\n")
    assert ends.seen == []
    with client_of(proxy, additional_headers={"Authorization": "Bearer a"}) as client:
        client.send("hello")
        assert client.recv(timeout=10) == "hello"


def test_hooks_see_and_edit_both_heads_of_an_upgrade(origin, proxy_to):
    logged = []

    class Edits(ProxyHttp):
        def upstream_request_filter(self, session, request, ctx):
            request.headers["x-user"] = "u1"

        async def response_filter(self, session, response, ctx):
            response.headers["x-proxy"] = str(response.status)

        def logging(self, session, error, ctx):
            logged.append((session.response.status, error, session.bytes_sent > 0, session.bytes_received > 0))

    users = []

    def greet(connection):
        users.append(connection.request.headers["x-user"])
        connection.send("welcome")
        connection.recv(timeout=10)

    address, ends = origin(greet, subprotocols=["chat"])
    with client_of(proxy_to(address, Edits), subprotocols=["other", "chat"]) as client:
        assert client.recv(timeout=10) == "welcome"
        assert (client.subprotocol, client.response.headers["x-proxy"]) == ("chat", "101")
        client.send("bye")
    assert ends.wait()[0] == 1000
    wait_until(lambda: logged)
    assert (users, logged) == (["u1"], [(101, None, True, True)])


def test_a_quiet_tunnel_outlives_the_limits_of_bodies(origin, proxy_to):
    class Impatient(ProxyHttp):
        def upstream_peer(self, session, ctx):
            return HttpPeer(self.upstreams.select(), read_timeout=0.4)

    address, _ends = origin(echo)
    limits = Limits(body_timeout=0.4, keep_alive=0.4, head_timeout=0.4, write_timeout=0.4)
    with client_of(proxy_to(address, Impatient, limits)) as client:
        for i in range(2):
            time.sleep(1)  # what is tested is that nothing happens meanwhile
            client.send(str(i))
            assert client.recv(timeout=10) == str(i)


def test_pings_keep_a_tunnel_from_its_limit(origin, proxy_to):
    address, _ends = origin(echo, ping_interval=None)
    with client_of(proxy_to(address, limits=Limits(tunnel_timeout=1.0)), ping_interval=0.1) as client:
        time.sleep(1.5)  # the limit, and the quarter of it after which the proxy looks again
        client.send("hello")
        assert client.recv(timeout=10) == "hello"


def test_a_receiver_that_pauses_holds_the_sender_back_and_loses_nothing(origin, proxy_to):
    chunk = os.urandom(MIB)
    progress = []

    def flood(connection):
        for i in range(64):
            connection.send(chunk)
            progress.append(i)

    def has_stalled():
        before = len(progress)
        time.sleep(0.2)
        return before == len(progress)

    address, _ends = origin(flood, compression=None)
    with client_of(proxy_to(address), compression=None, max_queue=1) as client:
        wait_until(has_stalled)
        assert len(progress) < 64, "64 MiB do not fit into the kernel's buffers: the proxy kept them"
        for _ in range(64):
            assert client.recv(timeout=10) == chunk


def test_a_hundred_tunnels_at_once_stay_apart(origin, proxy_to):
    address, _ends = origin(echo)
    proxy = proxy_to(address)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client_of(proxy)) for _ in range(100)]
        (service,) = proxy.serving.services
        assert service.n_active == 100
        for i, client in enumerate(clients):
            client.send(str(i))
        assert [client.recv(timeout=10) for client in clients] == [str(i) for i in range(100)]
    wait_until(lambda: (service.n_active, service.n_connections) == (0, 0))
