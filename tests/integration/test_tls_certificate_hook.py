"""The hook that chooses a certificate while the handshake waits."""

import asyncio
import gc
import socket
import ssl
import threading
import weakref

import pytest
from conversations import GET, wait_until
from inside import Gate
from pki import Authority, secured

from pingora import Certificate, ClientAuth, Limits, ProxyHttp, Response, Server, TlsSettings
from pingora.testing import read_all


@pytest.fixture(scope="module")
def ca():
    return Authority()


class Choosing(ProxyHttp):
    def __init__(self, ca):
        self.ca = ca
        self.hellos = []
        self.made = {}

    def upstream_peer(self, session, ctx):
        raise AssertionError

    def request_filter(self, session, ctx):
        return Response(200, {}, "hi")

    def choose(self, hello):
        self.hellos.append(hello)
        name = hello.server_name
        if not name.endswith(".made.test"):
            return None
        if name not in self.made:
            issued = self.ca.issue(name)
            self.made[name] = Certificate(issued.chain, issued.key)
        return self.made[name]


class Sync(Choosing):
    def certificate(self, client_hello):
        return self.choose(client_hello)


class Waiting(Choosing):
    gate = None

    def close(self):
        self.hellos.append("closed")

    async def certificate(self, client_hello):
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        return self.choose(client_hello)


class Failing(Choosing):
    def certificate(self, client_hello):
        raise LookupError("no store")


class FailingLater(Choosing):
    async def certificate(self, client_hello):
        await asyncio.sleep(0)
        return "not a certificate"


def settings(ca, **others):
    issued = ca.issue("localhost")
    return TlsSettings(Certificate(issued.chain, issued.key), **others)


def connect(proxy, context, name):
    return secured(socket.create_connection((proxy.host, proxy.port), 10), context, name)


@pytest.mark.parametrize("kind", [Sync, Waiting])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_certificate_of_the_hook_is_shown(ca, proxy_factory, kind, version):
    hooks = kind(ca)
    proxy = proxy_factory(hooks, tls=settings(ca))
    context = ca.trusts(maximum_version=version)
    context.set_alpn_protocols(["spdy/3", "http/1.1"])
    for name in ("a.made.test", "localhost", "b.made.test", "a.made.test"):
        with connect(proxy, context, name) as client:
            client.sendall(GET)
            assert read_all(client).endswith(b"hi")
    assert [hello.server_name for hello in hooks.hellos] == ["a.made.test", "localhost", "b.made.test", "a.made.test"]
    assert hooks.hellos[0].alpn == ("spdy/3", "http/1.1")
    assert 0xC02B in hooks.hellos[0].ciphers  # ECDHE-ECDSA-AES128-GCM-SHA256


@pytest.mark.parametrize("kind", [Failing, FailingLater])
def test_a_hook_that_fails_ends_the_handshake_and_is_logged(ca, proxy_factory, caplog, kind):
    proxy = proxy_factory(kind(ca), tls=settings(ca))
    with pytest.raises(ssl.SSLError):
        connect(proxy, ca.trusts(), "localhost")
    wait_until(lambda: "hook certificate raised" in caplog.text)
    assert proxy.serving.counters["pingora_tls_handshake_failures_total"] == 1


def test_a_handshake_that_waits_too_long_is_given_up(ca, proxy_factory):
    hooks = Waiting(ca)
    hooks.gate = Gate()
    proxy = proxy_factory(hooks, Limits(handshake_timeout=1), settings(ca))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(proxy, ca.trusts(), "localhost")
    hooks.gate.open()  # nobody is there any more
    hooks.gate = None
    with connect(proxy, ca.trusts(), "localhost") as client:
        client.sendall(GET)
        assert read_all(client).endswith(b"hi")


class Stuck(Choosing):
    def __init__(self, ca):
        super().__init__(ca)
        self.ended = threading.Event()

    async def certificate(self, client_hello):
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


def test_a_hook_that_nobody_waits_for_any_more_is_cancelled(ca, proxy_factory):
    hooks = Stuck(ca)
    proxy = proxy_factory(hooks, Limits(handshake_timeout=0.05), settings(ca))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(proxy, ca.trusts(), "localhost")
    assert hooks.ended.wait(10)


@pytest.mark.parametrize(
    ("host", "sent"), [("*.made.test", "a.made.test"), ("bücher.made.test", "xn--bcher-kva.made.test")]
)
def test_the_policy_of_the_settings_holds_for_certificates_of_the_hook(ca, proxy_factory, host, sent):
    proxy = proxy_factory(Sync(ca), tls=settings(ca, hosts={host: ClientAuth(ca.chain)}))
    context = ca.trusts(maximum_version=ssl.TLSVersion.TLSv1_2)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(proxy, context, sent)
    alice = ca.trusts(ca.issue("alice"))
    with connect(proxy, alice, sent) as client:
        client.sendall(GET.replace(b"Host: a", b"Host: " + sent.encode()))
        assert read_all(client).endswith(b"hi")


async def change(serving, hooks, tls):
    server = Server()
    server.add_proxy(hooks, "127.0.0.1:0", tls=tls)
    serving.commit(await serving.prepare(server))


def test_a_reload_lets_go_of_the_hook_that_chose_before(ca, proxy_factory):
    proxy = proxy_factory(Sync(ca), tls=settings(ca))
    first = Sync(ca)
    proxy.call(change(proxy.serving, first, settings(ca)))
    with connect(proxy, ca.trusts(), "a.made.test") as client:
        client.sendall(GET)
        assert read_all(client).endswith(b"hi")
    assert len(first.hellos) == 1
    gone = weakref.ref(first)
    del first
    proxy.call(change(proxy.serving, Sync(ca), settings(ca)))
    proxy.call(change(proxy.serving, Sync(ca), settings(ca)))
    wait_until(lambda: gc.collect() >= 0 and gone() is None)


def test_a_replaced_proxy_is_closed_when_its_hook_has_ended(ca, proxy_factory):
    first = Waiting(ca)
    first.gate = Gate()
    proxy = proxy_factory(first, tls=settings(ca))
    with socket.create_connection((proxy.host, proxy.port), 10) as raw:
        raw.setblocking(False)
        client = ca.trusts().wrap_socket(raw, server_hostname="a.made.test", do_handshake_on_connect=False)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        first.gate.await_hook()
        proxy.call(change(proxy.serving, Sync(ca), settings(ca)))
        client.settimeout(10)
        first.gate.open()
        client.do_handshake()
        client.sendall(GET)
        assert read_all(client).endswith(b"hi")
        client.close()
    wait_until(lambda: first.hellos[-1] == "closed")
    assert [getattr(hello, "server_name", hello) for hello in first.hellos] == ["a.made.test", "closed"]


class Fingerprints(Sync):
    def request_filter(self, session, ctx):
        return Response(200, {}, str(session.tls.ja4))


@pytest.mark.parametrize("is_kept", [True, False])
def test_the_fingerprint_of_the_client_is_there_for_hooks_that_ask(proxy_factory, ca, is_kept):
    choosing = Fingerprints(ca)
    proxy = proxy_factory(choosing, tls=settings(ca, ja4=is_kept))
    context = ssl.create_default_context(cadata=ca.chain.decode())
    context.set_alpn_protocols(["http/1.1"])
    with (
        socket.create_connection((proxy.host, proxy.port), 20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        client.sendall(GET)
        answer = client.recv(65536)
    (hello,) = choosing.hellos
    assert hello.version == 0x0304
    assert 0x002B in hello.extensions
    assert hello.signature_algorithms
    assert hello.ja4.startswith("t13d")
    assert hello.ja4[8:11] == "h1_"
    assert answer.endswith((hello.ja4 if is_kept else "None").encode())
