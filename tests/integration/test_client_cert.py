"""Client-Cert and Client-Cert-Chain (RFC 9440): what upstreams and hooks hear of a client's certificate."""

import asyncio
import base64
import contextlib
import socket
import ssl

import httpx
import pytest
from configured import starting, write
from conversations import Forwarding, echo, proxy_to
from pki import Authority

from pingora import Certificate, ClientAuth, Server, TlsSettings, serve

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
FORGED = [
    ("Client-Cert", ":Zm9yZ2Vk:"),
    ("client-cert", ":Zm9yZ2Vk:"),
    ("Client_Cert", ":Zm9yZ2Vk:"),
    ("Client-Cert-Chain", ":Zm9yZ2Vk:"),
    ("CLIENT_CERT_CHAIN", ":Zm9yZ2Vk:"),
    ("Client-Cert_Chain", ":Zm9yZ2Vk:"),
]
OTHERS = [("Client-Certificate", "a"), ("Client-Cert-Chains", "b"), ("X-Client-Cert", "c")]


@pytest.fixture(scope="module")
def ca():
    return Authority()


def sequence(der):
    return ":" + base64.b64encode(der).decode() + ":"


def told(head):
    """The fields with "client" in their name that an origin got, in order."""
    lines = [line.partition(": ") for line in head.decode().split("\r\n")[1:]]
    return [(name, value) for name, _, value in lines if "client" in name.lower()]


@contextlib.asynccontextmanager
async def serving(ca, proxy, required=True, **options):
    """Serve with TLS that asks for certificates of `ca`."""
    issued = ca.issue("localhost")
    auth = ClientAuth(ca.chain, required=required)
    tls = TlsSettings(Certificate(issued.chain, issued.key), client_auth=auth)
    async with serve(proxy, tls=tls, **options) as running:
        yield f"https://localhost:{running.address.rpartition(':')[2]}/"


def port_of(url):
    return int(url.rpartition(":")[2].strip("/"))


def ask(url, context, http2=False, headers=FORGED + OTHERS):
    """Send requests over one connection; a thread of its own."""

    def get():
        with httpx.Client(verify=context, http2=http2, http1=not http2, trust_env=False) as client:
            return [client.get(url, headers=headers).status_code for _ in range(2)]

    return asyncio.to_thread(get)


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("fields", ["certificate", "chain"])
def test_an_upstream_hears_of_the_certificate_and_of_nothing_that_the_client_wrote(ca, origin_factory, http2, fields):
    origin, alice = origin_factory(OK), ca.issue("alice")

    async def run():
        async with serving(ca, proxy_to(origin.address), client_cert=fields) as url:
            assert await ask(url, ca.trusts(alice), http2) == [200, 200]

    asyncio.run(run())
    expected = [("Client-Cert", sequence(alice.der))]
    if fields == "chain":
        expected.append(("Client-Cert-Chain", sequence(ca.der)))
    for head in origin.heads:
        names = [name.lower() for name, _ in OTHERS]
        assert [one for one in told(head) if one[0].lower() not in names] == expected
        assert [value for name, value in told(head) if name.lower() in names] == ["a", "b", "c"]
    assert len(origin.heads) == 2


@pytest.mark.parametrize("trusted", [[], ["127.0.0.1"]])
def test_without_a_certificate_or_tls_the_fields_are_removed(ca, origin_factory, trusted):
    origin = origin_factory(OK)

    async def run():
        async with serving(ca, proxy_to(origin.address), required=False, client_cert="chain", trusted=trusted) as url:
            assert await ask(url, ca.trusts(), headers=FORGED) == [200, 200]
        async with serve(proxy_to(origin.address), client_cert="certificate", trusted=trusted) as plain:
            assert await ask(f"http://{plain.address}/", True, headers=FORGED) == [200, 200]

    asyncio.run(run())
    assert [told(head) for head in origin.heads] == [[]] * 4


def test_off_leaves_the_fields_alone(ca, origin_factory):
    origin = origin_factory(OK)

    async def run():
        async with serving(ca, proxy_to(origin.address)) as url:
            await ask(url, ca.trusts(ca.issue("alice")), headers=FORGED[:1])

    asyncio.run(run())
    assert [told(head) for head in origin.heads] == [[("Client-Cert", ":Zm9yZ2Vk:")]] * 2


def test_hooks_see_the_field(ca, origin_factory):
    seen = []

    class Seeing(Forwarding):
        def request_filter(self, session, ctx):
            seen.append(session.request.headers.get_all("client-cert"))

    alice = ca.issue("alice")

    async def run():
        async with serving(ca, Seeing(origin_factory(OK).address), client_cert="certificate") as url:
            await ask(url, ca.trusts(alice))

    asyncio.run(run())
    assert seen == [[sequence(alice.der)]] * 2


def exchange(port, context, data, session=None):
    """Send a request over a connection of its own; the answer, the session of TLS, and whether it was resumed."""
    with (
        socket.create_connection(("127.0.0.1", port), 10) as raw,
        context.wrap_socket(raw, server_hostname="localhost", session=session) as client,
    ):
        client.sendall(data)
        answer = client.recv(4096)
        assert b" 200 " in answer
        return answer, client.session, client.session_reused


def test_the_field_cannot_be_named_away_and_is_no_trailer(ca, origin_factory):
    origin, alice = origin_factory(echo), ca.issue("alice")
    data = (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: Client-Cert\r\n\r\n"
        b"1\r\na\r\n0\r\nClient-Cert: :Zm9yZ2Vk:\r\nclient_cert_chain: :Zm9yZ2Vk:\r\nX-Kept: 1\r\n\r\n"
    )

    async def run():
        async with serving(ca, proxy_to(origin.address), client_cert="certificate") as url:
            answer, _, _ = await asyncio.to_thread(exchange, port_of(url), ca.trusts(alice), data)
            assert b"X-Trailers: X-Kept: 1\r\n" in answer

    asyncio.run(run())
    assert told(origin.heads[0]) == [("Client-Cert", sequence(alice.der))]


@pytest.mark.parametrize(("fields", "resumed"), [("certificate", True), ("chain", False)])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_resumed_session_tells_the_same(ca, origin_factory, fields, resumed, version):
    """A ticket has no room for the chain: with it, clients that showed a certificate begin anew."""
    origin = origin_factory(OK)
    context = ca.trusts(ca.issue("alice"), minimum_version=version, maximum_version=version)
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    async def run():
        async with serving(ca, proxy_to(origin.address), required=False, client_cert=fields) as url:
            _, session, _ = await asyncio.to_thread(exchange, port_of(url), context, data)
            assert (await asyncio.to_thread(exchange, port_of(url), context, data, session))[2] == resumed
            nobody = ca.trusts(minimum_version=version, maximum_version=version)
            _, session, _ = await asyncio.to_thread(exchange, port_of(url), nobody, data)
            assert (await asyncio.to_thread(exchange, port_of(url), nobody, data, session))[2]

    asyncio.run(run())
    first, second, *others = map(told, origin.heads)
    assert first == second
    assert len(first) == (2 if fields == "chain" else 1)
    assert others == [[], []]


def test_a_file_says_so(ca, tmp_path, origin_factory):
    ca.issue("localhost").write(tmp_path, "a")
    (tmp_path / "ca.pem").write_bytes(ca.chain)
    origin, alice = origin_factory(OK), ca.issue("alice")
    tls = '{ certificates = [{ chain = "a.pem", key = "a.key" }], client_ca = "ca.pem" }'
    lines = [f'listeners = [{{ address = "unix:DIR/a", tls = {tls} }}]', f'upstreams.endpoints = ["{origin.address}"]']
    with starting(tmp_path) as start:
        running = start(write(tmp_path, 'client_cert = "chain"', *lines))
        transport = httpx.HTTPTransport(uds=str(tmp_path / "a"), verify=ca.trusts(alice))
        with httpx.Client(transport=transport) as client:
            assert client.get("https://localhost/", headers=FORGED).status_code == 200
        write(tmp_path, 'client_cert = "certificate"', *lines)
        running.reload()
        running.expect("taken over")
        transport = httpx.HTTPTransport(uds=str(tmp_path / "a"), verify=ca.trusts(alice))
        with httpx.Client(transport=transport) as client:
            assert client.get("https://localhost/", headers=FORGED).status_code == 200
        running.stop()
    both = [("Client-Cert", sequence(alice.der)), ("Client-Cert-Chain", sequence(ca.der))]
    assert [told(head) for head in origin.heads] == [both, both[:1]]


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="client_cert: expected one of off, certificate, chain, got 'leaf'"):
        Server(client_cert="leaf")
