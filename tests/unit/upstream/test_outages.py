"""Endpoints that failures take out of selection, and how they come back."""

import pytest
from conversations import wait_until

from pingora_c.upstream.balancer import Balancer, NoUpstream, SelectionScope, selection_scope, try_endpoint
from pingora_c.upstream.endpoint import Endpoint, FailureRules, use_endpoint
from pingora_c.upstream.select.fnv_hash import FnvHash
from pingora_c.upstream.select.ketama import Ketama
from pingora_c.upstream.select.least_connections import LeastConnections
from pingora_c.upstream.select.random import Random
from pingora_c.upstream.select.round_robin import RoundRobin

LONG_MS = 3_600_000
SELECTIONS = [RoundRobin, Random, LeastConnections, Ketama, FnvHash]


def balance(*ports, selection=RoundRobin, failures=3, window_ms=LONG_MS, back_off_ms=LONG_MS, longest_ms=LONG_MS):
    rules = FailureRules(failures, window_ms, back_off_ms, longest_ms)
    return Balancer([Endpoint(f"127.0.0.1:{port}") for port in ports], selection(), failure_rules=rules)


def session(endpoint, how):
    """One session at an endpoint; True if it took it out."""
    use_endpoint(endpoint, "start")
    return use_endpoint(endpoint, how)


def fail(endpoint, times=1):
    return [session(endpoint, "failed") for _ in range(times)]


def test_failures_in_a_row_take_an_endpoint_out():
    endpoint = balance(1, 2).endpoints[0]
    assert fail(endpoint, 3) == [False, False, True]
    assert not endpoint.is_available
    assert endpoint.is_healthy
    assert 3590 < endpoint.out_for <= 3600
    assert repr(endpoint).endswith(" out>")


def test_a_session_that_ends_well_begins_another_row():
    endpoint = balance(1, 2).endpoints[0]
    fail(endpoint, 2)
    session(endpoint, "good")
    assert fail(endpoint, 2) == [False, False]
    assert endpoint.is_available


def test_a_client_that_leaves_neither_counts_nor_ends_a_row():
    endpoint = balance(1, 2).endpoints[0]
    fail(endpoint, 2)
    session(endpoint, "unknown")
    assert fail(endpoint) == [True]


def test_failures_that_are_further_apart_than_the_window_are_no_row():
    endpoint = balance(1, 2, failures=1000, window_ms=1).endpoints[0]
    fail(endpoint, 2)
    wait_until(lambda: session(endpoint, "failed") or endpoint.failures_in_row == 1)  # the first behind the window
    assert endpoint.is_available


def test_without_rules_nothing_takes_an_endpoint_out():
    endpoint = Balancer([Endpoint("127.0.0.1:1")], RoundRobin()).endpoints[0]
    fail(endpoint, 100)
    assert endpoint.is_available


@pytest.mark.parametrize("selection", SELECTIONS)
def test_no_selection_picks_one_that_is_out(selection):
    balancer = balance(1, 2, 3, selection=selection)
    fail(balancer.endpoints[1], 3)
    assert {balancer.select(b"%d" % i).slot for i in range(100)} == {0, 2}


@pytest.mark.parametrize("selection", SELECTIONS)
def test_if_all_are_out_all_are_tried(selection):
    balancer = balance(1, 2, 3, selection=selection)
    for endpoint in balancer.endpoints:
        fail(endpoint, 3)
    assert {balancer.select(b"%d" % i).slot for i in range(100)} == {0, 1, 2}
    assert not any(endpoint.is_available for endpoint in balancer.endpoints)


def test_one_that_is_out_is_no_last_resort_for_a_session_that_tried_the_others():
    balancer = balance(1, 2)
    fail(balancer.endpoints[0], 3)
    scope = SelectionScope()
    token = selection_scope.set(scope)
    try:
        try_endpoint(scope, balancer.select())
        with pytest.raises(NoUpstream):
            balancer.select()
    finally:
        selection_scope.reset(token)


def test_what_is_unhealthy_or_switched_off_is_not_tried_either_if_all_are_out():
    balancer = balance(1, 2, 3)
    for endpoint in balancer.endpoints:
        fail(endpoint, 3)
    balancer.endpoints[0].is_healthy = False
    balancer.endpoints[1].is_enabled = False
    assert {balancer.select().slot for _ in range(10)} == {2}
    balancer.endpoints[2].is_enabled = False
    with pytest.raises(NoUpstream):
        balancer.select()


def out_and_due(**rules):
    """A balancer whose first endpoint is out and may be tried."""
    balancer = balance(1, 2, back_off_ms=1, **rules)
    first = balancer.endpoints[0]
    fail(first, 3)
    wait_until(lambda: first.is_available)
    assert first.out_for == 0.0
    return balancer, first


def test_after_the_back_off_one_session_tries_it():
    balancer, first = out_and_due()
    assert {balancer.select().slot for _ in range(4)} == {0, 1}
    use_endpoint(first, "start")
    assert {balancer.select().slot for _ in range(4)} == {1}


def test_an_answer_brings_it_in_again():
    balancer, first = out_and_due()
    use_endpoint(first, "start")
    assert use_endpoint(first, "answer")
    assert first.out_for is None
    assert {balancer.select().slot for _ in range(4)} == {0, 1}
    assert not use_endpoint(first, "good")
    assert (first.failures_in_row, first.outages) == (0, 0)


def test_one_whose_answers_break_off_is_out_again_at_once():
    _, first = out_and_due()
    use_endpoint(first, "start")
    use_endpoint(first, "answer")
    assert use_endpoint(first, "failed")
    assert first.outages == 2


def test_a_client_that_leaves_lets_another_session_try():
    _, first = out_and_due()
    use_endpoint(first, "start")
    assert not first.is_available
    use_endpoint(first, "unknown")
    assert first.is_available


def test_the_back_off_doubles_with_each_failure_up_to_its_longest():
    rules = FailureRules(1, 1, 10_000, 60_000)
    assert [rules.outage(number) for number in (1, 2, 3, 4, 5, 4_000_000_000)] == [10, 20, 40, 60, 60, 60]
    _, first = out_and_due()
    for outages in (2, 3, 4):
        wait_until(lambda: first.is_available)
        assert fail(first) == [True]
        assert first.outages == outages
    capped = balance(1, 2, back_off_ms=1, longest_ms=1).endpoints[0]
    fail(capped, 3)
    for _ in range(20):
        wait_until(lambda: capped.is_available)
        assert fail(capped) == [True]
        assert capped.out_for <= 0.001


def test_sessions_that_fail_late_do_not_make_it_longer():
    endpoint = balance(1, 2).endpoints[0]
    for _ in range(10):
        use_endpoint(endpoint, "start")
    assert [use_endpoint(endpoint, "failed") for _ in range(10)] == [False, False, True] + [False] * 7
    assert (endpoint.outages, endpoint.in_flight, endpoint.failed) == (1, 0, 10)


def test_an_update_keeps_who_is_out():
    balancer = balance(1, 2)
    fail(balancer.endpoints[0], 3)
    balancer.update([Endpoint("127.0.0.1:3"), Endpoint("127.0.0.1:1")])
    assert {balancer.select().address.port for _ in range(4)} == {3}


def test_a_balancer_may_begin_empty_if_it_is_told_so():
    balancer = Balancer([], RoundRobin(), may_be_empty=True)
    with pytest.raises(NoUpstream):
        balancer.select()
    balancer.update([Endpoint("127.0.0.1:1")])
    assert balancer.select().slot == 0
    with pytest.raises(ValueError, match="at least one"):
        balancer.update([])
