"""The timer wheel beside a plain table of deadlines: what fires, once, when it is due, whatever was done before."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pingora_c.net.probe import WheelProbe

TICK_MS = 16
TURN_MS = 1024 * TICK_MS
TIMERS = 8

NUMBERS = st.integers(0, TIMERS - 1)
DELAYS = st.one_of(
    st.integers(0, 3 * TICK_MS),
    st.integers(0, 3 * TURN_MS),
    st.sampled_from([TURN_MS - TICK_MS, TURN_MS - 1, TURN_MS, TURN_MS + 1, 60_000, 86_400_000]),
)
STEPS = st.one_of(st.integers(0, 2 * TICK_MS), DELAYS)


class BesideTable(RuleBasedStateMachine):
    """`armed` has the deadline of each timer that is, and the tick from which on it may fire."""

    @initialize(now_ms=st.integers(0, 5 * TURN_MS))
    def begin(self, now_ms):
        self.wheel, self.now_ms = WheelProbe(TIMERS, now_ms), now_ms
        self.armed = {}

    @property
    def tick(self):
        return self.now_ms // TICK_MS

    def due_tick(self, number):
        """The tick at whose advance it fires: that of its deadline, rounded up, and not the one it was armed in."""
        deadline_ms, set_at = self.armed[number]
        return max(-(-deadline_ms // TICK_MS), set_at + 1)

    @rule(number=NUMBERS, delay_ms=DELAYS)
    def arm(self, number, delay_ms):
        self.wheel.set(number, self.now_ms + delay_ms + 1)
        self.armed[number] = self.now_ms + delay_ms + 1, self.tick

    @rule(number=NUMBERS, ago_ms=st.integers(0, 2 * TURN_MS))
    def arm_for_the_past(self, number, ago_ms):
        deadline_ms = max(1, self.now_ms - ago_ms)
        self.wheel.set(number, deadline_ms)
        self.armed[number] = deadline_ms, self.tick

    @rule(number=NUMBERS, delay_ms=DELAYS, sooner_ms=DELAYS)
    def arm_twice(self, number, delay_ms, sooner_ms):
        self.arm(number, delay_ms)
        self.arm(number, sooner_ms)

    @rule(number=NUMBERS, is_unlinked=st.booleans())
    def disarm(self, number, is_unlinked):
        (self.wheel.unlink if is_unlinked else self.wheel.clear)(number)
        self.armed.pop(number, None)

    @rule(step_ms=STEPS)
    def advance(self, step_ms):
        self.now_ms += step_ms
        due = {number for number in self.armed if self.due_tick(number) <= self.tick}
        # one whose slot is passed on the way need not wait for the tick to be full
        passed = {number for number, (deadline_ms, _) in self.armed.items() if deadline_ms <= self.now_ms}
        counts = self.wheel.advance(self.now_ms)
        assert set(counts) <= {0, 1}
        fired = {number for number, count in enumerate(counts) if count}
        assert due <= fired <= passed
        for number in fired:
            del self.armed[number]

    @rule()
    def advance_as_it_asks(self):
        """A loop that sleeps until next_ms fires each at the first tick that it may."""
        if not self.armed:
            return
        earliest = min(map(self.due_tick, self.armed)) * TICK_MS
        while self.now_ms < earliest:
            assert self.now_ms < self.wheel.next_ms <= earliest
            self.advance(self.wheel.next_ms - self.now_ms)

    @invariant()
    def deadlines_and_the_next_look_are_right(self):
        if not hasattr(self, "armed"):
            return
        assert self.wheel.deadlines() == [self.armed.get(number, (0,))[0] for number in range(TIMERS)]
        if self.armed:
            assert self.tick * TICK_MS < self.wheel.next_ms <= min(map(self.due_tick, self.armed)) * TICK_MS


def test_timers_fire_as_a_table_of_deadlines_says():
    run_state_machine_as_test(BesideTable, settings=settings(max_examples=100, stateful_step_count=30))


@pytest.fixture
def wheel():
    return WheelProbe(4, 1000)


def test_one_that_fires_may_arm_itself_and_another(wheel):
    wheel.chain(0, 0, 100)
    wheel.chain(1, 2, 50)
    wheel.set(0, 1100)
    wheel.set(1, 1100)
    assert wheel.advance(1104) == [1, 1, 0, 0]
    assert wheel.deadlines() == [1204, 0, 1154, 0]
    assert wheel.advance(1168) == [0, 0, 1, 0]
    assert wheel.advance(1216) == [1, 0, 0, 0]


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0)])
def test_one_that_fires_may_unlink_another_of_the_same_slot(wheel, first, second):
    wheel.chain(first, second, 0)
    wheel.chain(second, first, 0)
    wheel.set(first, 1100)
    wheel.set(second, 1100)
    assert wheel.advance(1104)[first] == 1, "they stand in the order in which they were armed"
    assert wheel.deadlines() == [0, 0, 0, 0]
    assert wheel.advance(1200) == [0, 0, 0, 0]


def test_one_that_arms_itself_for_a_whole_turn_fires_once_an_advance(wheel):
    wheel.chain(0, 0, TURN_MS)
    wheel.set(0, 1100)
    now_ms = 1104
    for _ in range(3):
        assert wheel.advance(now_ms)[0] == 1
        assert wheel.advance(now_ms + TURN_MS - TICK_MS)[0] == 0
        now_ms += TURN_MS


def test_a_wheel_that_ends_lets_its_timers_go(wheel):
    wheel.set(0, 1100)
    wheel.set(1, 90_000)
    wheel.end()
    assert wheel.deadlines() == [0, 0, 0, 0]
    assert wheel.advance(100_000) == [0, 0, 0, 0]
    wheel.unlink(0)


def test_nothing_is_to_be_looked_at_without_timers(wheel):
    assert wheel.next_ms == 0
    wheel.set(0, 1100)
    wheel.clear(0)
    wheel.advance(1000 + TURN_MS)
    assert wheel.next_ms == 0
