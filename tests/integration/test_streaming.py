"""A Response whose body is an asynchronous iterator."""

import asyncio

import pytest
from conversations import GET, Forwarding, dechunk, more_of
from http2_frames import GET as GET_OF_HTTP2
from http2_frames import POST as POST_OF_HTTP2
from http2_frames import FrameClient, replaced
from hyperframe.frame import SettingsFrame, WindowUpdateFrame

from pingora import Limits, Response
from pingora.testing import read_all

LARGE = 2500 << 10


def streaming(chunks, ended=None):
    async def body():
        try:
            async for chunk in chunks():
                yield chunk
        finally:
            if ended is not None:
                ended.append("closed")

    class Streaming(Forwarding):
        def request_filter(self, session, ctx):
            return Response(200, {"content-type": "text/plain"}, body())

    return Streaming("127.0.0.1:1")


async def three():
    for chunk in (b"a", b"", b"bc"):
        yield chunk
        await asyncio.sleep(0)


def test_chunks_are_sent_as_they_come(proxy_factory):
    assert dechunk(proxy_factory(streaming(three)).exchange(GET)) == (b"abc", b"\r\n")


def test_head_gets_no_body(proxy_factory):
    answer = proxy_factory(streaming(three)).exchange(GET.replace(b"GET", b"HEAD"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")


def test_a_client_of_http_1_0_gets_the_body_to_the_end_of_the_connection(proxy_factory):
    answer = proxy_factory(streaming(three)).exchange(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nabc")


def test_the_connection_serves_the_next_request(proxy_factory):
    class Twice(Forwarding):
        def request_filter(self, session, ctx):
            return Response(body=three())

    with proxy_factory(Twice("127.0.0.1:1")).connect() as client:
        for _ in range(3):
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = b""
            while not answer.endswith(b"0\r\n\r\n"):
                answer += more_of(client, 1000)
            assert dechunk(answer)[0] == b"abc"


def test_the_iterator_waits_while_the_client_takes_nothing(proxy_factory):
    given = []

    async def endless():
        while len(given) < 2000:
            given.append(65536)
            yield b"x" * 65536

    proxy = proxy_factory(streaming(endless))
    with proxy.connect() as client:
        client.sendall(GET)
        client.recv(1)
        before = -1
        while before != len(given):  # it stops by itself when the buffers are full
            before = len(given)
            client.recv(1)
            proxy.call(asyncio.sleep(0.05))
        assert len(given) < 500
        total = 2
        while more := client.recv(1 << 20):
            total += len(more)
    assert len(given) == 2000
    assert total > 2000 * 65536


def test_a_client_that_leaves_ends_the_iterator(proxy_factory):
    ended = []

    async def endless():
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.001)

    proxy = proxy_factory(streaming(endless, ended))
    with proxy.connect() as client:
        client.sendall(GET)
        client.recv(1)
    proxy.close()
    assert ended == ["closed"]


@pytest.mark.parametrize("bad", ["raises", "gives str"])
def test_an_iterator_that_fails_cuts_the_answer_and_is_logged(proxy_factory, caplog, bad):
    async def failing():
        yield b"abc"
        if bad == "raises":
            raise ValueError("broken")
        yield "text"

    answer = proxy_factory(streaming(failing)).exchange(GET)
    assert b"abc" in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert ("the body of a Response" if bad == "raises" else "the body gave str, expected bytes") in caplog.text


def test_a_client_that_stops_its_upload_gets_all_that_a_body_filter_answers(proxy_factory, origin_factory):
    async def longer_than_a_body_may_rest():
        for _ in range(4):
            yield b"part"
            await asyncio.sleep(0.3)

    class Answers(Forwarding):
        def request_body_filter(self, session, chunk, end, ctx):
            return Response(200, body=longer_than_a_body_may_rest())

    origin = origin_factory(lambda connection, _data: read_all(connection))
    with proxy_factory(Answers(origin.address), Limits(body_timeout=0.5)).connect(10) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        answer = read_all(client)
    assert answer.endswith(b"\r\n0\r\n\r\n")
    assert dechunk(answer)[0] == 4 * b"part"


class Closeable:
    """A stream that knows what became of it."""

    def __init__(self):
        self.seen = []

    def __aiter__(self):
        return self

    async def __anext__(self):
        self.seen.append("iterated")
        raise StopAsyncIteration

    async def aclose(self):
        self.seen.append("closed")


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
def test_a_body_that_nobody_wants_is_closed(proxy_factory, version):
    body = Closeable()

    class Answers(Forwarding):
        def request_filter(self, session, ctx):
            return Response(200, body=body)

    proxy = proxy_factory(Answers("127.0.0.1:1"))
    if version == "HTTP/2":
        with FrameClient(proxy) as client:
            client.request(replaced(GET_OF_HTTP2, method="HEAD"))
            assert client.answer()["status"] == 200
    else:
        assert proxy.exchange(GET.replace(b"GET", b"HEAD")).startswith(b"HTTP/1.1 200 ")
    proxy.close()
    assert body.seen == ["closed"]


class Large(Forwarding):
    """Streams chunks of which more waits than leaves at once."""

    def request_filter(self, session, ctx):
        return Response(body=self.parts())

    async def parts(self):
        for _ in range(4):
            await asyncio.sleep(0)
            yield bytes(LARGE)


@pytest.mark.parametrize("ends", [True, False], ids=["the request has ended", "the request goes on"])
def test_chunks_larger_than_what_leaves_in_a_turn_all_come(proxy_factory, ends):
    windows = {SettingsFrame.INITIAL_WINDOW_SIZE: 1 << 30}
    with FrameClient(proxy_factory(Large("127.0.0.1:1")), settings=windows) as client:
        client.send(WindowUpdateFrame(0, window_increment=1 << 30), client.head(POST_OF_HTTP2, end=ends))
        assert len(client.answer(gives_window=False)["body"]) == 4 * LARGE


class Hurried(Forwarding):
    """A stream that waits for nothing and nobody."""

    serving = None

    def request_filter(self, session, ctx):
        self.turns = set()
        return Response(body=self.parts())

    async def parts(self):
        for _ in range(200):
            self.turns.add(self.serving.reactor.n_ticks)
            yield b"x"


def test_a_stream_that_never_waits_leaves_others_their_turns(proxy_factory):
    hooks = Hurried("127.0.0.1:1")
    proxy = proxy_factory(hooks)
    hooks.serving = proxy.serving
    assert dechunk(proxy.exchange(GET))[0] == b"x" * 200
    assert len(hooks.turns) > 10
