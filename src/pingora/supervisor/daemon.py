"""`pingora run --daemon`: the command returns when the instance serves, or fails with what went wrong."""

import contextlib
import os
import signal
from collections.abc import Iterable
from types import FrameType
from typing import NoReturn

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)  # of those that the waiting command gets


class Daemon:
    """What the process that goes on owes the one that started it. Made by `fork`."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    @classmethod
    def fork(cls, mask: Iterable[int]) -> "Daemon":
        """Return in a child without a terminal; the parent waits there and ends as the child says.

        Signals are blocked in both; the parent goes back to `mask`.
        """
        reading, writing = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writing)
            wait_for(pid, reading, mask)
        os.close(reading)
        os.setsid()
        return cls(writing)

    def serving(self, kept: Iterable[int]) -> None:
        """Let the command return, and let go of the terminal's descriptors but those `kept`."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for number in {0, 1, 2}.difference(kept):
            os.dup2(null, number)
        os.close(null)
        os.write(self._pipe, b"+")
        os.close(self._pipe)


def wait_for(pid: int, pipe: int, mask: Iterable[int]) -> NoReturn:
    """Be the command that waits: end when the child serves, or as it ends, or by a signal that it gets too."""
    asked: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    for number in PASSED_ON:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if os.read(pipe, 1):
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if asked:
        signal.signal(asked[0], signal.SIG_DFL)
        os.kill(os.getpid(), asked[0])
    os._exit(code or 1)
