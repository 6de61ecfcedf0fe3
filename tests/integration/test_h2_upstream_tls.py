"""HTTP/2 to origins over TLS: what ALPN decides, for requests that wait for one handshake together."""

import ssl

import pytest
from h2_origin import H2Origin, RequiringHttp1
from h2_upstream import ask, many, n_groups
from pki import Authority, load_chain
from tls_origin import TlsOrigin

from pingora import HttpPeer, ProxyHttp, RetryPolicy, UpstreamTls

UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"


@pytest.fixture(scope="module")
def issued():
    return Authority().issue("localhost")


def context_of(issued, *protocols):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_chain(context, issued)
    context.set_alpn_protocols(list(protocols))
    return context


class To(ProxyHttp):
    """Everything goes to one origin, which is not verified."""

    def __init__(self, address, protocol, attempts=3, **options):
        self.peer = HttpPeer(address, tls=UpstreamTls(verify=False), protocol=protocol, **options)
        self.retry = RetryPolicy(attempts=attempts)

    def upstream_peer(self, session, ctx):
        return self.peer


@pytest.mark.parametrize("protocol", ["h2", "h2h1"])
def test_an_origin_that_chooses_http2_serves_all_over_one_connection(proxy_factory, issued, protocol):
    origin = H2Origin(lambda request: (200, [], b"hi", []), context=context_of(issued, "h2", "http/1.1"))
    proxy = proxy_factory(To(origin.address, protocol))
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in many(proxy, 20))
    assert len(origin.connections) == 1
    assert (b":scheme", b"https") in origin.requests[0].headers
    origin.close()


def test_an_origin_of_http1_is_served_as_such_by_h2h1(proxy_factory, issued):
    origin = TlsOrigin(context_of(issued, "http/1.1"))
    proxy = proxy_factory(To(origin.address, "h2h1"))
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in many(proxy, 10))
    assert ask(proxy).endswith(b"up")
    assert {one["alpn"] for one in origin.seen} == {"http/1.1"}


@pytest.mark.parametrize("most", [1, 2])
def test_all_that_wait_are_served_though_few_connections_may_be_opened_at_once(proxy_factory, issued, most):
    origin = TlsOrigin(context_of(issued, "http/1.1"))
    proxy = proxy_factory(To(origin.address, "h2h1", max_h2_connections=most, connect_timeout=20.0))
    answers = many(proxy, 10)
    assert [answer[:15] for answer in answers] == [b"HTTP/1.1 200 OK"] * 10
    assert n_groups() == 0


def test_an_origin_that_does_not_choose_http2_is_a_failure_for_h2(proxy_factory, issued):
    origin = TlsOrigin(context_of(issued, "http/1.1"))
    answer = ask(proxy_factory(To(origin.address, "h2", attempts=1)))
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert answer.endswith(b"tls_handshake_failed\n")


def test_a_request_to_upgrade_offers_http1_only(proxy_factory, issued):
    origin = TlsOrigin(context_of(issued, "h2", "http/1.1"))
    assert ask(proxy_factory(To(origin.address, "h2h1")), UPGRADE).endswith(b"up")
    assert [one["alpn"] for one in origin.seen] == ["http/1.1"]


def test_an_origin_that_requires_http1_is_asked_so_from_then_on(proxy_factory, issued):
    origin = RequiringHttp1(context_of(issued, "h2", "http/1.1"))
    proxy = proxy_factory(To(origin.address, "h2h1"))
    assert ask(proxy).endswith(b"up")
    assert ask(proxy).endswith(b"up")
    assert origin.chosen == ["h2", "http/1.1", "http/1.1"]
    origin.close()
