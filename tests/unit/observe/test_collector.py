"""When the garbage collector runs in a worker."""

import asyncio
import gc
import itertools
import logging
import weakref

import pytest

from pingora.observe.collector import BOUNDS_S, LONG_PAUSE_S, YOUNG, Collector, Pauses

NEVER_S = 3600.0
NEVER_BYTES = 1 << 60


class Node:
    """An object that can be part of a cycle."""


class Miss(Exception):
    """An exception that can be watched."""


def caught_exception():
    """Return an exception that keeps the frame that keeps it."""
    try:
        raise Miss
    except Miss as error:
        kept = error
    return kept


def cycle(make=Node):
    """Make garbage that only the collector frees; return an event that is set when it has."""
    freed = asyncio.Event()
    node = make()
    node.itself = node
    weakref.finalize(node, freed.set)
    return freed


def run_with(collector, body):
    """Run `body` on a loop with the collector at work."""

    async def main():
        collector.start(asyncio.get_running_loop())
        try:
            await asyncio.wait_for(body(), 30)
        finally:
            collector.stop()
            collector.stop()

    asyncio.run(main())


def requests_until_quiet(count):
    """An activity of `count` looks with a new request each, then silence."""
    looks = iter(range(count))
    return lambda: (next(looks, count), 0)


@pytest.fixture
def busy():
    """An activity that never rests."""
    counter = itertools.count()
    return lambda: (next(counter), 1)


@pytest.mark.parametrize("make", [Node, caught_exception], ids=["objects", "caught exceptions"])
def test_garbage_goes_when_the_worker_is_idle(make):
    async def body():
        await cycle(make).wait()

    collector = Collector(requests_until_quiet(5), growth_bytes=NEVER_BYTES, latest_s=NEVER_S, look_s=0.001)
    run_with(collector, body)
    assert collector.pauses[2].count >= 1


def test_garbage_of_a_busy_worker_goes_after_the_latest_time(busy):
    async def body():
        await cycle().wait()

    run_with(Collector(busy, growth_bytes=NEVER_BYTES, latest_s=0.01, look_s=0.001), body)


def test_garbage_of_a_busy_worker_goes_after_growth_at_the_latest(busy):
    async def body():
        freed = cycle()
        gc.collect(1)  # now it is too old for the young runs
        kept = []
        while not freed.is_set():
            kept.append([])  # growth; whether 1 MiB or the first young run of generation 1 comes first is all the same
            if len(kept) % 1000 == 0:
                await asyncio.sleep(0)

    run_with(Collector(busy, growth_bytes=1 << 20, latest_s=NEVER_S, look_s=NEVER_S), body)


def test_worker_that_does_nothing_runs_nothing():
    looks = itertools.count()
    looked_often = asyncio.Event()

    def activity():
        if next(looks) == 50:
            looked_often.set()
        return 0, 0

    async def body():
        await looked_often.wait()

    collector = Collector(activity, look_s=0.001)
    run_with(collector, body)
    assert collector.pauses[2].count == 0


def test_what_was_there_at_the_start_is_frozen_and_all_is_given_back_at_the_end(busy):
    thresholds = gc.get_threshold()
    callbacks = list(gc.callbacks)

    async def body():
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[:2] == YOUNG

    run_with(Collector(busy), body)
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == thresholds
    assert gc.callbacks == callbacks


def test_a_program_that_switched_the_collector_off_keeps_it_off(busy):
    async def body():
        assert gc.get_freeze_count() == 0

    gc.disable()
    try:
        run_with(Collector(busy), body)
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (BOUNDS_S[0], 0), (BOUNDS_S[0] * 1.01, 1), (BOUNDS_S[-1], len(BOUNDS_S) - 1), (9.0, len(BOUNDS_S))],
)
def test_pauses_are_counted_in_their_bucket(seconds, bucket):
    pauses = Pauses()
    pauses.add(seconds)
    pauses.add(0.0)
    assert pauses.count == sum(pauses.buckets) == 2
    assert pauses.buckets[bucket] >= 1
    assert pauses.longest_s == pauses.total_s == seconds


def test_pauses_are_a_histogram_among_the_counters(busy):
    collector = Collector(busy)
    for seconds in (0.0, 0.002, 0.3, 9.0):
        collector.pauses[2].add(seconds)
    counted = collector.counters()
    bounds = (*map(str, BOUNDS_S), "+Inf")
    buckets = [counted[f'pingora_collector_pause_seconds_bucket{{generation="2",le="{bound}"}}'] for bound in bounds]
    assert buckets == [1, 1, 2, 2, 2, 2, 3, 4]
    assert counted['pingora_collector_pause_seconds_count{generation="2"}'] == 4
    assert counted['pingora_collector_pause_seconds_sum{generation="2"}'] == pytest.approx(9.302)
    assert counted['pingora_collector_pause_seconds_count{generation="0"}'] == 0


def test_a_long_pause_is_logged_but_not_each_one(busy, caplog):
    collector = Collector(busy, look_s=NEVER_S)

    async def body():
        for collected in (7, 8):
            collector._on_run("start", {})
            collector._began_at -= LONG_PAUSE_S
            collector._on_run("stop", {"generation": 2, "collected": collected})
        await asyncio.sleep(0)

    with caplog.at_level(logging.WARNING, "pingora.collector"):
        run_with(collector, body)
    assert "(generation 2, 7 objects freed)" in caplog.text
    assert "8 objects freed" not in caplog.text
