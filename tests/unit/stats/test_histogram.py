"""Buckets of durations follow each other without a gap, each at most a tenth wider than what it begins at."""

import struct

import pytest

from pingora_c.stats.histogram import HISTOGRAM_SIZE, bucket_index, cumulated, floor_of

BUCKETS = HISTOGRAM_SIZE - 1


def test_each_bucket_begins_where_the_one_before_ends_and_is_narrow():
    floors = [floor_of(i) for i in range(BUCKETS)]
    assert floors[0] == 0
    for i in range(1, BUCKETS):
        assert floors[i - 1] < floors[i] <= max(floors[i - 1] * 1.1, floors[i - 1] + 1)
        assert bucket_index(floors[i]) == i
        assert bucket_index(floors[i] - 1) == i - 1


@pytest.mark.parametrize("duration", [2**32 - 1, 2**32, 2**40, 2**64 - 1])
def test_the_last_bucket_has_all_that_is_longer(duration):
    assert bucket_index(duration) == BUCKETS - 1


@pytest.mark.parametrize("us", [5000, 10_000, 25_000, 75_000, 250_000, 7_500_000, 60_000_000])
def test_numbers_of_two_digits_are_borders(us):
    assert floor_of(bucket_index(us)) == us


@pytest.mark.parametrize("bucket", [-1, BUCKETS])
def test_a_bucket_that_there_is_not_is_refused(bucket):
    with pytest.raises(IndexError, match=f"outside 0.{BUCKETS - 1}"):
        floor_of(bucket)


def test_durations_are_counted_below_each_border_and_in_all():
    cells = [0] * HISTOGRAM_SIZE
    for us in (0, 99, 100, 4999, 5000, 2**40):
        cells[bucket_index(us)] += 1
    borders = tuple(bucket_index(us) for us in (1, 100, 5000))
    assert cumulated(struct.pack(f"{HISTOGRAM_SIZE}Q", *cells), borders) == [1, 2, 4, 6]


def test_cells_of_another_number_are_refused():
    with pytest.raises(ValueError, match=f"cells: expected {HISTOGRAM_SIZE} words, got 8 bytes"):
        cumulated(bytes(8), (1,))
