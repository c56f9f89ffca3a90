"""Sightings of gaps from fetch to fetch, and what they make of coverage and of what is left to do."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest

from mdp.config.reference import Reference
from mdp.domain.gaps import Cause
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.batches import keep, parts_of
from mdp.pipeline.collect import collect_candles
from mdp.pipeline.coverage import coverage_by_day, days_to_do, idle_minutes, shortfalls, total
from mdp.pipeline.evidence import batch_of_fetched
from mdp.pipeline.judge import judge_candles
from mdp.pipeline.resampling import resample_candles
from mdp.pipeline.resuming import left_to_ask
from mdp.pipeline.volatility import collect_dvol, judge_dvol
from mdp.ports import ARCHIVE_FILES, FETCHES, GAP_SIGHTINGS, GAPS, OHLCV, RAW_OHLCV, ArchiveFile, Fetched, Slice
from mdp.storage.memory import MemoryStore
from mdp_tests.support.builders import DVOL, MARKET, NOW, at, raw, raws, window
from mdp_tests.support.scripted_source import ScriptedExchanges

DAY = date(2024, 12, 30)
WINDOW = window("2024-12-30", "2024-12-31")
PART = parts_of([(MARKET, DAY)])[0]
HOLE = window("2024-12-30T10:00", "2024-12-30T10:30")
HOUR = timedelta(hours=1)
NOTHING_KNOWN = Reference({}, ())


def without(*spans):
    def edit(_, rows):
        for span in spans:
            rows = rows.filter(~pl.col("open_time").is_between(span.start, span.end, closed="left"))
        return rows

    return edit


class Asked:
    """A store in which one day is asked for, judged and resampled at chosen times."""

    def __init__(self, *holes):
        self.store, self.exchanges = MemoryStore(), ScriptedExchanges(edit=without(*holes))

    def fetch(self, now):
        for batch in collect_candles([PART], self.exchanges, lambda: now):
            keep(self.store, batch)

    def judge(self, now):
        for batch in judge_candles([PART], self.store, NOTHING_KNOWN, lambda: now, apart=HOUR):
            keep(self.store, batch)
        for batch in resample_candles([PART], self.store, lambda: now):
            keep(self.store, batch)

    def ask(self, now):
        self.fetch(now)
        self.judge(now)
        return self

    @property
    def sightings(self):
        return self.store.read(GAP_SIGHTINGS, PART)

    @property
    def gaps(self):
        return self.store.read(GAPS, PART)


def test_a_sighting_tells_what_was_asked_of_whom_and_when():
    asked = Asked(HOLE).ask(NOW)
    (row,) = asked.sightings.rows(named=True)
    told = ("start", "end", "slots", "finding", "source", "requests", "files", "fetched_at")
    assert tuple(row[name] for name in told) == (HOLE.start, HOLE.end, 30, "absent", "rest", 2, [], NOW)


@pytest.mark.slow
def test_files_that_were_read_are_named_with_their_checksums_and_those_of_an_earlier_fetch_are_not():
    asked = Asked(HOLE)

    def answer(digit, now):
        file = ArchiveFile("a/day.zip", WINDOW, digit * 64, is_verified=True, size=1, rows=1410, fetched_at=now)
        return lambda _, rows: Fetched(rows.with_columns(source=pl.lit("archive")), requests=0, files=(file,))

    for digit, now in (("a", NOW), ("b", NOW + 2 * HOUR)):
        asked.exchanges.answer = answer(digit, now)
        asked.ask(now)
    assert asked.store.read(ARCHIVE_FILES, PART).height == 2
    assert asked.sightings["files"].to_list() == [[f"a/day.zip sha256:{'a' * 64}"], [f"a/day.zip sha256:{'b' * 64}"]]
    assert asked.sightings["source"].to_list() == ["archive", "archive"]


def test_judging_again_or_asking_again_within_the_hour_adds_nothing():
    asked = Asked(HOLE).ask(NOW)
    before = dict(asked.store._tables)
    asked.judge(NOW + 5 * HOUR)
    asked.ask(NOW + HOUR / 2)
    changed = {name for name, rows in asked.store._tables.items() if rows is not before[name]}
    assert changed == {"fetches"}
    assert (asked.gaps["sightings"].item(), asked.gaps["is_permanent"].item()) == (1, False)


@pytest.mark.slow
def test_a_gap_that_a_run_saw_which_was_killed_before_it_judged_counts_once():
    asked = Asked(HOLE)
    asked.fetch(NOW)
    (batch,) = judge_candles([PART], asked.store, NOTHING_KNOWN, lambda: NOW)
    for write in batch.writes:
        if write.appends:  # the run dies here
            asked.store.append(write.table, write.rows)
    asked.ask(NOW + HOUR / 10)
    assert asked.gaps["sightings"].to_list() == [1]
    assert asked.sightings.height == 1


@pytest.mark.slow
def test_a_gap_that_grew_is_two_with_a_history_each_and_one_that_shrank_keeps_its_own():
    asked = Asked(HOLE).ask(NOW)
    asked.exchanges.edit = without(window("2024-12-30T10:20", "2024-12-30T10:40"))
    asked.ask(NOW + HOUR)
    assert asked.gaps.select("start", "slots", "sightings").rows() == [
        (at("2024-12-30T10:20"), 10, 2), (at("2024-12-30T10:30"), 10, 1),
    ]  # fmt: skip


def test_a_permanent_gap_is_complete_and_no_longer_asked_for_though_nobody_explains_it():
    asked = Asked(HOLE).ask(NOW)
    assert [one.reason for one in shortfalls(asked.store, MARKET, WINDOW)] == ["unknown"]
    assert left_to_ask([PART], asked.store, lambda: NOW) == [PART]
    asked.ask(NOW + HOUR)
    found = total(coverage_by_day(asked.store, MARKET, WINDOW))
    assert (found.missing, found.permanent) == ({Cause.UNKNOWN: 30}, 30)
    assert (found.is_explained, found.is_complete) == (False, True)
    assert days_to_do(shortfalls(asked.store, MARKET, WINDOW)) == []
    assert left_to_ask([PART], asked.store, lambda: NOW + HOUR) == []


@pytest.mark.slow
def test_a_gap_stored_before_sightings_were_counted_is_not_permanent():
    asked = Asked(HOLE).ask(NOW)
    unknown = pl.lit(None)
    old = asked.gaps.with_columns(
        unknown.cast(asked.gaps.schema[name]).alias(name)
        for name in ("first_seen_at", "sightings", "is_permanent", "detail")
    )
    asked.store.replace(GAPS, PART, old)
    assert len(shortfalls(asked.store, MARKET, WINDOW)) == 1
    asked.judge(NOW)
    assert asked.gaps["sightings"].to_list() == [1], "the next judgement counts it"


def test_nothing_is_witnessed_of_minutes_that_had_not_closed_when_they_were_asked_for():
    asked = Asked()
    asked.exchanges.edit = without(window("2024-12-30T10:00", "2024-12-31T00:00"))
    now = at("2024-12-30T12:00")
    asked.ask(now)
    assert asked.gaps.select("start", "slots", "sightings").rows() == [
        (at("2024-12-30T10:00"), 120, 1), (at("2024-12-30T12:00"), 720, 0),
    ]  # fmt: skip
    assert asked.sightings["slots"].to_list() == [120]


@pytest.mark.slow
def test_where_nothing_is_missing_no_evidence_is_read():
    class Watched(MemoryStore):
        def read(self, table, part, *, columns=None):
            assert table is not GAP_SIGHTINGS
            return super().read(table, part, columns=columns)

    asked = Asked()
    asked.store = Watched()
    asked.ask(NOW)
    assert total(coverage_by_day(asked.store, MARKET, WINDOW)).present == 1440


def test_idle_minutes_are_candles_and_are_counted_apart_from_missing_ones():
    asked = Asked(HOLE)
    hole = asked.exchanges.edit
    idle = pl.col("open_time").is_between(at("2024-12-30T11:00"), at("2024-12-30T11:20"), closed="left")
    asked.exchanges.edit = lambda what, rows: hole(what, rows).with_columns(
        volume=pl.when(idle).then(0.0).otherwise("volume")
    )
    asked.ask(NOW)
    found = coverage_by_day(asked.store, MARKET, WINDOW)[DAY]
    assert (found.present, found.missing) == (1410, {Cause.UNKNOWN: 30})
    assert idle_minutes(asked.store, MARKET, WINDOW) == {DAY: 20}
    assert idle_minutes(asked.store, DVOL, WINDOW) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("later", "is_permanent"), [(HOUR / 2, False), (HOUR, True)])
def test_missing_hours_of_an_index_are_seen_as_often_as_they_were_asked_for(later, is_permanent):
    store, part = MemoryStore(), Slice(DVOL, (Timeframe.H1,), WINDOW)
    exchanges = ScriptedExchanges(edit=without(window("2024-12-30T05:00", "2024-12-30T09:00")))
    for now in (NOW, NOW + later):
        for batch in collect_dvol([part], exchanges, lambda now=now: now, max_age_minutes=120):
            keep(store, batch)
        for batch in judge_dvol([part], store, NOTHING_KNOWN, lambda now=now: now, max_age_minutes=120, apart=HOUR):
            keep(store, batch)
    gaps = store.read(GAPS, Slice(DVOL, (Timeframe.M1, Timeframe.H1), WINDOW))
    assert gaps.select("timeframe", "slots", "is_permanent").rows() == [
        ("1h", 4, is_permanent), ("1m", 180, is_permanent),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_candle_that_is_given_again_keeps_the_time_it_first_came():
    asked = Asked().ask(NOW)
    first = asked.store.read(OHLCV, PART)["ingested_at"].to_list()
    later = NOW + 9 * HOUR
    asked.exchanges.edit = lambda _, rows: rows.with_columns(
        pl.lit(later).alias("fetched_at"),
        close=pl.when(pl.col("open_time") == HOLE.start).then(100.5).otherwise("close"),
    )
    asked.ask(later)
    rows = asked.store.read(OHLCV, PART)
    changed = rows.filter(pl.col("ingested_at") == later)
    assert changed.select("open_time", "close").rows() == [(HOLE.start, 100.5)]
    assert rows.filter(pl.col("ingested_at") != later).height == len(first) - 1


@pytest.mark.slow
def test_an_answer_for_which_nobody_was_asked_is_no_second_witness():
    asked = Asked(HOLE).ask(NOW)
    asked.exchanges.answer = lambda _, rows: Fetched(rows, requests=0)
    asked.ask(NOW + 9 * HOUR)
    assert asked.gaps.select("sightings", "seen_at").rows() == [(1, NOW)]
    assert asked.sightings.height == 1


@pytest.mark.slow
def test_what_was_asked_before_a_run_died_is_the_witness_of_what_it_left_behind():
    asked = Asked(HOLE)
    asked.fetch(NOW)
    asked.exchanges.answer = lambda _, rows: Fetched(rows, requests=0)
    asked.ask(NOW + HOUR)
    assert asked.gaps.select("sightings", "seen_at").rows() == [(1, NOW)]


@pytest.mark.slow
def test_a_gap_nobody_was_ever_asked_for_has_no_witness():
    asked = Asked(HOLE)
    asked.exchanges.answer = lambda _, rows: Fetched(rows, requests=0)
    asked.ask(NOW)
    assert asked.gaps.select("sightings", "seen_at").rows() == [(0, NOW)]
    assert asked.sightings.is_empty()


@pytest.mark.slow
def test_a_day_that_was_asked_for_before_it_began_has_a_gap_without_a_witness():
    asked = Asked(HOLE).ask(WINDOW.start - HOUR / 2)
    assert asked.gaps.select("slots", "sightings").rows() == [(30, 0)]


@pytest.mark.parametrize(("has_file", "requests", "source"), [
    (True, 3, "archive+rest"), (True, 0, "archive"), (False, 3, "rest"), (False, 0, "rest"),
])  # fmt: skip
@pytest.mark.parametrize("rows", [[], [raw("2024-12-30T10:00", source="archive")]])
def test_it_is_told_who_was_asked_for_what_is_missing_though_he_gave_nothing(has_file, requests, source, rows):
    found = raws(*(row | {"source": "archive" if has_file else "rest"} for row in rows))
    file = (
        ArchiveFile("a.zip", WINDOW, "0" * 64, is_verified=True, size=1, rows=1, fetched_at=NOW) if has_file else None
    )
    fetched = Fetched(found.drop("window_start"), requests=requests, files=(file,) if file else ())
    batch = batch_of_fetched(PART, RAW_OHLCV, found, fetched, lambda: NOW)
    (evidence,) = [write.rows for write in batch.writes if write.table is FETCHES]
    assert evidence["source"].to_list() == [source]
