"""The buffer pool: classes, limit, reuse, trimming."""

import gc
import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pingora_c.mem import buffer_pool
from pingora_c.mem.buffer_pool import Lent


@pytest.mark.parametrize(
    ("size", "capacity"),
    [(0, 4096), (1, 4096), (4096, 4096), (4097, 16384), (16384, 16384), (16385, 65536), (65536, 65536)],
)
def test_smallest_class_that_holds_the_size_is_lent(size, capacity):
    assert Lent(size).capacity == capacity


def test_more_than_the_largest_class_is_refused_and_counted():
    before = buffer_pool.stats()["refused"]
    with pytest.raises(MemoryError):
        Lent(65537)
    assert buffer_pool.stats()["refused"] == before + 1


def test_buffer_given_last_is_lent_first():
    buffer = Lent(100)
    address = buffer.address
    buffer.give()
    assert Lent(100).address == address


# -- limit and trimming. What others hold in this process counts too, so each is looked at as a change.

CLASSES = 4096, 16384, 65536
SLAB = 1 << 20


@pytest.fixture(autouse=True)
def settled():
    """What tests before have left to the collector gives its buffers back now, and not in the middle."""
    gc.collect()


@pytest.fixture
def limit():
    """A function that sets a limit so many bytes above what is held; the one before returns at the end."""
    before = buffer_pool.stats()["limit_bytes"]
    yield lambda more: buffer_pool.set_limit(held() + more)
    buffer_pool.set_limit(before)


def held():
    now = buffer_pool.stats()
    return now["lent_bytes"] + now["reserved_bytes"]


def test_what_would_pass_the_limit_is_refused_and_counted(limit):
    limit(3 * 4096 + 100)
    lent = [Lent(1) for _ in range(3)]
    before = buffer_pool.stats()
    for size in (1, 4096, 16384, 65536):
        with pytest.raises(MemoryError):
            Lent(size)
    now = buffer_pool.stats()
    assert now["refused"] == before["refused"] + 4
    assert (now["lent"], now["lent_bytes"]) == (before["lent"], before["lent_bytes"])
    lent.pop().give()
    lent.append(Lent(1))


def test_the_most_that_was_lent_at_once_begins_anew_when_it_was_told():
    buffer_pool.most_lent()
    before = buffer_pool.stats()["lent_bytes"]
    lent = [Lent(65536) for _ in range(3)]
    for each in lent:
        each.give()
    assert buffer_pool.most_lent() == before + 3 * 65536
    assert buffer_pool.most_lent() == before


def test_a_limit_below_what_is_lent_leaves_that_lent(limit):
    lent = [Lent(65536) for _ in range(4)]
    limit(-65536)
    for each in lent:
        each.fill(7)
        assert each.content() == b"\7" * 65536
    with pytest.raises(MemoryError):
        Lent(1)
    lent.pop().give()
    with pytest.raises(MemoryError):
        Lent(1)
    lent.pop().give()
    Lent(1)


def test_a_limit_cannot_be_negative():
    with pytest.raises(ValueError, match="expected 0 or more"):
        buffer_pool.set_limit(-1)


@pytest.mark.parametrize("size", CLASSES)
def test_slabs_of_which_nothing_is_lent_go_back_to_the_system(size):
    buffer_pool.trim()
    before = buffer_pool.stats()
    lent = [Lent(size) for _ in range(3 * SLAB // size)]
    grown = buffer_pool.stats()["slab_bytes"] - before["slab_bytes"]
    assert grown >= 3 * SLAB
    kept = lent.pop(len(lent) // 2)
    kept.fill(7)
    for each in lent:
        each.give()
    given = buffer_pool.trim()
    assert given >= grown - SLAB, "but for the slab of what is lent, if that is a new one"
    assert kept.content() == b"\7" * kept.capacity
    kept.give()
    given += buffer_pool.trim()
    assert given >= grown
    now = buffer_pool.stats()
    assert now["slab_bytes"] <= before["slab_bytes"]
    assert (now["lent"], now["lent_bytes"]) == (before["lent"], before["lent_bytes"])
    assert buffer_pool.trim() == 0


def test_a_class_that_needs_a_slab_at_the_limit_gets_the_unused_ones_of_others(limit):
    buffer_pool.trim()
    limit(2 * SLAB)
    small = [Lent(4096) for _ in range(2 * SLAB // 4096)]
    for each in small:
        each.give()
    slabs = buffer_pool.stats()["slab_bytes"]
    large = [Lent(65536) for _ in range(2 * SLAB // 65536)]
    assert buffer_pool.stats()["slab_bytes"] <= max(slabs, held()) + SLAB
    assert len({each.address for each in large}) == len(large)


class BesideDict(RuleBasedStateMachine):
    """What is lent beside a dict of it: no two buffers overlap, each keeps its bytes, and the counts are right."""

    def __init__(self):
        super().__init__()
        self.lent, self.number = {}, 0
        self.before = buffer_pool.stats()

    @rule(size=st.sampled_from([1, 4096, 4097, 16384, 16385, 65536]), count=st.integers(1, 40))
    def lend(self, size, count):
        for _ in range(count):
            self.number += 1
            buffer = Lent(size)
            buffer.fill(self.number % 251)
            assert buffer.address not in self.lent
            self.lent[buffer.address] = buffer, self.number % 251

    @rule(which=st.integers(0, 1000), count=st.integers(1, 60))
    def give(self, which, count):
        for _ in range(min(count, len(self.lent))):
            buffer, octet = self.lent.pop(list(self.lent)[which % len(self.lent)])
            assert buffer.content() == bytes([octet]) * buffer.capacity
            buffer.give()
            buffer.give()  # a second one is none

    @rule()
    def trim(self):
        before = buffer_pool.stats()["slab_bytes"]
        given = buffer_pool.trim()
        assert given % SLAB == 0
        assert buffer_pool.stats()["slab_bytes"] == before - given

    @invariant()
    def counts_are_right(self):
        now = buffer_pool.stats()
        capacities = [buffer.capacity for buffer, _ in self.lent.values()]
        assert now["lent_bytes"] - self.before["lent_bytes"] == sum(capacities)
        for size in CLASSES:
            assert now["lent"][size] - self.before["lent"][size] == capacities.count(size)
        spaced = sum((size + 64) * (now["lent"][size] + now["free"][size]) for size in CLASSES)
        assert spaced <= now["slab_bytes"]
        ends = sorted((at, at + buffer.capacity) for at, (buffer, _) in self.lent.items())
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ends))

    def teardown(self):
        for buffer, octet in self.lent.values():
            assert buffer.content() == bytes([octet]) * buffer.capacity
            buffer.give()


def test_buffers_are_lent_to_one_at_a_time_and_keep_their_bytes():
    run_state_machine_as_test(BesideDict, settings=settings(max_examples=40, stateful_step_count=30))
