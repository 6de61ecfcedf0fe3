"""When a worker gives memory back: at a fall by half, and by a certain least."""

import pytest

from pingora.supervisor.ebb import Ebb


@pytest.mark.parametrize(
    ("levels", "falls"),
    [
        ([0, 0, 0], []),
        ([9000, 9000, 0], [2]),
        ([0, 150, 100, 75], []),
        ([0, 200, 150, 101, 100], [4]),
        ([100, 1], []),
        ([100, 0], [1]),
        ([1000, 600, 500, 400, 251, 250], [2, 5]),
        ([300, 0, 100, 0, 99, 0, 200, 100], [1, 3, 7]),
        ([1000, 2000, 3000, 1501, 1500, 1500, 1500], [4]),
    ],
)
def test_a_fall_by_half_and_by_a_hundred_is_an_ebb(levels, falls):
    ebb = Ebb(100)
    assert [at for at, level in enumerate(levels) if ebb.has_come(level, level)] == falls


def test_what_came_and_went_between_two_looks_is_an_ebb():
    ebb = Ebb(100)
    assert [ebb.has_come(most, 0) for most in (0, 99, 0, 500, 0, 100)] == [False, False, False, True, False, True]
