"""Body and trailer filters: what hooks see of a body, and what they make of it."""

import asyncio
import socket

import pytest
from conversations import GET, Forwarding, dechunk, echo, more_of, post

from pingora import LastChunk, Response

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
TRAILED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n"


def variants(method):
    """Give the method as `def` and as an `async def` that suspends."""

    async def awaiting(self, *arguments):
        await asyncio.sleep(0)
        return method(self, *arguments)

    return [pytest.param(method, id="def"), pytest.param(awaiting, id="async def")]


def to_the_end(connection, data):
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nhello")
    connection.shutdown(socket.SHUT_WR)


def upper(self, session, chunk, end, ctx):
    return chunk.upper() + (b"!" if end else b"")


@pytest.mark.parametrize("answer", [HELLO, CHUNKED, to_the_end], ids=["length", "chunked", "close"])
@pytest.mark.parametrize("hook", variants(upper))
def test_a_response_body_filter_changes_each_chunk_and_adds_at_the_end(proxy_factory, origin_factory, answer, hook):
    kind = type("Upper", (Forwarding,), {"response_body_filter": hook})
    payload, _ = dechunk(proxy_factory(kind(origin_factory(answer).address)).exchange(GET))
    assert payload in (b"HELLO!", b"ABCDE!")


@pytest.mark.parametrize("hook", variants(lambda self, session, chunk, end, ctx: b"" if not end else b"end"))
def test_a_chunk_for_which_empty_bytes_are_returned_is_dropped(proxy_factory, origin_factory, hook):
    kind = type("Drop", (Forwarding,), {"response_body_filter": hook})
    assert dechunk(proxy_factory(kind(origin_factory(HELLO).address)).exchange(GET))[0] == b"end"


def test_both_response_filters_run_in_order(proxy_factory, origin_factory):
    class Both(Forwarding):
        def upstream_response_body_filter(self, session, chunk, end, ctx):
            return chunk.replace(b"hello", b"first")

        async def response_body_filter(self, session, chunk, end, ctx):
            return chunk.replace(b"first", b"second")

    assert dechunk(proxy_factory(Both(origin_factory(HELLO).address)).exchange(GET))[0] == b"second"


@pytest.mark.parametrize("hook", variants(lambda self, session, chunk, end, ctx: LastChunk(b"cut")))
def test_a_last_chunk_ends_the_answer_and_the_connection_goes_on(proxy_factory, origin_factory, hook):
    big = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000
    kind = type("Cut", (Forwarding,), {"response_body_filter": hook})
    proxy = proxy_factory(kind(origin_factory(big).address))
    with proxy.connect() as client:
        for _ in range(2):
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = b""
            while not answer.endswith(b"0\r\n\r\n"):
                answer += more_of(client)
            assert dechunk(answer)[0] == b"cut"


def test_a_body_without_an_override_of_its_filter_keeps_its_length(proxy_factory, origin_factory):
    class Passing(Forwarding):
        def response_filter(self, session, response, ctx):
            session.pass_response_body()

        def response_body_filter(self, session, chunk, end, ctx):
            return b"changed"

    answer = proxy_factory(Passing(origin_factory(HELLO).address)).exchange(GET)
    assert b"content-length: 5" in answer.lower()
    assert answer.endswith(b"\r\n\r\nhello")


def test_leaving_a_body_alone_whose_filter_has_begun_is_an_error(proxy_factory, origin_factory):
    errors = []

    class TooLate(Forwarding):
        def response_body_filter(self, session, chunk, end, ctx):
            for leave in (session.pass_request_body, session.pass_response_body):
                try:
                    leave()
                except RuntimeError as error:
                    errors.append(str(error))

    assert proxy_factory(TooLate(origin_factory(HELLO).address)).exchange(GET).endswith(b"0\r\n\r\n")
    assert errors[0] == "pass_response_body: its filter has begun; call it in response_filter or before"


@pytest.mark.parametrize("hook", variants(lambda self, session, chunk, end, ctx: None))
def test_eight_megabytes_pass_a_filter_unchanged_to_a_slow_reader(proxy_factory, origin_factory, hook):
    body = bytes(range(256)) * 32768
    origin = origin_factory(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    kind = type("Pass", (Forwarding,), {"response_body_filter": hook})
    with proxy_factory(kind(origin.address)).connect() as client:
        client.sendall(GET)
        answer = bytearray()
        while more := client.recv(20_000):
            answer += more
    assert dechunk(bytes(answer))[0] == body


def test_a_response_body_filter_that_raises_cuts_the_answer(proxy_factory, origin_factory, caplog):
    class Broken(Forwarding):
        def response_body_filter(self, session, chunk, end, ctx):
            raise ValueError("no such word")

    answer = proxy_factory(Broken(origin_factory(HELLO).address)).exchange(GET)
    assert not answer.endswith(b"0\r\n\r\n")
    assert "hook response_body_filter raised for GET /" in caplog.text


@pytest.mark.parametrize("hook", variants(upper))
def test_a_request_body_filter_changes_what_goes_upstream(proxy_factory, origin_factory, hook):
    kind = type("Upper", (Forwarding,), {"request_body_filter": hook})
    answer = proxy_factory(kind(origin_factory(echo).address)).exchange(post(b"hello"))
    assert answer.endswith(b"HELLO!")
    assert b"X-Framing: chunked" in answer


@pytest.mark.parametrize("hook", variants(lambda self, session, chunk, end, ctx: LastChunk(chunk[:2])))
def test_a_last_chunk_ends_the_request_and_the_rest_is_read_and_dropped(proxy_factory, origin_factory, hook):
    kind = type("Cut", (Forwarding,), {"request_body_filter": hook})
    answer = proxy_factory(kind(origin_factory(echo).address)).exchange(post(b"h" * 500_000))
    assert answer.endswith(b"\r\n\r\nhh")


@pytest.mark.parametrize("hook", variants(lambda self, session, chunk, end, ctx: Response(403, body=b"bad word")))
def test_a_request_body_filter_may_answer(proxy_factory, origin_factory, hook):
    kind = type("Guard", (Forwarding,), {"request_body_filter": hook})
    answer = proxy_factory(kind(origin_factory(echo).address)).exchange(post(b"hello"))
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert answer.endswith(b"bad word")


def test_a_request_body_filter_that_raises_answers_500(proxy_factory, origin_factory):
    class Broken(Forwarding):
        def request_body_filter(self, session, chunk, end, ctx):
            raise ValueError

    answer = proxy_factory(Broken(origin_factory(echo).address)).exchange(post(b"hello"))
    assert answer.startswith(b"HTTP/1.1 500 ")


def test_trailers_reach_the_client_without_those_that_are_forbidden(proxy_factory, origin_factory):
    answer = proxy_factory(Forwarding(origin_factory(TRAILED).address)).exchange(GET)
    assert dechunk(answer) == (b"ab", b"X-Sum: 1\r\n\r\n")


def test_trailers_reach_the_upstream(proxy_factory, origin_factory):
    request = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = proxy_factory(Forwarding(origin_factory(echo).address)).exchange(
        request + b"2\r\nab\r\n0\r\nX-Sum: 2\r\n\r\n"
    )
    assert b"X-Trailers: X-Sum: 2\r\n" in answer
    assert answer.endswith(b"ab")


def test_trailer_filters_change_what_the_client_gets(proxy_factory, origin_factory):
    class Sums(Forwarding):
        def upstream_response_trailer_filter(self, session, trailers, ctx):
            trailers["x-sum"] = trailers["x-sum"] + "2"

        async def response_trailer_filter(self, session, trailers, ctx):
            await asyncio.sleep(0)
            trailers.add("x-more", "yes")

    answer = proxy_factory(Sums(origin_factory(TRAILED).address)).exchange(GET)
    assert dechunk(answer) == (b"ab", b"X-Sum: 12\r\nx-more: yes\r\n\r\n")


def test_a_last_chunk_takes_bytes():
    assert LastChunk() == b""
    assert LastChunk(memoryview(b"ab")) == b"ab"
    with pytest.raises(TypeError, match="LastChunk: expected bytes, got str"):
        LastChunk("ab")
