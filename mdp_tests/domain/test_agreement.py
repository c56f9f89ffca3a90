"""Exchanges that tell of one market, and those that do not; made of recorded days."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np
import pytest

from mdp.domain import agreement
from mdp.domain.agreement import compare, describe_lag, judge, level_bound
from mdp_tests.golden.binance_native.test_resampling_equals_binance import MINUTES, minutes_of

DAY = "2024-12-30"
BP = 1e-4


@cache
def recorded(day, name="close"):
    series = np.full(1440, np.nan)
    rows = minutes_of(day)
    slots = rows["open_time"].dt.hour().cast(int) * 60 + rows["open_time"].dt.minute()
    series[slots.to_numpy()] = rows[name].to_numpy()
    return series


def noisy(closes, basis_points, seed):
    """The same market at another exchange: other last trades, with heavy tails, and a basis that drifts."""
    rng = np.random.default_rng(seed)
    drift = np.convolve(rng.standard_normal(len(closes) + 59), np.ones(60) / 60**0.5, "valid")
    return closes * np.exp((rng.standard_t(4, len(closes)) / 2**0.5 + drift) * basis_points * BP)


def three(day=DAY, basis_points=1.0):
    closes = recorded(day)
    return {"binance": closes, "bybit": noisy(closes, basis_points, 1), "okx": noisy(closes, basis_points, 2)}


def shifted(series, minutes):
    """Candles whose open times are written so many minutes too late (early, where negative)."""
    moved = np.full(len(series), np.nan)
    if minutes > 0:
        moved[minutes:] = series[:-minutes]
    else:
        moved[:minutes] = series[-minutes:]
    return moved


def reasons(closes, volumes=None):
    found = judge(compare(closes, volumes or dict.fromkeys(closes, recorded(DAY, "volume"))))
    return {one.name: " | ".join(one.reasons) for one in found if one.reasons}


@pytest.mark.parametrize(
    "basis_points", [2, *(pytest.param(size, marks=pytest.mark.slow) for size in (0.5, 1, 3, 4, 6, 8, 12))]
)
def test_no_recorded_day_is_taken_for_another_market_whatever_the_noise(basis_points):
    nearest, least = 0.0, 1.0
    for day in MINUTES:
        closes = three(day, basis_points)
        assert reasons(closes) == {}, day
        pairs = compare(closes, dict.fromkeys(closes, recorded(day, "volume")))
        bound = level_bound(min((pair.spread for pair in pairs), default=0))
        nearest = max([nearest, *(abs(pair.level) / bound for pair in pairs)])
        least = min([least, *(pair.correlation for pair in pairs if not np.isnan(pair.correlation))])
    print(f"{basis_points} bp: level at most {nearest:.2f} of its bound, moves correlate at least {least:.2f}")
    assert nearest < 0.3


@pytest.mark.parametrize("minutes", [480, 540, -300, 720, -720, 1, -5, 330])
def test_shifted_candles_are_named_with_their_shift(minutes):
    closes = three()
    found = reasons({**closes, "okx": shifted(closes["okx"], minutes)})
    assert found.keys() == {"okx"}
    assert f"shifted by {describe_lag(minutes)} " in found["okx"]


def test_eight_and_nine_hours_are_told_apart():
    closes = three()
    for hours in (8, 9):
        assert f"+{hours} h" in reasons({**closes, "bybit": shifted(closes["bybit"], hours * 60)})["bybit"]


@pytest.mark.slow
def test_a_shift_is_found_on_every_whole_recorded_day():
    days = [day for day, count in MINUTES.items() if count == 1440]
    for day in days:
        closes = three(day)
        found = reasons({**closes, "okx": shifted(closes["okx"], 480)})
        assert "shifted by +8 h" in found.pop("okx"), day
        assert found == {}
    assert len(days) == 14


@pytest.mark.parametrize(("factor", "is_named"), [(1.0019, False), (1.0021, True), (0.95, True)])
def test_a_price_level_of_its_own_is_named_beyond_a_fifth_of_a_percent(factor, is_named):
    closes = three(basis_points=0.1)
    found = reasons({**closes, "bybit": closes["binance"] * factor})
    assert ("price level" in found.get("bybit", "")) == is_named
    assert found.keys() <= {"bybit"}


def test_prices_of_a_test_network_are_named_although_they_are_noisy():
    closes = three()
    wild = closes["binance"] * (1 + 0.02 * np.random.default_rng(5).standard_normal(1440))
    found = reasons({**closes, "binance": wild})
    assert found.keys() == {"binance"}
    assert "more than 1% apart" in found["binance"]


@pytest.mark.parametrize(("minutes", "is_named"), [(14, False), (15, True)])
def test_one_minute_in_a_hundred_may_be_far_off(minutes, is_named):
    closes = three(basis_points=0.1)
    torn = closes["okx"].copy()
    torn[::96][:minutes] *= 1.0201
    assert bool(reasons({**closes, "okx": torn})) == is_named


def test_the_candles_of_another_day_have_nothing_in_common():
    closes = three()
    other = recorded("2024-12-28")
    level = np.median(closes["binance"]) / np.median(other)
    found = reasons({**closes, "okx": other * level})
    assert found.keys() == {"okx"}
    assert "moves have nothing in common" in found["okx"]


@pytest.mark.slow
def test_chance_never_makes_a_shift_of_two_unrelated_days():
    best = []
    for one, other in combinations([day for day, count in MINUTES.items() if count == 1440], 2):
        (pair,) = compare({"a": recorded(one), "b": recorded(other)}, {"a": recorded(one), "b": recorded(other)})
        best.append(pair.best)
    print(f"{len(best)} pairs: best correlation at any shift {max(best):.2f}")
    assert max(best) < agreement.MIN_CORRELATION * 0.8


def test_of_two_that_disagree_both_are_named_and_of_one_nothing_is_said():
    closes = three()
    two = {"binance": closes["binance"], "okx": shifted(closes["okx"], 480)}
    assert reasons(two).keys() == {"binance", "okx"}
    assert compare({"okx": closes["okx"]}, {"okx": closes["okx"]}) == []
    assert judge([]) == []


@pytest.mark.parametrize(("count", "is_compared"), [(59, False), (60, True)])
def test_less_than_an_hour_in_common_proves_nothing(count, is_compared):
    closes = three()
    few = np.full(1440, np.nan)
    few[:count] = closes["okx"][:count]
    pairs = compare({"binance": closes["binance"], "okx": few}, dict.fromkeys(closes, few))
    assert bool(pairs) == is_compared
    assert all(np.isnan(pair.correlation) and pair.lag == 0 for pair in pairs), "too few moves to look for a shift"


def test_the_correlations_at_all_shifts_are_those_that_are_counted_one_by_one():
    closes = three("2021-04-25")
    one, other = (agreement._moves(closes[name]) for name in ("binance", "okx"))
    at_once = agreement._correlations(one, other)
    for lag in (-720, -61, -1, 0, 1, 300, 720):
        first = one[max(lag, 0) : 1440 + min(lag, 0)]
        second = other[max(-lag, 0) : 1440 - max(lag, 0)]
        both = np.isfinite(first) & np.isfinite(second)
        assert at_once[lag + 720] == pytest.approx(np.corrcoef(first[both], second[both])[0, 1], abs=1e-9)


def test_markets_that_do_not_move_agree():
    still = np.full(1440, 100.0)
    assert reasons({"binance": still, "okx": still.copy(), "bybit": still.copy()}) == {}
