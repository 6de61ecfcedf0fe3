"""Memory that all processes of an instance share: each worker's sign of life, and how many workers there are.

One writer per word, and words are written whole, so a process that dies in the middle blocks nobody.
"""

import mmap
import os
import signal
import time

WORKERS_MOST = 256
AGENT = WORKERS_MOST  # the number of the agent among the workers
MAGIC = 0x70696E676F726102  # "pingora" and the version of this layout
LINE = 8  # words of 8 bytes: each record has a cache line of its own
N_WORKERS = 1  # words of the header
IS_READY = 2
RECORDS = LINE  # first word of the records
PATIENCE = 1  # word of a record, behind its sign of life
# The signal that asks a silent worker where it is. Nobody else sends it, and who does not expect it is not hurt.
ASK = signal.SIGURG
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

    def beat(self, worker: int, patience_ms: int = 0) -> None:
        """Say that `worker` is alive, and after how much silence it wants to be asked where it is (0: never).

        Written by the worker.
        """
        self._words[RECORDS + worker * LINE + PATIENCE] = patience_ms
        self._words[RECORDS + worker * LINE] = now_ms()

    def clear(self, worker: int) -> None:
        """Say that `worker` is dead: it has no more sign of life. Written by the supervisor, after its end."""
        self._words[RECORDS + worker * LINE] = 0

    def patience_ms(self, worker: int) -> int:
        """Give the silence after which `worker` is asked where it is; 0: never."""
        return self._words[RECORDS + worker * LINE + PATIENCE]

    def last_beat(self, worker: int) -> int:
        """Give the time of the last sign of life in ms; 0 while there is none."""
        return self._words[RECORDS + worker * LINE]
