"""Counters work over memory of their own or memory that is given, and add records for what only a program knows."""

import mmap
import os
import struct

import pytest

from pingora_c.proxy.counter_names import COUNTER_NAMES
from pingora_c.stats.counters import BLOCK_BYTES, LAYOUT_NOW, MOST, Counters
from pingora_c.stats.reading import COUNTERS_AT, KINDS, N_COUNTERS, end_gauges, records_of

COUNTER = KINDS["user_counter"]
GAUGE = KINDS["user_gauge"]
GAUGES = {
    "pingora_connections_open",
    "pingora_requests_active",
    "pingora_tcp_sessions_active",
    "pingora_upstream_h2_connections_open",
    "pingora_buffers_bytes",
    "pingora_upstream_connections_idle",
}


def words_of(block):
    return struct.unpack_from(f"{BLOCK_BYTES // 8}Q", block)


def put(block, word, value):
    block[8 * word : 8 * word + 8] = value.to_bytes(8, "little")


@pytest.fixture
def block():
    with mmap.mmap(-1, BLOCK_BYTES) as made:
        yield made


def test_there_is_a_number_for_every_name_and_all_begin_at_zero():
    assert len(COUNTER_NAMES) == N_COUNTERS
    assert Counters().values() == [0] * len(COUNTER_NAMES)


def test_a_given_block_is_written_in_place_and_continued(block):
    counters = Counters(block)
    counters.count_blocked_loop()
    at = COUNTER_NAMES.index("pingora_loop_blocked_total")
    assert words_of(block)[COUNTERS_AT + at] == 1
    again = Counters(block)
    again.count_blocked_loop()
    assert counters.value(at) == 2
    assert sum(counters.values()) == 2
    assert counters.serial != again.serial
    del counters, again  # a block that is in use cannot be closed


@pytest.mark.parametrize(
    "block",
    [bytearray(BLOCK_BYTES - 1), memoryview(bytearray(BLOCK_BYTES + 8))[1:], bytearray()],
    ids=["too small", "not aligned", "empty"],
)
def test_a_block_that_does_not_fit_is_refused(block):
    with pytest.raises(ValueError, match=rf"block: expected {BLOCK_BYTES} aligned bytes, got "):
        Counters(block)


def test_a_block_of_another_version_is_refused(block):
    put(block, 0, LAYOUT_NOW + 1)
    with pytest.raises(ValueError, match="block: another version has written it"):
        Counters(block)


def test_memory_that_may_not_be_written_is_refused():
    with pytest.raises(BufferError):
        Counters(bytes(BLOCK_BYTES))


@pytest.mark.parametrize("counter", [-1, N_COUNTERS])
def test_a_counter_that_there_is_not_is_refused(counter):
    with pytest.raises(IndexError, match="is outside"):
        Counters().value(counter)


def test_names_are_those_of_prometheus_and_every_family_has_its_own():
    names = [name for name in COUNTER_NAMES if name]
    assert {name for name in names if not name.partition("{")[0].endswith("_total")} == GAUGES
    assert [name for name in names if names.count(name) > 1] == []


def test_records_are_found_again_by_kind_and_key_also_by_who_comes_next(block):
    counters = Counters(block)
    first = counters.record_at(COUNTER, b"first", 1)
    second = counters.record_at(COUNTER, b"", 3)
    other = counters.record_at(GAUGE, b"first", 1)
    assert len({first, second, other}) == 3
    counters.add_double(first, 1.5)
    counters.add_double(first, 2)
    found = [(COUNTER, b"first", first, 1), (COUNTER, b"", second, 3), (GAUGE, b"first", other, 1)]
    assert records_of(block) == found
    again = Counters(block)
    assert again.record_at(COUNTER, b"first", 1) == first
    again.add_double(first, 1)
    assert struct.unpack_from("d", block, 8 * first) == (4.5,)
    assert records_of(block) == found
    del counters, again


def test_beyond_the_most_of_a_kind_all_share_one_record():
    counters = Counters()
    kind = KINDS["service"]
    places = [counters.record_at(kind, b"%d" % i, 8) for i in range(MOST[kind] + 3)]
    assert len(set(places)) == MOST[kind] + 1
    assert counters.record_at(kind, b"_rest", 8) == places[-1] == places[-2]


def test_a_record_that_finds_no_room_is_counted_and_still_has_cells(block):
    counters = Counters(block)
    places = [counters.record_at(COUNTER, b"%d" % i, 2048) for i in range(1000)]
    assert len(set(places)) < 1000
    assert places[-1] == places[-2]
    dropped = words_of(block)[2]
    assert dropped == 1000 - len(records_of(block)) > 0
    counters.add_double(places[-1], 1)
    assert len(records_of(block)) == 1000 - dropped
    del counters


@pytest.mark.parametrize(("key", "n_cells"), [(b"x" * 4097, 1), (b"x", 2049)])
def test_a_record_that_is_too_large_is_refused(key, n_cells):
    with pytest.raises(ValueError, match="at most 2048 and 4096"):
        Counters().record_at(COUNTER, key, n_cells)


@pytest.mark.parametrize("word", [0, COUNTERS_AT, BLOCK_BYTES // 8])
def test_a_cell_outside_the_records_is_not_written(word):
    with pytest.raises(IndexError, match="is outside the records"):
        Counters().add_double(word, 1)


@pytest.mark.parametrize(
    ("word", "value"),
    [(0, 0), (0, 99 << 32 | 1), (0, COUNTER << 32 | 5000), (1, 5000), (1, 2000)],
    ids=["no kind", "unknown kind", "long key", "many cells", "cells beyond the end"],
)
def test_reading_stops_at_a_record_that_makes_no_sense(block, word, value):
    counters = Counters(block)
    counters.record_at(COUNTER, b"good", 1)
    at = counters.record_at(COUNTER, b"bad", 1) - 3
    put(block, at + word, value)
    assert [key for _, key, _, _ in records_of(block)] == [b"good"]
    del counters


def test_what_says_that_its_records_go_on_for_ever_is_read_to_the_end_of_their_room(block):
    Counters(block).record_at(COUNTER, b"good", 1)
    put(block, 1, 2**63)
    assert [key for _, key, _, _ in records_of(block)] == [b"good"]


def test_the_end_of_a_process_ends_its_gauges_and_keeps_what_only_grows(block):
    counters = Counters(block)
    assert words_of(block)[3] == os.getpid()
    counters.sample(7, 8)
    counters.count_blocked_loop()
    counter, gauge = counters.record_at(COUNTER, b"c", 1), counters.record_at(GAUGE, b"g", 1)
    counters.add_double(counter, 2)
    counters.set_double(gauge, 3)
    del counters
    end_gauges(block)
    words = words_of(block)
    assert words[3] == 0
    assert {COUNTER_NAMES[i] for i in range(N_COUNTERS) if words[COUNTERS_AT + i]} == {"pingora_loop_blocked_total"}
    assert struct.unpack_from("d", block, 8 * counter) == (2,)
    again = Counters(block)
    again.add_double(gauge, 1)  # not set counts as 0
    assert struct.unpack_from("d", block, 8 * gauge) == (1,)
    del again
