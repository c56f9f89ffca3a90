"""The circuit of an exchange, beside a model of it that is plainly right."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from mdp.exchanges.circuit import Circuit, State

FAILURES, PROBE_S = 3, 10.0


def _opened(now=0.0):
    circuit = Circuit(FAILURES, PROBE_S)
    for _ in range(FAILURES):
        circuit.failed(circuit.enter(now), now)
    return circuit


def test_it_opens_after_so_many_failures_in_a_row_and_not_before():
    circuit = Circuit(FAILURES, PROBE_S)
    for failures in range(1, FAILURES + 1):
        assert circuit.state is State.CLOSED
        circuit.failed(circuit.enter(0), 0)
        assert circuit.failures == failures
    assert circuit.state is State.OPEN
    assert circuit.enter(0) is None


def test_a_success_in_between_begins_the_count_again():
    circuit = Circuit(FAILURES, PROBE_S)
    for _ in range(5):
        for _ in range(FAILURES - 1):
            circuit.failed(circuit.enter(0), 0)
        circuit.succeeded(circuit.enter(0))
    assert circuit.state is State.CLOSED


def test_nobody_asks_until_the_very_instant_of_the_probe_and_then_exactly_one_does():
    circuit = _opened(now=100)
    assert circuit.retry_after_s(103) == 7
    assert circuit.enter(109.999) is None
    probe = circuit.enter(110)
    assert probe.is_probe
    assert circuit.state is State.HALF_OPEN
    assert circuit.enter(110) is None
    assert circuit.enter(10_000) is None
    assert circuit.retry_after_s(10_000) == PROBE_S


def test_a_probe_that_is_answered_lets_everybody_ask_again():
    circuit = _opened()
    circuit.succeeded(circuit.enter(PROBE_S))
    assert circuit.state is State.CLOSED
    assert circuit.failures == 0
    assert circuit.retry_after_s(PROBE_S) == 0
    assert not circuit.enter(PROBE_S).is_probe


def test_a_probe_that_fails_opens_it_for_as_long_again():
    circuit = _opened()
    circuit.failed(circuit.enter(PROBE_S), 15)
    assert circuit.state is State.OPEN
    assert circuit.retry_after_s(15) == PROBE_S


def test_a_probe_that_nobody_waits_for_leaves_its_turn_to_another_at_once():
    circuit = _opened()
    circuit.abandoned(circuit.enter(PROBE_S))
    assert circuit.enter(PROBE_S).is_probe


@pytest.mark.parametrize("is_half_open", [True, False])
def test_what_was_sent_before_it_opened_neither_closes_it_nor_puts_the_probe_off(is_half_open):
    circuit = Circuit(FAILURES, PROBE_S)
    late = [circuit.enter(0) for _ in range(3)]
    for _ in range(FAILURES):
        circuit.failed(circuit.enter(0), 0)
    if is_half_open:
        circuit.enter(PROBE_S)
    before = circuit.state
    circuit.succeeded(late[0])
    circuit.failed(late[1], PROBE_S + 5)
    circuit.abandoned(late[2])
    assert circuit.state is before
    assert circuit.failures == FAILURES


def test_a_failure_from_before_counts_for_nothing_after_it_closed_again():
    circuit = Circuit(FAILURES, PROBE_S)
    late = [circuit.enter(0) for _ in range(FAILURES)]
    for _ in range(FAILURES):
        circuit.failed(circuit.enter(0), 0)
    circuit.succeeded(circuit.enter(PROBE_S))
    for permit in late:
        circuit.failed(permit, 20)
    assert circuit.state is State.CLOSED
    assert circuit.failures == 0


class AnyUse(RuleBasedStateMachine):
    """Requests come, end and are given up in any order; what must hold at every moment."""

    permits = Bundle("permits")

    def __init__(self):
        super().__init__()
        self.circuit = Circuit(FAILURES, PROBE_S)
        self.now = 0.0
        self.probes_out = 0
        self.opened_at = None

    @rule(seconds=st.sampled_from([0.0, 1.0, PROBE_S / 2, PROBE_S]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(target=permits)
    def enter(self):
        was, wait = self.circuit.state, self.circuit.retry_after_s(self.now)
        permit = self.circuit.enter(self.now)
        assert (permit is not None) is (wait == 0)
        if permit is not None and permit.is_probe:
            assert was is State.OPEN
            assert self.now >= self.opened_at + PROBE_S
            self.probes_out += 1
        return permit

    @rule(permit=consumes(permits), end=st.sampled_from(["succeeded", "failed", "abandoned"]))
    def end(self, permit, end):
        if permit is None:
            return
        was = self.circuit.state
        self.probes_out -= permit.is_probe
        if end == "failed":
            self.circuit.failed(permit, self.now)
        else:
            getattr(self.circuit, end)(permit)
        if self.circuit.state is State.OPEN and (was is not State.OPEN) and end == "failed":
            self.opened_at = self.now
        if permit.is_probe:
            expected = {"succeeded": State.CLOSED, "failed": State.OPEN, "abandoned": State.OPEN}
            assert self.circuit.state is expected[end]
        elif was is not State.CLOSED:
            assert self.circuit.state is was

    @invariant()
    def there_is_never_more_than_one_probe_and_only_when_half_open(self):
        assert self.probes_out == (1 if self.circuit.state is State.HALF_OPEN else 0)

    @invariant()
    def it_never_stays_shut_for_ever(self):
        if self.circuit.state is State.OPEN:
            assert self.circuit.retry_after_s(self.now + PROBE_S) == 0


TestAnyUse = AnyUse.TestCase
TestAnyUse.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@given(st.integers(1, 20), st.floats(0.1, 100))
@settings(max_examples=20, deadline=None)
def test_the_settings_are_obeyed(failures_to_open, probe_after_s):
    circuit = Circuit(failures_to_open, probe_after_s)
    for _ in range(failures_to_open):
        assert circuit.state is State.CLOSED
        circuit.failed(circuit.enter(0), 0)
    assert circuit.retry_after_s(0) == probe_after_s
