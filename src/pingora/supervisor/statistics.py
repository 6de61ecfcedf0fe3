"""Memory in which all processes of an instance count, whose numbers survive them.

A page of the supervisor's, a description of what the blocks hold, then blocks: one for each process that serves, whose
numbers its successor goes on with. So sums over all blocks never fall, and nothing is folded while somebody reads.
After an upgrade the memory of the version before is read beside the new one: its last workers still count there.

Light: the supervisor imports it. `totals` has what the others do with it.
"""

import json
import mmap
import os
import struct
import time
from collections.abc import Iterable, Mapping
from typing import Any

from pingora_c.stats.reading import BLOCK_BYTES, COUNTERS_AT, end_gauges

MAGIC = 0x70696E676F726102  # "pingora" and the version of this layout
SCHEMA_AT = 4096
SCHEMA_BYTES = 61440
BLOCKS_AT = SCHEMA_AT + SCHEMA_BYTES
BLOCKS_MOST = 4096
# Words of the supervisor's page.
N_BLOCKS = 1
IDENTITY = 2
HAS_ENDED = 3
PID = 4
STARTED_MS = 5
GENERATION = 6
RELOADS = 7
REFUSED_RELOADS = 8
WORKERS_DIED = 9
AGENTS_DIED = 10
SCHEMA_SIZE = 11
GENERATION_PID = 12
N_ABSORBED = 15
ABSORBED = 16  # identities of memories whose numbers block 0 has
ABSORBED_MOST = 400
# Words of a block's header: see pingora_c/stats/counters.pxd.
BLOCK_PID, BLOCK_PLACE, BLOCK_GENERATION, BLOCK_BORN = 3, 4, 5, 6
PAST = 0  # the block that no process has: what ended instances have counted


class Statistics:
    """The memory behind a descriptor. Owns the descriptor. Blocks are given out by the supervisor only."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._page = memoryview(mmap.mmap(fd, BLOCKS_AT)).cast("Q")
        if self._page[0] != MAGIC:
            raise ValueError("these are no statistics of this version")
        self._free: list[int] = []
        self._schema: dict[str, Any] = {}

    @classmethod
    def create(cls) -> "Statistics":
        """Make a new one."""
        fd = os.memfd_create("pingora-statistics", os.MFD_CLOEXEC)
        os.ftruncate(fd, BLOCKS_AT + BLOCK_BYTES)
        os.pwrite(fd, struct.pack("Q", MAGIC), 0)
        made = cls(fd)
        made._page[IDENTITY] = int.from_bytes(os.urandom(8), "little") | 1
        made._page[PID] = os.getpid()
        made._page[STARTED_MS] = time.time_ns() // 1_000_000
        made._page[N_BLOCKS] = 1
        return made

    def close(self) -> None:
        """Let go of the memory, which stays with whoever else has it."""
        self._page.release()
        os.close(self.fd)

    def word(self, name: int) -> int:
        """Give a word of the supervisor's page."""
        return self._page[name]

    def set_word(self, name: int, value: int) -> None:
        """Set a word of the page. For the supervisor."""
        self._page[name] = value

    def count(self, name: int) -> None:
        """Add 1 to a word of the page. For the supervisor."""
        self._page[name] += 1

    @property
    def schema(self) -> Mapping[str, Any]:
        """What its blocks hold; empty until the first generation has written it, and then nothing was counted."""
        if not self._schema and (size := self._page[SCHEMA_SIZE]):
            self._schema = json.loads(os.pread(self.fd, size, SCHEMA_AT))
        return self._schema

    def set_schema(self, schema: Mapping[str, Any]) -> None:
        """Say what its blocks hold. For a generation, before it forks."""
        text = json.dumps(schema).encode()
        assert len(text) <= SCHEMA_BYTES
        os.pwrite(self.fd, text, SCHEMA_AT)
        self._page[SCHEMA_SIZE] = len(text)

    def allot(self, place: int, generation: int) -> int:
        """Give a block to a process that is to be started."""
        if self._free:
            number = self._free.pop()
        else:
            number = self._page[N_BLOCKS]
            if number >= BLOCKS_MOST:
                raise ValueError(f"more than {BLOCKS_MOST} processes at a time")
            os.ftruncate(self.fd, BLOCKS_AT + (number + 1) * BLOCK_BYTES)
            self._page[N_BLOCKS] = number + 1
        header = memoryview(self.block(number)).cast("Q")
        header[BLOCK_PLACE], header[BLOCK_GENERATION] = place, generation
        header[BLOCK_BORN] = int(time.time())
        return number

    def release(self, number: int) -> None:
        """Take back the block of a process that has ended."""
        end_gauges(self.block(number))
        self._free.append(number)

    def block(self, number: int) -> mmap.mmap:
        """Map the memory of a block, for as long as the caller keeps it: a mapping holds a descriptor."""
        return mmap.mmap(self.fd, BLOCK_BYTES, offset=BLOCKS_AT + number * BLOCK_BYTES)

    def blocks(self) -> Iterable[mmap.mmap]:
        """Give all blocks."""
        return (self.block(number) for number in range(self._page[N_BLOCKS]))

    def processes(self) -> Iterable[tuple[int, int, int]]:
        """Give process id, place and generation of all that count here."""
        for block in self.blocks():
            pid, place, generation = struct.unpack_from("3Q", block, 8 * BLOCK_PID)
            if pid and lives(pid):
                yield pid, place, generation

    def counters_of(self, number: int) -> dict[str, int]:
        """Give the counters of a block that are not zero, by the name that docs/counters.md has."""
        counted: dict[str, int] = {}
        names = self.schema.get("counters", ())
        values = struct.unpack_from(f"{len(names)}Q", self.block(number), 8 * COUNTERS_AT)
        for name, value in zip(names, values, strict=True):
            if name and value:
                counted[name] = counted.get(name, 0) + value
        return counted

    def counters(self) -> dict[str, int]:
        """Give the sums of all counters."""
        total: dict[str, int] = {}
        for number in range(self._page[N_BLOCKS]):
            for name, value in self.counters_of(number).items():
                total[name] = total.get(name, 0) + value
        return total

    # After an upgrade

    @property
    def identity(self) -> int:
        """A number that no other one has."""
        return self._page[IDENTITY]

    @property
    def absorbed(self) -> set[int]:
        """The identities of those whose numbers are in this one as well."""
        return set(self._page[ABSORBED : ABSORBED + self._page[N_ABSORBED]])

    def note_absorbed(self, identities: Iterable[int]) -> bool:
        """Say that this one has the numbers of others from now on; False if that is too many."""
        known = self._page[N_ABSORBED]
        more = list(identities)
        if known + len(more) > ABSORBED_MOST:
            return False
        for at, identity in enumerate(more, ABSORBED + known):
            self._page[at] = identity
        self._page[N_ABSORBED] = known + len(more)
        return True


def lives(pid: int) -> bool:
    """Say whether there is such a process; if its supervisor has died, nobody takes its number out of its block."""
    return os.path.exists(f"/proc/{pid}")


def open_all(fds: Iterable[int]) -> list[Statistics]:
    """Open memories that came by their descriptors; those of another layout are closed and left out."""
    opened = []
    for fd in fds:
        try:
            opened.append(Statistics(fd))
        except (ValueError, OSError):
            os.close(fd)
    return opened


def drop_absorbed(statistics: list[Statistics]) -> None:
    """Close those whose numbers are in others of them, and take them out."""
    absorbed = set[int]().union(*(one.absorbed for one in statistics))
    for one in [one for one in statistics[1:] if one.identity in absorbed]:
        statistics.remove(one)
        one.close()
