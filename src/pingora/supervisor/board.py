"""Memory that all processes of an instance share: each worker's sign of life, and how many workers there are.

One writer per word, and words are written whole, so a process that dies in the middle blocks nobody.
"""

import mmap
import os
import time

WORKERS_MOST = 256
AGENT = WORKERS_MOST  # the number of the agent among the workers
MAGIC = 0x70696E676F726101  # "pingora" and the version of this layout
LINE = 8  # words of 8 bytes: each record has a cache line of its own
N_WORKERS = 1  # words of the header
IS_READY = 2
RECORDS = LINE  # first word of the records
SIZE = (RECORDS + (WORKERS_MOST + 1) * LINE) * 8


def now_ms() -> int:
    """Give the time that signs of life are in."""
    return time.monotonic_ns() // 1_000_000


class Board:
    """The memory behind a descriptor. Owns the descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._words = memoryview(mmap.mmap(fd, SIZE)).cast("Q")
        if self._words[0] != MAGIC:
            raise ValueError("this is no board of this version")

    @classmethod
    def create(cls) -> "Board":
        """Make a new one, without any worker."""
        fd = os.memfd_create("pingora-board", os.MFD_CLOEXEC)
        os.ftruncate(fd, SIZE)
        os.pwrite(fd, MAGIC.to_bytes(8, "little"), 0)
        return cls(fd)

    @property
    def n_workers(self) -> int:
        """How many workers share the slots. Written by the supervisor."""
        return self._words[N_WORKERS]

    @n_workers.setter
    def n_workers(self, number: int) -> None:
        self._words[N_WORKERS] = number

    @property
    def is_ready(self) -> bool:
        """Whether new clients are welcome: False while starting and while ending. Written by the supervisor."""
        return bool(self._words[IS_READY])

    @is_ready.setter
    def is_ready(self, value: bool) -> None:
        self._words[IS_READY] = value

    def beat(self, worker: int) -> None:
        """Say that `worker` is alive. Written by the worker."""
        self._words[RECORDS + worker * LINE] = time.monotonic_ns() // 1_000_000

    def clear(self, worker: int) -> None:
        """Say that `worker` is dead: it has no more sign of life. Written by the supervisor, after its end."""
        self._words[RECORDS + worker * LINE] = 0

    def last_beat(self, worker: int) -> int:
        """Give the time of the last sign of life in ms; 0 while there is none."""
        return self._words[RECORDS + worker * LINE]
