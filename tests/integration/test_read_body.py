"""`await session.read_body()`: the whole body before an upstream is chosen, and still sent there."""

import asyncio
import contextlib
import socket
import threading

import pytest
from conversations import Forwarding, dechunk, echo, more_of, post, wait_until
from http2_frames import POST, FrameClient
from hyperframe.frame import DataFrame, PingFrame, WindowUpdateFrame
from inside import settle

from pingora import Limits, ProxyError, Response, RetryPolicy, SessionEnded
from pingora.testing import read_all


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
    assert ended == ["cancelled", "client_truncated"]


def test_reading_too_late_is_an_error_of_the_hook(proxy_factory, origin_factory):
    class Late(Forwarding):
        async def response_filter(self, session, response, ctx):
            try:
                await session.read_body()
            except RuntimeError as error:
                return Response(418, body=str(error))

    answer = proxy_factory(Late(origin_factory(echo).address)).exchange(post(b"hello"))
    assert answer.endswith(b"call it in request_filter")


class GivesUp(Forwarding):
    """Its hook asks for the body and does not wait until it has come; `has_given_up` tells."""

    def __init__(self, address):
        super().__init__(address)
        self.has_given_up = threading.Event()


class TimesOut(GivesUp):
    async def request_filter(self, session, ctx):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(session.read_body(), 0.01)
        self.has_given_up.set()


class ReadsAgain(TimesOut):
    async def request_filter(self, session, ctx):
        await super().request_filter(session, ctx)
        assert await session.read_body() == b"hello"


class DoesNotAwait(GivesUp):
    def request_filter(self, session, ctx):
        session.read_body()
        self.has_given_up.set()


@pytest.mark.parametrize("kind", [TimesOut, ReadsAgain, DoesNotAwait])
def test_a_body_that_a_hook_did_not_wait_for_still_goes_upstream(proxy_factory, origin_factory, kind):
    hooks = kind(origin_factory(echo).address)
    proxy = proxy_factory(hooks)
    with proxy.connect() as client:
        client.sendall(post(b"hello").removesuffix(b"hello"))
        assert hooks.has_given_up.wait(10)
        client.sendall(b"hello")
        assert read_all(client).endswith(b"\r\n\r\nhello")


def test_a_body_of_which_a_part_was_not_kept_is_never_sent_without_it(proxy_factory, origin_factory):
    class Catches(Forwarding):
        async def request_filter(self, session, ctx):
            with contextlib.suppress(ProxyError):
                await session.read_body(10)
            has_overflowed.set()

    has_overflowed = threading.Event()
    origin = origin_factory(echo)
    proxy = proxy_factory(Catches(origin.address))
    with proxy.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.sendall(b"14\r\nAAAAAAAAAABBBBBBBBBB\r\n")
        assert has_overflowed.wait(10)
        client.sendall(b"5\r\ntail!\r\n0\r\n\r\n")
        assert read_all(client).startswith(b"HTTP/1.1 413 ")
    assert origin.heads == []


class ReadsThenWaits(Forwarding):
    hook_timeouts = {"request_filter": 0}

    async def request_filter(self, session, ctx):
        body = await session.read_body()
        await asyncio.sleep(0.15)
        return Response(200, body=self.parts(body))

    async def parts(self, body):
        yield body
        yield b"done"


class ReadsWhileItStreams(Forwarding):
    def request_filter(self, session, ctx):
        return Response(200, body=self.parts(session))

    async def parts(self, session):
        yield await session.read_body()
        await asyncio.sleep(0.15)
        yield b"done"


@pytest.mark.parametrize("kind", [ReadsThenWaits, ReadsWhileItStreams])
def test_what_has_no_limit_has_none_after_it_read_the_body(proxy_factory, kind):
    proxy = proxy_factory(kind("127.0.0.1:1"), Limits(hook_timeout=0.05))
    assert dechunk(proxy.exchange(post(b"hello")))[0] == b"hellodone"


def test_an_empty_body_that_has_ended_may_be_read_in_a_later_attempt(proxy_factory, origin_factory):
    class Again(Forwarding):
        retry = RetryPolicy(lost=True)

        async def upstream_request_filter(self, session, request, ctx):
            if session.attempts == 2:
                return Response(200, body=b"read: " + await session.read_body())

    def hang_up(connection, data):
        while not data.endswith(b"\r\n\r\n0\r\n\r\n"):
            data += more_of(connection)
        connection.shutdown(socket.SHUT_RDWR)

    proxy = proxy_factory(Again(origin_factory(hang_up).address))
    head = b"PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert proxy.exchange(head + b"0\r\n\r\n").endswith(b"read: ")


def test_a_second_call_with_a_smaller_limit_keeps_to_it_and_the_body_goes_upstream(proxy_factory, origin_factory):
    seen = []

    class Twice(Forwarding):
        async def request_filter(self, session, ctx):
            try:
                await asyncio.wait_for(session.read_body(100_000), 0.1)
            except TimeoutError:
                seen.append("gave up")
            try:
                await session.read_body(10)
            except ProxyError as error:
                seen.append(error.reason)

    proxy = proxy_factory(Twice(origin_factory(echo).address))
    body = b"x" * 5000
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    with proxy.connect() as client:
        client.sendall(head + b"%x\r\n%s\r\n" % (len(body), body))
        wait_until(lambda: len(seen) == 2)
        client.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        answer = read_all(client)
    assert seen == ["gave up", "body_too_large"]
    assert answer.endswith(b"\r\n\r\n" + body + body)


class Forgets(Forwarding):
    async def request_filter(self, session, ctx):
        if session.read_body():
            return Response(200, body=b"as if there were a body")


class Waits(Forwarding):
    async def request_filter(self, session, ctx):
        kept = session.read_body()
        return Response(200, body=await asyncio.wait_for(kept, 10))


@pytest.mark.parametrize("body", [b"", b"hello"])
def test_a_hook_that_forgot_the_await_is_told_where(proxy_factory, origin_factory, caplog, body):
    told = "session.read_body() without await for POST /: the hook went on without the body"
    assert proxy_factory(Waits(origin_factory(echo).address)).exchange(post(body)).endswith(body)
    assert told not in caplog.text
    proxy_factory(Forgets(origin_factory(echo).address)).exchange(post(body))
    wait_until(lambda: caplog.text.count(told) == 1)


def test_each_request_whose_hook_compared_the_future_is_told(proxy_factory, origin_factory, caplog):
    class Compares(Forwarding):
        def request_filter(self, session, ctx):
            return Response(403) if session.read_body() == b"forbidden" else None

    proxy = proxy_factory(Compares(origin_factory(echo).address))
    for _ in range(3):
        assert proxy.exchange(post(b"forbidden")).startswith(b"HTTP/1.1 200 ")
    wait_until(lambda: caplog.text.count("session.read_body() without await for POST /") == 3)


def test_a_hook_that_looked_into_the_future_is_told_what_to_do(proxy_factory, origin_factory, caplog):
    class LooksInto(Forwarding):
        async def request_filter(self, session, ctx):
            return Response(403) if b"forbidden" in session.read_body() else None

    proxy = proxy_factory(LooksInto(origin_factory(echo).address))
    assert proxy.exchange(post(b"forbidden")).startswith(b"HTTP/1.1 500 ")
    assert "is an await missing?" in caplog.text


def test_a_task_that_reads_beside_the_hook_is_told_that_nothing_more_comes(proxy_factory, origin_factory):
    class ReadsBeside(Forwarding):
        async def request_filter(self, session, ctx):
            self.reading = asyncio.ensure_future(self.read(session))
            await asyncio.sleep(0)

        async def read(self, session):
            return await session.read_body()

    async def outcome(reading):
        done, _ = await asyncio.wait([reading], timeout=10)
        return reading.exception() if done else "still waits"

    origin = origin_factory(echo)
    hooks = ReadsBeside(origin.address)
    proxy = proxy_factory(hooks)
    with proxy.connect() as client:
        client.sendall(post(b"hello").removesuffix(b"hello"))
        wait_until(lambda: origin.heads)
        client.sendall(b"hello")
        assert read_all(client).endswith(b"\r\n\r\nhello")
    assert isinstance(proxy.call(outcome(hooks.reading), 20), SessionEnded | RuntimeError)


# -- in fail_to_proxy, and in the iterator of a Response

LENGTH_5 = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
FIN = None
PARTIAL = [
    pytest.param(LENGTH_5, [b"he"], "client_timeout", id="stalls"),
    pytest.param(LENGTH_5, [b"he", FIN], "client_truncated", id="truncates"),
    pytest.param(CHUNKED, [b"5\r\nhello\r\n", b"zz\r\n"], "client_bad_body", id="bad chunk"),
    pytest.param(CHUNKED, [b"5\r\nhello\r\n", b"5\r\nworld\r\n0\r\n\r\n"], "body_too_large", id="too large"),
]


def limits_for(reason):
    return Limits(body_timeout=0.3 if reason == "client_timeout" else 60.0, body_bytes=7)


class ReadsLate(Forwarding):
    """Tells when it reads, and in `told` what it got: a body, or a ProxyError's reason."""

    def __init__(self, address):
        super().__init__(address)
        self.reads = threading.Event()
        self.told = []

    async def read(self, session):
        self.reads.set()
        try:
            body = await session.read_body()
        except ProxyError as error:
            self.told.append(error.reason)
            raise
        self.told.append(body)
        return body

    def suppress_error_log(self, session, error, ctx):
        return True


class ReadsForThePage(ReadsLate):
    async def fail_to_proxy(self, session, error, ctx):
        return Response(503, body=b"read: " + await self.read(session))


class ReadsTwice(ReadsForThePage):
    async def request_filter(self, session, ctx):
        self.reads.set()
        await session.read_body()


class ReadsInItsIterator(ReadsLate):
    def request_filter(self, session, ctx):
        return Response(200, body=self.parts(session))

    async def parts(self, session):
        yield b"read: "
        yield await self.read(session)


def send(proxy, client, parts):
    """Send parts that the proxy reads one by one."""
    for part in parts:
        if part is FIN:
            client.shutdown(socket.SHUT_WR)
        else:
            client.sendall(part)
        settle(proxy)


def ask_in_parts(proxy, hooks, client, head, parts):
    """Send a head, and the body when a hook reads it."""
    client.sendall(head)
    assert hooks.reads.wait(10)
    send(proxy, client, parts)


@pytest.mark.parametrize(("head", "parts", "reason"), PARTIAL)
@pytest.mark.parametrize("kind", [ReadsForThePage, ReadsTwice])
def test_a_body_that_does_not_come_whole_ends_the_read_of_a_hook_for_the_page(proxy_factory, kind, head, parts, reason):
    hooks = kind("127.0.0.1:1")
    proxy = proxy_factory(hooks, limits_for(reason))
    with proxy.connect(10) as client:
        ask_in_parts(proxy, hooks, client, head, parts)
        wait_until(lambda: hooks.told)
        wait_until(lambda: proxy.serving.counters["pingora_requests_active"] == 0)
    assert hooks.told == [reason]


@pytest.mark.parametrize(("head", "parts", "reason"), PARTIAL)
def test_a_body_that_does_not_come_whole_ends_the_iterator_that_reads_it(proxy_factory, head, parts, reason):
    hooks = ReadsInItsIterator("127.0.0.1:1")
    proxy = proxy_factory(hooks, limits_for(reason))
    with proxy.connect(10) as client:
        ask_in_parts(proxy, hooks, client, head, parts)
        answer = read_all(client)
        wait_until(lambda: proxy.serving.counters["pingora_requests_active"] == 0)
    assert hooks.told == [reason]
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert not answer.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("is_later", [False, True], ids=["with the head", "later"])
@pytest.mark.parametrize(
    ("head", "body"), [(LENGTH_5, b"hello"), (CHUNKED, b"5\r\nhello\r\n0\r\n\r\n")], ids=["length", "chunked"]
)
@pytest.mark.parametrize("kind", [ReadsForThePage, ReadsTwice, ReadsInItsIterator])
def test_a_body_that_is_read_late_is_whole(proxy_factory, kind, head, body, is_later):
    hooks = kind("127.0.0.1:1")
    proxy = proxy_factory(hooks)
    head = head.replace(b"Host", b"Connection: close\r\nHost")
    with proxy.connect(10) as client:
        client.sendall(head if is_later else head + body)
        assert hooks.reads.wait(10)
        if is_later:
            send(proxy, client, [body[:2], body[2:]])
        answer = read_all(client)
    assert hooks.told == [b"hello"]
    if kind is ReadsInItsIterator:
        assert dechunk(answer)[0] == b"read: hello"
    else:
        assert answer.endswith(b"\r\n\r\nread: hello")


class ReadsBehindAChunk(ReadsLate):
    def __init__(self, size):
        super().__init__("127.0.0.1:1")
        self.size = size
        self.may_read = threading.Event()

    def request_filter(self, session, ctx):
        return Response(body=self.parts(session))

    async def parts(self, session):
        yield bytes(self.size)
        while not self.may_read.is_set():  # noqa: ASYNC110 - the test sets it
            await asyncio.sleep(0.01)
        yield await self.read(session)


@pytest.mark.parametrize("size", [1, 16 << 20], ids=["little", "more than the client takes at once"])
@pytest.mark.parametrize("protocol", ["h1", "h2"])
def test_a_body_that_came_while_the_answer_is_streamed_is_kept(proxy_factory, protocol, size):
    hooks = ReadsBehindAChunk(size)
    proxy = proxy_factory(hooks)
    if protocol == "h1":
        with proxy.connect(10) as client:
            client.sendall(LENGTH_5.replace(b"Host", b"Connection: close\r\nHost") + b"hello")
            settle(proxy)
            hooks.may_read.set()
            body = dechunk(read_all(client))[0]
    else:
        with FrameClient(proxy) as client:
            client.request(POST, body=b"hello")
            settle(proxy)
            hooks.may_read.set()
            body = client.answer()["body"]
    assert hooks.told == [b"hello"]
    assert body == bytes(size) + b"hello"


def test_a_body_of_which_more_came_than_is_kept_cannot_be_read_any_more(proxy_factory):
    hooks = ReadsBehindAChunk(1)
    part = bytes(16000)
    with FrameClient(proxy_factory(hooks)) as client:
        client.send(client.head(POST, end=False), *[DataFrame(1, data=part)] * 4)
        client.until(lambda frame: isinstance(frame, WindowUpdateFrame) and frame.stream_id == 1)
        client.send(DataFrame(1, data=part, flags=["END_STREAM"]), PingFrame(opaque_data=b"are read"))
        client.until(lambda frame: isinstance(frame, PingFrame))
        hooks.may_read.set()
        client.answer()
    assert hooks.told == ["body_too_large"]
