"""TLS towards upstreams: whom the proxy trusts, what it shows, what follows if that fails. Origins: Python's ssl."""

import contextlib
import logging
import os
import socket
import ssl
import threading

import pytest
from conversations import GET, Forwarding, more_of, proxy_to, wait_until
from pki import Authority, self_signed
from tls_origin import OK, TlsOrigin

from pingora import Certificate, HttpPeer, LoadBalancer, ProxyHttp, RetryPolicy, UpstreamTls
from pingora.testing import read_all


@pytest.fixture(scope="module")
def ca():
    return Authority()


@pytest.fixture
def tls_origin(ca):
    running = []

    def start(*names, script=OK, issued=None, **settings):
        context = ca.server_context(issued or ca.issue(*(names or ("app.test",))), **settings)
        running.append(TlsOrigin(context, script))
        return running[-1]

    yield start
    for origin in running:
        origin.close()


@pytest.fixture
def ask(proxy_factory):
    """Send a request through a proxy that uses a peer; the answer."""

    def send(address, tls, **settings):
        forwarding = Forwarding(address)
        forwarding.peer = HttpPeer(address, tls=tls, **settings)
        forwarding.retry = RetryPolicy(attempts=1)
        return proxy_factory(forwarding).exchange(GET)

    return send


def test_a_name_that_the_certificate_is_for_is_accepted_and_sent(ca, tls_origin, ask):
    origin = tls_origin("app.test")
    origin.context.set_alpn_protocols(["h2", "http/1.1"])
    assert ask(origin.address, UpstreamTls(ca=ca.chain, server_name="APP.test")).endswith(b"up")
    assert origin.seen == [{"sni": "app.test", "alpn": "http/1.1", "resumed": False, "certificate": None}]


CASES = [
    ("wrong name", ("other.test",), {"server_name": "app.test"}, "hostname mismatch"),
    ("partial wildcard", ("a*.test",), {"server_name": "app.test"}, "hostname mismatch"),
    ("wildcard two labels", ("*.test",), {"server_name": "a.b.test"}, "hostname mismatch"),
    ("no name at all", ("app.test",), {}, "IP address mismatch"),
    ("another IP address", ("127.0.0.2",), {}, "IP address mismatch"),
    ("IP address for a name", ("127.0.0.1",), {"server_name": "app.test"}, "hostname mismatch"),
]


@pytest.mark.parametrize(("names", "settings", "detail"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_certificate_for_somebody_else_is_refused(ca, tls_origin, ask, caplog, names, settings, detail):
    answer = ask(tls_origin(*names).address, UpstreamTls(ca=ca.chain, **settings))
    assert answer.startswith(b"HTTP/1.1 502")
    assert answer.endswith(b"certificate_invalid\n")
    wait_until(lambda: detail in caplog.text)


@pytest.mark.parametrize(
    ("names", "settings"),
    [
        (("127.0.0.1",), {}),
        (("*.example.test",), {"server_name": "a.example.test"}),
        (("other.test",), {"server_name": "app.test", "alternative_name": "other.test"}),
        (("other.test",), {"alternative_name": "other.test"}),
    ],
    ids=["IP address", "wildcard", "alternative", "alternative without SNI"],
)
def test_a_certificate_for_one_of_the_names_is_accepted(ca, tls_origin, ask, names, settings):
    assert ask(tls_origin(*names).address, UpstreamTls(ca=ca.chain, **settings)).endswith(b"up")


def test_the_common_name_of_a_certificate_is_no_host_name(ca, tls_origin, ask):
    issued = ca.issue("127.0.0.2", common_name="app.test")
    answer = ask(tls_origin(issued=issued).address, UpstreamTls(ca=ca.chain, server_name="app.test"))
    assert answer.endswith(b"certificate_invalid\n")


def test_what_ends_during_the_handshake_was_connected(ca, ask):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def end_at_once():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.sendall(b"abc")  # it arrives with the end, mostly before the connect is noticed
                    connection.close()

        threading.Thread(target=end_at_once, daemon=True).start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        for _ in range(20):
            assert ask(address, UpstreamTls(ca=ca.chain)).endswith(b"tls_handshake_failed\n")
        listener.shutdown(socket.SHUT_RDWR)


def test_what_is_not_trusted_is_refused(ca, tls_origin, ask, caplog):
    app = {"server_name": "app.test"}
    expired = ca.issue("app.test", days=(-20, -10))
    future = ca.issue("app.test", days=(10, 20))
    revoked = ca.issue("app.test")
    cases = [
        (ca.issue("app.test"), UpstreamTls(ca=Authority("another").chain, **app), "unable to get local issuer"),
        (ca.issue("app.test"), UpstreamTls(**app), "unable to get local issuer"),
        (self_signed("app.test"), UpstreamTls(ca=ca.chain, **app), "self-signed certificate"),
        (expired, UpstreamTls(ca=ca.chain, **app), "certificate has expired"),
        (future, UpstreamTls(ca=ca.chain, **app), "not yet valid"),
        (revoked, UpstreamTls(ca=ca.chain, crl=ca.crl(revoked), **app), "certificate revoked"),
    ]
    for issued, tls, detail in cases:
        caplog.clear()
        assert ask(tls_origin(issued=issued).address, tls).endswith(b"certificate_invalid\n")
        wait_until(lambda: detail in caplog.text)  # noqa: B023


def test_verify_false_is_the_way_out(tls_origin, ask):
    assert ask(tls_origin("other.test").address, UpstreamTls(verify=False, server_name="app.test")).endswith(b"up")


def test_a_client_certificate_is_shown(ca, tls_origin, ask):
    origin = tls_origin("127.0.0.1", verify_mode=ssl.CERT_REQUIRED)
    origin.context.load_verify_locations(cadata=ca.chain.decode())
    mine = ca.issue("gateway")
    tls = UpstreamTls(ca=ca.chain, certificate=Certificate(mine.chain, mine.key))
    assert ask(origin.address, tls).endswith(b"up")
    assert origin.seen[0]["certificate"] == mine.der
    assert ask(origin.address, UpstreamTls(ca=ca.chain)).startswith(b"HTTP/1.1 502")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed_with_the_same_peer_only(ca, tls_origin, proxy_factory, version):
    origins = [tls_origin("127.0.0.1", maximum_version=version, script=closing) for _ in range(2)]
    proxy = Forwarding(origins[0].address)
    tls = UpstreamTls(ca=ca.chain)
    peers = [HttpPeer(origin.address, tls=tls) for origin in origins]
    running = proxy_factory(proxy)
    for _ in range(3):
        for peer in peers:
            proxy.peer = peer
            assert running.exchange(GET).endswith(b"up")
    for origin in origins:
        assert [seen["resumed"] for seen in origin.seen] == [False, True, True]


def closing(connection, data):
    connection.sendall(OK.replace(b"Content-Length", b"Connection: close\r\nContent-Length"))
    connection.unwrap()


def test_connections_are_shared_only_by_peers_with_equal_settings(ca, tls_origin, proxy_factory):
    origin = tls_origin("127.0.0.1", "a.test", "b.test")
    mine = ca.issue("gateway")
    certificate = Certificate(mine.chain, mine.key)
    settings = [
        UpstreamTls(ca=ca.chain),
        UpstreamTls(ca=ca.chain, server_name="a.test"),
        UpstreamTls(ca=ca.chain, server_name="b.test"),
        UpstreamTls(ca=ca.chain, server_name="a.test", alternative_name="b.test"),
        UpstreamTls(ca=ca.chain, certificate=certificate),
        UpstreamTls(ca=ca.chain, alpn=()),
        UpstreamTls(ca=ca.chain, max_version="1.2"),
        UpstreamTls(ca=ca.chain + Authority().chain),
        UpstreamTls(ca=ca.chain, crl=ca.crl()),
        UpstreamTls(verify=False),
    ]
    proxy = Forwarding(origin.address)
    running = proxy_factory(proxy)
    for n in range(2):
        for tls in settings:
            proxy.peer = HttpPeer(origin.address, tls=tls)
            assert running.exchange(GET).endswith(b"up")
        assert len(origin.seen) == len(settings), f"round {n}"
    proxy.peer = HttpPeer(origin.address, tls=UpstreamTls(ca=ca.chain))  # made anew, and equal to the first
    assert running.exchange(GET).endswith(b"up")
    assert len(origin.seen) == len(settings)


def test_an_upstream_without_tls_is_a_failed_handshake(origin_factory, ask, caplog):
    def plain(connection, data):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        connection.close()

    class Speaking:
        """Answers before it is asked, as CVE-2026-1642 needs it."""

        def __init__(self):
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
            threading.Thread(target=self._serve, daemon=True).start()

        def _serve(self):
            connection, _ = self.listener.accept()
            plain(connection, b"")

    speaking = Speaking()
    answer = ask(speaking.address, UpstreamTls(verify=False))
    speaking.listener.close()
    assert answer.startswith(b"HTTP/1.1 502")
    assert answer.endswith(b"tls_handshake_failed\n")
    wait_until(lambda: "tls_handshake_failed (" in caplog.text)


@pytest.mark.parametrize(
    ("protocol", "head", "told"),
    [
        ("h1", b"", "upstream_closed (cut before its answer: REASON)"),
        ("h2", b"", "upstream_closed (REASON)"),
        (
            "h1",
            b"HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n",
            "cut in the body, 0 bytes came of 44: REASON)",
        ),
    ],
    ids=["HTTP/1.1", "HTTP/2", "behind a head"],
)
def test_plain_bytes_of_an_upstream_after_the_handshake_are_fatal(ca, tls_origin, ask, caplog, protocol, head, told):
    def script(connection, data):
        if head:
            connection.sendall(head)
        with socket.socket(fileno=os.dup(connection.fileno())) as plain:  # past the TLS of the connection
            plain.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        connection.recv(1)

    origin = tls_origin("app.test", script=script)
    origin.context.set_alpn_protocols(["h2", "http/1.1"])
    answer = ask(origin.address, UpstreamTls(ca=ca.chain, server_name="app.test"), protocol=protocol)
    assert b"evil" not in answer
    assert answer.startswith(b"HTTP/1.1 200" if head else b"HTTP/1.1 502")
    reasons = ("wrong version number", "packet length too long", "bad record type")  # OpenSSL 3.0, 3.5, 3.6
    wait_until(lambda: any(told.replace("REASON", reason) in caplog.text for reason in reasons))


def test_an_upstream_that_closes_during_the_handshake_is_a_failed_handshake(ask):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True).start()
        answer = ask(f"127.0.0.1:{listener.getsockname()[1]}", UpstreamTls(verify=False))
    assert answer.endswith(b"tls_handshake_failed\n")


def test_a_handshake_counts_as_connecting(ask):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        answer = ask(address, UpstreamTls(verify=False), connect_timeout=0.05)
    assert answer.startswith(b"HTTP/1.1 504")
    assert answer.endswith(b"connect_timeout\n")


def test_another_endpoint_is_tried_after_a_certificate_that_is_refused(ca, tls_origin, proxy_factory):
    bad, good = tls_origin("other.test"), tls_origin("localhost")
    proxy = ProxyHttp()
    tls = UpstreamTls(ca=ca.chain, server_name="localhost")
    proxy.upstreams = LoadBalancer([f"https://{bad.address}", f"https://{good.address}"], tls=tls)
    running = proxy_factory(proxy)
    for _ in range(4):
        assert running.exchange(GET).endswith(b"up")
    assert running.serving.counters['pingora_upstream_failures_total{reason="certificate_invalid"}'] >= 2


def test_https_targets_of_a_balancer_are_verified_by_their_name(ca, tls_origin, proxy_factory):
    origin = tls_origin("localhost")
    proxy = ProxyHttp()
    proxy.upstreams = LoadBalancer([f"https://localhost:{origin.port}"], tls=UpstreamTls(ca=ca.chain))
    assert proxy_factory(proxy).exchange(GET).endswith(b"up")
    assert origin.seen[0]["sni"] == "localhost"
    proxy.upstreams.update([f"https://127.0.0.1:{origin.port}"])
    assert proxy.upstreams.endpoints[0].server_name is None


def test_an_update_may_turn_tls_on(ca, tls_origin, origin_factory, proxy_factory):
    origin = tls_origin("127.0.0.1")
    proxy = proxy_to(origin.address)
    running = proxy_factory(proxy)
    assert not running.exchange(GET).endswith(b"up")
    proxy.upstreams._tls = UpstreamTls(ca=ca.chain)
    proxy.upstreams.update([f"https://{origin.address}"])
    assert running.exchange(GET).endswith(b"up")


@pytest.mark.parametrize("size", [1, 16384, 131073, 3_000_000])
def test_bodies_of_any_size_pass_both_ways(ca, tls_origin, proxy_factory, size):
    received = []

    def script(connection, data):
        received.append(data)
        while len(b"".join(received).partition(b"\r\n\r\n")[2]) < size:  # the head has grown on its way
            received.append(more_of(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (size, payload))

    payload = (bytes(range(256)) * (size // 256 + 1))[:size]
    request = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (size, payload)
    origin = tls_origin("127.0.0.1", script=script)
    proxy = Forwarding(origin.address)
    proxy.peer = HttpPeer(origin.address, tls=UpstreamTls(ca=ca.chain))
    answer = proxy_factory(proxy).exchange(request)
    assert answer.partition(b"\r\n\r\n")[2] == payload
    assert b"".join(received).partition(b"\r\n\r\n")[2] == payload


def test_an_answer_to_the_end_of_the_connection_needs_close_notify(ca, tls_origin, ask):
    def script(connection, data):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        if is_whole:
            with contextlib.suppress(OSError):
                connection.unwrap()
        else:
            connection.shutdown(socket.SHUT_RDWR)

    origin = tls_origin("127.0.0.1", script=script)
    for is_whole in (True, False):
        answer = ask(origin.address, UpstreamTls(ca=ca.chain))
        assert b"all of it" in answer
        assert answer.endswith(b"\r\n0\r\n\r\n") is is_whole


def test_a_pooled_connection_that_the_upstream_ends_is_not_used_again(ca, tls_origin, proxy_factory):
    connections = []

    def script(connection, data):
        connections.append(connection)
        connection.sendall(OK)

    origin = tls_origin("127.0.0.1", script=script)
    proxy = Forwarding(origin.address)
    proxy.peer = HttpPeer(origin.address, tls=UpstreamTls(ca=ca.chain))
    running = proxy_factory(proxy)
    for _ in range(3):
        assert running.exchange(GET).endswith(b"up")
        connections[-1].shutdown(socket.SHUT_RDWR)
    assert len(origin.seen) == 3
    assert running.serving.counters["pingora_retries_total"] == 0 or len(origin.seen) == 3


def test_errors_of_configuration_name_what_is_wrong(ca, tmp_path):
    mine, other = ca.issue("a.test"), ca.issue("b.test")
    cases = [
        (lambda: UpstreamTls(ca=tmp_path / "none.pem"), "none.pem: No such file"),
        (lambda: UpstreamTls(ca=b""), "no certificate in it"),
        (lambda: UpstreamTls(server_name="127.0.0.1"), "is an IP address"),
        (lambda: UpstreamTls(server_name="a b"), "expected a DNS name"),
        # OpenSSL takes them for any name, and for any subdomain
        (lambda: UpstreamTls(server_name="."), "expected a DNS name"),
        (lambda: UpstreamTls(alternative_name=".test"), "expected a DNS name"),
        (lambda: HttpPeer("127.0.0.1:1", tls=UpstreamTls(ca=ca.chain), server_name="."), "expected a DNS name"),
        (lambda: UpstreamTls(alpn=("h2",)), "alpn: expected one of http/1.1"),
        (lambda: UpstreamTls(ciphers="NONSENSE"), "ciphers: 'NONSENSE'"),
        (lambda: UpstreamTls(groups="nonsense"), "groups: 'nonsense'"),
        (lambda: UpstreamTls(min_version="1.1"), "min_version: expected '1.2' or '1.3'"),
        (lambda: UpstreamTls(min_version="1.3", max_version="1.2"), "above max_version"),
        (lambda: Certificate(mine.chain, other.key), "not the key"),
        (lambda: HttpPeer("unix:/run/x", tls=UpstreamTls()), "needs a server_name"),
        (lambda: LoadBalancer(["ftp://127.0.0.1:1"]), "expected http://host:port"),
        (lambda: LoadBalancer(["https://127.0.0.1:1/path"]), "expected no path"),
        (lambda: LoadBalancer(["https://127.0.0.1:1?x=1"]), "no option 'x'"),
    ]
    for make, message in cases:
        with pytest.raises(ValueError, match=message.replace("?", r"\?").replace("(", r"\(")):
            make()


def test_the_error_log_names_the_reason_and_the_detail(ca, tls_origin, ask, caplog):
    with caplog.at_level(logging.WARNING):
        ask(tls_origin("other.test").address, UpstreamTls(ca=ca.chain, server_name="app.test"))
    wait_until(lambda: "certificate_invalid (hostname mismatch), status 502" in caplog.text)


def test_a_tunnel_goes_through_tls(ca, tls_origin, proxy_factory):
    def script(connection, data):
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        while more := connection.recv(65536):
            connection.sendall(more.upper())

    origin = tls_origin("127.0.0.1", script=script)
    proxy = Forwarding(origin.address)
    proxy.peer = HttpPeer(origin.address, tls=UpstreamTls(ca=ca.chain))
    with proxy_factory(proxy).connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += more_of(client, 4096)
        assert head.startswith(b"HTTP/1.1 101")
        client.sendall(b"hello")
        assert client.recv(4096) == b"HELLO"
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
