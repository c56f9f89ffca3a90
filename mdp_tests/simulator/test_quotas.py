"""How often one address may ask, with a clock that moves when told."""

from __future__ import annotations

import time

import pytest

from mdp.simulator.quotas import Credits, RequestsPerWindow, WeightPerMinute
from mdp.simulator.simulation import Quotas


class Clock:
    def __init__(self, now=0.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock(600.0)


class TestWeightPerMinute:
    def test_every_request_adds_its_weight_until_the_minute_ends(self, clock):
        quota = WeightPerMinute(clock, limit=10)
        assert [quota.take("a", 2).used for _ in range(3)] == [2, 4, 6]
        clock.now = 659.99
        assert quota.take("a", 2).used == 8
        clock.now = 660.0
        assert quota.take("a", 2).used == 2

    def test_exactly_the_limit_is_allowed_and_one_more_is_not(self, clock):
        quota = WeightPerMinute(clock, limit=10)
        assert quota.take("a", 10).status == 200
        assert quota.take("a", 1).status == 429

    def test_a_refusal_says_how_long_until_the_minute_ends_rounded_up(self, clock):
        quota = WeightPerMinute(clock, limit=1)
        clock.now = 618.5
        assert quota.take("a", 2).retry_after_s == 42
        clock.now += 42
        assert quota.take("a", 1).status == 200

    def test_addresses_have_their_own_weight(self, clock):
        quota = WeightPerMinute(clock, limit=2)
        assert quota.take("a", 2).status == 200
        assert quota.take("b", 2).status == 200
        assert quota.take("a", 1).status == 429

    def test_going_on_after_refusals_is_a_ban_of_two_minutes(self, clock):
        quota = WeightPerMinute(clock, limit=1, patience=3)
        assert [quota.take("a", 1).status for _ in range(5)] == [200, 429, 429, 429, 418]
        assert quota.take("a", 1).retry_after_s == 120
        clock.now += 119.5
        assert quota.take("a", 1) == (1, 418, 1)
        clock.now += 0.5
        assert quota.take("a", 1) == (1, 200, 0)

    def test_each_further_ban_is_twice_as_long_up_to_three_days(self, clock):
        quota = WeightPerMinute(clock, limit=0, patience=0)
        bans = []
        for _ in range(14):
            bans.append(quota.take("a", 1).retry_after_s)
            clock.now += bans[-1]
        assert bans[:3] == [120, 240, 480]
        assert bans[-1] == bans[-2] == 3 * 86_400

    def test_who_waits_as_told_is_never_banned(self, clock):
        quota = WeightPerMinute(clock, limit=10, patience=0)
        for _ in range(50):
            while quota.take("a", 2).used < 10:
                pass
            clock.now = (clock.now // 60 + 1) * 60
        assert quota.take("a", 2).status == 200

    def test_minutes_are_those_of_the_clock_and_windows_may_be_longer(self, clock):
        clock.now = 1_735_689_600.0 + 299
        quota = WeightPerMinute(clock, limit=3, minutes=5)
        assert [quota.take("a", 1).status for _ in range(4)] == [200, 200, 200, 429]
        clock.now += 1
        assert quota.take("a", 1) == (1, 200, 0)

    def test_binance_counts_the_minutes_of_utc_unless_told_otherwise(self):
        real = Quotas.real()
        assert real.binance.clock is real.binance_raw.clock is time.time
        assert (real.binance_raw.limit, real.binance_raw.minutes) == (300_000, 5)
        assert real.bybit.clock is time.monotonic

    def test_it_remembers_the_highest_use_and_the_refusals(self, clock):
        quota = WeightPerMinute(clock, limit=5)
        for _ in range(4):
            quota.take("a", 2)
        clock.now += 60
        quota.take("a", 1)
        assert quota.describe() == {
            "limit": 5,
            "window_s": 60,
            "clients": {"a": {"used": 1, "highest": 8, "asked": 5, "refused": 2}},
        }
        clock.now += 60
        assert quota.describe()["clients"]["a"]["used"] == 0


class TestRequestsPerWindow:
    def test_it_remembers_the_highest_use_and_the_refusals(self, clock):
        quota = RequestsPerWindow(clock, limit=2, window_s=5)
        for _ in range(3):
            quota.take("a")
        clock.now += 5
        assert quota.describe()["clients"] == {"a": {"used": 0, "highest": 2, "asked": 3, "refused": 1}}

    def test_any_window_holds_at_most_the_limit(self, clock):
        quota = RequestsPerWindow(clock, limit=2, window_s=5)
        assert quota.take("a") == (True, 1, 0.0)
        clock.now += 4
        assert quota.take("a") == (True, 0, 0.0)
        clock.now += 0.5
        assert quota.take("a") == (False, 0, 0.5)
        clock.now += 0.5  # the first request is now exactly five seconds old
        assert quota.take("a").is_allowed
        assert not quota.take("a").is_allowed

    def test_refused_requests_are_not_counted(self, clock):
        quota = RequestsPerWindow(clock, limit=1, window_s=2)
        quota.take("a")
        for _ in range(3):
            clock.now += 0.5
            assert not quota.take("a").is_allowed
        clock.now += 0.5
        assert quota.take("a").is_allowed

    def test_a_breach_with_a_ban_closes_the_door_for_all_of_it(self, clock):
        quota = RequestsPerWindow(clock, limit=1, window_s=5, ban_s=600)
        quota.take("a")
        assert quota.take("a") == (False, 0, 600)
        clock.now += 599
        assert quota.take("a") == (False, 0, 1)
        assert quota.take("b").is_allowed
        clock.now += 1
        assert quota.take("a").is_allowed


class TestCredits:
    def test_it_remembers_the_highest_use_and_the_refusals(self, clock):
        quota = Credits(clock, size=1_000)
        assert [quota.take("a") for _ in range(3)] == [True, True, False]
        clock.now += 0.0625
        assert quota.describe()["clients"] == {"a": {"used": 375, "highest": 1_000, "asked": 3, "refused": 1}}

    def test_a_full_bucket_is_a_burst_of_a_hundred_then_twenty_a_second(self, clock):
        quota = Credits(clock)
        assert [quota.take("a") for _ in range(101)] == [True] * 100 + [False]
        clock.now += 1
        assert [quota.take("a") for _ in range(21)] == [True] * 20 + [False]

    def test_credits_do_not_pile_up_beyond_the_bucket(self, clock):
        quota = Credits(clock)
        quota.take("a")
        clock.now += 3_600
        assert sum(quota.take("a") for _ in range(200)) == 100

    def test_addresses_have_their_own_bucket(self, clock):
        quota = Credits(clock, size=500)
        assert quota.take("a")
        assert quota.take("b")
        assert not quota.take("a")
