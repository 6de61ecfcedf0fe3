"""Balancers: the set, its updates, and selection inside a hook."""

import gc

import pytest

from pingora_c.upstream.balancer import (
    Balancer,
    NoUpstream,
    Selection,
    SelectionScope,
    selection_scope,
    try_endpoint,
)
from pingora_c.upstream.endpoint import Endpoint
from pingora_c.upstream.select.round_robin import RoundRobin


def endpoints(*ports, weight=1):
    return [Endpoint(f"127.0.0.1:{port}", weight) for port in ports]


def ports(chosen):
    return [endpoint.address.port for endpoint in chosen]


@pytest.fixture
def scope():
    scope = SelectionScope()
    token = selection_scope.set(scope)
    yield scope
    selection_scope.reset(token)


class First(Selection):
    """Picks whatever `answer` says; remembers what it was asked."""

    def __init__(self):
        self.answer = 0
        self.asked = []

    def pick(self, key, tried):
        self.asked.append((key, tried))
        return self.answer


def test_endpoints_are_numbered_in_order():
    balancer = Balancer(endpoints(1, 2, 3), RoundRobin())
    assert [endpoint.slot for endpoint in balancer.endpoints] == [0, 1, 2]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [([], "at least one"), (endpoints(1, 2, 1), "127.0.0.1:1 occurs twice")],
    ids=["empty", "twice"],
)
def test_impossible_set_is_refused(wanted, reason):
    with pytest.raises(ValueError, match=reason):
        Balancer(wanted, RoundRobin())


def test_endpoint_of_another_balancer_is_refused():
    shared = endpoints(1)
    balancer = Balancer(shared, RoundRobin())
    with pytest.raises(ValueError, match="another balancer"):
        Balancer(shared, RoundRobin())
    del balancer
    gc.collect()
    assert Balancer(shared, RoundRobin()).select() is shared[0]


def test_selection_of_another_balancer_is_refused():
    selection = RoundRobin()
    balancer = Balancer(endpoints(1), selection)
    with pytest.raises(ValueError, match="the selection is in use"):
        Balancer(endpoints(2), selection)
    assert ports(balancer.endpoints) == [1]


@pytest.mark.parametrize(
    ("key", "kind", "name"),
    [(None, 0, b""), ("client_ip", 1, b""), ("uri", 2, b""), ("host", 3, b""), ("header:X-User", 4, b"x-user")],
)
def test_key_is_kept_for_the_core(key, kind, name):
    balancer = Balancer(endpoints(1), RoundRobin(), key=key)
    assert (balancer.key_kind, balancer.key_name) == (kind, name)


@pytest.mark.parametrize("key", ["", "cookie", "header:", "header:a b", "header:é", 1, b"uri"])
def test_unknown_key_is_refused(key):
    with pytest.raises(ValueError, match="expected 'client_ip'"):
        Balancer(endpoints(1), RoundRobin(), key=key)


def test_select_without_an_available_endpoint_raises():
    balancer = Balancer(endpoints(1, 2), RoundRobin())
    for endpoint in balancer.endpoints:
        endpoint.is_healthy = False
    with pytest.raises(NoUpstream, match="none of 2"):
        balancer.select()


def test_set_enabled_switches_by_address_and_by_name():
    balancer = Balancer([Endpoint("127.0.0.1:1", name="a:1"), Endpoint("127.0.0.1:2")], RoundRobin())
    balancer.set_enabled("127.0.0.1:2", False)
    assert ports(balancer.select() for _ in range(2)) == [1, 1]
    balancer.set_enabled("a:1", False)
    balancer.set_enabled(balancer.endpoints[1].address, True)
    assert ports(balancer.select() for _ in range(2)) == [2, 2]
    with pytest.raises(LookupError, match=r"127\.0\.0\.1:1, 127\.0\.0\.1:2"):
        balancer.set_enabled("127.0.0.1:3", False)


def test_update_keeps_the_endpoints_that_stay():
    balancer = Balancer(endpoints(1, 2), RoundRobin())
    first, second = balancer.endpoints
    second.is_healthy = False
    balancer.update(endpoints(3, 2, weight=5))
    assert balancer.endpoints[1] is second
    assert (second.slot, second.weight, second.is_healthy) == (1, 5, False)
    assert Balancer([first], RoundRobin()).select() is first


def test_failed_update_changes_nothing():
    balancer = Balancer(endpoints(1, 2), RoundRobin())
    before = balancer.endpoints
    with pytest.raises(ValueError, match="twice"):
        balancer.update(endpoints(3, 2, 2, weight=7))
    assert balancer.endpoints is before
    assert [(endpoint.slot, endpoint.weight) for endpoint in before] == [(0, 1), (1, 1)]


def test_selection_that_refuses_an_update_keeps_the_old_set():
    class Picky(First):
        def on_update(self, endpoints):
            if len(endpoints) > 2:
                raise RuntimeError("too many")

    balancer = Balancer(endpoints(1, 2), Picky())
    before = balancer.endpoints
    with pytest.raises(RuntimeError, match="too many"):
        balancer.update(endpoints(9, 2, 1, weight=7))
    assert balancer.endpoints is before
    assert [(endpoint.slot, endpoint.weight) for endpoint in before] == [(0, 1), (1, 1)]


def test_update_to_the_same_set_goes_on_in_the_rotation():
    balancer = Balancer(endpoints(1, 2, 3), RoundRobin())
    balancer.select()
    balancer.update(endpoints(1, 2, 3))
    assert balancer.select().address.port == 2


def test_python_selection_may_return_endpoint_slot_or_none():
    selection = First()
    balancer = Balancer(endpoints(1, 2), selection)
    selection.answer = balancer.endpoints[1]
    assert balancer.select("key").address.port == 2
    selection.answer = 0
    assert balancer.select(b"bytes").address.port == 1
    selection.answer = None
    with pytest.raises(NoUpstream):
        balancer.select()
    assert selection.asked == [(b"key", 0), (b"bytes", 0), (b"", 0)]


@pytest.mark.parametrize("answer", [-1, 2, Endpoint("127.0.0.1:9")], ids=["below", "above", "foreign"])
def test_python_selection_that_picks_outside_the_set_is_an_error(answer):
    selection = First()
    balancer = Balancer(endpoints(1, 2), selection)
    selection.answer = answer
    with pytest.raises(ValueError, match=r"First\.pick returned"):
        balancer.select()


def test_python_pick_that_is_not_available_is_passed_over():
    selection = First()
    balancer = Balancer(endpoints(1, 2, 3), selection)
    selection.answer = 1
    balancer.endpoints[1].is_healthy = False
    assert balancer.select().address.port == 3


def test_selection_without_pick_is_an_error():
    with pytest.raises(NotImplementedError, match="does not override pick"):
        Balancer(endpoints(1), Selection()).select()


def test_select_in_a_hook_leaves_out_what_was_tried(scope):
    balancer = Balancer(endpoints(1, 2, 3), RoundRobin())
    seen = []
    for _ in range(3):
        endpoint = balancer.select()
        seen.append(endpoint.address.port)
        try_endpoint(scope, endpoint)
    assert sorted(seen) == [1, 2, 3]
    with pytest.raises(NoUpstream, match="all were tried"):
        balancer.select()


def test_tried_mask_belongs_to_one_balancer(scope):
    first = Balancer(endpoints(1), RoundRobin())
    fallback = Balancer(endpoints(2), RoundRobin())
    try_endpoint(scope, first.select())
    assert fallback.select().address.port == 2
    with pytest.raises(NoUpstream):
        first.select()


def test_mask_follows_to_the_fallback_that_was_tried(scope):
    first = Balancer(endpoints(1), RoundRobin())
    fallback = Balancer(endpoints(2, 3), RoundRobin())
    try_endpoint(scope, first.select())
    try_endpoint(scope, fallback.select())
    assert fallback.select().address.port == 3
    assert try_endpoint(scope, fallback.endpoints[1]) == 0b11
    with pytest.raises(NoUpstream):
        fallback.select()


def test_endpoint_of_no_balancer_marks_nothing(scope):
    balancer = Balancer(endpoints(1, 2), RoundRobin())
    balancer.select()
    assert try_endpoint(scope, Endpoint("127.0.0.1:9")) == 0


def test_slots_past_63_are_never_left_out(scope):
    balancer = Balancer(endpoints(*range(1, 71)), RoundRobin())
    balancer.select()
    assert try_endpoint(scope, balancer.endpoints[69]) == 0
