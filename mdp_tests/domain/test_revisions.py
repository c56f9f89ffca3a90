"""What a later answer says differently."""

from __future__ import annotations

import math
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdp.domain.candles import CANDLE_SCHEMA, REVISION_SCHEMA, VALUE_COLUMNS, empty
from mdp.domain.revisions import find_revisions
from mdp_tests.domain.strategies import minute_candles
from mdp_tests.support.builders import NOW, at, candle, candles

LATER = NOW + timedelta(days=30)
FIRST, SECOND, THIRD = (f"2024-01-01T00:0{minute}" for minute in range(3))


def revise(stored, new):
    return find_revisions(candles(*stored), candles(*new), revised_at=LATER)


class TestProperties:
    @given(minute_candles(most=60))
    def test_the_same_answer_revises_nothing(self, frame):
        assert find_revisions(frame, frame, revised_at=LATER).is_empty()
        assert find_revisions(frame, frame.sample(fraction=1, shuffle=True, seed=1), revised_at=LATER).is_empty()

    @given(minute_candles(most=60), st.data())
    def test_exactly_the_changed_and_the_vanished_are_listed(self, frame, data):
        rows = frame.to_dicts()
        fate = data.draw(
            st.lists(st.sampled_from(["keep", "change", "vanish"]), min_size=len(rows), max_size=len(rows))
        )
        new = [
            {**row, "close": row["close"] + 1.0} if what == "change" else row
            for row, what in zip(rows, fate, strict=True) if what != "vanish"
        ]  # fmt: skip
        found = find_revisions(frame, candles(*new), revised_at=LATER)
        assert found["open_time"].to_list() == [
            row["open_time"] for row, what in zip(rows, fate, strict=True) if what != "keep"
        ]
        assert found.filter(pl.col("new_close").is_null())["open_time"].to_list() == [
            row["open_time"] for row, what in zip(rows, fate, strict=True) if what == "vanish"
        ]

    @given(minute_candles(most=60), minute_candles(most=60))
    def test_order_of_rows_does_not_matter(self, stored, new):
        shuffled = find_revisions(stored.reverse(), new.reverse(), revised_at=LATER)
        assert shuffled.equals(find_revisions(stored, new, revised_at=LATER))

    @given(minute_candles(most=60), minute_candles(most=60))
    def test_the_same_revision_twice_changes_nothing(self, stored, new):
        assert find_revisions(new, new, revised_at=LATER).is_empty()
        once = find_revisions(stored, new, revised_at=LATER)
        assert once.schema == REVISION_SCHEMA
        assert set(once["open_time"]) <= set(stored["open_time"])


class TestExamples:
    @pytest.mark.parametrize("name", VALUE_COLUMNS)
    def test_a_change_of_any_value_is_a_revision(self, name):
        changed = {**candle(FIRST), name: candle(FIRST)[name] + 1}
        (row,) = revise([candle(FIRST)], [changed]).iter_rows(named=True)
        assert (row[f"old_{name}"], row[f"new_{name}"]) == (candle(FIRST)[name], changed[name])

    @pytest.mark.parametrize("name", ["volume", "quote_volume", "trades"])
    @pytest.mark.parametrize(("old", "new"), [(None, 1), (1, None), (None, 0), (0, None)])
    def test_becoming_known_or_unknown_is_a_revision(self, name, old, new):
        assert len(revise([candle(FIRST, **{name: old})], [candle(FIRST, **{name: new})])) == 1

    def test_unknown_equals_unknown(self):
        unknown = candle(FIRST, volume=None, quote_volume=None, trades=None)
        assert revise([unknown], [unknown]).is_empty()

    def test_the_last_bit_of_a_price_is_a_revision(self):
        assert len(revise([candle(FIRST, high=101.0)], [candle(FIRST, high=math.nextafter(101.0, 102.0))])) == 1

    def test_a_candle_that_fills_a_gap_is_no_revision(self):
        assert revise([candle(FIRST), candle(THIRD)], [candle(FIRST), candle(SECOND), candle(THIRD)]).is_empty()
        assert revise([], [candle(FIRST)]).is_empty()

    def test_a_candle_that_vanished_is_a_revision_without_new_values(self):
        (row,) = revise([candle(FIRST), candle(SECOND, close=3.0)], [candle(FIRST)]).iter_rows(named=True)
        assert row["open_time"] == at(SECOND)
        assert row["old_close"] == 3.0
        assert [row[f"new_{name}"] for name in (*VALUE_COLUMNS, "source")] == [None] * 8

    def test_a_vanished_candle_without_amounts_is_listed_though_all_that_could_be_compared_is_unknown(self):
        unknown = dict.fromkeys(VALUE_COLUMNS)
        assert len(revise([{**candle(FIRST), **unknown}], [])) == 1

    def test_another_source_or_time_of_collection_with_the_same_values_is_no_revision(self):
        again = candle(FIRST, source="archive", ingested_at=LATER, minutes=2)
        assert revise([candle(FIRST)], [again]).is_empty()

    def test_both_sources_and_the_moment_are_told(self):
        (row,) = revise([candle(FIRST)], [candle(FIRST, high=200.0, source="archive")]).iter_rows(named=True)
        assert (row["old_source"], row["new_source"], row["revised_at"]) == ("rest", "archive", LATER)

    @pytest.mark.parametrize(("column", "other"), [("exchange", "okx"), ("symbol", "ETH-USDT"), ("timeframe", "5m")])
    def test_a_candle_of_another_series_is_another_candle(self, column, other):
        found = revise([candle(FIRST)], [candle(FIRST, **{column: other, "close": 5.0})])
        assert found["new_close"].to_list() == [None]

    def test_they_come_sorted_by_time(self):
        found = revise([candle(moment) for moment in (THIRD, FIRST, SECOND)], [])
        assert found["open_time"].to_list() == [at(FIRST), at(SECOND), at(THIRD)]

    def test_nothing_stored_and_nothing_new_revise_nothing(self):
        found = find_revisions(empty(CANDLE_SCHEMA), empty(CANDLE_SCHEMA), revised_at=LATER)
        assert found.schema == REVISION_SCHEMA
        assert found.is_empty()
