"""Rings in shared memory: one process puts, others take, and none waits for another."""

import mmap
import os
import random
import signal
import struct

import pytest

from pingora_c.mem.shared_ring import DROPPED, PUT_BEHIND, PUT_FIRST, RING_DATA_AT, RingSlots, SharedRing

SIZE = 4096
PUT, TAKEN = 8, 16  # words of the ends: see shared_ring.pxd
ENDS = 512 * 8


class Rings:
    """Memory with rings of SIZE bytes, shared with forks."""

    def __init__(self):
        self.memory = mmap.mmap(-1, RING_DATA_AT)
        self.data = mmap.mmap(-1, SIZE)
        self.slots = RingSlots(self.memory, SIZE)
        self.slots.try_own(0, 0, os.getpid())
        self.ring = SharedRing(self.slots, 0, self.data)

    def set(self, word, value):
        struct.pack_into("Q", self.memory, ENDS + 8 * word, value)

    def drain(self):
        found = []
        while (one := self.ring.peek()) is not None:
            record, behind = one
            assert self.ring.take(self.ring.taken, behind)
            found.append(record)
        return found


@pytest.fixture
def rings():
    return Rings()


def test_records_of_all_sizes_come_out_as_they_went_in_across_the_end(rings):
    sizes = random.Random(1)
    for _ in range(500):
        records = [os.urandom(sizes.randrange(300)) for _ in range(sizes.randrange(1, 8))]
        assert [rings.ring.put(one) for one in records] == [PUT_FIRST] + [PUT_BEHIND] * (len(records) - 1)
        assert rings.drain() == records


def test_what_finds_no_room_is_dropped_and_the_rest_stays(rings):
    put = 0
    while rings.ring.put(b"%08d" % put) != DROPPED:
        put += 1
    assert put == SIZE // 16
    assert rings.slots.waiting(0) == SIZE
    _, behind = rings.ring.peek()
    rings.ring.take(0, behind)
    assert rings.ring.put(b"12345678") == PUT_BEHIND
    assert rings.ring.put(b"") == DROPPED
    assert rings.drain() == [b"%08d" % number for number in range(1, put)] + [b"12345678"]


@pytest.mark.parametrize(("size", "fits"), [(SIZE - 8, True), (SIZE - 7, False)])
def test_the_longest_record_fills_the_ring(rings, size, fits):
    assert (rings.ring.put(bytes(size)) != DROPPED) == fits
    assert [len(one) for one in rings.drain()] == [size] * fits


def test_several_records_are_seen_before_they_are_taken(rings):
    for number in range(3):
        rings.ring.put(b"%d" % number)
    at, seen = None, []
    while (found := rings.ring.peek(at)) is not None:
        record, at = found
        seen.append(record)
    assert seen == [b"0", b"1", b"2"]
    assert rings.ring.take(0, at)
    assert not rings.ring.take(0, at), "once"
    assert rings.ring.peek() is None
    assert rings.ring.peek(0) is None, "somebody else has taken it"


@pytest.mark.parametrize(
    ("put", "size"),
    [
        pytest.param(16, 9, id="a record behind the end"),
        pytest.param(16, 2**64 - 1, id="an endless record"),
        pytest.param(4, 0, id="half a size"),
        pytest.param(SIZE + 8, 0, id="more than the ring has"),
        pytest.param(2**64 - 8, 0, id="less than was taken"),
    ],
)
def test_memory_that_says_what_cannot_be_is_skipped(rings, put, size):
    struct.pack_into("Q", rings.data, 0, size)
    rings.set(PUT, put)
    assert rings.ring.peek() is None
    assert rings.ring.taken == put
    assert rings.ring.put(b"again") == PUT_FIRST
    assert rings.drain() == [b"again"]


def test_a_slot_has_one_owner_until_another_takes_it_over(rings):
    me = os.getpid()
    assert rings.slots.owner(0) == me
    assert not rings.slots.try_own(0, 0, 5)
    assert rings.slots.try_own(0, me, 5)
    assert rings.slots.n_used == 1
    assert rings.slots.try_own(7, 0, 6)
    assert rings.slots.n_used == 8


@pytest.mark.parametrize("capacity", [0, 100, 63])
def test_memory_without_rings_is_refused(capacity):
    with pytest.raises(ValueError, match="memory"):
        RingSlots(mmap.mmap(-1, RING_DATA_AT), capacity)
    with pytest.raises(ValueError, match="memory"):
        RingSlots(mmap.mmap(-1, 4096), SIZE)


def test_slots_and_data_are_checked(rings):
    with pytest.raises(IndexError, match="slot 1024"):
        SharedRing(rings.slots, 1024, rings.data)
    with pytest.raises(ValueError, match="data"):
        SharedRing(rings.slots, 0, mmap.mmap(-1, 2048))


def test_a_writer_in_another_process_is_read_in_order_at_full_speed(rings):
    records = 20_000
    pid = os.fork()
    if pid == 0:
        try:
            for number in range(records):
                while rings.ring.put(b"%d" % number * (number % 7 + 1)) == DROPPED:
                    os.sched_yield()
        finally:
            os._exit(0)
    for number in range(records):
        while (found := rings.ring.peek()) is None:
            os.sched_yield()
        record, behind = found
        assert record == b"%d" % number * (number % 7 + 1)
        rings.ring.take(rings.ring.taken, behind)
    os.waitpid(pid, 0)


def test_writers_that_are_killed_leave_whole_records_and_their_successor_goes_on(rings):
    last = {}
    for life in range(20):
        pid = os.fork()
        if pid == 0:
            number = 0
            while True:
                number += rings.ring.put(b"%d %d %s" % (life, number, b"x" * (number % 50))) != DROPPED
        while not rings.slots.waiting(0):
            os.sched_yield()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for record in rings.drain():
            of_life, number, text = record.split(b" ")
            assert len(text) == int(number) % 50
            assert int(number) == last.get(of_life, -1) + 1
            last[of_life] = int(number)
    assert len(last) == 20
