"""What is said of a loop that something blocks: which hook, where, for how long."""

import asyncio
import linecache
import logging
import traceback
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any, Protocol

from pingora.foreign import is_foreign

log = logging.getLogger("pingora.watchdog")


class LoopWatch(Protocol):
    """Watches one loop and reports what blocks it; made with the limit in seconds and what to call for each block."""

    def start(self, loop: asyncio.AbstractEventLoop, hooks: "HookNames") -> None:
        """Watch `loop`; call this on the loop's thread. `hooks` are those that a report names."""

    def stop(self) -> None:
        """Watch no longer; may be called twice."""


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


class BlockReport:
    """Logs a block of the loop, once when it is noticed and once when it ends. `on_blocked` is called for each."""

    def __init__(self, limit_s: float, on_blocked: Callable[[], None], hooks: HookNames) -> None:
        self._limit_s = limit_s
        self._on_blocked = on_blocked
        self._hooks = hooks
        self.who: str | None = None  # blocks the loop now, as far as that is known

    def begin(self, innermost: FrameType | None, blocked_s: float) -> None:
        """Log what blocks the loop now: its thread is at `innermost`, which is None if nobody knows."""
        self._on_blocked()
        if innermost is None:
            self.who = "it"
            log.warning("the event loop has been blocked for %.2f s", blocked_s)
            return
        hook, depth = self._hooks.find(innermost)
        self.who = f"hook {hook}" if hook else "code outside the hooks"
        remedy = " (await, or use asyncio.to_thread)" if hook else ""
        stack = "".join(traceback.format_stack(innermost, depth)).rstrip()
        place = place_of(blocking_frame(innermost))
        log.warning("%s has blocked the event loop for %.2f s%s, at %s\n%s", self.who, blocked_s, remedy, place, stack)

    def end(self, total_s: float) -> None:
        """The loop runs again; `total_s` may be below the limit if no begin was seen."""
        if self.who is not None:
            log.warning("%s has ended, the event loop was blocked for %.2f s", self.who, total_s)
            self.who = None
        elif total_s >= self._limit_s:
            # Whoever watches was held up as well, so nobody could look while it lasted.
            self._on_blocked()
            log.warning(
                "the event loop was blocked for %.2f s; a call held the GIL or the process was stopped", total_s
            )
