"""Longer candles made from shorter ones."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from functools import reduce
from itertools import groupby
from operator import add

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from polars.testing import assert_frame_equal

from mdp.domain.candles import CANDLE_SCHEMA, empty
from mdp.domain.resample import resample, resample_all
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp_tests.domain.strategies import minute_candles
from mdp_tests.support.builders import MARKET, NOW, at, candle, candles, every_minute

SUMS = ("volume", "quote_volume", "trades")
EXACT = [name for name in CANDLE_SCHEMA if name != "quote_volume"]


def one_by_one(frame, timeframe):
    """The rule, written down as slowly and plainly as possible."""
    rows = []
    for open_time, group in groupby(frame.iter_rows(named=True), key=lambda row: timeframe.floor(row["open_time"])):
        parts = list(group)
        counted = [part for part in parts if part["volume"] != 0] or parts
        sums = {name: None if None in parts_of(parts, name) else add_up(name, parts_of(parts, name)) for name in SUMS}
        rows.append({
            "exchange": parts[0]["exchange"], "symbol": parts[0]["symbol"], "timeframe": timeframe.value,
            "open_time": open_time,
            "open": counted[0]["open"], "high": max(part["high"] for part in counted),
            "low": min(part["low"] for part in counted), "close": counted[-1]["close"],
            **sums,
            "minutes": sum(part["minutes"] for part in parts), "source": "resampled",
            "ingested_at": max(part["ingested_at"] for part in parts),
        })  # fmt: skip
    return pl.DataFrame(rows, schema=CANDLE_SCHEMA, orient="row")


def parts_of(parts, name):
    return [part[name] for part in parts]


def add_up(name, values):
    """Volume as a person adds it, with pencil and decimals; the other amounts one float after the other."""
    return float(sum(Decimal(repr(value)) for value in values)) if name == "volume" else reduce(add, values)


class TestAgainstTheRule:
    @given(minute_candles(most=900))
    def test_every_timeframe_is_made_as_the_rule_says_to_the_last_bit(self, minutes):
        for timeframe in (Timeframe.M5, Timeframe.M15, Timeframe.H4):
            assert_frame_equal(resample(minutes, timeframe), one_by_one(minutes, timeframe), check_exact=True)

    @given(minute_candles())
    def test_step_by_step_equals_straight_from_minutes_whatever_is_missing(self, minutes):
        for timeframe, made in resample_all(minutes).items():
            straight = resample(minutes, timeframe)
            assert_frame_equal(made.select(EXACT), straight.select(EXACT), check_exact=True)
            assert_frame_equal(made, straight, check_exact=False, rel_tol=1e-14, abs_tol=0)

    @given(minute_candles(most=900))
    def test_each_timeframe_is_made_from_the_one_before_it_to_the_last_bit(self, minutes):
        finer = minutes
        for timeframe, made in resample_all(minutes).items():
            assert_frame_equal(made, one_by_one(finer, timeframe), check_exact=True)
            finer = made

    @given(minute_candles())
    def test_a_candle_depends_on_nothing_but_its_own_minutes_to_the_last_bit(self, minutes):
        """Made day by day or in one piece, beside a gap or not: the same bytes."""
        whole = resample_all(minutes)
        by_day = minutes.group_by(pl.col("open_time").dt.date(), maintain_order=True)
        days = [resample_all(day) for _, day in by_day]
        for timeframe in RESAMPLED if days else ():
            assert_frame_equal(pl.concat(day[timeframe] for day in days), whole[timeframe], check_exact=True)

    @given(minute_candles())
    def test_no_bucket_is_invented_and_none_is_forgotten(self, minutes):
        for timeframe, made in resample_all(minutes).items():
            assert made.schema == CANDLE_SCHEMA
            assert made["open_time"].equals(minutes["open_time"].dt.truncate(timeframe).unique().sort())
            assert made["minutes"].sum() == len(minutes)
            assert made["minutes"].is_between(1, timeframe.minutes).all()


class TestFastPath:
    """A stretch without gaps is summed slice by slice, any other bucket by bucket; nobody may see which."""

    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7])
    def test_a_bucket_is_the_same_beside_a_gap_and_in_an_unbroken_stretch(self, size):
        timeframe, random = Timeframe.M15, np.random.default_rng(size)
        rows = [
            candle(timeframe.duration * bucket + timedelta(minutes=minute) + at("2024-01-01"),
                   close=round(float(random.lognormal(10)), 2),
                   volume=round(float(random.lognormal(0, 4)), 8) * (random.random() > 0.3),
                   quote_volume=float(random.lognormal(8, 4)), trades=int(random.integers(1, 99)))
            for bucket in range(50) for minute in range(size)
        ]  # fmt: skip
        unbroken = resample(candles(*rows), timeframe)
        gappy = resample(candles(*rows[: -size - 1], *rows[-size:]), timeframe) if size > 1 else unbroken
        assert_frame_equal(gappy[:48], unbroken[:48], check_exact=True)
        assert_frame_equal(unbroken, one_by_one(candles(*rows), timeframe), check_exact=True)

    def test_idle_minutes_of_an_unbroken_stretch_set_no_price(self):
        rows = every_minute("2024-01-01T00:00", "2024-01-01T00:10")
        for minute, row in enumerate(rows):
            idle = minute not in (1, 3)
            row.update(
                open=1.0 + minute, high=2.0 + minute, low=0.5 + minute, close=1.5 + minute, volume=0.0 if idle else 1.0
            )
        first, second = resample(candles(*rows), Timeframe.M5).iter_rows(named=True)
        assert [first[name] for name in ("open", "high", "low", "close", "volume")] == [2.0, 5.0, 1.5, 4.5, 2.0]
        assert [second[name] for name in ("open", "high", "low", "close", "volume")] == [6.0, 11.0, 5.5, 10.5, 0.0]

    def test_types_are_those_of_the_schema_with_a_gap_too(self):
        rows = every_minute("2024-01-01T00:00", "2024-01-01T00:10")
        assert resample(candles(*rows), Timeframe.M5).schema == CANDLE_SCHEMA
        assert resample(candles(*rows[1:]), Timeframe.M5).schema == CANDLE_SCHEMA

    @pytest.mark.parametrize("kept", [slice(0, None), slice(1, None)], ids=["unbroken", "with a gap"])
    @pytest.mark.parametrize("name", SUMS)
    def test_a_sum_is_unknown_where_one_of_its_parts_is(self, kept, name):
        rows = every_minute("2024-01-01T00:00", "2024-01-01T00:10")
        rows[7][name] = None
        first, second = resample(candles(*rows[kept]), Timeframe.M5).iter_rows(named=True)
        assert second[name] is None
        assert first[name] == sum(row[name] for row in rows[kept] if row["open_time"] < at("2024-01-01T00:05"))
        assert None not in [second[other] for other in SUMS if other != name]

    def test_a_minute_of_unknown_volume_may_have_been_traded_and_sets_prices(self):
        rows = [
            candle("2024-01-01T00:00", close=1.0, volume=0.0), candle("2024-01-01T00:01", close=2.0, volume=None),
            candle("2024-01-01T00:02", close=3.0, volume=1.0), candle("2024-01-01T00:03", close=4.0, volume=0.0),
        ]  # fmt: skip
        (made,) = resample(candles(*rows), Timeframe.M5).iter_rows(named=True)
        assert [made[name] for name in ("open", "high", "low", "close", "volume")] == [2.0, 3.0, 2.0, 3.0, None]


class TestExamples:
    def test_a_volume_carries_none_of_the_noise_of_adding_floats(self):
        assert 0.1 + 0.2 != 0.3
        made = resample(
            candles(candle("2024-01-01T00:00", volume=0.1), candle("2024-01-01T00:01", volume=0.2)), Timeframe.M5
        )
        assert made["volume"].to_list() == [0.3]

    @pytest.mark.parametrize("volume", [1e-8, 90_071_992.54740991, 6_507_176_164.59, 1e15 + 0.5, 1e300])
    def test_a_volume_of_any_size_passes_as_it_is(self, volume):
        assert resample(candles(candle("2024-01-01", volume=volume)), Timeframe.D1)["volume"].to_list() == [volume]

    def test_a_bucket_of_idle_minutes_is_flat_at_their_price(self):
        rows = every_minute("2024-01-01T00:00", "2024-01-01T00:05", close=7.0, volume=0.0, quote_volume=0.0, trades=0)
        (made,) = resample(candles(*rows), Timeframe.M5).iter_rows(named=True)
        assert [made[name] for name in ("open", "high", "low", "close")] == [7.0] * 4
        assert [made[name] for name in SUMS] == [0.0, 0.0, 0]

    def test_a_bucket_without_minutes_does_not_exist(self):
        made = resample(candles(candle("2024-01-01T00:00"), candle("2024-01-01T00:10")), Timeframe.M5)
        assert made["open_time"].to_list() == [at("2024-01-01T00:00"), at("2024-01-01T00:10")]
        assert made["minutes"].to_list() == [1, 1]

    def test_the_last_minute_of_a_bucket_belongs_to_it_and_the_next_does_not(self):
        made = resample(
            candles(candle("2024-01-01T00:04", close=4.0), candle("2024-01-01T00:05", close=5.0)), Timeframe.M5
        )
        assert made["close"].to_list() == [4.0, 5.0]
        assert made["open_time"].to_list() == [at("2024-01-01T00:00"), at("2024-01-01T00:05")]

    def test_it_says_whose_candles_they_are_and_how_they_came_about(self):
        rows = [
            candle("2024-01-01T00:00", ingested_at=NOW),
            candle("2024-01-01T00:01", ingested_at=NOW - timedelta(hours=1)),
        ]
        (made,) = resample(candles(*rows), Timeframe.H1).iter_rows(named=True)
        assert (made["exchange"], made["symbol"]) == (MARKET.exchange.value, MARKET.symbol_key)
        assert (made["timeframe"], made["source"], made["ingested_at"]) == ("1h", "resampled", NOW)

    def test_minutes_before_the_epoch_fall_into_the_bucket_that_opened_before_them(self):
        (open_time,) = resample(candles(candle("1969-12-31T23:59")), Timeframe.H1)["open_time"]
        assert open_time == at("1969-12-31T23:00")

    @pytest.mark.parametrize("timeframe", RESAMPLED)
    def test_nothing_makes_nothing(self, timeframe):
        assert_frame_equal(resample(empty(CANDLE_SCHEMA), timeframe), empty(CANDLE_SCHEMA))


class TestResampleAll:
    @pytest.mark.parametrize("timeframe", RESAMPLED)
    def test_a_bucket_is_closed_at_its_end_and_not_a_microsecond_before(self, timeframe):
        minutes = candles(*every_minute("2024-01-01T00:00", "2024-01-01T00:10"))
        end = at("2024-01-01") + timeframe.duration
        before = resample_all(minutes, closed_by=end - timedelta(microseconds=1))[timeframe]
        assert before.is_empty()
        assert before.schema == CANDLE_SCHEMA
        assert resample_all(minutes, closed_by=end)[timeframe]["open_time"].to_list() == [at("2024-01-01")]

    def test_a_forming_bucket_still_counts_in_a_longer_closed_one(self):
        """Closing is judged at the end, not on the way: no minute is dropped from a longer candle."""
        minutes = candles(*every_minute("2024-01-01T00:00", "2024-01-01T01:00"))
        made = resample_all(minutes, closed_by=at("2024-01-01T01:00"))
        assert made[Timeframe.H1]["minutes"].to_list() == [60]
        assert made[Timeframe.H4].is_empty()

    @given(minute_candles())
    def test_what_is_closed_later_contains_what_was_closed_before(self, minutes):
        whole = resample_all(minutes)
        some = resample_all(minutes, closed_by=at("2024-02-28T13:37"))
        assert list(some) == list(whole) == list(RESAMPLED)
        for timeframe in RESAMPLED:
            ends = whole[timeframe]["open_time"] + timeframe.duration
            assert_frame_equal(
                some[timeframe], whole[timeframe].filter(ends <= at("2024-02-28T13:37")), check_exact=True
            )
