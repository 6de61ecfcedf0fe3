"""TcpProxy with TLS: peers by name without decrypting, TLS that ends here, TLS to upstreams."""

import contextlib
import socket
import ssl

import pytest
from conversations import wait_until
from pki import Authority
from tcp_peers import (
    counted,
    echo,
    failures,
    is_over,
    talk,
    to,
    told,
)
from tls_by_hand import TlsByHand

from pingora import (
    Certificate,
    HttpPeer,
    Ketama,
    Limits,
    RetryPolicy,
    TcpProxy,
    TlsSettings,
    UpstreamTls,
)
from pingora.testing import read_all

HERE = ["127.0.0.0/8"]
LINE = b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 443\r\n"


class ByName(TcpProxy):
    """Chooses by what a TLS client asks for."""

    reads_client_hello = True

    def __init__(self, **upstreams):
        self.peers = {name.replace("_", "."): HttpPeer(address) for name, address in upstreams.items()}
        self.seen = []

    def upstream_peer(self, session):
        self.seen.append((session.server_name, session.alpn, session.tls))
        return self.peers[session.server_name or "plain"]


@pytest.fixture
def tls_origin(peer_factory):
    """Start servers with TLS that say their name."""
    ca = Authority()

    def start(name):
        context = ca.server_context(ca.issue(name))

        def script(connection):
            with context.wrap_socket(connection, server_side=True) as secure:
                secure.sendall(name.encode() + b":" + secure.recv(65536))

        return peer_factory(script).address

    start.ca = ca
    return start


def ask(proxy, context, name, data=b"hello"):
    with proxy.connect(10) as raw, context.wrap_socket(raw, server_hostname=name) as client:
        client.sendall(data)
        return read_all(client)


def hello_of(context, name):
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def test_the_upstream_is_chosen_by_the_name_without_decrypting(proxy_factory, tls_origin):
    hooks = ByName(a_example=tls_origin("a.example"), b_example=tls_origin("b.example"))
    proxy = proxy_factory(hooks)
    context = tls_origin.ca.trusts()
    context.set_alpn_protocols(["h2", "http/1.1"])
    for name in ("a.example", "b.example", "a.example"):
        assert ask(proxy, context, name) == name.encode() + b":hello"
    assert hooks.seen[0] == ("a.example", ("h2", "http/1.1"), None)
    is_over(proxy)


def test_a_hello_that_comes_slowly_is_waited_for(proxy_factory, tls_origin):
    proxy = proxy_factory(ByName(a_example=tls_origin("a.example")))
    hello = hello_of(tls_origin.ca.trusts(), "a.example")
    with proxy.connect(10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(hello), 7):
            client.sendall(hello[at : at + 7])
        assert client.recv(1) == b"\x16"


def test_what_is_no_tls_goes_on_without_a_name(proxy_factory, peer_factory):
    proxy = proxy_factory(ByName(plain=peer_factory(told(b"plain")).address))
    assert talk(proxy, b"hello") == b"plain:hello"


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\0\x04\x02\0\0\0", b"\x16\x03\x01\0\x04\x01\xff\0\0"], ids=["malformed", "too_long"]
)
def test_a_bad_hello_ends_the_connection(proxy_factory, sent):
    proxy = proxy_factory(ByName())
    with proxy.connect(10) as client:
        client.sendall(sent)
        assert read_all(client) == b""
    wait_until(lambda: failures(proxy, "client_bad_hello") == 1)
    is_over(proxy)


def test_a_client_that_never_ends_its_hello_is_closed_in_time(proxy_factory):
    proxy = proxy_factory(ByName(), Limits(handshake_timeout=0.05))
    for sent in (b"", b"\x16\x03\x01\x01\0\x01\0\0\xfc\x03\x03"):
        with proxy.connect(10) as client:
            client.sendall(sent)
            assert read_all(client) == b""
    wait_until(lambda: failures(proxy, "client_timeout") == 2)
    assert counted(proxy, 'pingora_connections_closed_total{reason="handshake_timeout"}') == 2
    is_over(proxy)


def test_ketama_by_host_takes_the_name_of_the_hello(proxy_factory, peer_factory):
    peers = [peer_factory(told(str(number).encode())) for number in range(4)]
    hooks = to(*(peer.address for peer in peers), selection=Ketama(), key="host")
    hooks.reads_client_hello = True
    proxy = proxy_factory(hooks)
    context = Authority().trusts()
    names = [f"{letter}.example" for letter in "abcdefgh"]
    first = [talk(proxy, hello_of(context, name))[:1] for name in names]
    assert [talk(proxy, hello_of(context, name))[:1] for name in names] == first
    assert len(set(first)) > 1


def test_tls_may_end_here_and_begin_anew(proxy_factory, tls_origin):
    ca = tls_origin.ca
    issued = ca.issue("front.example")
    upstream = UpstreamTls(ca=ca.chain, alpn=())
    seen = []

    class Both(TcpProxy):
        peer = HttpPeer(tls_origin("inner.example"), tls=upstream, server_name="inner.example")

        def upstream_peer(self, session):
            seen.append((session.server_name, session.tls.version))
            return self.peer

    proxy = proxy_factory(Both(), tls=TlsSettings(Certificate(issued.chain, issued.key), alpn=()))
    assert ask(proxy, ca.trusts(), "front.example") == b"inner.example:hello"
    assert seen == [("front.example", "TLSv1.3")]
    is_over(proxy)


def test_an_upstream_with_a_wrong_certificate_gets_nothing(proxy_factory, tls_origin, caplog):
    class Trusting(TcpProxy):
        retry = RetryPolicy(attempts=1)
        peer = HttpPeer(tls_origin("a.example"), tls=UpstreamTls(ca=tls_origin.ca.chain), server_name="b.example")

        def upstream_peer(self, session):
            return self.peer

    proxy = proxy_factory(Trusting())
    assert talk(proxy, b"secret") == b""
    wait_until(lambda: failures(proxy, "certificate_invalid") == 1)
    wait_until(lambda: "certificate_invalid (hostname mismatch)" in caplog.text.lower())


def test_a_handshake_that_fails_ends_the_connection(proxy_factory, peer_factory):
    issued = Authority().issue("front.example")
    proxy = proxy_factory(
        to(peer_factory(echo).address), tls=TlsSettings(Certificate(issued.chain, issued.key), alpn=())
    )
    with proxy.connect(10) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"HTTP" not in read_all(client)
    wait_until(lambda: counted(proxy, "pingora_tls_handshake_failures_total") == 1)
    assert counted(proxy, "pingora_tcp_sessions_total") == 0


def test_an_end_that_comes_with_a_part_of_a_record_is_seen(proxy_factory, peer_factory):
    """TLS gives nothing for such bytes, and the event that brings them is the last."""
    ca = Authority()
    context = ca.server_context(ca.issue("a.example"))

    def end_within_a_record(connection):
        server = TlsByHand(connection, context, name=None)
        connection.sendall(server.seal(b"hello"))
        assert connection.recv(65536)  # the client's answer to it: what follows is one event
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        connection.sendall(server.seal(bytes(2000))[:700])
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)

    class Trusting(TcpProxy):
        peer = HttpPeer(
            peer_factory(end_within_a_record).address, tls=UpstreamTls(ca=ca.chain), server_name="a.example"
        )

        def upstream_peer(self, session):
            return self.peer

    with proxy_factory(Trusting()).connect(10) as client:
        assert client.recv(5) == b"hello"
        client.sendall(b"thanks")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
