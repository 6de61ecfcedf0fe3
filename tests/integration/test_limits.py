"""What happens at each limit of a client connection, as docs/limits.md says."""

import asyncio
import socket
import time

import pytest

from pingora import LoadBalancer, ProxyHttp
from pingora.server import Limits
from pingora.testing import read_all

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nbody"
GET_5_BYTES = GET.replace(b"/ ", b"/abcd ")
GET_3_FIELDS = GET[:-2] + b"A: 1\r\nB: 2\r\n\r\n"
SOON = 0.02


class Proxy(ProxyHttp):
    def __init__(self, origin):
        self.upstreams = LoadBalancer([origin.address])


def answer_get(connection, data):
    """Answer a GET; of anything else, wait for the end of its body."""
    if data.startswith(b"GET "):
        connection.sendall(HELLO)
        return
    while connection.recv(65536):
        pass


class Waits(Proxy):
    async def request_filter(self, session, ctx):
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("limits", "proxy_class", "sent", "answers"),
    [
        pytest.param({"head_timeout": SOON}, Proxy, GET[:-2], [408], id="head_timeout"),
        pytest.param({"keep_alive": SOON}, Proxy, b"", [], id="keep_alive of a new connection"),
        pytest.param({"keep_alive": SOON}, Proxy, GET, [200], id="keep_alive after an answer"),
        pytest.param({"body_timeout": SOON}, Proxy, POST, [408], id="body_timeout"),
        pytest.param({"head_bytes": 256}, Proxy, GET[:-2] + b"A: %s\r\n\r\n" % (b"a" * 256), [431], id="head_bytes"),
        pytest.param({"target_bytes": 4}, Proxy, GET_5_BYTES, [414], id="target_bytes"),
        pytest.param({"target_bytes": 5, "keep_alive": SOON}, Proxy, GET_5_BYTES, [200], id="at target_bytes"),
        pytest.param({"fields": 2}, Proxy, GET_3_FIELDS, [431], id="fields"),
        pytest.param({"fields": 3, "keep_alive": SOON}, Proxy, GET_3_FIELDS, [200], id="at fields"),
        pytest.param({"hook_timeout": SOON, "keep_alive": SOON}, Waits, GET, [504], id="hook_timeout"),
    ],
)
def test_a_limit_gives_its_answer(proxy_factory, origin_factory, limits, proxy_class, sent, answers):
    proxy = proxy_factory(proxy_class(origin_factory(answer_get)), Limits(**limits))
    with proxy.connect(30) as client:
        client.sendall(sent)
        got = read_all(client)
    assert [int(part[:3]) for part in got.split(b"HTTP/1.1 ")[1:]] == answers


def test_a_client_that_takes_nothing_is_cut_after_write_timeout(proxy_factory, origin_factory):
    size = 64 << 20

    def large(connection, data):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size >> 16):
            connection.sendall(bytes(65536))

    proxy = proxy_factory(Proxy(origin_factory(large)), Limits(write_timeout=SOON))
    with proxy.connect(30) as client:
        client.sendall(GET)
        client.recv(1, socket.MSG_PEEK)
        while proxy.serving.activity()[1]:  # until the session has ended, although we have read nothing
            time.sleep(0.005)
        assert len(read_all(client)) < size
