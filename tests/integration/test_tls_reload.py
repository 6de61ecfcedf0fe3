"""Policies of TLS that a reload in place changes, and connections that were open before."""

import socket

import pytest
from pki import Authority, secured

from pingora import Certificate, ClientAuth, ProxyHttp, Response, Server, TlsSettings

TO_ADMIN = b"GET / HTTP/1.1\r\nHost: admin.test\r\n\r\n"


class Answers(ProxyHttp):
    def request_filter(self, session, ctx):
        return Response(200)

    def upstream_peer(self, session, ctx):
        raise AssertionError


def reload(proxy, tls):
    async def change():
        server = Server()
        server.add_proxy(Answers(), "127.0.0.1:0", tls=tls)  # as the proxy has it
        proxy.serving.commit(await proxy.serving.prepare(server))

    proxy.call(change())


def test_connections_that_were_open_before_are_held_to_the_new_policies(proxy_factory):
    ca = Authority()
    certificates = [Certificate(one.chain, one.key) for one in (ca.issue("public.test"), ca.issue("admin.test"))]
    proxy = proxy_factory(Answers(), None, TlsSettings(certificates))
    with secured(socket.create_connection((proxy.host, proxy.port), 10), ca.trusts(), "public.test") as kept:
        kept.sendall(TO_ADMIN)
        assert kept.recv(4096).startswith(b"HTTP/1.1 200")
        for hosts, status in (({}, 200), ({"admin.test": ClientAuth(ca.chain)}, 421)):
            reload(proxy, TlsSettings(certificates, hosts=hosts))
            kept.sendall(TO_ADMIN)
            assert kept.recv(4096).startswith(b"HTTP/1.1 %d" % status)


def test_a_client_whose_certificate_is_revoked_is_refused_on_its_open_connection(proxy_factory):
    ca = Authority()
    certificate, client = Certificate((one := ca.issue("admin.test")).chain, one.key), ca.issue("alice")
    proxy = proxy_factory(Answers(), None, TlsSettings(certificate, client_auth=ClientAuth(ca.chain, ca.crl())))
    with secured(socket.create_connection((proxy.host, proxy.port), 10), ca.trusts(client), "admin.test") as kept:
        kept.sendall(TO_ADMIN)
        assert b" 200 " in kept.recv(4096)
        reload(proxy, TlsSettings(certificate, client_auth=ClientAuth(ca.chain, ca.crl(client))))
        kept.sendall(TO_ADMIN)
        assert b" 421 " in kept.recv(4096)


@pytest.mark.parametrize(
    "request_head", [TO_ADMIN, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"], ids=["1.1", "no Host"]
)
def test_a_listener_that_newly_wants_client_certificates_is_guarded_on_open_connections(proxy_factory, request_head):
    ca, clients = Authority(), Authority()
    certificate = [Certificate((one := ca.issue("admin.test")).chain, one.key)]
    proxy = proxy_factory(Answers(), None, TlsSettings(certificate))
    with secured(socket.create_connection((proxy.host, proxy.port), 10), ca.trusts(), "admin.test") as kept:
        kept.sendall(request_head)
        assert b" 200 " in kept.recv(4096)
        reload(proxy, TlsSettings(certificate))  # another context, the same policy
        kept.sendall(request_head)
        assert b" 200 " in kept.recv(4096)
        reload(proxy, TlsSettings(certificate, client_auth=ClientAuth(clients.chain)))
        kept.sendall(request_head)
        assert b" 421 " in kept.recv(4096)
