"""The buffer pool: classes, limit, reuse, trimming."""

import pytest

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
