"""`await session.read_body()`: the whole body before an upstream is chosen, and still sent there."""

import asyncio
import threading

import pytest
from conversations import Forwarding, echo, post

from pingora import ProxyError, Response


class Reading(Forwarding):
    async def request_filter(self, session, ctx):
        self.seen = await session.read_body(100_000)
        return Response(403, body=b"no") if b"forbidden" in self.seen else None


@pytest.mark.parametrize("size", [0, 5, 90_000], ids=["empty", "small", "large"])
def test_the_body_is_read_and_still_goes_upstream(proxy_factory, origin_factory, size):
    proxy = Reading(origin_factory(echo).address)
    answer = proxy_factory(proxy).exchange(post(b"x" * size))
    assert proxy.seen == b"x" * size
    assert answer.endswith(b"\r\n\r\n" + b"x" * size)
    assert b"X-Framing: length" in answer


def test_a_chunked_body_is_read_and_goes_upstream_with_its_trailers(proxy_factory, origin_factory):
    proxy = Reading(origin_factory(echo).address)
    request = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = proxy_factory(proxy).exchange(request + b"2\r\nab\r\n1\r\nc\r\n0\r\nX-Sum: 3\r\n\r\n")
    assert proxy.seen == b"abc"
    assert b"X-Trailers: X-Sum: 3\r\n" in answer
    assert answer.endswith(b"abc")


def test_a_hook_may_answer_after_it_read_the_body(proxy_factory, origin_factory):
    origin = origin_factory(echo)
    answer = proxy_factory(Reading(origin.address)).exchange(post(b"a forbidden word"))
    assert answer.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
def test_a_body_past_the_limit_is_answered_413(proxy_factory, origin_factory, is_chunked):
    body = b"x" * 100_001
    request = post(body)
    if is_chunked:
        request = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        request += b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    answer = proxy_factory(Reading(origin_factory(echo).address)).exchange(request)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_hook_may_catch_that_the_body_is_too_large(proxy_factory, origin_factory):
    class Catching(Forwarding):
        async def request_filter(self, session, ctx):
            try:
                await session.read_body(3)
            except ProxyError as error:
                return Response(400, body=error.reason)

    answer = proxy_factory(Catching(origin_factory(echo).address)).exchange(post(b"four"))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"body_too_large")


def test_a_client_that_expects_100_continue_is_told_once(proxy_factory, origin_factory):
    proxy = proxy_factory(Reading(origin_factory(echo).address))
    with proxy.connect() as client:
        client.sendall(post(b"", b"Expect: 100-continue\r\n").replace(b"Content-Length: 0", b"Content-Length: 5"))
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        answer = b""
        while more := client.recv(65536):
            answer += more
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"hello")


def test_a_read_body_is_sent_again_to_the_next_upstream(proxy_factory, origin_factory):
    origin = origin_factory(echo)

    class Failing(Reading):
        def upstream_peer(self, session, ctx):
            return self.peer if session.attempts else type(self.peer)("127.0.0.1:1")

    answer = proxy_factory(Failing(origin.address)).exchange(post(b"again"))
    assert answer.endswith(b"again")


def test_body_filters_see_a_read_body(proxy_factory, origin_factory):
    class Both(Reading):
        async def request_body_filter(self, session, chunk, end, ctx):
            await asyncio.sleep(0)
            return chunk.upper()

    proxy = Both(origin_factory(echo).address)
    assert proxy_factory(proxy).exchange(post(b"hello")).endswith(b"HELLO")
    assert proxy.seen == b"hello"


def test_a_client_that_leaves_while_its_body_is_read_cancels_the_hook(proxy_factory, origin_factory):
    begun = threading.Event()
    ended = []

    class Noting(Forwarding):
        async def request_filter(self, session, ctx):
            begun.set()
            try:
                await session.read_body()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        def logging(self, session, error, ctx):
            ended.append(error.reason)

    proxy = proxy_factory(Noting(origin_factory(echo).address))
    with proxy.connect() as client:
        client.sendall(post(b"x").replace(b"Content-Length: 1", b"Content-Length: 2"))
        assert begun.wait(5)
    proxy.close()
    assert ended == ["cancelled", "client_gone"]


def test_reading_too_late_is_an_error_of_the_hook(proxy_factory, origin_factory):
    class Late(Forwarding):
        async def response_filter(self, session, response, ctx):
            try:
                await session.read_body()
            except RuntimeError as error:
                return Response(418, body=str(error))

    answer = proxy_factory(Late(origin_factory(echo).address)).exchange(post(b"hello"))
    assert answer.endswith(b"call it in request_filter")
