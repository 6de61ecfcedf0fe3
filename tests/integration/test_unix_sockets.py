"""Unix sockets on both sides, as paths and as abstract names: plain, with TLS, with the PROXY protocol."""

import os
import socket
import ssl
import subprocess
import sys
import threading

import pytest
from conversations import GET, wait_until
from pki import Authority

from pingora import Certificate, HttpPeer, LoadBalancer, ProxyHttp, TlsSettings, UpstreamTls
from pingora.testing import read_all

LINE = b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 443\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"


class UnixOrigin:
    """An origin on a Unix socket, perhaps with TLS; `heads` holds what it got."""

    def __init__(self, name, context=None):
        self.heads = []
        self.context = context
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(name)
        self.listener.listen(8)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
            with connection:
                self.heads.append(connection.recv(65536))
                connection.sendall(ANSWER)


@pytest.fixture(params=["path", "abstract"])
def name(request, tmp_path):
    """Give a function from a short name to the address of a socket, as one writes it."""
    return lambda short: (
        f"unix:{tmp_path}/{short}" if request.param == "path" else f"unix:@{os.getpid()}/{tmp_path.name}/{short}"
    )


def raw(address):
    return address.removeprefix("unix:").replace("@", "\0")


def test_plain_on_both_sides_with_a_client_that_is_introduced(proxy_factory, name):
    origin = UnixOrigin(raw(name("origin")))
    seen = []

    class Noting(ProxyHttp):
        peer = HttpPeer(name("origin"))

        def upstream_peer(self, session, ctx):
            seen.append((session.client_address, session.server_address))
            return self.peer

    proxy = proxy_factory(Noting(), listen=name("front"), proxy_protocol=[])
    with proxy.connect(10) as client:
        client.sendall(LINE + GET)
        assert read_all(client).endswith(b"hi")
    assert seen == [("192.0.2.1:56324", name("front"))]
    assert b"x-forwarded-for: 192.0.2.1\r\n" in origin.heads[0].lower()
    origin.listener.close()


def test_tls_on_both_sides(proxy_factory, name, tmp_path):
    ca = Authority()
    chain, key = ca.issue("inner.example").write(tmp_path, "inner")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    origin = UnixOrigin(raw(name("origin")), context)
    issued = ca.issue("front.example")

    class Secure(ProxyHttp):
        peer = HttpPeer(name("origin"), tls=UpstreamTls(ca=ca.chain), server_name="inner.example")

        def upstream_peer(self, session, ctx):
            return self.peer

    tls = TlsSettings(Certificate(issued.chain, issued.key))
    proxy = proxy_factory(Secure(), tls=tls, listen=name("front"), proxy_protocol=[])
    with proxy.connect(10) as plain:
        plain.sendall(LINE)
        with ca.trusts().wrap_socket(plain, server_hostname="front.example") as client:
            client.sendall(GET)
            assert read_all(client).endswith(b"hi")
    assert b"x-forwarded-proto: https\r\n" in origin.heads[0].lower()
    origin.listener.close()


def test_a_balancer_tries_the_next_of_two(proxy_factory, name):
    origin = UnixOrigin(raw(name("origin")))
    proxy = ProxyHttp()
    proxy.upstreams = LoadBalancer([name("missing"), name("origin")])
    running = proxy_factory(proxy, listen=name("front"))
    for _ in range(2):
        with running.connect(10) as client:
            client.sendall(GET)
            assert read_all(client).endswith(b"hi")
    origin.listener.close()


def test_the_command_line_takes_them(name, tmp_path):
    origin = UnixOrigin(raw(name("origin")))
    front = name("front")
    options = ["--from", front, "--to", name("origin"), "--workers", "0"]
    process = subprocess.Popen([sys.executable, "-m", "pingora", "run", *options], stdout=subprocess.PIPE, text=True)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            wait_until(lambda: process.poll() is not None or client.connect_ex(raw(front)) == 0)
            client.settimeout(30)
            client.sendall(GET)
            assert read_all(client).endswith(b"hi")
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=30)
        origin.listener.close()
    assert output.startswith("unix - - [")
