"""A worker that is asked where it is says which hook blocks it, and where; nobody is told of a loop that runs."""

import asyncio
import logging
import signal
import time

import pytest

from pingora.observe.blocked import HookNames
from pingora.supervisor.asked import AskedWatchdog
from pingora.supervisor.board import ASK, Board
from pingora.supervisor.stuck import StuckWatch

LIMIT_S = 0.4  # more than a loaded machine leaves a process without its turn


@pytest.fixture
def messages():
    """What was logged."""
    log = logging.getLogger("pingora.watchdog")
    records = logging.Handler()
    records.emit = lambda record: seen.append(record.getMessage())
    seen = []
    log.addHandler(records)
    yield seen
    log.removeHandler(records)


def hook():
    time.sleep(2 * LIMIT_S)
    signal.raise_signal(ASK)
    signal.raise_signal(ASK)  # it has been answered


def watched(*parts, hooks=()):
    """Run functions on a watched loop, with a while between them; return how many blocks were counted."""

    async def main():
        count = []
        watchdog = AskedWatchdog(LIMIT_S, lambda: count.append(1))
        watchdog.start(asyncio.get_running_loop(), HookNames(hooks))
        for part in parts:
            part()
            await asyncio.sleep(LIMIT_S / 2)  # the loop looks at the clock
        watchdog.stop()
        watchdog.stop()
        return len(count)

    return asyncio.run(main())


def test_a_hook_is_named_with_its_line_and_again_when_it_ends(messages):
    assert watched(hook, hooks=[hook]) == 1
    begin, end = messages
    assert begin.startswith("hook hook has blocked the event loop for ")
    assert "in hook: signal.raise_signal(ASK)" in begin.splitlines()[0]
    assert end.startswith("hook hook has ended, the event loop was blocked for ")


def test_each_block_is_told(messages):
    assert watched(hook, hook) == 2
    assert [message.partition(" the event loop")[0] for message in messages] == [
        "code outside the hooks has blocked",
        "code outside the hooks has ended,",
    ] * 2


def test_a_block_that_ends_before_anybody_asks_is_told_afterwards(messages):
    assert watched(lambda: time.sleep(3 * LIMIT_S), hooks=[hook]) == 1
    (message,) = messages
    assert message.startswith("the event loop was blocked for ")


def test_a_question_that_comes_late_is_not_answered(messages):
    assert watched(lambda: signal.raise_signal(ASK), lambda: None) == 0
    assert messages == []


def test_the_signal_does_nothing_before_and_after():
    assert signal.getsignal(ASK) == signal.SIG_DFL
    watched(lambda: None)
    assert signal.getsignal(ASK) == signal.SIG_DFL
    signal.raise_signal(ASK)


class FakeWorker:
    """A worker that keeps the signals that it gets."""

    number = 3
    is_serving = True

    def __init__(self):
        self.asked_for = 0
        self.stuck_since = 0.0
        self.signals = []

    def kill(self, number):
        self.signals.append(number)


@pytest.fixture
def board():
    return Board.create()


def test_a_silent_worker_is_asked_once_and_again_after_its_next_sign_of_life(board):
    worker, watch = FakeWorker(), StuckWatch(board)
    for asked in (1, 2):
        board.beat(worker.number, patience_ms=1)
        time.sleep(0.01)
        watch.look([worker], 0.0)
        watch.look([worker], 0.0)
        assert worker.signals == [ASK] * asked


@pytest.mark.parametrize(("patience_ms", "is_serving"), [(0, True), (60_000, True), (1, False)])
def test_a_worker_is_not_asked_that_wants_it_later_or_never_or_does_not_serve(board, patience_ms, is_serving):
    worker, watch = FakeWorker(), StuckWatch(board)
    worker.is_serving = is_serving
    board.beat(worker.number, patience_ms)
    time.sleep(0.01)
    watch.look([worker], 0.0)
    assert worker.signals == []
