"""What answers say and when hooks are cut, where the documentation promises it."""

import asyncio
import contextlib

import pytest
from conversations import GET, Forwarding, echo, post

from pingora import HttpPeer, Limits, LoadBalancer, ProxyHttp, Response, RetryPolicy
from pingora.usage import UsageError

BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"


@pytest.mark.parametrize("count", [1, 2])
def test_the_last_endpoints_answer_is_passed_on(proxy_factory, origin_factory, count):
    class Balanced(ProxyHttp):
        retry = RetryPolicy(statuses=(503,))
        upstreams = LoadBalancer([origin_factory(BUSY).address for _ in range(count)])

    assert proxy_factory(Balanced()).exchange(GET).endswith(b"\r\n\r\nbusy")


@pytest.mark.parametrize("count", [1, 2])
def test_it_is_passed_on_also_of_a_balancer_that_only_a_hook_knows(proxy_factory, origin_factory, count):
    class Chooses(ProxyHttp):
        retry = RetryPolicy(statuses=(503,), attempts=3)
        chosen = LoadBalancer([origin_factory(BUSY).address for _ in range(count)])

        def upstream_peer(self, session, ctx):
            return HttpPeer(self.chosen.select())

    assert proxy_factory(Chooses()).exchange(GET).endswith(b"\r\n\r\nbusy")


def test_a_hooks_own_limit_holds_after_it_read_the_body(proxy_factory, origin_factory):
    class Slow(Forwarding):
        hook_timeouts = {"request_filter": 0.05}

        async def request_filter(self, session, ctx):
            await session.read_body()
            await asyncio.sleep(0.5)

    answer = proxy_factory(Slow(origin_factory(echo).address)).exchange(post(b"hello"))
    assert answer.startswith(b"HTTP/1.1 504 ")


def test_a_limit_holds_also_after_a_hook_gave_up_reading_the_body(proxy_factory):
    class GivesUp(Forwarding):
        async def request_filter(self, session, ctx):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await session.read_body()
            await asyncio.sleep(3)
            return Response(200)

    with proxy_factory(GivesUp("127.0.0.1:1"), Limits(hook_timeout=0.1)).connect(20) as client:
        client.sendall(post(b"hello").removesuffix(b"hello"))
        assert client.recv(1000).startswith(b"HTTP/1.1 504 ")


def test_an_answer_before_a_large_body_says_that_the_connection_ends(proxy_factory):
    class Refusing(Forwarding):
        def request_filter(self, session, ctx):
            return Response(403)

    large = post(bytes(100_000)).replace(b"Connection: close\r\n", b"")
    answer = proxy_factory(Refusing("127.0.0.1:1")).exchange(large)
    assert b"\r\nConnection: close\r\n" in answer


def test_a_limit_of_an_unknown_hook_is_named(proxy_factory):
    class Misspelt(Forwarding):
        hook_timeouts = {"request_fliter": 1.0}

    with pytest.raises(UsageError, match=r"hook_timeouts: .*request_fliter"):
        proxy_factory(Misspelt("127.0.0.1:1"))
