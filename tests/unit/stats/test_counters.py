"""Counters work over memory of their own or memory that is given."""

import mmap

import pytest

from pingora_c.proxy.counter_names import COUNTER_NAMES
from pingora_c.stats.counters import COUNTER_BYTES, Counters


def test_there_is_a_number_for_every_name_and_all_begin_at_zero():
    assert 8 * len(COUNTER_NAMES) == COUNTER_BYTES
    assert Counters().values() == [0] * len(COUNTER_NAMES)


def test_a_given_block_is_written_in_place_and_continued():
    with mmap.mmap(-1, COUNTER_BYTES) as block:
        counters = Counters(block)
        counters.count_blocked_loop()
        at = COUNTER_NAMES.index("pingora_loop_blocked_total")
        assert int.from_bytes(block[8 * at : 8 * at + 8], "little") == 1
        again = Counters(block)
        again.count_blocked_loop()
        assert counters.values()[at] == 2
        assert sum(counters.values()) == 2
        del counters, again  # a block that is in use cannot be closed


@pytest.mark.parametrize(
    "block",
    [bytearray(COUNTER_BYTES - 1), memoryview(bytearray(COUNTER_BYTES + 8))[1:], bytearray()],
    ids=["too small", "not aligned", "empty"],
)
def test_a_block_that_does_not_fit_is_refused(block):
    with pytest.raises(ValueError, match=rf"block: expected {COUNTER_BYTES} aligned bytes, got "):
        Counters(block)


def test_memory_that_may_not_be_written_is_refused():
    with pytest.raises(BufferError):
        Counters(bytes(COUNTER_BYTES))


def test_names_are_those_of_prometheus_and_every_family_has_its_own():
    names = [name for name in COUNTER_NAMES if name]
    gauges = {name for name in names if not name.partition("{")[0].endswith("_total")}
    assert gauges == {"pingora_connections_open", "pingora_requests_active", "pingora_tcp_sessions_active"} | {
        "pingora_upstream_h2_connections_open"
    }
    assert [name for name in names if names.count(name) > 1] == []
