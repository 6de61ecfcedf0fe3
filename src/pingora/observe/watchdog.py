"""A watchdog over the event loop: it says which hook blocks it, where, and for how long.

A thread asks the loop for a sign of life. Its only cost to the loop is one callback per interval, and that the kernel
takes more care of descriptors in a process with two threads: where a supervisor looks, `supervisor.asked` does without.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable

from pingora.observe.blocked import BlockReport, HookNames

JOIN_S = 1.0  # how long stop() waits for a thread whose log handler does not return


class Watchdog:
    """Reports, once when it is noticed and once when it ends, every time the loop is blocked for `limit_s` or longer.

    `interval_s` is the time between two questions to the loop, and how much of a block may go unseen; a quarter of
    the limit if it is None. `on_blocked` is called once for each block, from the watchdog's thread.
    """

    def __init__(
        self, limit_s: float = 1.0, on_blocked: Callable[[], None] = lambda: None, interval_s: float | None = None
    ) -> None:
        self.limit_s = limit_s
        self.interval_s = limit_s / 4 if interval_s is None else interval_s
        self._on_blocked = on_blocked
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop, hooks: HookNames) -> None:
        """Watch `loop`; call this on the loop's thread. `hooks` are those that a report names."""
        if self._thread is not None:
            raise RuntimeError("the watchdog runs already")
        self._stopping.clear()
        arguments = (loop, hooks, threading.get_ident())
        self._thread = threading.Thread(target=self._watch, args=arguments, name="pingora-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; may be called twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)
            self._thread = None

    def _watch(self, loop: asyncio.AbstractEventLoop, hooks: HookNames, loop_thread: int) -> None:
        answers: list[float] = []
        report = BlockReport(self.limit_s, self._on_blocked, hooks)
        while not self._stopping.is_set():
            asked_at = time.monotonic()
            answers.clear()
            try:
                loop.call_soon_threadsafe(lambda: answers.append(time.monotonic()))
            except RuntimeError:
                return  # the loop is closed
            pause_s = min(self.interval_s, self.limit_s)
            while not self._stopping.wait(pause_s) and not answers:
                if loop.is_closed():
                    return  # it will not answer any more
                blocked_s = time.monotonic() - asked_at
                if report.who is None and blocked_s >= self.limit_s and loop.is_running():
                    report.begin(sys._current_frames().get(loop_thread), blocked_s)
                pause_s = self.interval_s if report.who is not None else max(self.limit_s - blocked_s, 0.001)
                pause_s = min(self.interval_s, pause_s)
            if answers:
                report.end(answers[0] - asked_at)
