"""The watchdog names the hook that blocks the loop and the place."""

import asyncio
import functools
import logging
import sys
import threading
import types

import pytest

from pingora.observe.blocked import BlockReport, HookNames, blocking_frame, place_of
from pingora.observe.watchdog import Watchdog


class Records(logging.Handler):
    """Keeps the watchdog's messages; each wakes whoever waits for it."""

    def __init__(self):
        super().__init__()
        self.messages = []
        self.has_one = threading.Condition()

    def emit(self, record):
        with self.has_one:
            self.messages.append(record.getMessage())
            self.has_one.notify_all()

    def wait_for(self, count):
        with self.has_one:
            assert self.has_one.wait_for(lambda: len(self.messages) >= count, 30)
        return self.messages


@pytest.fixture
def records():
    log = logging.getLogger("pingora.watchdog")
    records = Records()
    log.addHandler(records)
    yield records
    log.removeHandler(records)


def blocking_hook(records):
    """Block the loop's thread until the watchdog has spoken."""
    records.wait_for(1)  # the line that blocks


def watched(body, hooks=()):
    """Run `body` on a loop that a quick watchdog watches."""

    async def main():
        watchdog = Watchdog(interval_s=0.01, limit_s=0.4)  # a loaded machine leaves a loop without its turn, too
        watchdog.start(asyncio.get_running_loop(), HookNames(hooks))
        try:
            await body()
        finally:
            watchdog.stop()
            watchdog.stop()

    asyncio.run(main())


class Gateway:
    """Hooks of all kinds that block."""

    def plain(self, records):
        blocking_hook(records)

    async def coroutine(self, records):
        await asyncio.sleep(0)
        blocking_hook(records)

    @functools.wraps(plain)
    def decorated(*arguments):
        return Gateway.plain(*arguments)

    def outer(self, records):
        self.plain(records)


@pytest.mark.parametrize(
    ("hook", "name"),
    [
        pytest.param(Gateway().plain, "hook Gateway.plain", id="def"),
        pytest.param(Gateway().coroutine, "hook Gateway.coroutine", id="async def"),
        pytest.param(Gateway().decorated, "hook Gateway.plain", id="a decorated one keeps its name"),
        pytest.param(blocking_hook, "hook blocking_hook", id="a function"),
        pytest.param(None, "code outside the hooks", id="no hook"),
    ],
)
def test_blocked_loop_is_reported_once_with_hook_and_place_and_again_when_it_runs(records, hook, name):
    async def body():
        running = (hook or blocking_hook)(records)
        if running is not None:
            await running
        await asyncio.to_thread(records.wait_for, 2)

    watched(body, [hook, None])
    begin, end = records.messages[:2]
    assert begin.startswith(f"{name} has blocked the event loop for ")
    assert "test_watchdog.py:" in begin.splitlines()[0]  # not threading.py, where it waits
    assert "records.wait_for(1)  # the line that blocks" in begin
    assert end.startswith(f"{name} has ended, the event loop was blocked for ")


def test_innermost_hook_is_named_and_the_stack_begins_with_it(records):
    gateway = Gateway()

    async def body():
        gateway.outer(records)

    watched(body, [gateway.outer, gateway.plain])
    begin = records.messages[0]
    assert begin.startswith("hook Gateway.plain ")
    assert "in plain" in begin.splitlines()[1]


def test_block_that_nobody_could_see_is_reported_afterwards(records):
    blocked = []
    report = BlockReport(0.5, lambda: blocked.append(True), HookNames([]))
    report.end(0.6)
    report.end(0.4)
    assert blocked == [True]
    assert records.messages == ["the event loop was blocked for 0.60 s; a call held the GIL or the process was stopped"]


def test_loop_that_runs_is_not_reported(records):
    async def body():
        for _ in range(50):
            await asyncio.sleep(0)

    watched(body)
    assert records.messages == []


def test_watchdog_ends_when_its_loop_is_closed():
    watchdog = Watchdog(interval_s=0.001)

    async def main():
        watchdog.start(asyncio.get_running_loop(), HookNames([]))
        with pytest.raises(RuntimeError, match="runs already"):
            watchdog.start(asyncio.get_running_loop(), HookNames([]))

    asyncio.run(main())
    watchdog._thread.join(30)
    assert not watchdog._thread.is_alive()
    watchdog.stop()


def test_place_is_the_innermost_frame_of_the_users_code():
    frames = []
    list(filter(lambda _: frames.append(sys._getframe()), [1]))
    assert blocking_frame(frames[0]) is frames[0]
    assert place_of(frames[0]).endswith("list(filter(lambda _: frames.append(sys._getframe()), [1]))")


def test_place_is_the_innermost_frame_if_all_code_is_foreign():
    frame = types.SimpleNamespace(f_code=threading.Thread.run.__code__, f_back=None)
    assert blocking_frame(frame) is frame
