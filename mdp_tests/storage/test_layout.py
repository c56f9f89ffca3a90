"""Partitions and periods: which rows share a file."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given

from mdp.domain.interval import Interval
from mdp.domain.timeframe import Timeframe
from mdp.ports import OHLCV
from mdp.storage.layout import Partition, by_partition, periods_of
from mdp_tests.contracts.rows import rows_at
from mdp_tests.domain.strategies import moments, timeframes
from mdp_tests.support.builders import MARKET, at, window

KEY = (MARKET.exchange.value, MARKET.symbol_key)


@pytest.mark.parametrize(
    ("timeframe", "start", "end", "expected"),
    [
        ("1m", "2024-12-01", "2025-01-01", ("2024-12", "2024-12")),
        ("1m", "2024-12-31T23:59:59.999999", "2025-01-01T00:00:00.000001", ("2024-12", "2025-01")),
        ("15m", "2024-02-29", "2024-03-01", ("2024-02", "2024-02")),
        ("1h", "2024-01-01", "2025-01-01", ("2024", "2024")),
        ("1d", "2017-08-17", "2025-01-02", ("2017", "2025")),
    ],
)
def test_a_period_is_a_month_and_from_1h_up_a_year(timeframe, start, end, expected):
    assert periods_of(timeframe, window(start, end)) == expected


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        ("2024-02", window("2024-02-01", "2024-03-01")),
        ("2024-12", window("2024-12-01", "2025-01-01")),
        ("2024", window("2024-01-01", "2025-01-01")),
    ],
)
def test_a_period_says_which_instants_it_holds(period, expected):
    assert Partition(*KEY, "1m", period).window == expected


@given(timeframe=timeframes, moment=moments)
def test_every_instant_lies_in_the_period_it_is_filed_under(timeframe: Timeframe, moment):
    first, last = periods_of(timeframe.value, Interval(moment, moment + timedelta(microseconds=1)))
    assert first == last
    assert Partition(*KEY, timeframe.value, first).window.contains(moment)


def test_partitions_tile_the_rows_in_order():
    rows = rows_at(OHLCV, ["2025-01-01", "2024-12-31T23:59", "2024-12-01", "2025-01-01T00:01"])
    pieces = by_partition(OHLCV, rows, [(*KEY, "1m")])
    assert {partition.period: piece["open_time"].to_list() for partition, piece in pieces.items()} == {
        "2024-12": [at("2024-12-01"), at("2024-12-31T23:59")],
        "2025-01": [at("2025-01-01"), at("2025-01-01T00:01")],
    }


def test_a_key_without_rows_has_no_partition():
    assert by_partition(OHLCV, rows_at(OHLCV, ["2024-12-30"]), [(*KEY, "1m"), (*KEY, "5m")]).keys() == {
        Partition(*KEY, "1m", "2024-12")
    }
    assert by_partition(OHLCV, OHLCV.schema.to_frame(), [(*KEY, "1m")]) == {}
