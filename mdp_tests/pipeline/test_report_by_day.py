"""The report of a market counts every minute of every day once, and agrees with the coverage of single days."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest

from mdp.domain.candles import DVOL_SCHEMA, GAP_SCHEMA, REJECTED_SCHEMA, REVISION_SCHEMA
from mdp.domain.gaps import Cause
from mdp.domain.interval import Interval
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.coverage import coverage_by_day
from mdp.pipeline.coverage_report import CAUSES, DAY_SCHEMA, STRETCH_SCHEMA, report_market
from mdp.ports import DVOL as DVOL_TABLE
from mdp.ports import FAILED_FETCHES, GAPS, OHLCV, REJECTED_OHLCV, REVISIONS, Slice
from mdp.storage.memory import MemoryStore
from mdp_tests.pipeline.test_failed_days import failed
from mdp_tests.support.builders import DVOL, MARKET, NOW, at, candle, candles, every_minute, frame, raw, window

DAYS = window("2024-12-30", "2025-01-03")
EVER = window("2024-06-01", "2025-06-01")
MINUTES = Slice(MARKET, (Timeframe.M1,), DAYS)


def gap(start, end, cause, **values):
    at_ = window(start, end)
    row = {
        "exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1m", "start": at_.start, "end": at_.end,
        "slots": at_.slots(Timeframe.M1), "cause": cause, "source": "rest", "seen_at": NOW, "first_seen_at": NOW,
        "sightings": 1, "is_permanent": False, "detail": None,
    }  # fmt: skip
    return {**row, **values}


@pytest.fixture(scope="module")
def stored():
    rows = [
        *every_minute("2024-12-30", "2024-12-31"),
        *every_minute("2024-12-31", "2024-12-31T23:00"),
        *every_minute("2025-01-02T12:00", "2025-01-03", volume=0.0),
    ]
    return candles(*rows)


@pytest.fixture
def store(stored):
    """The last of December whole but for an hour nobody explains, New Year not asked for, then half an outage."""
    store = MemoryStore()
    store.replace(OHLCV, MINUTES, stored)
    gaps = [
        gap("2024-12-31T23:00", "2024-12-31T23:40", "unknown", sightings=2, is_permanent=True),
        gap("2024-12-31T23:40", "2025-01-01", "unknown"),
        gap("2025-01-02", "2025-01-02T12:01", "exchange_outage", is_permanent=True, detail="a status page"),
    ]
    store.replace(GAPS, MINUTES, frame(gaps, GAP_SCHEMA))
    return store


def counts(report, *names):
    return report.days.select(*names).rows()


def test_every_day_from_the_first_to_the_last_known_one_is_counted(store):
    report = report_market(store, MARKET, EVER)
    assert report.days.schema == DAY_SCHEMA
    assert counts(report, "day", "expected", "present") == [
        (date(2024, 12, 30), 1440, 1440),
        (date(2024, 12, 31), 1440, 1380),
        (date(2025, 1, 1), 1440, 0),
        (date(2025, 1, 2), 1440, 720),
    ]
    assert counts(report, "unfetched", "unknown", "exchange_outage") == [
        (0, 0, 0), (0, 60, 0), (1440, 0, 0), (0, 0, 720)
    ]  # fmt: skip
    assert report.share == 3540 / 5760


def test_idle_minutes_are_present_and_only_what_is_not_explained_is_permanent(store):
    assert counts(report_market(store, MARKET, EVER), "idle", "permanent") == [(0, 0), (0, 40), (0, 0), (720, 0)]


def test_it_agrees_with_the_coverage_of_single_days(store):
    by_day = coverage_by_day(store, MARKET, DAYS)
    for row in report_market(store, MARKET, DAYS, is_whole=True).days.iter_rows(named=True):
        one = by_day[row["day"]]
        assert (row["expected"], row["present"], row["permanent"]) == (one.expected, one.present, one.permanent)
        assert {Cause(cause): row[cause] for cause in CAUSES if row[cause]} == one.missing
        assert row["expected"] == row["present"] + sum(row[cause] for cause in CAUSES)


def test_a_window_that_is_asked_for_is_counted_whole(store):
    report = report_market(store, MARKET, window("2024-12-28T05:00", "2024-12-31"), is_whole=True)
    assert counts(report, "day", "unfetched") == [
        (date(2024, 12, 28), 1440), (date(2024, 12, 29), 1440), (date(2024, 12, 30), 0)
    ]  # fmt: skip
    assert report.gaps.select("start", "end", "cause").rows() == [(at("2024-12-28"), at("2024-12-30"), "unfetched")]


def test_stretches_that_touch_are_one_where_all_that_is_known_of_them_is_the_same():
    store = MemoryStore()
    days = [Interval(DAYS.start + timedelta(days=n), DAYS.start + timedelta(days=n + 1)) for n in range(4)]
    gaps = [
        gap(str(day.start.date()), str(day.end.date()), "before_listing", detail="listed later" if n < 3 else "other")
        for n, day in enumerate(days)
    ]
    store.replace(GAPS, MINUTES, frame(gaps, GAP_SCHEMA))
    found = report_market(store, MARKET, EVER).gaps
    assert found.schema == STRETCH_SCHEMA
    assert found.select("start", "end", "slots", "detail").rows() == [
        (at("2024-12-30"), at("2025-01-02"), 3 * 1440, "listed later"),
        (at("2025-01-02"), at("2025-01-03"), 1440, "other"),
    ]


def test_stretches_that_are_alike_but_do_not_touch_stay_two():
    store = MemoryStore()
    gaps = [gap("2024-12-30", "2024-12-30T01:00", "unknown"), gap("2024-12-30T02:00", "2024-12-30T03:00", "unknown")]
    store.replace(OHLCV, MINUTES, candles(*every_minute("2024-12-30T01:00", "2024-12-30T02:00")))
    store.replace(GAPS, MINUTES, frame(gaps, GAP_SCHEMA))
    found = report_market(store, MARKET, EVER).gaps.filter(cause="unknown")
    assert found["slots"].to_list() == [60, 60]


def test_what_nobody_asked_for_over_the_end_of_a_year_is_one_stretch():
    store = MemoryStore()
    store.replace(OHLCV, MINUTES, candles(candle("2024-12-30T00:00"), candle("2025-01-02T23:59")))
    (stretch,) = report_market(store, MARKET, EVER).gaps.iter_rows(named=True)
    assert (stretch["start"], stretch["end"]) == (at("2024-12-30T00:01"), at("2025-01-02T23:59"))
    assert (stretch["cause"], stretch["slots"], stretch["sightings"]) == ("unfetched", 4 * 1440 - 2, None)


def test_rejected_rows_and_revisions_count_on_their_day_though_two_runs_recorded_one(store):
    rows = frame([{**raw("2024-12-31T01:00"), "failed_rules": ["low_is_lowest"]}] * 3, REJECTED_SCHEMA)
    store.replace(REJECTED_OHLCV, MINUTES, rows)
    revision = dict.fromkeys(REVISION_SCHEMA) | {
        "exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1m", "open_time": at("2025-01-02T13:00"),
    }  # fmt: skip
    twice = [{**revision, "new_source": "rest", "revised_at": at(moment)} for moment in ("2025-01-03", "2025-01-04")]
    store.append(REVISIONS, frame(twice, REVISION_SCHEMA))
    assert counts(report_market(store, MARKET, EVER), "rejected", "revised") == [(0, 0), (3, 0), (0, 0), (0, 1)]


def test_a_day_that_could_not_be_had_is_known_of():
    store = MemoryStore()
    store.append(FAILED_FETCHES, failed("2024-12-30"))
    report = report_market(store, MARKET, EVER)
    assert counts(report, "day", "present", "unfetched") == [(date(2024, 12, 30), 0, 1440)]
    assert [one.error for one in report.failed] == ["ExchangeUnavailable"]


def test_a_market_of_which_nothing_is_known_has_no_days_and_no_share():
    report = report_market(MemoryStore(), MARKET, EVER)
    assert (len(report.days), len(report.gaps), report.share) == (0, 0, None)


def test_an_index_has_no_idle_minutes():
    store = MemoryStore()
    row = dict.fromkeys(DVOL_SCHEMA) | {
        "exchange": "deribit", "symbol": "BTC-DVOL", "timeframe": "1m", "open_time": at("2024-12-30"), "dvol": 50.0,
    }  # fmt: skip
    store.replace(DVOL_TABLE, Slice(DVOL, (Timeframe.M1,), DAYS), frame([row], DVOL_SCHEMA))
    assert counts(report_market(store, DVOL, EVER), "present", "idle", "unfetched") == [(1, None, 1439)]


def test_a_row_off_the_grid_holds_no_minute(store):
    stray = pl.concat([store.read(OHLCV, MINUTES), candles(candle("2025-01-01T00:00:30"))])
    store.replace(OHLCV, MINUTES, stray)
    assert counts(report_market(store, MARKET, EVER), "present")[2] == (0,)
