"""A hook that blocks the loop of a live proxy is logged."""

import asyncio
import logging
import threading
import time

import pytest

from pingora import LoadBalancer, ProxyHttp, Response
from pingora.limits import Limits


class Records(logging.Handler):
    """Keeps the watchdog's messages."""

    def __init__(self):
        super().__init__()
        self.messages = []
        self.ended = threading.Event()

    def emit(self, record):
        self.messages.append(record.getMessage())
        if len(self.messages) == 2:
            self.ended.set()


@pytest.fixture
def records():
    log = logging.getLogger("pingora.watchdog")
    records = Records()
    log.addHandler(records)
    yield records
    log.removeHandler(records)


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
def test_a_hook_that_sleeps_is_named_with_its_line_and_again_when_it_ends(proxy_factory, records, is_async):
    def block():
        while not records.messages:
            time.sleep(0.01)
        return Response(200, {}, b"late")

    class Sleeps(ProxyHttp):
        upstreams = LoadBalancer(["127.0.0.1:1"])

        def request_filter(self, session, ctx):
            return block()

    class SleepsLater(Sleeps):
        async def request_filter(self, session, ctx):
            await asyncio.sleep(0.001)
            return block()

    proxy = proxy_factory((SleepsLater if is_async else Sleeps)(), Limits(blocked_after=0.05))
    assert proxy.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", timeout=30).endswith(b"late")
    assert records.ended.wait(30)
    begin, end = records.messages
    name = f"hook {'SleepsLater' if is_async else 'Sleeps'}.request_filter"
    assert begin.startswith(f"{name} has blocked the event loop for ")
    assert "test_blocked_loop.py:" in begin.splitlines()[0]
    assert "return block()" in begin
    assert end.startswith(f"{name} has ended, ")
    assert proxy.serving.counters["pingora_loop_blocked_total"] == 1


@pytest.mark.parametrize(("blocked_after", "count"), [(None, 0), (1.0, 1)])
def test_the_watchdogs_thread_is_there_only_if_wanted(proxy_factory, blocked_after, count):
    class Plain(ProxyHttp):
        upstreams = LoadBalancer(["127.0.0.1:1"])

    proxy_factory(Plain(), Limits(blocked_after=blocked_after))
    assert [thread.name for thread in threading.enumerate()].count("pingora-watchdog") == count
