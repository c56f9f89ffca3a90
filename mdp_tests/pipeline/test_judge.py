from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest

from mdp.config.reference import Outage, Reference
from mdp.domain.gaps import Cause
from mdp.domain.market import Exchange
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp.errors import SliceMissing
from mdp.pipeline.batches import keep, parts_of
from mdp.pipeline.collect import collect_candles
from mdp.pipeline.coverage import NOT_RESAMPLED, Shortfall, coverage_by_day, days_to_do, shortfalls, stored_days
from mdp.pipeline.integrity import inspect_candles, inspect_raw_candles, inspect_resampled
from mdp.pipeline.judge import judge_candles
from mdp.pipeline.resampling import resample_candles
from mdp.ports import GAPS, OHLCV, REJECTED_OHLCV, REVISIONS, Slice
from mdp.storage.memory import MemoryStore
from mdp_tests.support.builders import DVOL, MARKET, NOW, at, window
from mdp_tests.support.scripted_source import ScriptedExchanges

DAY = date(2024, 12, 30)
PART = parts_of([(MARKET, DAY)])[0]
NOTHING_KNOWN = Reference({}, ())


def clock():
    return NOW


def through(store, exchanges, part=PART, reference=NOTHING_KNOWN):
    """Collect, judge and resample one slice; return the report of its day."""
    for batch in collect_candles([part], exchanges, clock):
        keep(store, batch)
    for batch in judge_candles([part], store, reference, clock):
        keep(store, batch)
        reports = batch.days
    for batch in resample_candles([part], store, clock):
        keep(store, batch)
    return reports[DAY]


def without(*spans):
    def edit(_, rows):
        for start, end in spans:
            rows = rows.filter(~pl.col("open_time").is_between(at(start), at(end), closed="left"))
        return rows

    return edit


def test_a_day_that_was_never_collected_is_missing_not_empty():
    with pytest.raises(SliceMissing, match="2024-12-30"):
        list(judge_candles([PART], MemoryStore(), NOTHING_KNOWN, clock))


def test_a_day_that_was_never_judged_is_missing_not_empty():
    store = MemoryStore()
    for batch in collect_candles([PART], ScriptedExchanges(), clock):
        keep(store, batch)
    with pytest.raises(SliceMissing, match="2024-12-30"):
        list(resample_candles([PART], store, clock))


def test_a_day_without_any_row_is_stored_as_one_gap():
    store = MemoryStore()
    known = Reference({MARKET: at("2025-01-01")}, ())
    report = through(store, ScriptedExchanges(listed_at=at("2025-01-01")), reference=known)
    assert report.rows == 0
    assert report.gaps == {"before_listing": 1440}
    assert coverage_by_day(store, MARKET, PART.window)[DAY].is_explained
    assert inspect_candles(store, PART)[DAY].holds


def test_accepted_and_rejected_rows_are_all_that_was_received():
    def spoil(_, rows):
        bad = rows.head(3).with_columns(high=pl.lit(1.0))
        twice = rows.slice(10, 2)
        return pl.concat([rows.slice(3), bad, twice])

    store = MemoryStore()
    report = through(store, ScriptedExchanges(edit=spoil))
    rejected = store.read(REJECTED_OHLCV, PART)
    assert report.rows + rejected.height == 1442
    assert report.rejected == {"high_is_highest": 3, "key_is_unique": 2}
    assert report.gaps == {"unknown": 3}


def test_gaps_carry_the_cause_that_is_known():
    outage = Outage(Exchange.BINANCE, "", window("2024-12-30T10:00", "2024-12-30T11:00"))
    store = MemoryStore()
    hole = without(("2024-12-30T10:30", "2024-12-30T11:30"))
    report = through(store, ScriptedExchanges(edit=hole), reference=Reference({}, (outage,)))
    assert report.gaps == {"exchange_outage": 30, "unknown": 30}
    found = coverage_by_day(store, MARKET, PART.window)[DAY]
    assert found.missing == {Cause.EXCHANGE_OUTAGE: 30, Cause.UNKNOWN: 30}
    assert not found.is_explained


def test_a_later_different_answer_is_a_revision_and_a_filled_gap_is_none():
    store = MemoryStore()
    through(store, ScriptedExchanges(edit=without(("2024-12-30T10:00", "2024-12-30T10:05"))))

    def restated(_, rows):
        return rows.with_columns(
            pl.when(pl.col("open_time") == at("2024-12-30T12:00")).then(9.0).otherwise("volume").alias("volume")
        )

    report = through(store, ScriptedExchanges(edit=restated))
    revisions = store.read(REVISIONS, PART)
    assert report.revised == 1
    assert report.gaps == {}
    assert revisions.select("open_time", "old_volume", "new_volume").row(0) == (at("2024-12-30T12:00"), 1.0, 9.0)
    assert store.read(GAPS, PART).is_empty()


def test_a_revision_recorded_by_a_run_that_died_is_not_recorded_twice():
    store = MemoryStore()
    through(store, ScriptedExchanges())
    changed = ScriptedExchanges(price=lambda market, moment: 200.0)
    for batch in collect_candles([PART], changed, clock):
        keep(store, batch)
    (batch,) = judge_candles([PART], store, NOTHING_KNOWN, clock)
    appends = [write for write in batch.writes if write.appends]
    for write in appends:  # the run dies here, before the candles are stored
        store.append(write.table, write.rows)
    for batch in judge_candles([PART], store, NOTHING_KNOWN, clock):
        keep(store, batch)
    assert store.read(REVISIONS, PART).height == 1440
    assert store.read(OHLCV, PART)["close"].to_list() == [200.0] * 1440


def test_collecting_judging_and_resampling_again_changes_nothing():
    store = MemoryStore()
    through(store, ScriptedExchanges())
    tables = dict(store._tables)
    through(store, ScriptedExchanges())
    changed = {name for name, rows in store._tables.items() if rows is not tables[name]}
    assert changed == {"fetches"}, "only the evidence of having asked again is new"


def test_every_longer_timeframe_is_stored_and_equals_its_minutes():
    store = MemoryStore()
    through(store, ScriptedExchanges(edit=without(("2024-12-30T05:00", "2024-12-30T06:00"))))
    stored = store.read(OHLCV, Slice(MARKET, RESAMPLED, PART.window))
    counts = dict(stored.group_by("timeframe").agg(pl.len()).iter_rows())
    assert counts == {"5m": 276, "15m": 92, "1h": 23, "4h": 6, "1d": 1}
    assert inspect_resampled(store, PART)[DAY].holds


@pytest.mark.parametrize(
    ("column", "expected"),
    [("close", "candles_are_those_of_the_minutes"), ("volume", "candles_are_those_of_the_minutes")],
)
def test_integrity_sees_a_stored_candle_that_its_minutes_do_not_make(column, expected):
    store = MemoryStore()
    through(store, ScriptedExchanges())
    part = Slice(MARKET, (Timeframe.H1,), PART.window)
    rows = store.read(OHLCV, part)
    store.replace(
        OHLCV, part, rows.with_columns(pl.col(column) + pl.when(pl.int_range(pl.len()) == 7).then(1e-6).otherwise(0))
    )
    assert inspect_resampled(store, PART)[DAY].broken == {expected: 1}


def test_integrity_sees_minutes_that_break_a_rule_or_leave_a_hole():
    store = MemoryStore()
    through(store, ScriptedExchanges())
    rows = store.read(OHLCV, PART)
    store.replace(
        OHLCV, PART, rows.slice(2).with_columns(low=pl.when(pl.int_range(pl.len()) == 0).then(1e9).otherwise("low"))
    )
    assert inspect_candles(store, PART)[DAY].broken == {
        "high_is_highest": 1,
        "low_is_lowest": 1,
        "candles_are_those_of_the_raw_rows": 3,
        "every_minute_is_stored_or_in_a_gap": 2,
    }


def test_integrity_sees_a_close_that_breaks_no_rule_and_is_not_that_of_the_raw_row():
    store = MemoryStore()
    through(store, ScriptedExchanges())
    rows = store.read(OHLCV, PART)
    store.replace(
        OHLCV,
        PART,
        rows.with_columns(close=pl.col("close") + pl.when(pl.int_range(pl.len()) == 7).then(0.25).otherwise(0)),
    )
    verdict = inspect_candles(store, PART)[DAY]
    assert verdict.broken == {"candles_are_those_of_the_raw_rows": 1}
    (sample,) = [one for one in verdict.samples if one.what == "candles_are_those_of_the_raw_rows"]
    assert sample.example.open_time == at("2024-12-30T00:07")


def test_integrity_sees_raw_rows_that_were_lost():
    store = MemoryStore()
    through(store, ScriptedExchanges())
    from mdp.ports import RAW_OHLCV

    store.replace(RAW_OHLCV, PART, store.read(RAW_OHLCV, PART).slice(5))
    assert inspect_raw_candles(store, PART)[DAY].broken == {"rows_are_those_received": 1}
    assert inspect_raw_candles(MemoryStore(), PART)[DAY].broken == {"day_was_asked": 1}


def test_days_nobody_asked_for_are_unfetched_and_listed_as_missing():
    store = MemoryStore()
    through(store, ScriptedExchanges())
    week = window("2024-12-28", "2025-01-02")
    days = coverage_by_day(store, MARKET, week)
    assert days[DAY].share == 1
    assert days[date(2024, 12, 29)].missing == {Cause.UNFETCHED: 1440}
    left = shortfalls(store, MARKET, week)
    assert left == [
        Shortfall(MARKET, window("2024-12-28", "2024-12-30"), 2880, "unfetched"),
        Shortfall(MARKET, window("2024-12-31", "2025-01-02"), 2880, "unfetched"),
    ]
    assert days_to_do(left) == [window("2024-12-28", "2024-12-30"), window("2024-12-31", "2025-01-02")]
    assert stored_days(store, MARKET, week) == PART.window
    assert stored_days(store, DVOL, week) is None


def test_a_row_is_judged_against_the_day_it_was_asked_for_whatever_the_run():
    """A stray row of the next day is rejected in a run of one day and in a run of many alike."""
    store = MemoryStore()
    first, second = (parts_of([(MARKET, day)])[0] for day in (date(2024, 12, 30), date(2024, 12, 31)))
    both = parts_of([(MARKET, date(2024, 12, 30)), (MARKET, date(2024, 12, 31))])[0]

    def stray(asked, rows):
        extra = rows.head(1).with_columns(
            pl.lit(at("2024-12-31T10:00")).cast(rows.schema["open_time"]).alias("open_time"), close=pl.lit(101.0)
        )
        return pl.concat([rows, extra]) if asked[2] == first.window else rows

    for part in (first, second):
        for batch in collect_candles([part], ScriptedExchanges(edit=stray), clock):
            keep(store, batch)
    for batch in judge_candles([both], store, NOTHING_KNOWN, clock):
        keep(store, batch)
    rejected = store.read(REJECTED_OHLCV, both)
    assert rejected.select("window_start", "failed_rules").rows() == [
        (at("2024-12-30"), ["open_time_is_inside_window"])
    ]
    assert store.read(OHLCV, both).height == 2880


def test_a_day_that_was_judged_but_not_resampled_is_left_to_do():
    """A run that was killed between the two leaves every minute stored; the day is not complete all the same."""
    store = MemoryStore()
    for batch in collect_candles([PART], ScriptedExchanges(), clock):
        keep(store, batch)
    for batch in judge_candles([PART], store, NOTHING_KNOWN, clock):
        keep(store, batch)
    assert coverage_by_day(store, MARKET, PART.window)[DAY].share == 1
    assert shortfalls(store, MARKET, PART.window) == [Shortfall(MARKET, PART.window, 1440, NOT_RESAMPLED)]
    for batch in resample_candles([PART], store, clock):
        keep(store, batch)
    assert shortfalls(store, MARKET, PART.window) == []


def test_minutes_judged_anew_but_not_resampled_anew_are_left_to_do():
    store = MemoryStore()
    through(store, ScriptedExchanges())
    for batch in collect_candles([PART], ScriptedExchanges(price=lambda market, moment: 7.0), clock):
        keep(store, batch)
    for batch in judge_candles([PART], store, NOTHING_KNOWN, clock):
        keep(store, batch)
    assert [one.reason for one in shortfalls(store, MARKET, PART.window)] == [NOT_RESAMPLED]


def test_every_change_of_a_candle_is_a_revision_even_one_that_happened_before():
    store = MemoryStore()
    for price in (100.0, 200.0, 100.0, 200.0):
        through(store, ScriptedExchanges(price=lambda market, moment, price=price: price))
    revisions = store.read(REVISIONS, PART)
    changes = revisions.filter(pl.col("open_time") == at("2024-12-30T12:00")).select("old_close", "new_close").rows()
    assert changes == [(100.0, 200.0), (200.0, 100.0), (100.0, 200.0)]


def test_a_gap_that_a_dead_run_left_where_candles_are_counts_for_nothing():
    store = MemoryStore()
    through(store, ScriptedExchanges())
    known = Reference({}, (Outage(Exchange.BINANCE, "", window("2024-12-30T10:00", "2024-12-30T11:00")),))
    hole = ScriptedExchanges(edit=without(("2024-12-30T10:00", "2024-12-30T11:00")))
    for batch in collect_candles([PART], hole, clock):
        keep(store, batch)
    (batch,) = judge_candles([PART], store, known, clock)
    for write in batch.writes:
        if write.table is GAPS:  # the run dies here, before the candles are stored
            store.replace(write.table, write.part, write.rows)
    found = coverage_by_day(store, MARKET, PART.window)[DAY]
    assert (found.present, found.missing) == (1440, {})
    assert inspect_candles(store, PART)[DAY].broken == {
        "candles_are_those_of_the_raw_rows": 60,
        "no_gap_holds_a_minute": 60,
    }
    with pytest.raises(SliceMissing, match="2024-12-30"):
        list(resample_candles([PART], store, clock))


def test_the_evidence_of_raw_rows_does_not_depend_on_a_clock():
    store = MemoryStore()
    for batch in collect_candles(
        [PART], ScriptedExchanges(edit=without(("2024-12-30T10:00", "2024-12-30T10:05"))), clock
    ):
        keep(store, batch)

    def set_back():
        return NOW - timedelta(seconds=5)

    for batch in collect_candles([PART], ScriptedExchanges(), set_back):
        keep(store, batch)
    assert inspect_raw_candles(store, PART)[DAY].holds
