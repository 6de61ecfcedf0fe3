"""The answer to a WebSocket handshake, from origins of HTTP/1.1: whoever made the key compares (RFC 6455 §4.1)."""

import pytest
from conversations import more_of, proxy_to, wait_until
from http2_frames import GET, FrameClient, replaced
from hyperframe.frame import HeadersFrame
from websockets.utils import accept_key

from pingora import ProxyHttp

CONNECT = [*replaced(GET, method="CONNECT"), (":protocol", "websocket"), ("sec-websocket-version", "13")]
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
ACCEPT = b"Upgrade: websocket\r\nSec-WebSocket-Accept: %b\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Logging(ProxyHttp):
    def __init__(self, upstreams):
        self.upstreams = upstreams
        self.errors = []

    def logging(self, session, error, ctx):
        self.errors.append((error and error.reason, error and error.detail))


def switching(fields):
    """An origin that switches with these fields, the first %b in which becomes what the key asks for."""

    def script(connection, data):
        key = data.partition(b"\r\nSec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        connection.sendall(SWITCH + fields.replace(b"%b", accept_key(key.decode()).encode()) + b"\r\nhi")
        connection.recv(1)

    return script


def test_the_right_one_opens_the_tunnel_of_a_client_of_http2(proxy_factory, origin_factory):
    with FrameClient(proxy_factory(proxy_to(origin_factory(switching(ACCEPT)).address))) as client:
        client.send(client.head(CONNECT, end=False))
        head = next(frame for frame in client.frames() if isinstance(frame, HeadersFrame))
        assert dict(head.fields)[":status"] == "200"


@pytest.mark.parametrize(
    "fields",
    [
        ACCEPT.replace(b"%b", b"AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ACCEPT.replace(b"%b", b"%bx"),
        ACCEPT.replace(b"%b", b""),
        b"Upgrade: websocket\r\n",
        ACCEPT + b"Sec-WebSocket-Accept: %b\r\n",
    ],
    ids=["another", "longer", "empty", "none", "two"],
)
def test_another_one_is_502_for_a_client_of_http2(proxy_factory, origin_factory, fields):
    proxy = Logging(proxy_to(origin_factory(switching(fields)).address).upstreams)
    with FrameClient(proxy_factory(proxy)) as client:
        client.send(client.head(CONNECT, end=False))
        got = client.answer()
    assert (got["status"], got["body"]) == (502, b"502 upstream_bad_head\n")
    wait_until(lambda: proxy.errors)
    assert proxy.errors == [("upstream_bad_head", "its Sec-WebSocket-Accept is not that of the key")]


def test_a_client_of_http1_compares_for_itself(proxy_factory, origin_factory):
    fields = ACCEPT.replace(b"%b", b"another")
    with proxy_factory(proxy_to(origin_factory(switching(fields)).address)).connect(20) as client:
        client.sendall(UPGRADE)
        got = b""
        while not got.endswith(b"hi"):
            got += more_of(client)
    assert got.startswith(b"HTTP/1.1 101 ")
    assert b"\r\nSec-WebSocket-Accept: another\r\n" in got


def test_a_hook_may_ask_with_a_key_of_its_own(proxy_factory, origin_factory):
    class Keyed(ProxyHttp):
        def upstream_request_filter(self, session, request, ctx):
            request.headers["sec-websocket-key"] = "dGhlIHNhbXBsZSBub25jZQ=="

    proxy = Keyed()
    proxy.upstreams = proxy_to(origin_factory(switching(ACCEPT)).address).upstreams
    with FrameClient(proxy_factory(proxy)) as client:
        client.send(client.head(CONNECT, end=False))
        head = next(frame for frame in client.frames() if isinstance(frame, HeadersFrame))
        assert dict(head.fields)[":status"] == "200"
