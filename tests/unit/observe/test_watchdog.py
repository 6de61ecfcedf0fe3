"""The watchdog names the hook that blocks the loop and the place."""

import asyncio
import logging
import sys
import threading
import types

import pytest

from pingora.observe.watchdog import Watchdog, blocking_frame, place_of


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


def watched(body, describe=lambda: "Gateway.request_filter"):
    """Run `body` on a loop that a quick watchdog watches."""

    async def main():
        watchdog = Watchdog(interval_s=0.01, limit_s=0.02)
        watchdog.start(asyncio.get_running_loop(), describe)
        try:
            await body()
        finally:
            watchdog.stop()
            watchdog.stop()

    asyncio.run(main())


def test_blocked_loop_is_reported_once_with_hook_and_place_and_again_when_it_runs(records):
    async def body():
        blocking_hook(records)
        await asyncio.to_thread(records.wait_for, 2)

    watched(body)
    begin, end = records.messages[:2]
    assert "blocked for " in begin
    assert " by Gateway.request_filter, at " in begin.splitlines()[0]
    assert "test_watchdog.py:" in begin.splitlines()[0]  # not threading.py, where it waits
    assert "records.wait_for(1)  # the line that blocks" in begin
    assert "runs again, it was blocked for " in end


def test_block_that_nobody_could_see_is_reported_afterwards(records):
    watchdog = Watchdog(limit_s=0.5)
    watchdog._report_end(0.6, is_reported=False)
    watchdog._report_end(0.4, is_reported=False)
    assert records.messages == ["the event loop was blocked for 0.60 s; a call held the GIL or the process was stopped"]


def test_loop_that_runs_is_not_reported(records):
    async def body():
        for _ in range(50):
            await asyncio.sleep(0)

    watched(body)
    assert records.messages == []


def test_describe_that_raises_does_not_end_the_watchdog(records):
    def describe():
        raise RuntimeError("no hook")

    async def body():
        blocking_hook(records)
        await asyncio.to_thread(records.wait_for, 2)

    watched(body, describe)
    assert "by (unknown: RuntimeError('no hook'))" in records.messages[0]


def test_watchdog_ends_when_its_loop_is_closed():
    watchdog = Watchdog(interval_s=0.001)

    async def main():
        watchdog.start(asyncio.get_running_loop(), str)
        with pytest.raises(RuntimeError, match="runs already"):
            watchdog.start(asyncio.get_running_loop(), str)

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
