"""Clients that connect and say nothing, where the kernel keeps them."""

import asyncio
import contextlib
import functools
import socket

from pingora import LoadBalancer, ProxyHttp, Response, Server
from pingora.serving import Serving

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Answers(ProxyHttp):
    def __init__(self):
        self.upstreams = LoadBalancer(["127.0.0.1:9"])

    def request_filter(self, session, ctx):
        return Response(200, {}, b"here")


def server(**options):
    made = Server(**options)
    made.add_proxy(Answers(), "127.0.0.1:0")
    return made


@contextlib.asynccontextmanager
async def serving_of(made):
    made.bind()
    serving = Serving(made, asyncio.get_running_loop(), None)
    try:
        await serving.start()
        serving.accept()
        yield serving
    finally:
        await serving.drain(0)


def on_a_loop(test):
    @functools.wraps(test)
    def run():
        asyncio.run(test())

    return run


def n_connections(serving):
    return sum(service.n_connections for service in serving.services)


async def connect(serving):
    host, _, port = serving.address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def wait_for_connections(serving, n):
    async with asyncio.timeout(10):
        while n_connections(serving) != n:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@on_a_loop
async def test_a_silent_client_waits_in_the_kernel_and_is_served_when_it_speaks():
    async with serving_of(server()) as serving:
        reader, writer = await connect(serving)
        await asyncio.sleep(0.2)
        assert n_connections(serving) == 0
        writer.write(REQUEST)
        assert (await reader.readuntil(b"here")).startswith(b"HTTP/1.1 200")
        writer.close()


@on_a_loop
async def test_a_client_that_stays_silent_is_accepted_in_the_end():
    async with serving_of(server()) as serving:
        _, writer = await connect(serving)
        await wait_for_connections(serving, 1)
        writer.close()
        await wait_for_connections(serving, 0)


@on_a_loop
async def test_a_client_that_leaves_at_once_is_forgotten():
    async with serving_of(server()) as serving:
        _, writer = await connect(serving)
        writer.close()
        reader, writer = await connect(serving)
        writer.write(REQUEST)
        await reader.readuntil(b"here")
        writer.close()
        await wait_for_connections(serving, 0)


@on_a_loop
async def test_without_it_a_silent_client_is_accepted_at_once_and_a_reload_decides_anew():
    async with serving_of(server(defer_accept=False)) as serving:
        (sock,) = serving.listeners
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT) == 0
        _, writer = await connect(serving)
        await wait_for_connections(serving, 1)
        writer.close()
        serving.commit(await serving.prepare(server()))
        (sock,) = serving.listeners
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT) > 0
