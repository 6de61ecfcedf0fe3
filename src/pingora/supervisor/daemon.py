"""`pingora run --daemon`: the command returns when the instance serves, or fails with what went wrong."""

import os
from collections.abc import Iterable


class Daemon:
    """What the process that goes on owes the one that started it. Made by `fork`."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    @classmethod
    def fork(cls) -> "Daemon":
        """Return in a child without a terminal; the parent waits there and ends as the child says."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writing)
            if os.read(reading, 1):
                os._exit(0)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) or 1)
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
