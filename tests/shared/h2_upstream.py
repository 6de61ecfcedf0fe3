"""A proxy before an origin of HTTP/2, and clients that ask it."""

import contextlib
import gc
import socket

import pytest
from h2_origin import H2Origin, RawOrigin

from pingora import HttpPeer, ProxyHttp
from pingora.testing import read_all


class To(ProxyHttp):
    """Everything goes to one origin over HTTP/2."""

    def __init__(self, address, retry=None, **options):
        self.peer = HttpPeer(address, **{"protocol": "h2", **options})
        if retry is not None:
            self.retry = retry

    def upstream_peer(self, session, ctx):
        return self.peer


@pytest.fixture
def h2_origin():
    """Make origins that end with the test."""
    made = []

    def make(*args, **options):
        made.append(H2Origin(*args, **options))
        return made[-1]

    def make_raw(script):
        made.append(RawOrigin(script))
        return made[-1]

    make.raw = make_raw
    yield make
    for origin in made:
        origin.close()


def ask(proxy, request=b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"):
    with socket.create_connection((proxy.host, proxy.port), timeout=20) as client:
        client.sendall(request)
        return read_all(client)


def many(proxy, n):
    """Ask `n` times at once; the answers."""
    clients = [socket.create_connection((proxy.host, proxy.port), timeout=30) for _ in range(n)]
    with contextlib.ExitStack() as stack:
        for client in clients:
            stack.enter_context(client)
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return [read_all(client) for client in clients]


def n_groups():
    """Count the groups of connections, of all proxies of this process."""
    gc.collect()
    return sum(type(thing).__name__ == "H2Group" for thing in gc.get_objects())
