"""Hooks that call other services: httpx, aiohttp and anyio inside a hook, and their timeouts."""

import asyncio
import socket

import aiohttp
import anyio
import httpx
import pytest
from conversations import GET, Forwarding, dechunk

from pingora import Response

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


async def with_httpx(address):
    async with httpx.AsyncClient(trust_env=False, timeout=0.2) as client:
        try:
            return (await client.get(f"http://{address}/")).content
        except httpx.TimeoutException:
            return b"too late"


async def with_aiohttp(address):
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.2)) as client:
        try:
            async with client.get(f"http://{address}/") as answer:
                return await answer.read()
        except TimeoutError:
            return b"too late"


CLIENTS = pytest.mark.parametrize("ask", [with_httpx, with_aiohttp], ids=["httpx", "aiohttp"])


@CLIENTS
def test_a_hook_asks_a_service(proxy_factory, origin_factory, ask):
    class Asking(Forwarding):
        async def request_filter(self, session, ctx):
            return Response(200, body=await ask(self.peer.address))

    assert proxy_factory(Asking(origin_factory(HELLO).address)).exchange(GET).endswith(b"\r\n\r\nhello")


@CLIENTS
def test_the_timeout_of_a_client_ends_its_request_and_not_the_hook(proxy_factory, ask):
    class Asking(Forwarding):
        async def request_filter(self, session, ctx):
            return Response(200, body=await ask(self.peer.address))

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert proxy_factory(Asking(address)).exchange(GET).endswith(b"\r\n\r\ntoo late")


@CLIENTS
def test_a_body_filter_asks_a_service(proxy_factory, origin_factory, ask):
    class Asking(Forwarding):
        async def response_body_filter(self, session, chunk, end, ctx):
            return await ask(self.peer.address) if end else chunk + b" "

    answer = proxy_factory(Asking(origin_factory(HELLO).address)).exchange(GET)
    assert dechunk(answer)[0] == b"hello hello"


def test_cancel_scopes_and_task_groups_of_anyio_work_in_a_hook(proxy_factory):
    class Waiting(Forwarding):
        async def request_filter(self, session, ctx):
            with anyio.move_on_after(0.05) as scope:
                await anyio.sleep_forever()
            async with anyio.create_task_group() as group:
                group.start_soon(asyncio.sleep, 60)
                group.cancel_scope.cancel()
            return Response(200, body=f"{scope.cancelled_caught} {asyncio.current_task().cancelling()}")

    assert proxy_factory(Waiting("127.0.0.1:1")).exchange(GET).endswith(b"\r\n\r\nTrue 0")
