"""Streams that are lost while something is handed to them: the session ends, and nothing else does."""

import asyncio
import contextlib
import socket
import threading
import time

import pytest
from conversations import wait_until
from h2_upstream import To
from hpack import Encoder
from http2_frames import POST, FrameClient, replaced
from hyperframe.frame import DataFrame, HeadersFrame
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, Request

from pingora import HttpPeer, Limits, LoadBalancer, ProxyHttp, Response
from pingora.testing import read_all

ACTIVE = "pingora_requests_active"
CONNECT = [
    *replaced(POST, method="CONNECT", path="/"),
    (":protocol", "websocket"),
    ("sec-websocket-version", "13"),
]
CONNECT.sort(key=lambda field: not field[0].startswith(":"))


class Blocking(To):
    def request_filter(self, session, ctx):
        if session.request.path == "/block":
            self.blocks.set()
            time.sleep(0.5)  # what comes meanwhile is one batch of events
            return Response(200, {}, b"blocked")

    blocks = None


@pytest.mark.parametrize("client_speaks", ["h1", "h2"])
def test_an_upload_meets_an_answer_that_nghttp2_refuses(proxy_factory, h2_origin, client_speaks):
    blocks, began = threading.Event(), threading.Event()

    def script(peer, number):
        stream = peer.start()
        began.set()
        blocks.wait(10)
        head = Encoder().encode([(":status", "200"), ("connection", "close")])
        peer.send(HeadersFrame(stream, data=head, flags=["END_HEADERS"]))
        peer.rest()

    hooks = Blocking(h2_origin.raw(script).address, read_timeout=3.0)
    hooks.blocks = blocks
    proxy = proxy_factory(hooks)
    with contextlib.ExitStack() as stack:
        if client_speaks == "h1":
            client = stack.enter_context(proxy.connect())
            client.sendall(
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\nConnection: close\r\n\r\n" + b"x" * 1000
            )
        else:
            client = stack.enter_context(FrameClient(proxy))
            client.send(client.head(POST, end=False), DataFrame(1, data=b"x" * 1000))
        assert began.wait(10)
        with proxy.connect() as other:
            other.sendall(b"GET /block HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            blocks.wait(10)
            time.sleep(0.2)
            if client_speaks == "h1":
                client.sendall(b"y" * 9000)
                answer = read_all(client)
                assert b" 502 " in answer
            else:
                client.send(DataFrame(1, data=b"y" * 9000))
                assert client.answer()["status"] == 502
            assert read_all(other).endswith(b"blocked")


class Filling(ProxyHttp):
    async def websocket_message(self, session, ctx, direction, message):
        await asyncio.sleep(0)
        with contextlib.suppress(TimeoutError):
            for _ in range(4000):
                await asyncio.wait_for(session.websocket.send("upstream", b"x" * 4096), 0.5)
        return b"y" * (4 << 20)


def test_a_message_for_which_there_is_no_memory_ends_its_websocket(proxy_factory):
    with socket.create_server(("127.0.0.1", 0)) as server:
        ends = threading.Event()

        def origin():
            sock, _ = server.accept()
            with sock:
                ws = WSConnection(ConnectionType.SERVER)
                ws.receive_data(sock.recv(65536))
                for event in ws.events():
                    if isinstance(event, Request):
                        sock.sendall(ws.send(AcceptConnection()))
                ends.wait(20)  # and reads nothing

        thread = threading.Thread(target=origin)
        thread.start()
        hooks = Filling()
        hooks.upstreams = LoadBalancer([f"127.0.0.1:{server.getsockname()[1]}"])
        proxy = proxy_factory(hooks, Limits(buffered_bytes=1 << 20))
        with proxy.connect() as client:
            ws = WSConnection(ConnectionType.CLIENT)
            client.sendall(ws.send(Request(host="a", target="/")))
            ws.receive_data(client.recv(65536))
            list(ws.events())
            client.sendall(ws.send(BytesMessage(b"hello")))
            with contextlib.suppress(ConnectionError):
                read_all(client)
        assert wait_until(lambda: proxy.serving.counters[ACTIVE] == 0)
        ends.set()
        thread.join()


class Streaming(ProxyHttp):
    """Answers without end."""

    def __init__(self, address=None):
        self.peer = address and HttpPeer(address)

    async def request_filter(self, session, ctx):
        return Response(200, {}, self.parts()) if self.peer is None else None

    async def parts(self):
        while True:
            yield b"event\n"
            await asyncio.sleep(0.02)

    def upstream_peer(self, session, ctx):
        return self.peer


def test_an_answer_ends_with_its_stream_that_is_reset_for_a_body_too_long(proxy_factory):
    proxy = proxy_factory(Streaming())
    with FrameClient(proxy) as client:
        client.send(client.head([*POST, ("content-length", "5")], end=False))
        assert wait_until(lambda: proxy.serving.counters[ACTIVE] == 1)
        client.send(DataFrame(1, data=b"x" * 6))
        assert client.refusal() == "PROTOCOL_ERROR"
        assert wait_until(lambda: proxy.serving.counters[ACTIVE] == 0)


@pytest.mark.parametrize("is_local", [True, False])
def test_an_answer_to_a_connect_that_opens_no_tunnel_ends_with_its_stream(proxy_factory, origin_factory, is_local):
    def endless(connection, _data):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"5\r\nhello\r\n")
            time.sleep(0.02)

    proxy = proxy_factory(Streaming(None if is_local else origin_factory(endless).address))
    with FrameClient(proxy) as client:
        client.send(client.head(CONNECT, end=False))
        assert client.refusal() == "CONNECT_ERROR"
        assert wait_until(lambda: proxy.serving.counters[ACTIVE] == 0)
        assert client.is_alive()
