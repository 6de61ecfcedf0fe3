"""What a worker remembers of upstreams of HTTP/2 whose connections serve one tenant or one client only: no more than it
needs.
"""

import gc
import itertools
import socket
import ssl

import pytest
from conversations import wait_until
from h2_origin import RequiringHttp1
from h2_upstream import ask, n_groups
from pki import Authority, load_chain
from tls_origin import TlsOrigin

from pingora import HttpPeer, LoadBalancer, PeerOptions, ProxyHttp, RetryPolicy, UpstreamTls

UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"
REMEMBERED_MOST = 1024


class Tenants(ProxyHttp):
    """Each request is another tenant's, who shares no connection."""

    retry = RetryPolicy(attempts=1)

    def __init__(self, address, **options):
        self.address, self.options = address, options
        self.numbers = itertools.count()

    def upstream_peer(self, session, ctx):
        return HttpPeer(self.address, **{"group": next(self.numbers)} | self.options)


@pytest.fixture(scope="module")
def issued():
    return Authority().issue("localhost")


@pytest.fixture
def tls():
    """For one test, since it keeps sessions of the upstreams."""
    return UpstreamTls(verify=False)


@pytest.fixture
def dead():
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
    return address


def context_of(issued, *protocols):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_chain(context, issued)
    context.set_alpn_protocols(list(protocols))
    return context


def ask_all(proxy, expected, n=20, request=b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"):
    for _ in range(n):
        assert ask(proxy, request).startswith(b"HTTP/1.1 " + expected)


def test_none_is_left_of_tenants_whose_connections_have_ended(proxy_factory, h2_origin):
    before = n_groups()
    origin = h2_origin(lambda request: (200, [], b"hi", []))
    ask_all(proxy_factory(Tenants(origin.address, protocol="h2", idle_timeout=0.05)), b"200 ")
    wait_until(lambda: n_groups() <= before)


def test_none_is_left_of_tenants_whose_connects_were_refused(proxy_factory, dead):
    before = n_groups()
    ask_all(proxy_factory(Tenants(dead, protocol="h2")), b"502 ")
    assert n_groups() <= before


def test_none_is_left_of_clients_whose_connects_were_refused(proxy_factory, dead):
    before = n_groups()
    proxy = ProxyHttp()
    proxy.upstreams = LoadBalancer([f"h2c://{dead}"], peer=PeerOptions(proxy_protocol="v1"))
    ask_all(proxy_factory(proxy), b"502 ")
    assert n_groups() <= before


def test_none_is_left_of_tenants_who_waited_in_vain(proxy_factory, h2_origin):
    before = n_groups()
    origin = h2_origin.raw(lambda peer, number: peer.read(10**6))
    tls = {"tls": UpstreamTls(verify=False), "protocol": "h2"}
    ask_all(proxy_factory(Tenants(origin.address, connect_timeout=0.05, **tls)), b"504 ", 5)
    wait_until(lambda: n_groups() <= before)


@pytest.mark.parametrize("request_head", [b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", UPGRADE])
def test_none_is_left_of_tenants_whose_upstream_chose_http1(proxy_factory, issued, request_head, tls):
    before = n_groups()
    with TlsOrigin(context_of(issued, "http/1.1")) as origin:
        ask_all(proxy_factory(Tenants(origin.address, tls=tls, protocol="h2h1")), b"200 ", 20, request_head)
        assert n_groups() <= before


def test_what_an_upstream_chose_is_known_when_nobody_uses_it(proxy_factory, issued, tls):
    with TlsOrigin(context_of(issued, "http/1.1")) as origin:
        proxy = proxy_factory(Tenants(origin.address, tls=tls, protocol="h2h1", group="one"))
        ask_all(proxy, b"200 ", 3)
        assert len(origin.seen) == 1


def test_an_upstream_that_requires_http1_is_asked_so_by_all_tenants(proxy_factory, issued, tls):
    origin = RequiringHttp1(context_of(issued, "h2", "http/1.1"))
    tenants = Tenants(origin.address, tls=tls, protocol="h2h1")
    tenants.retry = RetryPolicy(attempts=2)
    ask_all(proxy_factory(tenants), b"200 ", 3)
    assert origin.chosen == ["h2", "http/1.1", "http/1.1", "http/1.1"]
    origin.close()


def test_what_upstreams_chose_is_remembered_of_so_many_only(proxy_factory, issued, tls):
    class Names(Tenants):
        def upstream_peer(self, session, ctx):
            name = f"{next(self.numbers)}.example"
            return HttpPeer(self.address, tls=tls, server_name=name, protocol="h2h1", idle_timeout=0.01)

    def remembered():
        found = [thing for thing in gc.get_objects() if type(thing).__name__ == "H1Origins"]
        return max(len(known) for thing in found for known in gc.get_referents(thing) if isinstance(known, dict))

    with TlsOrigin(context_of(issued, "http/1.1")) as origin:
        proxy = proxy_factory(Names(origin.address))
        request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        with proxy.connect(20) as client:
            for _ in range(REMEMBERED_MOST + 10):
                client.sendall(request)
                assert client.recv(1000).endswith(b"up")
        assert remembered() == REMEMBERED_MOST
