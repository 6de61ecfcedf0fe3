"""More TLS clients at once than the 64 connections whose record buffers are kept. Clients: Python's ssl in memory."""

import contextlib
import socket
import ssl

import pytest
from conversations import GET, proxy_to
from pki import Authority
from tls_by_hand import TlsByHand

from pingora import Certificate, TlsSettings

KEPT = GET.replace(b"Connection: close\r\n", b"")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CLIENTS = 70


class Client(TlsByHand):
    def __init__(self, proxy, context):
        raw = proxy.connect()
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(raw, context)

    def answer(self):
        received = b""
        while not received.endswith(b"hi"):
            received += self.until(lambda: self.tls.read(4096))
        return received


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("part", [0, 3, 5, 20], ids=["nothing", "part of a header", "a header", "part of a body"])
def test_a_record_in_two_parts_survives_others_in_between(proxy_factory, origin_factory, version, part):
    ca = Authority()
    issued = ca.issue("localhost")
    tls = TlsSettings(Certificate(issued.chain, issued.key))
    proxy = proxy_factory(proxy_to(origin_factory(OK).address), tls=tls)
    context = ca.trusts(minimum_version=version, maximum_version=version)
    with contextlib.ExitStack() as stack:
        clients = [Client(proxy, context) for _ in range(CLIENTS)]
        for client in clients:
            stack.callback(client.raw.close)
        for turn in range(3):
            sealed = [client.seal(KEPT) for client in clients]
            for client, record in zip(clients, sealed, strict=True):
                client.raw.sendall(record[:part])
            if turn:
                # the others' answers make room for them in place of those that have a part
                clients.reverse()
                sealed.reverse()
            for client, record in zip(clients, sealed, strict=True):
                client.raw.sendall(record[part:])
                assert client.answer().startswith(b"HTTP/1.1 200")
