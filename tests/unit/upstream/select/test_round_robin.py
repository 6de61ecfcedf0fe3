"""Round robin: order, proportion, and passing over what is not available."""

from collections import Counter

import pytest

from pingora_c.upstream.balancer import Balancer
from pingora_c.upstream.endpoint import Endpoint
from pingora_c.upstream.select.round_robin import RoundRobin


def balance(*weights):
    return Balancer([Endpoint(f"127.0.0.1:{i + 1}", weight) for i, weight in enumerate(weights)], RoundRobin())


def order(balancer, n):
    return "".join("abcdefgh"[balancer.select().slot] for _ in range(n))


ORDERS = {
    "nginx's example": ((5, 1, 1), "aabacaa" * 2),
    "equal weights": ((1, 1, 1), "abcabc"),
    "equal weights above one": ((4, 4), "abab"),
    "two to one": ((2, 1), "abaaba"),
    "last is heaviest": ((1, 1, 3), "cacbc"),
    "alone": ((7,), "aaa"),
}


@pytest.mark.parametrize(("weights", "expected"), ORDERS.values(), ids=ORDERS)
def test_order_is_smooth(weights, expected):
    assert order(balance(*weights), len(expected)) == expected


def smooth(weights, available, n):
    """The algorithm as nginx describes it, slowly."""
    current = [0] * len(weights)
    picks = []
    for _ in range(n):
        for i in available:
            current[i] += weights[i]
        best = max(available, key=lambda i: (current[i], -i))
        current[best] -= sum(weights[i] for i in available)
        picks.append(best)
    return picks


@pytest.mark.parametrize("weights", [(3, 3, 3, 3), (1, 2, 3, 4), (10, 1, 1, 5), (65535, 1, 300, 2)])
@pytest.mark.parametrize("down", [(), (0,), (3,), (1, 2)])
def test_order_equals_the_slow_reference(weights, down):
    balancer = balance(*weights)
    for slot in down:
        balancer.endpoints[slot].is_healthy = False
    available = [i for i in range(4) if i not in down]
    assert [balancer.select().slot for _ in range(60)] == smooth(weights, available, 60)


def test_each_round_is_in_proportion_to_the_weights():
    balancer = balance(7, 2, 1)
    assert Counter(order(balancer, 50)) == {"a": 35, "b": 10, "c": 5}


@pytest.mark.parametrize("weights", [(1, 1, 1), (3, 1, 1)], ids=["equal", "weighted"])
def test_what_was_tried_is_passed_over(weights):
    balancer = balance(*weights)
    assert balancer.selection.pick(b"", 0b101).slot == 1
    assert balancer.selection.pick(b"", 0b111) is None


@pytest.mark.parametrize("weights", [(1, 1, 1), (3, 1, 2)], ids=["equal", "weighted"])
def test_endpoint_that_comes_back_gets_its_share_without_a_burst(weights):
    balancer = balance(*weights)
    balancer.set_enabled("127.0.0.1:1", False)
    assert "a" not in order(balancer, 40)
    balancer.set_enabled("127.0.0.1:1", True)
    assert abs(order(balancer, 2 * sum(weights)).count("a") - 2 * weights[0]) <= 1


def test_update_may_make_weights_equal_and_unequal():
    balancer = balance(5, 1, 1)
    balancer.update([Endpoint("127.0.0.1:1"), Endpoint("127.0.0.1:2")])
    assert order(balancer, 4) == "abab"
    balancer.update([Endpoint("127.0.0.1:1", 2), Endpoint("127.0.0.1:2")])
    assert order(balancer, 3) == "aba"
