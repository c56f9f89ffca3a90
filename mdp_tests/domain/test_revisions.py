"""What a later answer says differently."""

from __future__ import annotations

import math
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mdp.domain.candles import CANDLE_SCHEMA, REVISION_SCHEMA, VALUE_COLUMNS, empty
from mdp.domain.revisions import each_change_once, find_revisions, keep_first_received, rows_as_of
from mdp_tests.domain.strategies import MINUTE, START, minute_candles
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


SLOTS = [START + slot * MINUTE for slot in range(4)]
answers = st.dictionaries(st.sampled_from(range(4)), st.sampled_from([1.0, 2.0, 3.0]))
fates = st.sampled_from(["stored", "stored", "stored", "died after its revisions"])
no_revisions = empty(REVISION_SCHEMA)


def answered(answer, received_at):
    return candles(*(candle(SLOTS[slot], close=close, ingested_at=received_at) for slot, close in answer.items()))


def run(stored, revisions, answer, received_at):
    """What a run that judges an answer records and stores; what a dead run recorded is not recorded again."""
    new = answered(answer, received_at)
    found = find_revisions(stored, new, revised_at=received_at + MINUTE)
    last = revisions.unique("open_time", keep="last", maintain_order=True)
    same = [name for name in found.columns if name != "revised_at"]
    fresh = found.join(last, on=same, how="anti", nulls_equal=True)
    return pl.concat([revisions, fresh]), keep_first_received(stored, new).sort("open_time")


class TestAsOf:
    @settings(max_examples=25)
    @given(st.lists(answers, max_size=6), st.integers(-1, 6))
    def test_every_moment_of_a_random_history_is_told_as_it_was(self, history, asked):
        stored, revisions, then = empty(CANDLE_SCHEMA), no_revisions, empty(CANDLE_SCHEMA)
        moment = NOW + (asked * 10 + 5) * MINUTE
        for number, answer in enumerate(history):
            received_at = NOW + number * 10 * MINUTE
            revisions, stored = run(stored, revisions, answer, received_at)
            if received_at + MINUTE <= moment:
                then = stored
        assert_frame_equal(rows_as_of(stored, revisions, moment), then)

    @settings(max_examples=25)
    @given(st.lists(st.tuples(answers, fates), max_size=6), st.integers(-1, 6))
    def test_a_run_that_died_never_loses_a_candle_nor_shows_one_that_was_never_there(self, history, asked):
        stored, revisions, before, told = empty(CANDLE_SCHEMA), no_revisions, empty(CANDLE_SCHEMA), set()
        moment = NOW + (asked * 10 + 5) * MINUTE
        for number, (answer, fate) in enumerate(history):
            received_at = NOW + number * 10 * MINUTE
            revisions, after = run(stored, revisions, answer, received_at)
            stored = after if fate == "stored" else stored
            if received_at + MINUTE <= moment:
                before = stored
                told |= {(SLOTS[slot], close) for slot, close in answer.items()}
        found = rows_as_of(stored, revisions, moment)
        assert set(found.select("open_time", "close").rows()) <= told
        assert (found["ingested_at"] <= moment).all()
        assert found["open_time"].is_unique().all()
        doubtful = revisions.filter(pl.col("revised_at") <= moment)["open_time"].implode()
        sure = ~pl.col("open_time").is_in(doubtful)
        assert_frame_equal(found.filter(sure), before.filter(sure))

    @settings(max_examples=25)
    @given(st.lists(st.tuples(answers, st.sets(st.sampled_from(range(4)))), max_size=5), st.integers(-1, 11))
    def test_damage_that_was_repaired_from_the_raw_rows_was_never_an_answer(self, history, asked):
        stored, revisions, then, repaired = empty(CANDLE_SCHEMA), no_revisions, empty(CANDLE_SCHEMA), 0
        moment = NOW + (asked * 5 + 2) * MINUTE
        for number, (answer, damaged) in enumerate(history):
            received_at = NOW + number * 10 * MINUTE
            revisions, stored = run(stored, revisions, answer, received_at)
            if received_at + MINUTE <= moment:
                then = stored
            # a value that was received again has an earlier receipt than its raw row, and tells of no damage
            is_hit = pl.col("open_time").is_in([SLOTS[slot] for slot in damaged]) & (
                pl.col("ingested_at") == received_at
            )
            altered = stored.with_columns(pl.when(is_hit).then(-9.0).otherwise("close").alias("close"))
            repair = find_revisions(altered, stored, revised_at=received_at + 5 * MINUTE)
            repaired += len(repair)
            revisions = pl.concat([revisions, repair, repair.with_columns(pl.col("revised_at") + MINUTE)])
        assert_frame_equal(rows_as_of(stored, revisions, moment), then)

    def test_damage_that_came_again_is_passed_by_each_time(self):
        whole = candles(candle(FIRST, close=1.0))
        revisions = [
            find_revisions(candles(candle(FIRST, close=close)), whole, revised_at=LATER + day * timedelta(days=1))
            for day, close in enumerate((7.0, 8.0, 7.0))
        ]
        assert rows_as_of(whole, pl.concat(revisions), NOW).equals(whole)

    def test_a_correction_received_later_is_no_repair_whatever_stood_there_after_it(self):
        was, new = candles(candle(FIRST, close=1.0)), candles(candle(FIRST, close=2.0, ingested_at=LATER))
        restored = candles(candle(FIRST, close=0.0, ingested_at=NOW - MINUTE))
        revisions = find_revisions(was, new, revised_at=LATER)
        assert rows_as_of(new, revisions, NOW).equals(was)
        repair = find_revisions(restored, new, revised_at=LATER + MINUTE)
        assert rows_as_of(new, pl.concat([revisions, repair]), NOW).equals(was)

    def test_a_revision_that_two_runs_recorded_counts_from_the_first_record(self):
        was, new = candles(candle(FIRST, close=1.0)), candles(candle(FIRST, close=2.0, ingested_at=NOW + MINUTE))
        twice = pl.concat(find_revisions(was, new, revised_at=moment) for moment in (LATER, LATER + MINUTE))
        assert rows_as_of(new, twice, LATER).equals(new)

    def test_a_change_recorded_by_a_run_that_died_counts_from_its_record(self):
        revisions, _ = run(candles(candle(SLOTS[0], close=1.0)), no_revisions, {0: 2.0}, LATER)
        _, stored = run(candles(candle(SLOTS[0], close=1.0)), revisions, {0: 2.0}, LATER + 60 * MINUTE)
        for moment, close in ((LATER, 1.0), (LATER + 2 * MINUTE, 2.0), (LATER + 99 * MINUTE, 2.0)):
            assert rows_as_of(stored, revisions, moment)["close"].to_list() == [close]

    def test_a_removed_candle_comes_back_for_the_time_it_was_there(self):
        removed = find_revisions(candles(candle(FIRST, trades=None)), empty(CANDLE_SCHEMA), revised_at=LATER)
        assert rows_as_of(empty(CANDLE_SCHEMA), removed, NOW).rows(named=True) == [candle(FIRST, trades=None)]
        assert rows_as_of(empty(CANDLE_SCHEMA), removed, LATER).is_empty()

    def test_what_was_recorded_before_times_of_receipt_were_counts_as_received_in_time(self):
        old = find_revisions(candles(candle(FIRST)), candles(candle(FIRST, close=1.0)), revised_at=LATER)
        unknown = old.with_columns(old_ingested_at=pl.lit(None, dtype=pl.Datetime("us", "UTC")))
        (row,) = rows_as_of(candles(candle(FIRST, close=1.0)), unknown, at("2020-01-01")).rows(named=True)
        assert (row["close"], row["ingested_at"]) == (100.0, None)

    def test_revisions_of_an_index_of_the_same_name_say_nothing_of_minutes(self):
        hourly = find_revisions(candles(candle(FIRST, timeframe="1h")), empty(CANDLE_SCHEMA), revised_at=LATER)
        assert rows_as_of(candles(candle(FIRST)), hourly, NOW).rows(named=True) == [candle(FIRST)]


class TestEachChangeOnce:
    def test_of_two_records_of_one_change_the_first_counts(self):
        change = revise([candle(FIRST), candle(SECOND)], [candle(FIRST, close=1.0), candle(SECOND, close=1.0)])
        later = change.with_columns(pl.col("revised_at") + MINUTE, old_ingested_at=None).cast(REVISION_SCHEMA)
        assert each_change_once(pl.concat([later, change])).equals(change)

    def test_a_change_that_was_taken_back_between_is_two_changes(self):
        one, other = [candle(FIRST, close=1.0)], [candle(FIRST, close=2.0)]
        changes = [revise(*pair).with_columns(pl.col("revised_at") + number * MINUTE)
                   for number, pair in enumerate([(one, other), (other, one), (one, other)])]  # fmt: skip
        assert each_change_once(pl.concat(changes)).equals(pl.concat(changes))

    def test_a_removal_is_told_again_when_the_candle_had_come_back_between(self):
        first, again = (revise([candle(FIRST, ingested_at=moment)], []) for moment in (NOW, NOW + MINUTE))
        assert len(each_change_once(pl.concat([first, again]))) == 2
        assert len(each_change_once(pl.concat([first, first.with_columns(pl.col("revised_at") + MINUTE)]))) == 1

    def test_of_nothing_there_is_nothing(self):
        assert each_change_once(no_revisions).equals(no_revisions)


class TestKeptReceipt:
    @settings(max_examples=25)
    @given(minute_candles(most=60), minute_candles(most=60))
    def test_values_are_those_of_the_new_and_receipt_is_the_first_of_the_same_values(self, stored, new):
        again = new.with_columns(pl.lit(LATER).alias("ingested_at"), source=pl.lit("archive"))
        kept = keep_first_received(stored, again)
        told = ["open_time", *VALUE_COLUMNS]
        assert_frame_equal(kept.select(told), new.select(told))
        is_known = kept.join(stored, on=told, how="semi", nulls_equal=True)
        assert set(is_known["source"]) <= {"rest"}
        assert len(kept.filter(pl.col("ingested_at") == LATER)) == len(kept) - len(is_known)

    def test_of_two_rows_that_say_the_same_the_one_received_first_counts(self):
        twice = candles(candle(FIRST, ingested_at=LATER), candle(FIRST, ingested_at=NOW, source="archive"))
        (row,) = keep_first_received(twice, candles(candle(FIRST, ingested_at=LATER))).rows(named=True)
        assert (row["source"], row["ingested_at"]) == ("archive", NOW)

    def test_a_receipt_from_before_the_close_is_not_kept_though_the_values_are_right(self):
        closed = at(SECOND)
        again = candles(candle(FIRST, ingested_at=LATER))
        for received_at, kept in (
            (closed - timedelta(seconds=5.1), LATER),
            (closed - timedelta(seconds=5), closed - timedelta(seconds=5)),
        ):
            stored = candles(candle(FIRST, ingested_at=received_at))
            assert keep_first_received(stored, again)["ingested_at"].to_list() == [kept]
