"""Rings: what workers hand to a service of the agent without waiting for it, in memory that outlives them all.

    audit = pingora.Ring("audit")    # when the program is loaded; in a hook audit.put(b"…")

Each process that puts has a part of its own, whose records stay if it dies; its successor goes on with it. What finds
no room is dropped and counted.
"""

import asyncio
import contextlib
import mmap
import os
import re
from collections.abc import AsyncIterator, Mapping

from pingora.metrics import CounterChild
from pingora.observe.families import RING_DROPPED, RING_RECORDS
from pingora.supervisor.statistics import lives
from pingora_c.mem.shared_ring import DROPPED, PUT_FIRST, RING_DATA_AT, RING_SLOTS, RingSlots, SharedRing

RINGS_MOST = 64  # of an instance
SIZE_LEAST, SIZE_MOST = 4096, 64 * 1024 * 1024
NAME = re.compile(r"[a-zA-Z0-9_.-]{1,100}")
LOOK_S = 1.0  # that a reader waits at most for a word: a writer may have died before it gave it


class Memory:
    """The memory of a ring, and the eventfd by which a writer wakes the reader. Owns both descriptors."""

    def __init__(self, fd: int, wake: int) -> None:
        self.fd = fd
        self.wake = wake
        self.slots = RingSlots(mmap.mmap(fd, RING_DATA_AT))

    @classmethod
    def create(cls, name: str, size: int) -> "Memory":
        """Make a new one; only what is used takes memory."""
        fd = os.memfd_create(f"pingora-ring-{name}", os.MFD_CLOEXEC)
        os.ftruncate(fd, RING_DATA_AT + RING_SLOTS * size)
        RingSlots(mmap.mmap(fd, RING_DATA_AT), size)
        return cls(fd, os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))

    def ring(self, slot: int) -> SharedRing:
        """Map the part of a slot, and what is before it in its page: pages have up to 64 KiB."""
        size = self.slots.capacity
        page_at, before = divmod(RING_DATA_AT + slot * size, mmap.ALLOCATIONGRANULARITY)
        memory = mmap.mmap(self.fd, before + size, offset=page_at * mmap.ALLOCATIONGRANULARITY)
        return SharedRing(self.slots, slot, memoryview(memory)[before:])

    def own(self) -> SharedRing | None:
        """Give the part that this process puts into: its own, or that of one that has ended; None: all are in use."""
        pid = os.getpid()
        for slot in range(RING_SLOTS):
            owner = self.slots.owner(slot)
            if owner != pid and owner and lives(owner):
                continue
            if self.slots.try_own(slot, owner, pid):
                return self.ring(slot)
        return None

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self.fd)
        os.close(self.wake)


class Rings:
    """The rings of this process by their names, and their memory."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.memories: dict[str, Memory] = {}
        self.is_given = False  # by the supervisor: a ring that it does not know reaches nobody
        self.epoch = 0  # goes up when a part is no longer this process's
        os.register_at_fork(after_in_child=self._on_fork)

    def _on_fork(self) -> None:
        self.epoch += 1

    def declare(self, name: str, size: int) -> None:
        """Note a ring. Raises ValueError for one that will not do."""
        if not NAME.fullmatch(name):
            raise ValueError(f"ring {name!r}: expected a name of 1 to 100 letters, digits and any of _.-")
        if not SIZE_LEAST <= size <= SIZE_MOST or size & (size - 1):
            raise ValueError(f"ring {name!r}: size: expected a power of two, {SIZE_LEAST} to {SIZE_MOST}, got {size!r}")
        if self.sizes.get(name, size) != size:
            raise ValueError(f"ring {name!r}: there is one with {self.sizes[name]} bytes")
        if name not in self.sizes and len(self.sizes) >= RINGS_MOST:
            raise ValueError(f"ring {name!r}: there are {RINGS_MOST} already")
        self.sizes[name] = size

    def memory(self, name: str) -> Memory:
        """Give the memory of a ring, this process's own without a supervisor. Raises RuntimeError."""
        if name not in self.memories:
            if self.is_given:
                raise RuntimeError(f"ring {name!r} was made in a worker: make it when the program is loaded")
            self.memories[name] = Memory.create(name, self.sizes[name])
        return self.memories[name]

    @property
    def has_unknown(self) -> bool:
        """Whether there are rings that the supervisor does not know."""
        return self.is_given and not self.sizes.keys() <= self.memories.keys()

    def use(self, given: Mapping[str, Memory]) -> None:
        """Use this memory from now on."""
        for one in self.memories.values():
            one.close()
        self.memories = dict(given)
        self.is_given = True
        self.epoch += 1


rings = Rings()


class Ring:
    """Records that pass from hooks to a service with where = "agent".

    `size` is the memory for what one process has put and nobody has read yet: bytes, a power of two from 4 KiB to
    64 MiB; a record takes 8 bytes more than it has, up to whole 8. Make rings when the program is loaded; all of a name
    are the same. Raises ValueError for a name or size that will not do, or with 64 others.
    """

    def __init__(self, name: str, size: int = 1 << 20) -> None:
        rings.declare(name, size)
        self.name = name
        self._records = CounterChild(RING_RECORDS, (name,))
        self._dropped = CounterChild(RING_DROPPED, (name,))
        self._epoch = -1
        self._ours: SharedRing | None = None
        self._parts: dict[int, SharedRing] = {}  # that we read from
        self._given: list[tuple[SharedRing, int, int]] = []  # what was read last, from where to where
        self._next = 0  # slot that is looked at first

    def _renew(self) -> None:
        self._epoch = rings.epoch
        self._parts, self._given, self._ours = {}, [], None
        self._ours = rings.memory(self.name).own()

    def put(self, record: bytes) -> bool:
        """Hand a record over, without waiting. False: there was no room for it, it is dropped and counted.

        Raises RuntimeError in a worker for a ring that was made there.
        """
        if self._epoch != rings.epoch:
            self._renew()
        outcome = DROPPED if self._ours is None else self._ours.put(record)
        if outcome == DROPPED:
            self._dropped.inc()
            return False
        self._records.inc()
        if outcome == PUT_FIRST:
            with contextlib.suppress(BlockingIOError):  # it was woken often enough
                os.eventfd_write(rings.memories[self.name].wake, 1)
        return True

    async def read(self, most: int = 100) -> list[bytes]:
        """Wait for records of any process and give up to `most`, those of one process in their order.

        They are taken with the next call: if this process dies before, its successor gets them again. For one reader.
        """
        if self._epoch != rings.epoch:
            self._renew()
        for ring, before, behind in self._given:
            ring.take(before, behind)
        self._given = []
        memory = rings.memories[self.name]
        while not (records := self._peek(memory, most)):
            await woken(memory.wake)
        return records

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give one record after the other, for ever; each is taken when the next is asked for."""
        while True:
            for record in await self.read(1):
                yield record

    def _peek(self, memory: Memory, most: int) -> list[bytes]:
        records: list[bytes] = []
        n_slots = memory.slots.n_used
        for number in range(n_slots):
            slot = (self._next + number) % n_slots
            if not memory.slots.waiting(slot):
                continue
            if slot not in self._parts:
                self._parts[slot] = memory.ring(slot)
            ring = self._parts[slot]
            before = at = ring.taken
            while len(records) < most and (found := ring.peek(at)) is not None:
                record, at = found
                records.append(record)
            if at != before:
                self._given.append((ring, before, at))
            if len(records) >= most:
                self._next = slot + 1
                break
        return records


async def woken(wake: int) -> None:
    """Wait for a writer's word, not longer than LOOK_S."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(wake, event.set)
    try:
        await asyncio.wait_for(event.wait(), LOOK_S)
    except TimeoutError:
        return
    finally:
        loop.remove_reader(wake)
    with contextlib.suppress(BlockingIOError):  # another one has heard it
        os.eventfd_read(wake)
