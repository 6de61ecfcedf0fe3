"""Modules: filters that stand around a proxy's own hooks."""

import asyncio

import pytest
from conversations import GET, Forwarding, dechunk, echo, post, wait_until

from pingora import HttpModule, LastChunk, Response

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def noting(name, seen, order=0, is_async=False):
    """Make a module that notes its name at each phase."""

    class Noting(HttpModule):
        def request_filter(self, session, ctx):
            seen.append(f"in {name}")

        def response_filter(self, session, response, ctx):
            seen.append(f"out {name}")

    class Awaiting(Noting):
        async def request_filter(self, session, ctx):
            await asyncio.sleep(0)
            seen.append(f"in {name}")

    module = Awaiting() if is_async else Noting()
    module.order = order
    return module


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
def test_modules_stand_around_the_proxy_in_their_order(proxy_factory, origin_factory, is_async):
    seen = []

    class Own(Forwarding):
        modules = (noting("b", seen), noting("c", seen), noting("a", seen, 5, is_async))

        def request_filter(self, session, ctx):
            seen.append("in proxy")

        async def response_filter(self, session, response, ctx):
            seen.append("out proxy")

    assert proxy_factory(Own(origin_factory(HELLO).address)).exchange(GET).endswith(b"hello")
    assert seen == ["in a", "in b", "in c", "in proxy", "out proxy", "out a", "out b", "out c"]


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
def test_a_response_of_a_module_ends_the_row(proxy_factory, origin_factory, is_async):
    seen = []

    class Refusing(HttpModule):
        if is_async:

            async def request_filter(self, session, ctx):
                await asyncio.sleep(0)
                return Response(403)
        else:

            def request_filter(self, session, ctx):
                return Response(403)

    class Own(Forwarding):
        modules = [Refusing(), noting("after", seen)]

    origin = origin_factory(HELLO)
    assert proxy_factory(Own(origin.address)).exchange(GET).startswith(b"HTTP/1.1 403")
    assert seen == []
    assert origin.heads == []


class Replace(HttpModule):
    def __init__(self, old, new, is_last=False, is_async=False):
        self.change = old, new
        self.is_last = is_last
        self.is_async = is_async

    def filter(self, session, chunk, end, ctx):
        changed = chunk.replace(*self.change)
        if self.is_async:
            return self.later(changed)
        return LastChunk(changed) if self.is_last else changed

    async def later(self, chunk):
        await asyncio.sleep(0)
        return chunk

    request_body_filter = response_body_filter = filter


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
def test_bodies_pass_all_modules(proxy_factory, origin_factory, is_async):
    class Own(Forwarding):
        modules = [Replace(b"a", b"b", is_async=is_async), Replace(b"b", b"c"), Replace(b"c", b"d", is_async=is_async)]

        def request_body_filter(self, session, chunk, end, ctx):
            return chunk + b"." if end else None

    answer = proxy_factory(Own(origin_factory(echo).address)).exchange(post(b"xa"))
    assert dechunk(answer)[0] == b"xd."


def test_a_last_chunk_of_a_module_ends_the_body(proxy_factory, origin_factory):
    class Own(Forwarding):
        modules = [Replace(b"hello", b"cut a", is_last=True), Replace(b"a", b"b")]

    body = b"hello" + b"x" * 1_000_000
    origin = origin_factory(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    payload = dechunk(proxy_factory(Own(origin.address)).exchange(GET))[0]
    assert payload.startswith(b"cut b")
    assert len(payload) < len(body)


def test_something_that_is_no_module_is_refused(proxy_factory):
    class Own(Forwarding):
        modules = ["no module"]

    with pytest.raises(TypeError, match="HttpModule"):
        proxy_factory(Own("127.0.0.1:1"))


class Raises(Forwarding):
    def logging(self, session, error, ctx):
        raise ValueError


class RaisesLater(Forwarding):
    async def logging(self, session, error, ctx):
        await asyncio.sleep(0)
        raise ValueError


class Hangs(Forwarding):
    hook_timeouts = {"logging": 0.05}

    async def logging(self, session, error, ctx):
        await asyncio.sleep(60)


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
@pytest.mark.parametrize("kind", [Raises, RaisesLater, Hangs])
def test_modules_log_although_the_logging_of_the_proxy_fails(proxy_factory, origin_factory, kind, is_async):
    seen = []

    class Meter(HttpModule):
        if is_async:

            async def logging(self, session, error, ctx):
                await asyncio.sleep(0)
                seen.append("logged")
        else:

            def logging(self, session, error, ctx):
                seen.append("logged")

    hooks = kind(origin_factory(HELLO).address)
    hooks.modules = [Meter(), Meter()]
    proxy = proxy_factory(hooks)
    proxy.exchange(GET)
    wait_until(lambda: proxy.serving.activity()[1] == 0)
    assert seen == ["logged", "logged"]
