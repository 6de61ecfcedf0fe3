"""TLS towards clients: certificates by name, policies, tickets, and what ends a connection. Clients: Python's ssl."""

import contextlib
import re
import select
import socket
import ssl
import threading

import pytest
from conversations import GET, dechunk, echo, post, proxy_to, wait_until
from pki import Authority, secured, self_signed
from tls_by_hand import TlsByHand

from pingora import Certificate, ClientAuth, Limits, ProxyHttp, Response, TlsSettings
from pingora.testing import read_all
from pingora_c.mem.buffer_pool import stats

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Noting(ProxyHttp):
    """Answers and notes what it sees of TLS."""

    def __init__(self):
        self.seen = []

    def request_filter(self, session, ctx):
        self.seen.append(session.tls)
        return Response(200)

    def upstream_peer(self, session, ctx):
        raise AssertionError


def pair(issued):
    return Certificate(issued.chain, issued.key)


@pytest.fixture(scope="module")
def ca():
    return Authority()


@pytest.fixture
def serve(ca, proxy_factory, origin_factory):
    """Start a proxy with TLS for an origin that answers `script`."""

    def start(*certificates, script=OK, limits=None, proxy=None, **settings):
        certificates = certificates or (ca.issue("localhost"),)
        tls = TlsSettings([pair(one) for one in certificates], **settings)
        running = proxy_factory(proxy or proxy_to(origin_factory(script).address), limits, tls)
        running.tls = tls
        return running

    return start


def connect(proxy, context, name="localhost", session=None):
    return secured(socket.create_connection((proxy.host, proxy.port), 10), context, name, session)


def ask(proxy, context, name="localhost", request=GET):
    with connect(proxy, context, name) as client:
        client.sendall(request)
        return read_all(client)


def shown(proxy, context, name):
    """The names of the certificate that the proxy shows for a name."""
    with connect(proxy, context, name) as client:
        return {value for _, value in client.getpeercert()["subjectAltName"]}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_is_answered_over_tls_and_the_connection_is_kept(ca, serve, version):
    proxy = serve()
    context = ca.trusts(minimum_version=version, maximum_version=version)
    with connect(proxy, context) as client:
        for _ in range(3):
            client.sendall(GET.replace(b"Connection: close\r\n", b""))
            answer = client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.endswith(b"hi")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_versions_before_1_2_are_refused(ca, serve, version):
    proxy = serve()
    context = ca.trusts(minimum_version=ssl.TLSVersion.TLSv1)
    context.maximum_version = ssl.TLSVersion[version]
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(proxy, context)
    wait_until(lambda: proxy.serving.counters["pingora_tls_handshake_failures_total"] == 1)


def test_min_version_1_3_refuses_1_2(ca, serve):
    proxy = serve(min_version="1.3")
    with pytest.raises(ssl.SSLError):
        ask(proxy, ca.trusts(maximum_version=ssl.TLSVersion.TLSv1_2))
    assert ask(proxy, ca.trusts()).endswith(b"hi")


def test_the_upstream_hears_of_https(ca, proxy_factory, origin_factory):
    origin = origin_factory(OK)
    proxy = proxy_factory(proxy_to(origin.address), tls=TlsSettings(pair(ca.issue("localhost"))))
    ask(proxy, ca.trusts())
    assert b"X-Forwarded-Proto: https\r\n" in origin.heads[0]


def test_the_certificate_is_chosen_by_exact_name_then_wildcard_then_the_first(ca, serve):
    first, exact, wild = ca.issue("first.test"), ca.issue("a.test.example"), ca.issue("*.test.example")
    proxy = serve(first, wild, exact)
    context = ca.trusts(check_hostname=False)
    assert shown(proxy, context, "a.test.example") == {"a.test.example"}
    assert shown(proxy, context, "A.TEST.example") == {"a.test.example"}
    assert shown(proxy, context, "b.test.example") == {"*.test.example"}
    assert shown(proxy, context, "b.c.test.example") == {"first.test"}
    assert shown(proxy, context, "other.example") == {"first.test"}
    assert shown(proxy, context, None) == {"first.test"}


@pytest.mark.parametrize(("ciphers", "kind"), [("ECDHE+AESGCM+aECDSA", "ECDSA"), ("ECDHE+AESGCM+aRSA", "RSA")])
def test_a_client_gets_the_kind_of_certificate_that_it_can_verify(ca, serve, ciphers, kind):
    proxy = serve(ca.issue("localhost"), ca.issue("localhost", kind="RSA"))
    context = ca.trusts(maximum_version=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(ciphers)
    with connect(proxy, context) as client:
        assert f"-{kind}-" in client.cipher()[0]


@pytest.mark.parametrize(
    ("ours", "offered", "chosen"),
    [
        (("h2", "http/1.1"), ["http/1.1", "h2"], "h2"),
        (("http/1.1",), ["h2", "http/1.1"], "http/1.1"),
        (("h2", "http/1.1"), ["http/1.1"], "http/1.1"),
        (("h2", "http/1.1"), [], None),
    ],
)
def test_alpn_chooses_the_first_of_ours(ca, serve, ours, offered, chosen):
    proxy = serve(alpn=ours)
    context = ca.trusts()
    if offered:
        context.set_alpn_protocols(offered)
    with connect(proxy, context) as client:
        assert client.selected_alpn_protocol() == chosen


def test_a_client_that_speaks_other_protocols_only_is_refused(ca, serve):
    context = ca.trusts()
    context.set_alpn_protocols(["spdy/3"])
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        connect(serve(), context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed_by_its_ticket(ca, serve, version):
    noting = Noting()
    proxy = serve(proxy=noting)
    context = ca.trusts(minimum_version=version, maximum_version=version)
    session = None
    for _ in range(3):
        with connect(proxy, context, session=session) as client:
            client.sendall(GET)
            read_all(client)
            session = client.session
    assert [tls.resumed for tls in noting.seen] == [False, True, True]


@pytest.mark.parametrize(
    ("version", "is_known", "gives"),
    [
        (ssl.TLSVersion.TLSv1_3, False, True),
        (ssl.TLSVersion.TLSv1_3, True, False),
        (ssl.TLSVersion.TLSv1_2, False, False),
    ],
)
def test_each_connection_gives_the_ticket_of_the_next_one(ca, serve, version, is_known, gives):
    """RFC 8446 C.4: clients use a ticket once. A client with a certificate is verified anew when its ticket is over."""
    proxy = serve(client_auth=ClientAuth(ca.chain, required=False))
    context = ca.trusts(*([ca.issue("alice")] if is_known else []), minimum_version=version, maximum_version=version)
    session, tickets = None, []
    for _ in range(3):
        with connect(proxy, context, session=session) as client:
            assert client.session_reused == bool(tickets)
            client.sendall(GET)
            read_all(client)
            session = client.session
            tickets.append(session.id)
    assert len(set(tickets)) == (3 if gives else 1)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_ticket_of_one_host_does_not_open_another(ca, serve, version):
    """CVE-2025-23419: no session is resumed under another policy."""
    open_host, closed_host = ca.issue("open.test"), ca.issue("closed.test")
    auth = ClientAuth(ca.chain)
    proxy = serve(open_host, closed_host, hosts={"closed.test": auth})
    context = ca.trusts(minimum_version=version, maximum_version=version)
    with connect(proxy, context, "open.test") as client:
        client.sendall(GET.replace(b"Host: a", b"Host: open.test"))
        assert read_all(client).startswith(b"HTTP/1.1 200")
        session = client.session
    assert session.has_ticket
    with pytest.raises((ssl.SSLError, ConnectionError)):  # of TLS 1.3 the alert comes behind the client's handshake
        connect(proxy, context, "closed.test", session).recv(1)


def test_the_identity_of_a_client_reaches_hooks(ca, serve):
    alice = ca.issue("alice@example.com", "alice.example", common_name="alice")
    noting = Noting()
    proxy = serve(proxy=noting, client_auth=ClientAuth(ca.chain, required=False))
    context = ca.trusts(alice)
    context.set_alpn_protocols(["http/1.1"])
    assert ask(proxy, context).startswith(b"HTTP/1.1 200")
    assert ask(proxy, ca.trusts()).startswith(b"HTTP/1.1 200")
    tls = noting.seen[0]
    assert (tls.version, tls.alpn, tls.server_name, tls.resumed) == ("TLSv1.3", "http/1.1", "localhost", False)
    assert tls.cipher.startswith("TLS_")
    certificate = tls.client_certificate
    assert certificate.der == alice.der
    assert certificate.subject == "CN=alice"
    assert certificate.common_name == "alice"
    assert certificate.names == ("alice@example.com", "alice.example")
    assert len(certificate.fingerprint) == 64
    assert noting.seen[1].client_certificate is None


def test_session_tls_is_none_without_tls(proxy_factory):
    noting = Noting()
    proxy_factory(noting).exchange(GET)
    assert noting.seen == [None]


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_bad_client_certificates_are_refused(ca, serve, required, version):
    revoked = ca.issue("eve", common_name="eve")
    stranger = Authority("other CA").issue("mallory")
    expired = ca.issue("late", days=(-20, -10))
    future = ca.issue("early", days=(10, 20))
    proxy = serve(client_auth=ClientAuth(ca.chain, ca.crl(revoked), required=required))
    settings = {"minimum_version": version, "maximum_version": version}
    assert ask(proxy, ca.trusts(ca.issue("alice"), **settings)).endswith(b"hi")
    for bad in (revoked, stranger, expired, future, self_signed("alice")):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(proxy, ca.trusts(bad, **settings))
    if required:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(proxy, ca.trusts(**settings))
    else:
        assert ask(proxy, ca.trusts(**settings)).endswith(b"hi")


def test_a_request_for_a_host_with_another_policy_is_misdirected(ca, serve):
    auth = ClientAuth(ca.chain)
    proxy = serve(ca.issue("public.test"), ca.issue("*.admin.test"), hosts={"*.admin.test": auth})
    alice = ca.trusts(ca.issue("alice"))
    to_admin = GET.replace(b"Host: a", b"Host: A.admin.test.:443")
    assert ask(proxy, alice, "a.admin.test", to_admin).startswith(b"HTTP/1.1 200")
    assert ask(proxy, ca.trusts(), "public.test", to_admin).startswith(b"HTTP/1.1 421")
    assert ask(proxy, alice, "public.test", to_admin).startswith(b"HTTP/1.1 421")
    absolute = to_admin.replace(b"GET /", b"GET https://x.admin.test/").replace(b"A.admin.test.", b"public.test")
    assert ask(proxy, ca.trusts(), "public.test", absolute).startswith(b"HTTP/1.1 421")
    to_public = GET.replace(b"Host: a", b"Host: public.test")
    assert ask(proxy, ca.trusts(), "public.test", to_public).startswith(b"HTTP/1.1 200")
    assert proxy.serving.counters['pingora_refusals_total{reason="misdirected_request"}'] == 3


def test_hosts_may_be_written_in_unicode(ca, serve):
    """Clients send A-labels. There are ten, since what held for one of them was chance."""
    names = {name: name.encode("idna").decode() for name in (f"bücher{number}.test" for number in range(10))}
    names |= {"*.BÜCHER.test.": "a.xn--bcher-kva.test"}
    proxy = serve(ca.issue("public.test", *names.values()), hosts=dict.fromkeys(names, ClientAuth(ca.chain)))
    alice = ca.trusts(ca.issue("alice"))
    for sent in names.values():
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(proxy, ca.trusts(), sent)
        to_host = GET.replace(b"Host: a", b"Host: " + sent.encode())
        assert ask(proxy, alice, sent, to_host).startswith(b"HTTP/1.1 200"), sent
        assert ask(proxy, ca.trusts(), "public.test", to_host).startswith(b"HTTP/1.1 421"), sent


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("bücher.test", "xn--bcher-kva.test"), "hosts: 'bücher.test' and 'xn--bcher-kva.test' are the same"),
        (("a.test", "A.test."), "hosts: 'a.test' and 'A.test.' are the same name; leave one out"),
        (("bü..test",), "hosts: expected a DNS name such as 'admin.example.com'"),
    ],
)
def test_hosts_that_mean_the_same_or_nothing_are_refused(serve, names, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        serve(hosts=dict.fromkeys(names))


def test_strict_host_answers_421_for_what_the_certificate_is_not_for(ca, serve):
    proxy = serve(ca.issue("a.test", "*.b.test"), strict_host=True)
    for host, status in ((b"a.test", 200), (b"x.b.test:8443", 200), (b"b.test", 421), (b"c.test", 421)):
        answer = ask(proxy, ca.trusts(), "a.test", GET.replace(b"Host: a", b"Host: " + host))
        assert answer.startswith(b"HTTP/1.1 %d" % status), host


def test_strict_host_knows_the_addresses_of_the_certificate(ca, serve):
    proxy = serve(ca.issue("a.test", "127.0.0.1", "2001:db8::1", "::ffff:10.0.0.1"), strict_host=True)
    hosts = [
        (b"127.0.0.1:8443", 200),
        (b"127.0.0.2", 421),
        (b"[2001:db8::1]", 200),
        (b"[2001:DB8:0:0::1]:8443", 200),
        (b"[2001:db8::2]", 421),
        (b"[::ffff:10.0.0.1]", 200),
        (b"10.0.0.1", 421),
    ]
    for host, status in hosts:
        answer = ask(proxy, ca.trusts(), "a.test", GET.replace(b"Host: a", b"Host: " + host))
        assert answer.startswith(b"HTTP/1.1 %d" % status), host


def test_certificates_are_replaced_while_connections_go_on(ca, serve):
    old, new = ca.issue("localhost"), ca.issue("localhost", "new.test")
    proxy = serve(old)
    context = ca.trusts()
    with connect(proxy, context) as kept:
        kept.sendall(GET.replace(b"Connection: close\r\n", b""))
        assert kept.recv(4096).endswith(b"hi")
        proxy.tls.replace_certificates(pair(new))
        assert shown(proxy, context, "localhost") == {"localhost", "new.test"}
        other = Authority().issue("localhost")
        with pytest.raises(ValueError, match="not the key"):
            proxy.tls.replace_certificates(Certificate(other.chain, old.key))
        assert shown(proxy, context, "localhost") == {"localhost", "new.test"}
        kept.sendall(GET)
        assert read_all(kept).endswith(b"hi")


def test_no_handshake_fails_while_certificates_are_replaced_again_and_again(ca, serve):
    pairs = [pair(ca.issue("localhost")) for _ in range(4)]
    proxy = serve()
    context = ca.trusts()
    stop = threading.Event()
    problems, n_done = [], [0]

    def load():
        while not stop.is_set():
            try:
                assert ask(proxy, context).endswith(b"hi")
                n_done[0] += 1
            except Exception as error:
                problems.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(60):
        proxy.call(replace(proxy.tls, pairs[turn % 4]))
        before = n_done[0]
        wait_until(lambda: n_done[0] > before or problems)  # noqa: B023
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems
    assert proxy.serving.counters["pingora_tls_handshake_failures_total"] == 0


async def replace(tls, certificates):
    tls.replace_certificates(certificates)


@pytest.mark.parametrize("size", [1, 16384, 16385, 131072, 131073, 3_000_000])
def test_bodies_of_any_size_pass_both_ways(ca, serve, size):
    proxy = serve(script=echo)
    payload = bytes(range(256)) * (size // 256 + 1)
    payload = payload[:size]
    context = ca.trusts()
    with connect(proxy, context) as client:
        client.sendall(post(payload))
        answer = read_all(client)
    assert answer.partition(b"\r\n\r\n")[2] == payload


def test_a_slow_reader_gets_every_byte(ca, serve):
    size = 8_000_000
    payload = b"x" * size
    proxy = serve(script=b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (size, payload))
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(20)
    raw.connect((proxy.host, proxy.port))
    with ca.trusts().wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as client:
        client.sendall(GET)
        n = 0
        while n < size:
            n += len(client.recv(3000))
            if n > 400_000:
                break
        assert n + len(read_all(client)) >= size


def test_what_waits_encrypted_for_a_slow_reader_counts_as_buffered(ca, serve):
    before = stats()["reserved_bytes"]
    size = 8_000_000
    proxy = serve(script=b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (size, bytes(size)))
    with connect(proxy, ca.trusts()) as client:
        client.sendall(GET)
        wait_until(lambda: stats()["reserved_bytes"] > before)
        assert len(read_all(client)) >= size
        wait_until(lambda: stats()["reserved_bytes"] == before)
    with connect(proxy, ca.trusts()) as client:
        client.sendall(GET)
        wait_until(lambda: stats()["reserved_bytes"] > before)
    wait_until(lambda: stats()["reserved_bytes"] == before)  # also of a client that left


def test_a_handshake_in_single_bytes_succeeds(ca, serve):
    proxy = serve()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ca.trusts().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with proxy.connect() as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def send():
            for byte in outgoing.read():
                raw.sendall(bytes([byte]))

        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                send()
                incoming.write(raw.recv(65536))
        client.write(GET)
        send()
        answer = b""
        while not answer.endswith(b"hi"):
            try:
                answer += client.read(4096)
            except ssl.SSLWantReadError:
                incoming.write(raw.recv(65536))
    assert answer.startswith(b"HTTP/1.1 200")


def test_handshake_and_request_in_one_flight_are_answered(ca, serve):
    """The request lies in the library when the handshake ends, and no further edge tells of it."""
    proxy = serve()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ca.trusts().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with proxy.connect() as raw:
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        raw.sendall(outgoing.read())
        while True:
            incoming.write(raw.recv(65536))
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                pass
        client.write(GET)
        raw.sendall(outgoing.read())  # Finished, and the request behind it
        incoming.write(raw.recv(65536))  # the ticket, the answer and the end of the stream leave in one piece
        assert client.read(4096).endswith(b"hi")
        assert client.session.has_ticket
        assert client.read(1) == b""


def test_a_client_that_asks_nothing_yet_has_its_ticket(ca, serve):
    proxy = serve()
    context = ca.trusts(minimum_version=ssl.TLSVersion.TLSv1_3)
    with connect(proxy, context) as client:
        client.settimeout(0)
        while not client.session.has_ticket:
            assert select.select([client], [], [], 10)[0]
            with pytest.raises(ssl.SSLWantReadError):
                client.recv(1)
        client.settimeout(10)
        client.sendall(GET)
        assert read_all(client).endswith(b"hi")


def test_a_ticket_that_waits_for_an_answer_comes_before_the_alert_that_ends_the_connection(ca, serve):
    """The request is answered by none: what follows it is no record."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ca.trusts().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with serve().connect() as raw:
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        raw.sendall(outgoing.read())
        while client.version() is None or outgoing.pending == 0:
            incoming.write(raw.recv(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
        client.write(GET[:20])
        raw.sendall(outgoing.read() + b"\x17\x03\x03\x00\x20" + bytes(32))
        for data in iter(lambda: raw.recv(65536), b""):
            incoming.write(data)
        incoming.write_eof()
        with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
            client.read(1)
        assert client.session.has_ticket


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\0" * 100, b"\x16\x03\x01\xff\xff"],
    ids=["http", "record", "zeros", "length"],
)
def test_plain_bytes_instead_of_a_handshake_end_the_connection(serve, data):
    proxy = serve()
    with proxy.connect() as raw:
        raw.sendall(data)
        with contextlib.suppress(OSError):  # it is over already
            raw.shutdown(socket.SHUT_WR)
        assert b"HTTP/1.1 2" not in read_all(raw)
    wait_until(lambda: proxy.serving.counters["pingora_tls_handshake_failures_total"] == 1)
    assert proxy.serving.counters["pingora_requests_total"] == 0


def test_plain_bytes_after_the_handshake_are_no_request(ca, serve):
    proxy = serve()
    client = connect(proxy, ca.trusts())
    with socket.socket(fileno=client.detach()) as raw:
        raw.settimeout(10)
        raw.sendall(GET)
        assert b"HTTP/1.1" not in read_all(raw)
    assert proxy.serving.counters["pingora_requests_total"] == 0


def test_a_handshake_that_takes_too_long_is_given_up(serve):
    proxy = serve(limits=Limits(handshake_timeout=0.05))
    with proxy.connect() as raw:
        raw.sendall(b"\x16\x03\x01")
        assert read_all(raw) == b""
    assert proxy.serving.counters['pingora_connections_closed_total{reason="handshake_timeout"}'] == 1


def test_the_end_of_an_answer_to_http_1_0_is_marked(ca, serve):
    proxy = serve(script=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
    with connect(proxy, ca.trusts(), "localhost") as client:
        client.suppress_ragged_eofs = False
        client.sendall(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        assert read_all(client).endswith(b"hi")  # raises SSLEOFError without close_notify


def test_an_answer_that_is_cut_ends_without_close_notify(ca, serve):
    begun = threading.Event()

    def cut(connection, data):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        begun.wait(10)
        connection.close()

    proxy = serve(script=cut)
    with connect(proxy, ca.trusts(), "localhost") as client:
        client.suppress_ragged_eofs = False
        client.sendall(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        assert client.recv(1)
        begun.set()  # an answer that ends before anything of it was sent would be a 502
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            list(iter(lambda: client.recv(65536), b""))


def test_a_body_without_its_end_and_without_close_notify_cancels_the_request(ca, serve):
    proxy = serve(script=echo)  # which waits for the body
    client = connect(proxy, ca.trusts())
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    wait_until(lambda: proxy.serving.counters["pingora_requests_total"] == 1)
    client.close()
    wait_until(lambda: proxy.serving.counters['pingora_failures_total{reason="client_gone"}'] == 1)


def test_a_client_that_ends_only_its_side_is_answered(ca, serve):
    with serve().connect() as raw:
        client = TlsByHand(raw, ca.trusts())
        client.tls.write(GET)
        with pytest.raises(ssl.SSLWantReadError):
            client.tls.unwrap()  # close_notify
        raw.sendall(client.outgoing.read())
        raw.shutdown(socket.SHUT_WR)
        client.incoming.write(read_all(raw))
    assert client.tls.read(4096).endswith(b"hi")


def test_chunked_bodies_and_trailers_pass(ca, serve):
    script = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3\r\nyou\r\n0\r\nX-Sum: 1\r\n\r\n"
    payload, trailers = dechunk(ask(serve(script=script), ca.trusts()))
    assert payload == b"hiyou"
    assert b"X-Sum: 1" in trailers
