"""When a tunnel begins, and how it ends. What passes through a whole one is in test_websocket.py."""

import contextlib
import os
import socket
import threading
import time

import pytest
from conversations import Forwarding, more_of, wait_until
from inside import RESET, Gate, fill, narrow, narrow_client, settle

from pingora import HttpPeer, Limits, Response
from pingora.testing import read_all

UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"


def narrow_tunnel(proxy_factory, origin_factory, at_end, read_timeout=60.0):
    """Start a proxy whose origin switches, ends its side, takes a few KiB and calls `at_end(connection)`."""

    def script(connection, data):
        connection.sendall(SWITCHING)
        connection.shutdown(socket.SHUT_WR)
        at_end(connection)

    origin = origin_factory(script)
    origin._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    class Narrow(Forwarding):
        def connected_to_upstream(self, session, peer, reused, ctx):
            narrow(origin._listener.getsockname())

    hooks = Narrow(origin.address)
    hooks.peer = HttpPeer(origin.address, read_timeout=read_timeout)
    return proxy_factory(hooks)


# More than the proxy takes before the origin reads, so little that the client's end arrives with it.
SENT = os.urandom(180_000)


def send_all_and_end(proxy, client):
    client.sendall(UPGRADE)
    assert read_all(client) == SWITCHING
    client.sendall(SENT)
    client.shutdown(socket.SHUT_WR)
    settle(proxy)


def test_an_origin_that_ended_its_side_still_gets_all_that_the_client_sends(proxy_factory, origin_factory):
    """Also what waits behind a pause when the client ends as well."""
    may_read, has_read = threading.Event(), threading.Event()
    got = []

    def read(connection):
        assert may_read.wait(10)
        got.append(read_all(connection))
        has_read.set()

    proxy = narrow_tunnel(proxy_factory, origin_factory, read)
    with proxy.connect() as client:
        send_all_and_end(proxy, client)
        may_read.set()
        assert has_read.wait(10)
    assert got == [SENT]
    wait_until(lambda: proxy.serving.activity()[1] == 0)


@pytest.mark.parametrize("is_reset", [False, True], ids=["takes nothing", "resets"])
def test_an_origin_that_ended_its_side_and_takes_no_more_is_given_up(proxy_factory, origin_factory, is_reset):
    may_end = threading.Event()

    def end(connection):
        assert may_end.wait(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()

    proxy = narrow_tunnel(proxy_factory, origin_factory, end, 60.0 if is_reset else 0.5)
    with proxy.connect() as client:
        send_all_and_end(proxy, client)
        if is_reset:
            may_end.set()
        wait_until(lambda: proxy.serving.activity()[1] == 0)
    may_end.set()


# -- when it begins

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
REFUSED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Denies(Forwarding):
    def request_filter(self, session, ctx):
        return Response(403, body="denied")


@pytest.mark.parametrize("kind", [Forwarding, Denies])
def test_bytes_behind_an_upgrade_that_is_refused_are_not_read_as_requests(proxy_factory, origin_factory, kind):
    """They may be of the protocol that the client hoped for."""
    origin = origin_factory(REFUSED)
    answer = proxy_factory(kind(origin.address)).exchange(UPGRADE + SMUGGLED)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in answer
    assert not any(b"smuggled" in head for head in origin.heads)


def test_bytes_behind_an_upgrade_wait_for_the_101(proxy_factory, origin_factory):
    may_switch = threading.Event()
    early, later = [], []

    def script(connection, data):
        assert may_switch.wait(10)
        early.append(data.partition(b"\r\n\r\n")[2])
        connection.sendall(SWITCHING)
        later.append(read_all(connection))

    proxy = proxy_factory(Forwarding(origin_factory(script).address))
    with proxy.connect() as client:
        client.sendall(UPGRADE + SMUGGLED)
        settle(proxy)
        may_switch.set()
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == SWITCHING
    assert (early, later) == ([b""], [SMUGGLED])


@pytest.mark.parametrize("extra", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_request_with_a_body_is_forwarded_without_its_upgrade(proxy_factory, origin_factory, extra):
    body = b"hello" if b"Length" in extra else b"5\r\nhello\r\n0\r\n\r\n"
    origin = origin_factory(SWITCHING)
    answer = proxy_factory(Forwarding(origin.address)).exchange(
        UPGRADE.replace(b"Connection", extra + b"Connection") + body
    )
    assert b"pgrade" not in origin.heads[0]
    assert answer.startswith(b"HTTP/1.1 502 "), "nobody asked for the 101"


@pytest.mark.parametrize("protocol", [b"h2c", b"H2C, x", b"HTTP/2.0", b"TLS/1.2"])
def test_an_upgrade_to_http_or_tls_is_forwarded_as_a_plain_request(proxy_factory, origin_factory, protocol):
    origin = origin_factory(REFUSED)
    proxy = proxy_factory(Forwarding(origin.address))
    request = UPGRADE.replace(b"Upgrade: x", b"HTTP2-Settings: AAMAAABk\r\nUpgrade: " + protocol)
    assert proxy.exchange(request * 2).count(b"hello") == 2
    assert b"pgrade" not in origin.heads[0]
    assert b"ettings" not in origin.heads[0]


# -- how it ends


def switching(and_then):
    def script(connection, data):
        connection.sendall(SWITCHING)
        and_then(connection)

    return script


def tunnel_through(proxy):
    client = proxy.connect(10)
    client.sendall(UPGRADE)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += more_of(client, len(SWITCHING) - len(head))
    assert head == SWITCHING
    return client


@pytest.mark.parametrize("first", ["client", "origin"])
def test_each_side_may_go_on_after_the_other_has_ended(proxy_factory, origin_factory, first):
    got = []

    def answer_the_end(connection):
        got.append(read_all(connection))
        for _ in range(100):
            connection.sendall(b"o" * 10_000)

    def end_and_listen(connection):
        connection.sendall(b"o" * 1_000_000)
        connection.shutdown(socket.SHUT_WR)
        got.append(read_all(connection))

    proxy = proxy_factory(
        Forwarding(origin_factory(switching(answer_the_end if first == "client" else end_and_listen)).address)
    )
    with tunnel_through(proxy) as client:
        if first == "client":
            client.sendall(b"c" * 1_000_000)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"o" * 1_000_000
        else:
            assert read_all(client) == b"o" * 1_000_000
            client.sendall(b"c" * 1_000_000)
            client.shutdown(socket.SHUT_WR)
        wait_until(lambda: got)
    assert got == [b"c" * 1_000_000]
    wait_until(lambda: proxy.serving.activity()[1] == 0)


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


def test_a_reset_of_the_origin_is_one_for_the_client(proxy_factory, origin_factory):
    proxy = proxy_factory(Forwarding(origin_factory(switching(reset)).address))
    with tunnel_through(proxy) as client, pytest.raises(ConnectionResetError):
        client.recv(1)
    wait_until(lambda: proxy.serving.activity()[1] == 0)


def read_to_its_end(client):
    while client.recv(65536):
        pass


def test_a_reset_of_the_origin_is_one_although_the_client_sends_on_before_it_reads(proxy_factory, origin_factory):
    """A write is told of the reset before the read is."""
    is_reset = threading.Event()

    def fill_and_reset(connection):
        fill(connection)
        reset(connection)
        is_reset.set()

    proxy = proxy_factory(Forwarding(origin_factory(switching(fill_and_reset)).address))
    with tunnel_through(proxy) as client:
        assert is_reset.wait(30)
        for _ in range(2):
            client.sendall(b"x" * 10)
            settle(proxy)
        with pytest.raises(ConnectionResetError):
            read_to_its_end(client)
    wait_until(lambda: proxy.serving.activity()[1] == 0)


@pytest.mark.parametrize("has_ended", [False, True], ids=["the origin goes on", "the origin has ended its side"])
def test_a_reset_of_the_client_is_one_for_the_origin(proxy_factory, origin_factory, has_ended):
    ends = []

    def note_the_end(connection):
        if has_ended:
            connection.shutdown(socket.SHUT_WR)
        try:
            ends.append(connection.recv(1))
        except ConnectionResetError:
            ends.append("reset")

    proxy = proxy_factory(Forwarding(origin_factory(switching(note_the_end)).address))
    client = tunnel_through(proxy)
    if has_ended:
        assert client.recv(1) == b""
    reset(client)
    wait_until(lambda: ends)
    assert ends == ["reset"]
    wait_until(lambda: proxy.serving.activity()[1] == 0)


def was_reset(connection):
    """Whether it was, behind its end, of which read() tells alone."""
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


@pytest.mark.parametrize("is_at_once", [False, True])
def test_a_reset_of_the_origin_behind_its_end_is_one_for_a_silent_client(proxy_factory, origin_factory, is_at_once):
    has_ended = threading.Event()

    def end_and_reset(connection):
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        assert is_at_once or has_ended.wait(10)
        reset(connection)

    proxy = proxy_factory(Forwarding(origin_factory(switching(end_and_reset)).address))
    with tunnel_through(proxy) as client:
        with contextlib.suppress(ConnectionResetError):
            assert read_all(client) == b"bye"
            has_ended.set()
            wait_until(lambda: was_reset(client))
        wait_until(lambda: proxy.serving.activity()[1] == 0)


def test_a_reset_of_the_client_behind_its_end_is_one_for_a_silent_origin(proxy_factory, origin_factory):
    has_ended, was_told = threading.Event(), threading.Event()

    def read_and_wait(connection):
        assert read_all(connection) == b"bye"
        has_ended.set()
        wait_until(lambda: was_reset(connection))
        was_told.set()

    proxy = proxy_factory(Forwarding(origin_factory(switching(read_and_wait)).address))
    client = tunnel_through(proxy)
    client.sendall(b"bye")
    client.shutdown(socket.SHUT_WR)
    assert has_ended.wait(10)
    reset(client)
    assert was_told.wait(10)
    wait_until(lambda: proxy.serving.activity()[1] == 0)


def test_a_slow_client_gets_all_that_came_before_the_end_of_an_origin_that_is_reset_then(proxy_factory, origin_factory):
    """Which is what the kernel does where nobody reads what the client sends."""
    sent, closed = os.urandom(60_000), threading.Event()

    def script(connection, data):
        connection.sendall(SWITCHING + sent)
        connection.close()
        closed.set()

    proxy = proxy_factory(Forwarding(origin_factory(script).address))
    with narrow_client(proxy) as client:
        client.sendall(UPGRADE)
        assert closed.wait(10)
        settle(proxy)
        client.sendall(b"too late")
        settle(proxy)
        got = b""
        while not got.endswith(sent):
            got += more_of(client)


def test_an_answer_that_had_its_end_before_a_reset_is_whole(proxy_factory, origin_factory):
    class Slow(Forwarding):
        gate = Gate()

        async def response_filter(self, session, response, ctx):
            await self.gate.wait()

    def answer_and_reset(connection, data):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        Slow.gate.await_hook()
        connection.sendall(b"hello")
        connection.shutdown(socket.SHUT_WR)
        reset(connection)
        has_reset.set()

    has_reset = threading.Event()
    proxy = proxy_factory(Slow(origin_factory(answer_and_reset).address))
    with proxy.connect(10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert has_reset.wait(10)
        settle(proxy)
        Slow.gate.open()
        assert read_all(client).endswith(b"\r\n5\r\nhello\r\n0\r\n\r\n")


def test_a_tunnel_in_which_nothing_moves_is_cut(proxy_factory, origin_factory, caplog):
    ends = []
    script = switching(lambda connection: ends.append(read_all(connection)))
    proxy = proxy_factory(Forwarding(origin_factory(script).address), Limits(tunnel_timeout=0.1))
    with tunnel_through(proxy) as client, pytest.raises(ConnectionResetError):
        client.recv(1)
    wait_until(lambda: ends and "tunnel_timeout" in caplog.text)
    assert proxy.serving.activity()[1] == 0


@pytest.mark.parametrize("talks", ["client", "origin"])
def test_a_tunnel_in_which_one_side_talks_goes_on(proxy_factory, origin_factory, talks):
    def talk(connection):
        for _ in range(12):
            time.sleep(0.1)  # in all longer than the limit, which nothing in between comes near
            connection.sendall(b"x")
        connection.shutdown(socket.SHUT_WR)

    script = switching(talk if talks == "origin" else read_all)
    proxy = proxy_factory(Forwarding(origin_factory(script).address), Limits(tunnel_timeout=1.0))
    with tunnel_through(proxy) as client:
        if talks == "client":
            talk(client)
        assert read_all(client) == (b"x" * 12 if talks == "origin" else b"")


# -- a hook that changes the answer


class Forbids(Forwarding):
    def response_filter(self, session, response, ctx):
        response.status = 403


class ForbidsEarlier(Forwarding):
    def upstream_response_filter(self, session, response, ctx):
        response.status = 403


@pytest.mark.parametrize("kind", [Forbids, ForbidsEarlier])
def test_a_101_that_a_hook_makes_another_status_opens_no_tunnel(proxy_factory, origin_factory, kind):
    got = []
    script = switching(lambda connection: got.append(read_all(connection)))
    with proxy_factory(kind(origin_factory(script).address)).connect(10) as client:
        client.sendall(UPGRADE)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += more_of(client)
        with contextlib.suppress(OSError):  # it may have closed already
            client.sendall(SMUGGLED)
            client.shutdown(socket.SHUT_WR)
        behind = read_all(client)
    wait_until(lambda: got)
    assert (behind, got) == (b"", [b""])
    assert head.startswith(b"HTTP/1.1 403 ")
    assert b"\r\nContent-Length: 0\r\n" in head
    assert b"\r\nConnection: close\r\n" in head
