"""The queue of bytes beside a bytearray: order, what it holds of the pool, what it keeps alive."""

import gc
import sys

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pingora_c.mem import buffer_pool
from pingora_c.mem.probe import QueueProbe

SIZES = st.one_of(st.integers(0, 50), st.sampled_from([4000, 4064, 4096, 5000, 16384, 65536, 65537, 200_000]))


def lent():
    return buffer_pool.stats()["lent_bytes"]


def content(number, size):
    return (b"%d|" % number * (size // 2 + 1))[:size]


class BesideBytes(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        gc.collect()
        self.before, self.number = lent(), 0
        self.queue, self.bytes = QueueProbe(), bytearray()

    def next_content(self, size):
        self.number += 1
        return content(self.number, size)

    @rule(size=SIZES)
    def push(self, size):
        data = self.next_content(size)
        self.queue.push(data)
        self.bytes += data

    @rule(size=SIZES, more=st.integers(0, 10))
    def push_kept(self, size, more):
        body = self.next_content(size + more)
        self.queue.push_kept(body, size)
        self.bytes += body[:size]

    @rule(size=SIZES)
    def drop(self, size):
        size = min(size, len(self.bytes))
        self.queue.drop(size)
        del self.bytes[:size]

    @rule(part=st.integers(1, 4))
    def drop_from_the_front(self, part):
        """As a socket takes it: all or a part of the first stretch."""
        size = len(self.queue.front()) // part
        self.queue.drop(size)
        del self.bytes[:size]

    @rule()
    def free(self):
        self.queue.free()
        self.bytes.clear()

    @invariant()
    def holds_the_bytes(self):
        front, segments = self.queue.front(), self.queue.segments()
        assert self.queue.size == len(self.bytes) == sum(size for size, _ in segments)
        assert self.queue.held == lent() - self.before == sum(capacity for _, capacity in segments)
        assert self.bytes.startswith(front)
        assert bool(front) == bool(self.bytes)
        assert all(size for size, _ in segments)

    def teardown(self):
        got = bytearray()
        while front := self.queue.front():
            got += front
            self.queue.drop(len(front))
        assert got == self.bytes
        assert lent() == self.before


def test_a_queue_gives_what_a_bytearray_would():
    run_state_machine_as_test(BesideBytes, settings=settings(max_examples=40, stateful_step_count=30))


def test_an_object_is_kept_until_its_last_byte_is_dropped():
    queue, body = QueueProbe(), bytes(100_000)
    before = sys.getrefcount(body)
    queue.push_kept(body, 60_000)
    assert queue.held == 0
    assert sys.getrefcount(body) == before + 1
    queue.drop(59_999)
    assert sys.getrefcount(body) == before + 1
    queue.drop(1)
    assert sys.getrefcount(body) == before


@pytest.mark.parametrize("is_freed", [True, False])
def test_a_queue_that_ends_gives_all_back(is_freed):
    gc.collect()
    before, body = lent(), bytes(5000)
    n_references = sys.getrefcount(body)
    queue = QueueProbe()
    queue.push(bytes(300_000))
    queue.push_kept(body, 5000)
    if is_freed:
        queue.free()
        queue.free()
    else:
        del queue
    assert (lent(), sys.getrefcount(body)) == (before, n_references)


def test_crumbs_hold_no_more_of_the_pool_than_a_few_times_their_size():
    queue = QueueProbe()
    for _ in range(20_000):
        queue.push(b"x" * 10)
    assert queue.held <= 1.5 * queue.size
    assert len(queue.segments()) < 20


def test_a_pool_at_its_limit_refuses_and_a_queue_that_is_freed_leaves_nothing():
    gc.collect()
    before = lent()
    limit_bytes = buffer_pool.stats()["limit_bytes"]
    queue = QueueProbe()
    buffer_pool.set_limit(before + buffer_pool.stats()["reserved_bytes"] + 100_000)
    try:
        with pytest.raises(MemoryError):
            queue.push(bytes(300_000))
        queue.free()
        assert lent() == before
        queue.push(b"there is room again")
        assert queue.front() == b"there is room again"
    finally:
        buffer_pool.set_limit(limit_bytes)
