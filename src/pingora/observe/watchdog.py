"""A watchdog over the event loop: it says which hook blocks it, where, and for how long.

A thread asks the loop for a sign of life. Its only cost to the loop is one callback per interval.
"""

import asyncio
import linecache
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any

from pingora.foreign import is_foreign

log = logging.getLogger("pingora.watchdog")

JOIN_S = 1.0  # how long stop() waits for a thread whose log handler does not return


class HookNames:
    """Finds the hook that a stack is in, by the code objects of the hooks."""

    def __init__(self, hooks: Iterable[Any]) -> None:
        # By identity: two equal code objects may be two hooks. The hooks are kept, so that no id is used twice.
        self._hooks = [hook for hook in hooks if hook is not None]
        self._names: dict[int, str] = {}
        for hook in self._hooks:
            name = getattr(hook, "__name__", repr(hook))
            if (owner := getattr(hook, "__self__", None)) is not None:
                name = f"{type(owner).__name__}.{name}"
            for code in codes_of(hook):
                self._names[id(code)] = name

    def find(self, innermost: FrameType) -> tuple[str, int]:
        """Return the name of the innermost hook ("" if there is none) and how many frames it and its calls are."""
        frame: FrameType | None = innermost
        depth = 0
        while frame is not None:
            depth += 1
            if (name := self._names.get(id(frame.f_code))) is not None:
                return name, depth
            frame = frame.f_back
        return "", depth


def codes_of(hook: Any) -> Iterable[CodeType]:
    """Give the code of a function or method, and of those that it wraps (functools.wraps)."""
    while hook is not None:
        code = getattr(hook, "__code__", None)
        if isinstance(code, CodeType):
            yield code
        hook = getattr(hook, "__wrapped__", None)


def blocking_frame(innermost: FrameType) -> FrameType:
    """Return the innermost frame of the user's own code, or the innermost of all if there is none."""
    frame: FrameType | None = innermost
    while frame is not None:
        if not is_foreign(frame.f_code.co_filename):
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

    `interval_s` is the time between two questions to the loop, and how much of a block may go unseen. `on_blocked` is
    called once for each block, from the watchdog's thread.
    """

    def __init__(
        self, interval_s: float = 0.25, limit_s: float = 1.0, on_blocked: Callable[[], None] = lambda: None
    ) -> None:
        self.interval_s = interval_s
        self.limit_s = limit_s
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
        while not self._stopping.is_set():
            asked_at = time.monotonic()
            answers.clear()
            try:
                loop.call_soon_threadsafe(lambda: answers.append(time.monotonic()))
            except RuntimeError:
                return  # the loop is closed
            who: str | None = None
            pause_s = min(self.interval_s, self.limit_s)
            while not self._stopping.wait(pause_s) and not answers:
                if loop.is_closed():
                    return  # it will not answer any more
                blocked_s = time.monotonic() - asked_at
                if who is None and blocked_s >= self.limit_s and loop.is_running():
                    who = self._report(blocked_s, hooks, loop_thread)
                pause_s = self.interval_s if who is not None else max(self.limit_s - blocked_s, 0.001)
                pause_s = min(self.interval_s, pause_s)
            if answers:
                self._report_end(answers[0] - asked_at, who)

    def _report(self, blocked_s: float, hooks: HookNames, loop_thread: int) -> str:
        """Log what blocks the loop now and return it."""
        self._on_blocked()
        innermost = sys._current_frames().get(loop_thread)
        if innermost is None:
            log.warning("the event loop has been blocked for %.2f s", blocked_s)
            return "it"
        hook, depth = hooks.find(innermost)
        who = f"hook {hook}" if hook else "code outside the hooks"
        remedy = " (await, or use asyncio.to_thread)" if hook else ""
        stack = "".join(traceback.format_stack(innermost, depth)).rstrip()
        place = place_of(blocking_frame(innermost))
        log.warning("%s has blocked the event loop for %.2f s%s, at %s\n%s", who, blocked_s, remedy, place, stack)
        return who

    def _report_end(self, total_s: float, who: str | None) -> None:
        if who is not None:
            log.warning("%s has ended, the event loop was blocked for %.2f s", who, total_s)
        elif total_s >= self.limit_s:
            # This thread was held up as well, so it could not look while it lasted.
            self._on_blocked()
            log.warning(
                "the event loop was blocked for %.2f s; a call held the GIL or the process was stopped", total_s
            )
