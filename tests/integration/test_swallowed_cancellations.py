"""A hook that goes on although it was cancelled holds neither the client nor the session up."""

import asyncio
import contextlib
import logging
import socket

import pytest
from conversations import GET, Forwarding, more_of, wait_until
from inside import RESET, Gate, settle

from pingora import Limits, Response, SessionEnded
from pingora.testing import read_all

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
STUCK = b"GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n"


async def waits_on(gate):
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            return await gate.wait()


async def cleans_up(gate):
    try:
        await gate.wait()
    finally:
        await gate.wait()


async def request_filter(self, session, ctx):
    if session.request.path == "/stuck":
        await self.go_on(self.gate)
        return Response(200, body="too late")


async def upstream_peer(self, session, ctx):
    if session.request.path == "/stuck":
        await self.go_on(self.gate)
    return self.peer


async def response_filter(self, session, response, ctx):
    if session.request.path == "/stuck":
        await self.go_on(self.gate)
        return Response(200, body="too late")


WAYS = pytest.mark.parametrize("go_on", [waits_on, cleans_up])
HOOKS = pytest.mark.parametrize("hook", [request_filter, upstream_peer, response_filter])


@pytest.fixture
def hooks(origin_factory, hook, go_on):
    kind = type("GoesOn", (Forwarding,), {hook.__name__: hook, "go_on": staticmethod(go_on), "gate": Gate()})
    hooks = kind(origin_factory(HELLO).address)
    yield hooks
    hooks.gate.open()  # else the loop of the proxy would not end


def has_warned(caplog, hook):
    """Whether the error log names the hook."""
    return any(record.levelno == logging.ERROR and hook.__name__ in record.getMessage() for record in caplog.records)


@WAYS
@HOOKS
def test_the_client_gets_its_504_and_the_connection_goes_on(proxy_factory, hooks, hook, go_on, caplog):
    proxy = proxy_factory(hooks, Limits(hook_timeout=0.1))
    with proxy.connect(10) as client:
        client.sendall(STUCK)
        answer = b""
        while b"504 hook_timeout" not in answer:
            answer += more_of(client)
        wait_until(lambda: proxy.serving.activity()[1] == 0)
        wait_until(lambda: has_warned(caplog, hook))
        hooks.gate.open()  # nothing comes of what the hook does now
        settle(proxy)
        client.sendall(GET)
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nhello")


@WAYS
@HOOKS
def test_a_client_that_leaves_takes_its_session_with_it(proxy_factory, hooks, hook, go_on, caplog):
    proxy = proxy_factory(hooks)
    with proxy.connect(10) as client:
        client.sendall(STUCK)
        hooks.gate.await_hook()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    wait_until(lambda: proxy.serving.activity()[1] == 0)
    wait_until(lambda: proxy.serving.counters["pingora_connections_open"] == 0)
    wait_until(lambda: has_warned(caplog, hook))


class ReadsOn(Forwarding):
    async def request_filter(self, session, ctx):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            with contextlib.suppress(SessionEnded):
                await session.read_body()

    async def fail_to_proxy(self, session, error, ctx):
        await asyncio.sleep(3600)


def test_one_that_reads_the_body_takes_no_limit_from_the_next_hook(proxy_factory):
    proxy = proxy_factory(ReadsOn("127.0.0.1:1"), Limits(hook_timeout=0.1))
    with proxy.connect(30) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
        assert more_of(client).startswith(b"HTTP/1.1 504 ")
