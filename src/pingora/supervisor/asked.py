"""The watchdog of a worker: its supervisor asks by a signal where it is, once it shows no sign of life.

A worker that serves has one thread: with a second one, which could do the same, each system call on a socket costs the
kernel atomic operations, 2 % of a small request in all (docs/architecture.md).
"""

import asyncio
import signal
import time
from collections.abc import Callable
from types import FrameType

from pingora.observe.blocked import BlockReport, HookNames
from pingora.supervisor.board import ASK


class AskedWatchdog:
    """Reports, when it is asked and when it has ended, what blocks the loop of the main thread for `limit_s` or longer.

    A call that does not return to the interpreter is reported after it. `on_blocked` is called once for each block.
    """

    def __init__(self, limit_s: float, on_blocked: Callable[[], None]) -> None:
        self._limit_s = limit_s
        self._interval_s = limit_s / 10  # between two looks of the loop at the clock: how exact a report is
        self._on_blocked = on_blocked
        self._handle: asyncio.TimerHandle | None = None
        self._looked_at = 0.0

    def start(self, loop: asyncio.AbstractEventLoop, hooks: HookNames) -> None:
        """Watch `loop`; call this on the loop's thread. `hooks` are those that a report names."""
        self._loop = loop
        self._report = BlockReport(self._limit_s, self._on_blocked, hooks)
        self._be_alive()
        signal.signal(ASK, self._on_asked)

    def stop(self) -> None:
        """Watch no longer; may be called twice."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
            signal.signal(ASK, signal.SIG_DFL)

    def _be_alive(self) -> None:
        self._looked_at = time.monotonic()
        self._handle = self._loop.call_later(self._interval_s, self._look)

    def _look(self) -> None:
        silent_s = time.monotonic() - self._looked_at
        if self._report.who is not None:
            self._report.end(silent_s)
        else:
            self._report.end(silent_s - self._interval_s)  # most of the interval the loop may have waited
        self._be_alive()

    def _on_asked(self, number: int, frame: FrameType | None) -> None:
        silent_s = time.monotonic() - self._looked_at
        if silent_s >= self._limit_s and self._report.who is None:  # else the question comes late
            self._report.begin(frame, silent_s)
