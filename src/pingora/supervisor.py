"""The supervisor of forked workers: starts them, replaces those that die, passes signals on, leaves none behind.

It serves nothing and waits in one place, for signals. A worker holds the reading end of a pipe whose other end only the
supervisor has, so it knows when the supervisor has died.
"""

import contextlib
import gc
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP)
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
STEADY_S = 10.0  # a worker that lived as long is replaced at once
MARGIN_S = 2.0  # beyond the grace, until a worker that does not end is killed


@dataclass
class Slot:
    """The place of one worker."""

    pid: int = 0  # 0 while there is none
    started_at: float = 0.0
    delay_s: float = 0.0  # before the last start
    start_at: float = 0.0  # when the next one is due


def say(text: str) -> None:
    """Write a line to stderr; lose it rather than wait for a reader."""
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [2], [], 0)[1]:
            os.write(2, f"pingora: {text}\n".encode()[: select.PIPE_BUF])


def describe(status: int) -> str:
    """Say how a process ended, from its wait status."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


class Supervisor:
    """Runs `work(lifeline)` in forked workers until SIGINT or SIGTERM.

    `lifeline` is a descriptor that reports end of file when the supervisor is gone. `on_stop` is called in this process
    when the end was asked for: now is the time to close what the workers were given. The first signal is passed on and
    workers have `grace` seconds to end, a second one is passed on too and gives them MARGIN_S; then they are killed.
    """

    def __init__(self, work: Callable[[int], None], on_stop: Callable[[], None], workers: int, grace: float) -> None:
        self._work = work
        self._on_stop = on_stop
        self._grace = grace
        self._slots = [Slot() for _ in range(workers)]
        self._kill_at: float | None = None  # set when the end was asked for

    def run(self) -> None:
        """Supervise; return when all workers have ended."""
        self._lifeline, self._lifeline_end = os.pipe()
        self._wake, wake_end = os.pipe()
        os.set_blocking(wake_end, False)
        handlers = {number: signal.signal(number, lambda number, frame: None) for number in SIGNALS}
        old_wake = signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # one that came during the start is not lost
        gc.collect()
        gc.freeze()  # a run in a worker would write to these objects, and no page would stay shared
        try:
            self._loop()
        finally:
            gc.unfreeze()
            signal.set_wakeup_fd(old_wake)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            for fd in (self._lifeline, self._lifeline_end, self._wake, wake_end):
                os.close(fd)

    def _loop(self) -> None:
        while self._kill_at is None or any(slot.pid for slot in self._slots):
            now = time.monotonic()
            if self._kill_at is None:
                for slot in self._slots:
                    if not slot.pid and slot.start_at <= now:
                        self._start(slot)
            elif now >= self._kill_at:
                self._kill()
            self._wait()
            self._reap()

    def _wait(self) -> None:
        """Sleep until a signal comes or something is due."""
        if self._kill_at is not None:
            due = self._kill_at
        else:
            due = min((slot.start_at for slot in self._slots if not slot.pid), default=float("inf"))
        timeout = None if due == float("inf") else max(due - time.monotonic(), 0.0)
        if not select.select([self._wake], [], [], timeout)[0]:
            return
        for number in os.read(self._wake, 4096):
            if number == signal.SIGHUP:
                self._reload()
            elif number != signal.SIGCHLD:
                self._stop()

    def _reload(self) -> None:
        """Pass SIGHUP on. Workers do not agree with each other before they change, so there may be only one."""
        if len(self._slots) > 1:
            say("SIGHUP reloads a configuration with one worker only, restart instead")
        elif self._slots[0].pid:
            os.kill(self._slots[0].pid, signal.SIGHUP)

    def _stop(self) -> None:
        is_first = self._kill_at is None
        self._kill_at = time.monotonic() + MARGIN_S + (self._grace if is_first else 0.0)
        if is_first:
            self._on_stop()
        for slot in self._slots:
            if slot.pid:
                os.kill(slot.pid, signal.SIGTERM)

    def _kill(self) -> None:
        self._kill_at = float("inf")
        for slot in self._slots:
            if slot.pid:
                say(f"worker {slot.pid} does not end, killing it")
                os.kill(slot.pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Note which workers have ended. Only ours: the program may have other children."""
        for slot in self._slots:
            if not slot.pid:
                continue
            try:
                pid, status = os.waitpid(slot.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = slot.pid, 0  # somebody else waited for it
            if not pid:
                continue
            slot.pid = 0
            if self._kill_at is None:
                self._plan_next(slot, pid, status)

    def _plan_next(self, slot: Slot, pid: int, status: int) -> None:
        now = time.monotonic()
        if now - slot.started_at >= STEADY_S:
            slot.delay_s = 0.0
        else:
            slot.delay_s = min(max(2 * slot.delay_s, FIRST_DELAY_S), LONGEST_DELAY_S)
        slot.start_at = now + slot.delay_s
        when = f"in {slot.delay_s:.1f} s" if slot.delay_s else "now"
        say(f"worker {pid} {describe(status)}, starting another {when}")

    def _start(self, slot: Slot) -> None:
        # Blocked across the fork: a signal that came before the child has its own handlers would be lost in it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                self._run_worker(mask)
        except OSError as error:  # no process or memory to be had
            say(f"cannot start a worker: {error.strerror}")
            slot.delay_s = min(max(2 * slot.delay_s, FIRST_DELAY_S), LONGEST_DELAY_S)
            slot.start_at = time.monotonic() + slot.delay_s
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        slot.pid = pid
        slot.started_at = time.monotonic()

    def _run_worker(self, mask: Any) -> None:
        """In the child; does not return."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            os.close(self._lifeline_end)
            os.close(self._wake)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            # A terminal's Ctrl-C reaches all, SIGTERM follows. Not SIG_IGN: programs that hooks start would inherit it.
            signal.signal(signal.SIGINT, lambda number, frame: None)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._work(self._lifeline)
            code = 0
        except BaseException as error:
            say(f"worker {os.getpid()} failed: {type(error).__name__}: {error}\n{traceback.format_exc().rstrip()}")
        finally:
            os._exit(code)
