"""A watchdog over the event loop: it says which hook blocks it, where, and for how long.

A thread asks the loop for a sign of life. Its only cost to the loop is one callback per interval.
"""

import asyncio
import linecache
import logging
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

log = logging.getLogger("pingora.watchdog")

# Code that a hook's author did not write: the interpreter's, installed packages', our own.
FOREIGN = (
    *(path for name in ("stdlib", "platstdlib", "purelib", "platlib") if (path := sysconfig.get_path(name))),
    str(Path(__file__).parent.parent),
    "<frozen",
)


def blocking_frame(innermost: FrameType) -> FrameType:
    """Return the innermost frame of the user's own code, or the innermost of all if there is none."""
    frame: FrameType | None = innermost
    while frame is not None:
        if not frame.f_code.co_filename.startswith(FOREIGN):
            return frame
        frame = frame.f_back
    return innermost


def place_of(frame: FrameType) -> str:
    """Return file, line, function and source text of where `frame` is now."""
    path, line = frame.f_code.co_filename, frame.f_lineno
    text = linecache.getline(path, line).strip()
    return f"{path}:{line} in {frame.f_code.co_qualname}" + (f": {text}" if text else "")


class Watchdog:
    """Reports, once when it is noticed and once when it ends, every time the loop is blocked for `limit_s` or longer.

    `interval_s` is the time between two questions to the loop.
    """

    def __init__(self, interval_s: float = 0.25, limit_s: float = 0.5) -> None:
        self.interval_s = interval_s
        self.limit_s = limit_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop, describe: Callable[[], str]) -> None:
        """Watch `loop`; call this on the loop's thread.

        `describe` names the hook that runs now ("" if none does). It is called on the watchdog's thread.
        """
        if self._thread is not None:
            raise RuntimeError("the watchdog runs already")
        self._stopping.clear()
        arguments = (loop, describe, threading.get_ident())
        self._thread = threading.Thread(target=self._watch, args=arguments, name="pingora-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; may be called twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(self, loop: asyncio.AbstractEventLoop, describe: Callable[[], str], loop_thread: int) -> None:
        answers: list[float] = []
        while not self._stopping.is_set():
            asked_at = time.monotonic()
            answers.clear()
            try:
                loop.call_soon_threadsafe(lambda: answers.append(time.monotonic()))
            except RuntimeError:
                return  # the loop is closed
            is_reported = False
            pause_s = min(self.interval_s, self.limit_s)
            while not self._stopping.wait(pause_s) and not answers:
                if loop.is_closed():
                    return  # it will not answer any more
                blocked_s = time.monotonic() - asked_at
                if not is_reported and blocked_s >= self.limit_s and loop.is_running():
                    is_reported = True
                    self._report(blocked_s, describe, loop_thread)
                pause_s = self.interval_s if is_reported else min(self.interval_s, max(self.limit_s - blocked_s, 0.001))
            if answers:
                self._report_end(answers[0] - asked_at, is_reported)

    def _report(self, blocked_s: float, describe: Callable[[], str], loop_thread: int) -> None:
        innermost = sys._current_frames().get(loop_thread)
        try:
            hook = describe()
        except Exception as error:
            hook = f"(unknown: {error!r})"
        who = f" by {hook}" if hook else ""
        if innermost is None:
            log.warning("the event loop has been blocked for %.2f s%s", blocked_s, who)
            return
        stack = "".join(traceback.format_stack(innermost)).rstrip()
        place = place_of(blocking_frame(innermost))
        log.warning("the event loop has been blocked for %.2f s%s, at %s\n%s", blocked_s, who, place, stack)

    def _report_end(self, total_s: float, is_reported: bool) -> None:
        if is_reported:
            log.warning("the event loop runs again, it was blocked for %.2f s", total_s)
        elif total_s >= self.limit_s:
            # This thread was held up as well, so it could not look while it lasted.
            log.warning(
                "the event loop was blocked for %.2f s; a call held the GIL or the process was stopped", total_s
            )
