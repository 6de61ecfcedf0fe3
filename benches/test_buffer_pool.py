"""Buffers: lending from the pool, with and without a Python object, beside allocating a bytearray.

"pool" is what the proxy does: take and give in C. The pool does not zero a buffer, bytearray does; so "filled" is
the fair row beside it.
"""

import pytest

from pingora_c.mem import buffer_pool
from pingora_c.mem.buffer_pool import Lent

ROUNDS = 1000
HELD = 100
SIZES = [4096, 16384, 65536]


def pool(size: int) -> None:
    buffer_pool.take_and_give(size, ROUNDS)


def objects(size: int) -> None:
    for _ in range(ROUNDS):
        Lent(size)


def with_bytearray(size: int) -> None:
    for _ in range(ROUNDS):
        bytearray(size)


@pytest.mark.parametrize("lend", [pool, objects, with_bytearray], ids=lambda lend: lend.__name__)
@pytest.mark.parametrize("size", SIZES)
def test_one_buffer_at_a_time(benchmark, size, lend):
    refused = buffer_pool.stats()["refused"]
    benchmark.group = f"{ROUNDS} buffers of {size} bytes, one at a time"
    benchmark(lend, size)
    assert buffer_pool.stats()["refused"] == refused


def filled_object(size: int) -> Lent:
    lent = Lent(size)
    lent.fill(0)
    return lent


MAKERS = {"objects": Lent, "filled_objects": filled_object, "with_bytearray": bytearray}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("size", SIZES)
def test_many_buffers_held(benchmark, size, make):
    benchmark.group = f"{HELD} buffers of {size} bytes, held together"
    benchmark(lambda: [make(size) for _ in range(HELD)])
