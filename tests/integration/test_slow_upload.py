"""The upstream's read timeout counts while it is the upstream that keeps us waiting, not the client or a hook."""

import asyncio
import contextlib
import select
import socket
import time

import pytest
from conversations import Forwarding, echo, post

from pingora import HttpPeer


class Hurried(Forwarding):
    def __init__(self, address):
        self.peer = HttpPeer(address, read_timeout=0.2)


def silence(connection, data):
    connection.recv(1)


def take_nothing(connection, data):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    gone = select.poll()
    gone.register(connection, select.POLLRDHUP)
    gone.poll(10_000)


def test_a_client_may_send_its_body_slower_than_the_upstream_may_answer(proxy_factory, origin_factory):
    proxy = proxy_factory(Hurried(origin_factory(echo).address))
    with proxy.connect() as client:
        client.sendall(post(b"").replace(b"Content-Length: 0", b"Content-Length: 4"))
        for byte in (b"a", b"b", b"c", b"d"):
            time.sleep(0.3)  # the slowness itself
            client.sendall(byte)
        answer = b""
        while more := client.recv(65536):
            answer += more
    assert answer.endswith(b"\r\n\r\nabcd")


def test_a_request_body_filter_may_take_longer_than_the_upstream_may(proxy_factory, origin_factory):
    class Slow(Hurried):
        async def request_body_filter(self, session, chunk, end, ctx):
            await asyncio.sleep(0.5)

    assert proxy_factory(Slow(origin_factory(echo).address)).exchange(post(b"abcd")).endswith(b"\r\n\r\nabcd")


@pytest.mark.parametrize(
    ("script", "size", "reason"),
    [
        pytest.param(silence, 4, b"first_byte_timeout", id="takes it and says nothing"),
        pytest.param(take_nothing, 1 << 24, b"upstream_write_timeout", id="takes nothing"),
    ],
)
def test_an_upstream_that_keeps_us_waiting_is_answered_504(proxy_factory, origin_factory, script, size, reason):
    with proxy_factory(Hurried(origin_factory(script).address)).connect() as client:
        client.settimeout(5)
        with contextlib.suppress(OSError):
            client.sendall(post(b"x" * size))
        with contextlib.suppress(ConnectionResetError):
            answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert reason in answer
