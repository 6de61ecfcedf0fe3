"""What pingora.toml says about TLS, on both sides, by `pingora run`; clients and origins are Python's ssl."""

import os
import socket
import ssl

import pytest
from configured import starting, write
from conversations import GET, wait_until
from pki import Authority, secured
from tls_origin import TlsOrigin

from pingora.testing import read_all

HOOK = """
import pingora

class Telling(pingora.ProxyHttp):
    def request_filter(self, session, ctx):
        return pingora.Response(200, body=(session.tls.ja4 or "none").encode())
"""
ANSWERED = ('hook = "telling:Telling"', 'upstreams.endpoints = ["127.0.0.1:1"]')


@pytest.fixture(scope="module")
def ca():
    return Authority()


@pytest.fixture
def serve(ca, tmp_path):
    """Run a listener on "a" with these settings of TLS, and further lines of the file."""
    ca.issue("a.test", "b.test").write(tmp_path, "a")
    (tmp_path / "ca.pem").write_bytes(ca.chain)
    (tmp_path / "telling.py").write_text(HOOK)
    with starting(tmp_path) as start:

        def run(settings="", *lines):
            tls = f'certificates = [{{ chain = "a.pem", key = "a.key" }}]{settings and ", "}{settings}'
            listeners = f'listeners = [{{ address = "unix:DIR/a", tls = {{ {tls} }} }}]'
            return start(write(tmp_path, listeners, *(lines or ANSWERED)))

        yield run


def connect(directory, context, name="a.test", session=None):
    raw = socket.socket(socket.AF_UNIX)
    raw.settimeout(20)
    raw.connect(str(directory / "a"))
    return secured(raw, context, name, session)


def ask(directory, context, name="a.test", host=None):
    with connect(directory, context, name) as client:
        client.sendall(GET.replace(b"Host: a", b"Host: " + (host or name).encode()))
        return read_all(client)


def test_versions_ciphers_and_protocols_of_a_listener(ca, serve, tmp_path):
    serve('max_version = "1.2", ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384", alpn = ["http/1.1"]')
    context = ca.trusts()
    context.set_alpn_protocols(["h2", "http/1.1"])
    assert ask(tmp_path, context).endswith(b"none")
    with connect(tmp_path, context) as client:
        assert client.cipher()[:2] == ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2")
        assert client.selected_alpn_protocol() == "http/1.1"
    context.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
    with pytest.raises(ssl.SSLError):
        ask(tmp_path, context)


def test_cipher_suites_and_groups_of_a_listener(ca, serve, tmp_path):
    serve('min_version = "1.3", cipher_suites = "TLS_CHACHA20_POLY1305_SHA256", groups = "P-384"')
    context = ca.trusts()
    context.set_ecdh_curve("secp384r1")
    with connect(tmp_path, context) as client:
        assert client.cipher()[0] == "TLS_CHACHA20_POLY1305_SHA256"
    context.set_ecdh_curve("prime256v1")
    with pytest.raises(ssl.SSLError):
        ask(tmp_path, context)


def test_ja4_is_made_if_it_is_asked_for(ca, serve, tmp_path):
    serve("ja4 = true")
    assert b"\r\n\r\nt13d" in ask(tmp_path, ca.trusts())


def session_of(directory, context, session=None):
    """A session to resume, and whether the one that was given was."""
    with connect(directory, context, session=session) as client:
        client.sendall(GET)
        read_all(client)
        return client.session, client.session_reused


def test_tickets_of_a_listener_last_as_long_as_it_says_and_open_after_a_restart_with_its_secret(ca, serve, tmp_path):
    (tmp_path / "tickets.key").write_bytes(os.urandom(32))
    context = ca.trusts()
    settings = 'ticket_lifetime = "10m", ticket_secret = "tickets.key"'
    first = serve(settings)
    session, _ = session_of(tmp_path, context)
    assert session.ticket_lifetime_hint == 600
    first.stop()
    serve(settings)
    assert session_of(tmp_path, context, session)[1]


def test_a_listener_without_tickets_gives_none(ca, serve, tmp_path):
    serve("tickets = false")
    context = ca.trusts(maximum_version=ssl.TLSVersion.TLSv1_2)
    session, _ = session_of(tmp_path, context)
    assert not session.has_ticket


def test_hosts_of_a_listener_ask_for_certificates_of_their_own(ca, serve, tmp_path):
    optional = '"c.test" = { client_ca = "ca.pem", client_required = false }'
    serve(f'client_ca = "ca.pem", hosts = {{ "b.test" = {{}}, {optional} }}')
    assert ask(tmp_path, ca.trusts(), "b.test").startswith(b"HTTP/1.1 200")
    assert ask(tmp_path, ca.trusts(), "b.test", host="a.test").startswith(b"HTTP/1.1 421")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(tmp_path, ca.trusts(), "a.test")
    assert ask(tmp_path, ca.trusts(ca.issue("alice")), "a.test").startswith(b"HTTP/1.1 200")
    assert ask(tmp_path, ca.trusts(check_hostname=False), "c.test").startswith(b"HTTP/1.1 200")


def test_versions_ciphers_and_names_of_upstreams(ca, serve, tmp_path):
    context = ca.server_context(ca.issue("other.test"))
    ciphers = []

    def answer(connection, _):
        ciphers.append(connection.cipher()[:2])
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup")

    with TlsOrigin(context, answer) as origin:
        named = 'ca = "ca.pem", server_name = "app.test", alternative_name = "other.test"'
        lines = f'upstreams.endpoints = ["https://{origin.address}"]\nupstreams.tls = {{ {named}, SETTINGS }}\n'
        running = serve("", lines.replace("SETTINGS", 'max_version = "1.2", ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384"'))
        assert ask(tmp_path, ca.trusts()).endswith(b"up")
        running.stop()
        serve("", lines.replace("SETTINGS", 'cipher_suites = "TLS_CHACHA20_POLY1305_SHA256", groups = "P-384"'))
        assert ask(tmp_path, ca.trusts()).endswith(b"up")
    assert ciphers == [("ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2"), ("TLS_CHACHA20_POLY1305_SHA256", "TLSv1.3")]
    assert {one["sni"] for one in origin.seen} == {"app.test"}


@pytest.mark.parametrize("fault", ["another key", "no key", "damaged certificate"])
def test_a_pair_that_does_not_fit_at_a_reload_leaves_the_one_that_is_served(ca, serve, tmp_path, fault):
    running = serve()
    before = (tmp_path / "a.pem").read_bytes()

    def shown():
        with connect(tmp_path, ca.trusts()) as client:
            return client.getpeercert(True)

    served = shown()
    if fault == "another key":
        (tmp_path / "a.key").write_bytes(ca.issue("a.test").key)
        expected = "a.key: it is not the key of certificate"
    elif fault == "no key":
        (tmp_path / "a.key").unlink()
        expected = "a.key: No such file or directory"
    else:
        (tmp_path / "a.pem").write_bytes(before[:200])
        expected = "a.pem: "
    running.reload()
    assert "listeners[0].tls.certificates[0]: " in (line := running.expect(expected)), line
    assert shown() == served
    other = ca.issue("a.test")
    other.write(tmp_path, "a")
    running.reload()
    wait_until(lambda: shown() == other.der)
    running.stop()
