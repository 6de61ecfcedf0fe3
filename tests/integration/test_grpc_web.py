"""gRPC-Web in its two forms, translated for an origin that gives trailers."""

import base64
import http.client
import struct

import pytest
from conversations import dechunk

from pingora import GrpcWeb, HttpPeer, ProxyHttp

MESSAGE = struct.pack(">BI", 0, 5) + b"hello"
ANSWER = struct.pack(">BI", 0, 7) + b"goodbye"
TRAILERS = b"grpc-status: 0\r\ngrpc-message: fine\r\n"
END = struct.pack(">BI", 0x80, len(TRAILERS)) + TRAILERS


class Translating(ProxyHttp):
    def __init__(self, address, module):
        self.address = address
        self.modules = [module]

    def upstream_peer(self, session, ctx):
        return HttpPeer(self.address)


@pytest.fixture
def start(proxy_factory, origin_factory):
    """Start a proxy; give it, and what the origin gets."""

    def start(module=None, pieces=(ANSWER[:4], ANSWER[4:]), trailers=b"Grpc-Status: 0\r\nGrpc-Message: fine\r\n"):
        seen = []

        def answer(connection, request):
            head, _, body = request.partition(b"\r\n\r\n")
            while b"\r\n0\r\n\r\n" not in b"\r\n" + body:
                body += connection.recv(65536)
            seen.append((head.lower(), dechunk(head + b"\r\n\r\n" + body)[0]))
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc+proto\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            for piece in pieces:
                connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            connection.sendall(b"0\r\n" + trailers + b"\r\n")

        proxy = proxy_factory(Translating(origin_factory(answer).address, module or GrpcWeb()))
        return proxy, seen

    return start


def ask(proxy, body, **headers):
    client = http.client.HTTPConnection(proxy.host, proxy.port, timeout=20)
    fields = {"Content-Type": "application/grpc-web+proto"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    client.request("POST", "/echo.Echo/Say", body, fields)
    response = client.getresponse()
    return response, response.read()


def test_a_binary_call(start):
    proxy, seen = start()
    response, body = ask(proxy, MESSAGE)
    assert response.getheader("content-type") == "application/grpc-web+proto"
    assert body == ANSWER + END
    ((head, request),) = seen
    assert b"\r\ncontent-type: application/grpc+proto" in head
    assert b"\r\nte: trailers" in head
    assert request == MESSAGE


@pytest.mark.parametrize("sizes", [(1,) * len(ANSWER), (2, 3, 7), (len(ANSWER),)])
def test_a_text_call_in_pieces(start, sizes):
    pieces, at = [], 0
    for size in sizes:
        pieces.append(ANSWER[at : at + size])
        at += size
    proxy, seen = start(pieces=pieces)
    sent = base64.b64encode(MESSAGE[:4]) + base64.b64encode(MESSAGE[4:])  # padding in the middle is allowed
    response, body = ask(
        proxy, iter([sent[i : i + 1] for i in range(len(sent))]), Content_Type="application/grpc-web-text"
    )
    assert response.getheader("content-type") == "application/grpc-web-text+proto"
    assert base64.b64decode(body) == ANSWER + END
    assert seen[0][1] == MESSAGE


@pytest.mark.parametrize("body", [b"????", b"AAA"])
def test_a_body_that_is_no_base64_ends_the_call(start, body):
    proxy, _ = start()
    response, rest = ask(proxy, body, Content_Type="application/grpc-web-text")
    assert response.status == 200
    assert response.getheader("grpc-status") == "13"
    assert response.getheader("grpc-message") == "the body is not base64"
    assert rest == b""


def test_other_requests_pass_untouched(start):
    proxy, seen = start()
    _, body = ask(proxy, iter([b"AAAA"]), Content_Type="text/plain")
    assert body == ANSWER
    assert seen[0][1] == b"AAAA"


def test_browsers_are_told_whose_scripts_may_call(start):
    proxy, _ = start(GrpcWeb(origins=["https://app.test"]))
    response, _ = ask(proxy, MESSAGE, Origin="https://app.test")
    assert response.getheader("access-control-allow-origin") == "https://app.test"
    assert "grpc-status" in response.getheader("access-control-expose-headers")
    response, _ = ask(proxy, MESSAGE, Origin="https://other.test")
    assert response.getheader("access-control-allow-origin") is None


def test_a_preflight_is_answered_for_allowed_origins(start):
    proxy, _ = start(GrpcWeb(origins="*"))
    client = http.client.HTTPConnection(proxy.host, proxy.port, timeout=20)
    fields = {
        "Origin": "https://app.test",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-grpc-web",
    }
    client.request("OPTIONS", "/echo.Echo/Say", headers=fields)
    response = client.getresponse()
    assert response.status == 204
    assert response.getheader("access-control-allow-headers") == "content-type,x-grpc-web"
    assert response.getheader("access-control-allow-methods") == "POST"
