"""What is true of a good candle, and the split of raw rows by it."""

from __future__ import annotations

import math
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from polars.testing import assert_frame_equal

from mdp.domain.candles import CANDLE_SCHEMA, RAW_SCHEMA, REJECTED_SCHEMA, empty
from mdp.domain.rules import KEY_IS_UNIQUE, RULE_NAMES, Asked, count_failures, split_by_rules, to_candles
from mdp.domain.timeframe import Timeframe
from mdp.errors import SchemaMismatch
from mdp_tests.domain.strategies import ASKED, raw_frames
from mdp_tests.support.builders import NOW, at, raw, raws, window

WINDOW = window("2024-01-01T00:00", "2024-01-01T00:05")
MINUTES = Asked(WINDOW, Timeframe.M1)
FIRST = "2024-01-01T00:00"

BROKEN_BY_ONE_RULE = {
    "prices_are_finite": raw(FIRST, high=math.inf),
    "prices_are_positive": raw(FIRST, low=0.0),
    "high_is_highest": raw(FIRST, high=99.99),
    "low_is_lowest": raw(FIRST, low=100.01, high=101.0),
    "volume_is_not_negative": raw(FIRST, volume=-0.00000001),
    "quote_volume_is_not_negative": raw(FIRST, quote_volume=-1.0),
    "trades_are_not_negative": raw(FIRST, trades=-1),
    "open_time_is_on_grid": raw("2024-01-01T00:00:00.000001"),
    "open_time_is_inside_window": raw("2024-01-01T00:05"),
    "candle_is_closed": raw(FIRST, closed=False),
}
"""A row for each rule that it alone rejects."""


def verdict(*rows, asked=MINUTES):
    """The names of the rules that each rejected row broke."""
    return split_by_rules(raws(*rows), asked).rejected["failed_rules"].to_list()


class TestEachRule:
    def test_every_rule_has_a_row_that_it_alone_rejects(self):
        assert [*BROKEN_BY_ONE_RULE, KEY_IS_UNIQUE] == list(RULE_NAMES)

    @pytest.mark.parametrize("rule", BROKEN_BY_ONE_RULE)
    def test_a_row_is_rejected_by_the_name_of_the_one_rule_it_broke(self, rule):
        assert verdict(BROKEN_BY_ONE_RULE[rule]) == [[rule]]

    def test_a_repeated_slot_is_rejected_by_the_rule_of_the_key_alone(self):
        assert verdict(raw(FIRST), raw(FIRST)) == [[KEY_IS_UNIQUE]]

    @pytest.mark.parametrize("price", ["open", "high", "low", "close"])
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
    def test_a_price_that_is_no_number_is_named_so(self, price, value):
        (broken,) = verdict(raw(FIRST, **{price: value}))
        assert "prices_are_finite" in broken

    @pytest.mark.parametrize("price", ["open", "high", "low", "close"])
    @pytest.mark.parametrize("value", [0.0, -0.0, -1.0, -1e-300])
    def test_a_price_that_is_not_above_zero_is_named_so(self, price, value):
        (broken,) = verdict(raw(FIRST, **{price: value}))
        assert "prices_are_positive" in broken
        assert "prices_are_finite" not in broken

    @pytest.mark.parametrize(
        ("prices", "rule"),
        [
            ({"open": 101.0, "close": 100.0, "high": 100.0, "low": 100.0}, "high_is_highest"),
            ({"open": 100.0, "close": 101.0, "high": 100.0, "low": 100.0}, "high_is_highest"),
            ({"open": 99.0, "close": 100.0, "high": 100.0, "low": 100.0}, "low_is_lowest"),
            ({"open": 100.0, "close": 99.0, "high": 100.0, "low": 100.0}, "low_is_lowest"),
        ],
    )
    def test_open_and_close_each_lie_between_low_and_high(self, prices, rule):
        assert verdict(raw(FIRST, **prices)) == [[rule]]

    def test_a_low_above_the_high_breaks_both(self):
        assert verdict(raw(FIRST, low=101.0, high=99.0)) == [["high_is_highest", "low_is_lowest"]]

    def test_a_low_above_the_high_breaks_both_even_when_the_high_is_above_open_and_close(self):
        assert verdict(raw(FIRST, open=99.0, high=100.0, low=101.0)) == [["high_is_highest", "low_is_lowest"]]

    def test_a_candle_of_which_the_exchange_does_not_say_whether_it_is_closed_is_not(self):
        assert verdict(raw(FIRST, closed=None)) == [["candle_is_closed"]]

    @pytest.mark.parametrize("amount", ["volume", "quote_volume"])
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -5e-324])
    def test_an_amount_that_cannot_be_is_rejected(self, amount, value):
        assert verdict(raw(FIRST, **{amount: value})) == [[f"{amount}_is_not_negative"]]

    def test_all_broken_rules_are_named_in_the_order_of_the_list(self):
        everything = raw("2023-12-31T23:59:30", open=math.nan, high=-1.0, low=math.inf, close=None, volume=math.nan,
                         quote_volume=-1.0, trades=-1, closed=False)  # fmt: skip
        assert verdict(everything) == [[name for name in RULE_NAMES if name != KEY_IS_UNIQUE]]


class TestGoodRows:
    @pytest.mark.parametrize(
        "values",
        [
            {},
            {"volume": 0.0, "quote_volume": 0.0, "trades": 0},
            {"volume": None, "quote_volume": None, "trades": None},
            {"open": 1e-8, "close": 1e-8},
            {"open": 99.0, "high": 101.0, "low": 98.0, "close": 100.0},
            {"volume": 0.0, "open": 99.0, "close": 101.0},
        ],
        ids=["plain", "idle", "unknown amounts", "a tiny price", "four prices", "idle but moving"],
    )
    def test_they_are_accepted(self, values):
        judged = split_by_rules(raws(raw(FIRST, **values)), MINUTES)
        assert len(judged.accepted) == 1
        assert judged.rejected.is_empty()

    def test_the_first_and_the_last_slot_of_the_window_are_inside_and_its_end_is_not(self):
        rows = [
            raw(moment) for moment in ("2023-12-31T23:59", "2024-01-01T00:00", "2024-01-01T00:04", "2024-01-01T00:05")
        ]
        judged = split_by_rules(raws(*rows), MINUTES)
        assert judged.accepted["open_time"].to_list() == [at("2024-01-01T00:00"), at("2024-01-01T00:04")]
        assert judged.rejected["failed_rules"].to_list() == [["open_time_is_inside_window"]] * 2

    @pytest.mark.parametrize("timeframe", Timeframe)
    def test_the_grid_is_that_of_the_timeframe_asked_for(self, timeframe):
        asked = Asked(window("2024-01-01", "2024-01-03"), timeframe)
        second = at("2024-01-01") + timeframe.duration
        assert verdict(raw(second), asked=asked) == []
        assert verdict(raw(second + timedelta(minutes=1)), asked=asked) == (
            [] if timeframe is Timeframe.M1 else [["open_time_is_on_grid"]]
        )


class TestTheKey:
    def test_of_good_rows_for_one_slot_the_one_received_last_is_kept(self):
        early, late = (
            raw(FIRST, open=price, fetched_at=NOW + timedelta(seconds=second)) for price, second in ((1.0, 0), (2.0, 5))
        )
        for rows in ([early, late], [late, early]):
            judged = split_by_rules(raws(*rows), MINUTES)
            assert judged.accepted["open"].to_list() == [2.0]
            assert judged.rejected["open"].to_list() == [1.0]

    def test_of_rows_received_at_once_the_last_in_order_is_kept(self):
        judged = split_by_rules(raws(*(raw(FIRST, open=price) for price in (1.0, 3.0, 2.0))), MINUTES)
        assert judged.accepted["open"].to_list() == [2.0]
        assert judged.rejected["open"].to_list() == [1.0, 3.0]
        assert judged.rejected["failed_rules"].to_list() == [[KEY_IS_UNIQUE]] * 2

    def test_a_bad_row_received_last_does_not_replace_a_good_one(self):
        judged = split_by_rules(raws(raw(FIRST, open=1.0), raw(FIRST, closed=False)), MINUTES)
        assert judged.accepted["open"].to_list() == [1.0]
        assert judged.rejected["failed_rules"].to_list() == [["candle_is_closed"]]

    def test_bad_rows_for_one_slot_are_not_blamed_on_the_key(self):
        assert verdict(raw(FIRST, closed=False), raw(FIRST, closed=False)) == [["candle_is_closed"]] * 2

    def test_rows_of_two_slots_are_both_kept_and_sorted(self):
        judged = split_by_rules(raws(raw("2024-01-01T00:01"), raw("2024-01-01T00:00")), MINUTES)
        assert judged.accepted["open_time"].to_list() == [at("2024-01-01T00:00"), at("2024-01-01T00:01")]
        assert judged.rejected.is_empty()


class TestSplit:
    @given(raw_frames)
    def test_no_row_is_lost_and_none_is_invented(self, frame):
        judged = split_by_rules(frame, Asked(ASKED, Timeframe.M1))
        together = pl.concat([judged.accepted, judged.rejected.select(RAW_SCHEMA.names())])
        order = pl.concat_str(pl.all().cast(pl.String).fill_null("null"), separator="|")
        assert_frame_equal(together.sort(order), frame.sort(order), check_exact=True)

    @given(raw_frames)
    def test_both_halves_keep_their_promises(self, frame):
        judged = split_by_rules(frame, Asked(ASKED, Timeframe.M1))
        assert judged.accepted.schema == RAW_SCHEMA
        assert judged.rejected.schema == REJECTED_SCHEMA
        open_times = judged.accepted["open_time"].to_list()
        assert open_times == sorted(set(open_times))
        assert all(judged.rejected["failed_rules"].list.len() > 0)
        assert set(judged.rejected["failed_rules"].explode().drop_nulls()) <= set(RULE_NAMES)

    @given(raw_frames)
    def test_accepted_rows_obey_every_rule_as_a_person_would_check_it(self, frame):
        for row in split_by_rules(frame, Asked(ASKED, Timeframe.M1)).accepted.iter_rows(named=True):
            prices = [row[name] for name in ("open", "high", "low", "close")]
            assert all(math.isfinite(price) and price > 0 for price in prices)
            assert row["low"] == min(prices)
            assert row["high"] == max(prices)
            assert all(row[name] is None or 0 <= row[name] < math.inf for name in ("volume", "quote_volume", "trades"))
            assert ASKED.contains(row["open_time"])
            assert row["open_time"].second == row["open_time"].microsecond == 0
            assert row["closed"] is True

    @given(raw_frames)
    def test_a_slot_is_empty_only_when_every_row_for_it_is_bad(self, frame):
        judged = split_by_rules(frame, Asked(ASKED, Timeframe.M1))
        repeated = judged.rejected.filter(pl.col("failed_rules").list.contains(KEY_IS_UNIQUE))
        assert set(repeated["open_time"]) <= set(judged.accepted["open_time"])
        assert all(repeated["failed_rules"].list.len() == 1)

    @given(raw_frames)
    def test_judging_what_was_accepted_changes_nothing(self, frame):
        accepted = split_by_rules(frame, Asked(ASKED, Timeframe.M1)).accepted
        again = split_by_rules(accepted, Asked(ASKED, Timeframe.M1))
        assert_frame_equal(again.accepted, accepted, check_exact=True)
        assert again.rejected.is_empty()

    def test_good_rows_out_of_order_come_out_in_order(self):
        minutes = [f"2024-01-01T00:0{minute}" for minute in (3, 1, 4, 0, 2)]
        judged = split_by_rules(raws(*map(raw, minutes)), MINUTES)
        assert judged.accepted["open_time"].is_sorted()
        assert len(judged.accepted) == 5

    def test_rejected_rows_stay_in_the_order_received(self):
        rows = [raw(f"2024-01-01T00:0{minute}", closed=False) for minute in (3, 1, 4, 0, 2)]
        rows += [raw(FIRST, trades=number) for number in range(2_000)]
        rejected = split_by_rules(raws(*rows), MINUTES).rejected
        assert rejected["open_time"][:5].dt.minute().to_list() == [3, 1, 4, 0, 2]
        assert rejected["trades"][5:].to_list() == list(range(1_999))

    def test_nothing_splits_into_nothing(self):
        judged = split_by_rules(empty(RAW_SCHEMA), MINUTES)
        assert (judged.accepted.schema, judged.rejected.schema) == (RAW_SCHEMA, REJECTED_SCHEMA)
        assert judged.accepted.is_empty()
        assert judged.rejected.is_empty()

    def test_a_frame_of_another_shape_is_refused(self):
        with pytest.raises(SchemaMismatch, match="raw candles: closed: missing, expected Boolean"):
            split_by_rules(raws(raw(FIRST)).drop("closed"), MINUTES)


class TestAfterwards:
    def test_an_accepted_row_becomes_a_candle_with_the_same_values(self):
        accepted = raws(raw("2024-01-01T00:00", open=1.0, trades=None), raw("2024-01-01T00:01"))
        made = to_candles(accepted, Timeframe.M1)
        assert made.schema == CANDLE_SCHEMA
        assert made["minutes"].to_list() == [1, 1]
        assert made["ingested_at"].to_list() == accepted["fetched_at"].to_list()
        same = [name for name in CANDLE_SCHEMA if name in RAW_SCHEMA]
        assert_frame_equal(made.select(same), accepted.select(same))

    def test_a_candle_of_an_hour_says_that_it_holds_sixty_minutes(self):
        assert to_candles(raws(raw(FIRST, timeframe="1h")), Timeframe.H1)["minutes"].to_list() == [60]

    def test_a_row_that_broke_two_rules_counts_for_both(self):
        rejected = split_by_rules(raws(raw(FIRST, closed=False), raw(FIRST, closed=False, trades=-1)), MINUTES).rejected
        assert count_failures(rejected) == {"candle_is_closed": 2, "trades_are_not_negative": 1}

    def test_nothing_rejected_counts_nothing(self):
        assert count_failures(empty(REJECTED_SCHEMA)) == {}
