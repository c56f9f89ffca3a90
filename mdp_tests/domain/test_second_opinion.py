"""What an exchange's longer candle says of missing minutes."""

from __future__ import annotations

import pytest

from mdp.domain.second_opinion import second_opinions
from mdp.domain.sightings import Finding
from mdp_tests.support.builders import candle, candles, raw, raws, window

GAP = window("2024-01-01T00:01", "2024-01-01T00:02")


def said(longer, *stored, gaps=(GAP,)):
    """What a 5m candle at midnight says of the minute after it."""
    rows = raws(*([longer] if isinstance(longer, dict) else longer))
    return [(one.interval, one.finding) for one in second_opinions(gaps, candles(*stored), rows)]


def five(start="2024-01-01T00:00", **values):
    return raw(start, timeframe="5m", **values)


def minute(number, **values):
    return candle(f"2024-01-01T00:0{number}", volume=1.0, **values)


OTHERS = [minute(number, high=102.0, low=98.0) for number in (0, 2, 3, 4)]


@pytest.mark.parametrize(
    ("values", "finding"),
    [
        ({"volume": 4.0, "high": 102.0, "low": 98.0}, Finding.NO_TRADES),
        ({"volume": 4.0, "high": 103.0, "low": 97.0}, Finding.NO_TRADES),
        ({"volume": 4.00000001, "high": 102.0, "low": 98.0}, Finding.TRADED),
        ({"volume": 4.0, "high": 101.0, "low": 98.0}, Finding.TRADED),
        ({"volume": 4.0, "high": 102.0, "low": 99.0}, Finding.TRADED),
        ({"volume": 4.0, "high": 102.0, "low": 98.0, "open": 101.0}, Finding.TRADED),
        ({"volume": 4.0, "high": 102.0, "low": 98.0, "close": 101.0}, Finding.TRADED),
    ],
)
def test_the_volume_of_the_minutes_and_prices_that_fit_them_leave_no_trade_for_the_missing_one(values, finding):
    assert said(five(**values), *OTHERS) == [(GAP, finding)]


@pytest.mark.parametrize("values", [
    {"volume": None}, {"volume": float("nan")}, {"volume": -1.0}, {"high": None}, {"close": float("nan")},
    {"closed": False},
])  # fmt: skip
@pytest.mark.parametrize("stored", [[], OTHERS])
def test_a_longer_candle_that_is_not_good_says_nothing(values, stored):
    assert said(five(**{"volume": 4.0, "high": 102.0, "low": 98.0} | values), *stored) == []


def test_a_minute_without_a_volume_adds_nothing():
    assert said(five(volume=0.0), candle("2024-01-01T00:00", volume=None)) == [(GAP, Finding.NO_TRADES)]


def test_opinions_tile_the_gaps_and_those_that_say_the_same_are_one():
    long = window("2024-01-01T00:03", "2024-01-01T00:22")
    idle = [five(volume=0.0), five("2024-01-01T00:05", volume=0.0)]
    assert said(idle, gaps=[GAP, long]) == [
        (GAP, Finding.NO_TRADES),
        (window("2024-01-01T00:03", "2024-01-01T00:10"), Finding.NO_TRADES),
        (window("2024-01-01T00:10", "2024-01-01T00:22"), Finding.ABSENT_AT_5M),
    ]


def test_only_minutes_of_the_same_longer_candle_count():
    near = [candle("2023-12-31T23:59", volume=1.0), candle("2024-01-01T00:05", volume=1.0)]
    assert said(five(volume=0.0), *near) == [(GAP, Finding.NO_TRADES)]
    shuffled = candles(*OTHERS).sort("open_time", descending=True)
    longer = raws(five(volume=4.0, high=102.0, low=98.0, open=100.0, close=100.0))
    assert [one.finding for one in second_opinions([GAP], shuffled, longer)] == [Finding.NO_TRADES]
