"""An answer that breaks off is cut where the client can see it, and no other answer follows within it."""

import asyncio
import socket
import threading

import pytest
from conversations import GET, Forwarding, wait_until
from http2_frames import GET as GET_OF_HTTP2
from http2_frames import FrameClient, replaced
from inside import RESET, Gate, fill, narrow, narrow_client, settle

from pingora import Response
from pingora.testing import read_all

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
BAD = b"GET /bad HTTP/1.1\r\nHost: a\r\n\r\n"


# -- a hook or a stream that raises behind a response_filter that awaits


async def broken():
    yield b"part"
    raise RuntimeError("no more parts")


class AwaitsFirst(Forwarding):
    async def response_filter(self, session, response, ctx):
        await asyncio.sleep(0)
        return self.result() if session.request.path == "/bad" else None

    def result(self):
        return None

    def suppress_error_log(self, session, error, ctx):
        return True


class BodyFilterRaises(AwaitsFirst):
    def response_body_filter(self, session, chunk, end, ctx):
        if end and session.request.path == "/bad":
            raise ValueError("no such end")


class BodyFilterRaisesLater(AwaitsFirst):
    async def response_body_filter(self, session, chunk, end, ctx):
        await asyncio.sleep(0)
        if end and session.request.path == "/bad":
            raise ValueError("no such end")


class StreamRaises(AwaitsFirst):
    def result(self):
        return Response(200, {}, broken())


class StreamOfThePageRaises(AwaitsFirst):
    def result(self):
        raise ValueError("no answer")

    def fail_to_proxy(self, session, error, ctx):
        return Response(500, {}, broken())


RAISING = pytest.mark.parametrize(
    "kind", [BodyFilterRaises, BodyFilterRaisesLater, StreamRaises, StreamOfThePageRaises]
)
ANSWERS = pytest.mark.parametrize("answer", [EMPTY, HELLO], ids=["empty", "body"])


@RAISING
@ANSWERS
def test_one_whose_hook_raises_ends_the_connection(proxy_factory, origin_factory, kind, answer):
    proxy = proxy_factory(kind(origin_factory(answer).address))
    with proxy.connect() as client:
        client.sendall(BAD + GET)
        got = read_all(client)
    assert got.count(b"HTTP/1.1 ") == 1
    assert not got.endswith(b"0\r\n\r\n")
    wait_until(lambda: proxy.serving.activity()[1] == 0)


@RAISING
@ANSWERS
def test_one_whose_hook_raises_resets_its_stream_and_no_other(proxy_factory, origin_factory, kind, answer):
    proxy = proxy_factory(kind(origin_factory(answer).address))
    with FrameClient(proxy) as client:
        for bad in (1, 5):
            client.request(replaced(GET_OF_HTTP2, path="/bad"), bad)
            assert client.answer(bad)["reset"] == "INTERNAL_ERROR"
            client.request(stream_id=bad + 2)
            good = client.answer(bad + 2)
            assert (good["status"], good["reset"]) == (200, None)
            assert answer.endswith(b"\r\n\r\n" + good["body"])
    wait_until(lambda: proxy.serving.activity()[1] == 0)


# -- an origin that resets within an answer that goes to the end of its connection

UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 100\r\n\r\n"
TRUNCATED = 'failures_total{reason="upstream_truncated"}'


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


def assert_is_cut_and_counted(proxy, answer):
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert not answer.endswith(b"0\r\n\r\n")
    wait_until(lambda: proxy.serving.activity()[1] == 0)
    assert proxy.serving.counters["pingora_" + TRUNCATED] == 1
    assert proxy.serving.counters["pingora_upstream_" + TRUNCATED] == 1


def test_a_reset_while_a_body_filter_waits_is_one_although_the_upload_goes_on(proxy_factory, origin_factory):
    """A write is told of the reset before the read is."""
    gate = Gate()
    is_reset = threading.Event()

    class Waits(Forwarding):
        async def response_body_filter(self, session, chunk, end, ctx):
            if chunk:
                await gate.wait()

    def script(connection, data):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nHALF")
        gate.await_hook()
        reset(connection)
        is_reset.set()

    proxy = proxy_factory(Waits(origin_factory(script).address))
    with proxy.connect() as client:
        client.sendall(UPLOAD)
        assert is_reset.wait(10)
        for _ in range(2):
            client.sendall(b"x" * 10)
            settle(proxy)
        gate.open()
        assert_is_cut_and_counted(proxy, read_all(client))


def test_a_reset_while_the_client_does_not_read_is_one_although_its_upload_goes_on(proxy_factory, origin_factory):
    is_reset = threading.Event()

    def script(connection, data):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        fill(connection)
        reset(connection)
        is_reset.set()

    class Narrow(Forwarding):
        def request_filter(self, session, ctx):
            narrow(client.getsockname())

    proxy = proxy_factory(Narrow(origin_factory(script).address))
    with narrow_client(proxy) as client:
        client.sendall(UPLOAD)
        assert is_reset.wait(30)
        for _ in range(2):
            client.sendall(b"x" * 10)
            settle(proxy)
        assert_is_cut_and_counted(proxy, read_all(client))
