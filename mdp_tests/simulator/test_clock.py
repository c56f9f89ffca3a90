"""The simulated clock: as fast as it is told, never back, and computable from another process."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from mdp.errors import InputError
from mdp.simulator.clock import SimulatedClock, to_ms

START = datetime(2025, 1, 8, tzinfo=UTC)


def shown_from(reading, at_ns):
    """What the contract of ``/control/clock`` says another process computes."""
    return reading.now_ms + (at_ns - reading.monotonic_ns) * reading.speed / 1e6


@pytest.mark.parametrize("speed", [0.01, 1, 7.3, 60, 1_000])
def test_a_reading_tells_every_later_time_to_the_millisecond(speed):
    clock = SimulatedClock(START, speed)
    reading = clock.read()
    for _ in range(200):
        before_ns = time.monotonic_ns()
        shown = clock()
        after_ns = time.monotonic_ns()
        assert shown_from(reading, before_ns) - 1.01 <= shown <= shown_from(reading, after_ns) + 0.01
    assert reading.speed == speed
    assert to_ms(START) <= reading.now_ms <= shown


def test_it_runs_as_fast_as_it_is_told():
    clock, begun_ns = SimulatedClock(START, 500), time.monotonic_ns()
    time.sleep(0.02)
    shown_ms, passed_ms = clock() - to_ms(START), (time.monotonic_ns() - begun_ns) / 1e6
    assert 0.02 * 500_000 <= shown_ms <= passed_ms * 500 + 1


def test_a_change_of_speed_does_not_move_it():
    clock = SimulatedClock(START, 100)
    for speed in (1, 1_000, 0.01, 60):
        fastest, begun_ns, before_ms = max(clock.speed, speed), time.monotonic_ns(), clock()
        clock.set(speed=speed)
        after_ms = clock()
        passed_ms = (time.monotonic_ns() - begun_ns) / 1e6
        assert before_ms <= after_ms <= before_ms + passed_ms * fastest + 1
        assert clock.speed == clock.read().speed == speed


def test_it_never_goes_back_unless_it_is_set():
    for clock in (SimulatedClock(), SimulatedClock(speed=60), SimulatedClock(START, 3.7)):
        shown = [clock() for _ in range(2_000)]
        assert shown == sorted(shown)
    clock.set(datetime(2024, 1, 1, tzinfo=UTC))
    assert clock() < shown[0]
    assert clock.speed == 3.7


def test_the_wall_clock_with_a_speed_starts_now():
    wall_ms = time.time_ns() // 1_000_000
    assert 0 <= SimulatedClock(speed=10)() - wall_ms < 5_000
    assert 0 <= SimulatedClock()() - wall_ms < 5_000


def test_it_says_when_a_time_comes():
    clock = SimulatedClock(START, 60)
    assert clock.seconds_until(to_ms(START) + 60_000) == pytest.approx(1, abs=0.1)
    assert clock.seconds_until(to_ms(START) - 60_000) < -0.99


def test_who_listens_hears_of_every_setting():
    clock, heard = SimulatedClock(START), []
    clock.listen(lambda: heard.append(clock.speed))
    clock.set(speed=5)
    clock.set(START)
    assert heard == [5, 5]


@pytest.mark.parametrize("speed", [0, -1, 0.009, 1_001, float("nan"), float("inf"), True, "60"])
def test_an_impossible_speed_is_refused_by_name(speed):
    with pytest.raises(InputError, match=r"speed: expected a number from 0\.01 to 1000"):
        SimulatedClock(START).set(speed=speed)
