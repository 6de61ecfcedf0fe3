"""Tunnels whose ends do not come together. What passes through a whole one is in test_websocket.py."""

import os
import socket
import threading

import pytest
from conversations import Forwarding, wait_until
from inside import RESET, narrow, settle

from pingora import HttpPeer
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
