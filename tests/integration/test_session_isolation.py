"""A session shares nothing with another: no context variables, no waiting, no memory after its end."""

import asyncio
import contextvars
import gc
import logging
import queue
import threading

import pytest
from conversations import Forwarding, echo, post, wait_until
from inside import Gate

from pingora import Limits, Response, SessionEnded

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
who = contextvars.ContextVar("who", default="nobody")


def test_a_session_that_begins_in_anothers_turn_does_not_see_its_context_variables(proxy_factory):
    gate = Gate()
    is_held, is_sent = threading.Event(), threading.Event()

    class Tenants(Forwarding):
        async def request_filter(self, session, ctx):
            if session.request.path == "/other":
                return Response(200, body=who.get())
            await gate.wait()
            who.set("a tenant")
            # what comes meanwhile is dealt with in the turn that read_body asks for
            asyncio.get_running_loop().call_soon(self.hold_the_loop)
            return Response(200, body=await session.read_body())

        def hold_the_loop(self):
            is_held.set()
            is_sent.wait(10)

    proxy = proxy_factory(Tenants("127.0.0.1:1"))
    with proxy.connect() as tenant, proxy.connect() as other:
        wait_until(lambda: proxy.serving.services[0].n_connections == 2)
        tenant.sendall(post(b"hello"))
        gate.await_hook()
        gate.open()
        assert is_held.wait(10)
        other.sendall(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")
        is_sent.set()
        assert other.recv(1000).endswith(b"\r\n\r\nnobody")


def test_who_reads_a_body_in_a_task_of_his_own_hears_that_the_session_ended(proxy_factory):
    is_reading = threading.Event()
    ends = queue.Queue()

    class Reads(Forwarding):
        async def request_filter(self, session, ctx):
            self.task = asyncio.create_task(self.read(session))
            await asyncio.sleep(3600)

        async def read(self, session):
            is_reading.set()
            try:
                await session.read_body()
            except SessionEnded as error:
                ends.put(error)

    proxy = proxy_factory(Reads("127.0.0.1:1"))
    with proxy.connect() as client:
        client.sendall(post(b"").replace(b"Content-Length: 0", b"Content-Length: 9"))
        assert is_reading.wait(10)
    assert isinstance(ends.get(timeout=5), SessionEnded)


class Plain(Forwarding):
    def request_filter(self, session, ctx):
        pass

    def response_filter(self, session, response, ctx):
        pass


class Suspends(Forwarding):
    async def request_filter(self, session, ctx):
        await asyncio.sleep(0)

    async def response_filter(self, session, response, ctx):
        await asyncio.sleep(0)


class Filters(Forwarding):
    async def response_body_filter(self, session, chunk, end, ctx):
        await asyncio.sleep(0)


class Reads(Forwarding):
    async def request_filter(self, session, ctx):
        await session.read_body()


class Streams(Forwarding):
    def request_filter(self, session, ctx):
        return Response(200, body=self.parts(session))

    async def parts(self, session):
        yield session.request.path.encode()
        await asyncio.sleep(0)
        yield b"end"


class Raises(Forwarding):
    async def request_filter(self, session, ctx):
        await asyncio.sleep(0)
        raise LookupError(session)


class FilterAnswers(Forwarding):
    """A body filter answers, with a stream that knows its session."""

    def request_body_filter(self, session, chunk, end, ctx):
        return Response(403, body=Streams.parts(self, session)) if end else None


class TakesTooLong(Forwarding):
    async def request_filter(self, session, ctx):
        await asyncio.sleep(3600)


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def n_sessions():
    return sum(type(thing).__name__ in ("Exchange", "Session") for thing in gc.get_objects())


@pytest.mark.parametrize("kind", [Plain, Suspends, Filters, Reads, Streams, Raises, FilterAnswers, TakesTooLong])
def test_an_ended_session_is_freed_without_the_cyclic_collector(
    proxy_factory, origin_factory, caplog, no_collector, kind
):
    caplog.set_level(logging.CRITICAL + 1)  # a record would keep the exception, and that the session
    before = n_sessions()
    proxy = proxy_factory(kind(origin_factory(echo).address), Limits(hook_timeout=0.02))
    for _ in range(10):
        assert proxy.exchange(post(b"hello")).startswith(b"HTTP/1.1 ")
    wait_until(lambda: n_sessions() <= before)
