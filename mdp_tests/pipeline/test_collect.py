from __future__ import annotations

from collections import Counter
from datetime import date

import polars as pl
import pytest

from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import ExchangeUnavailable, RequestRejected
from mdp.pipeline.batches import keep, parts_of
from mdp.pipeline.collect import Collecting, Tally, collect_candles
from mdp.pipeline.failed_days import NotCollected
from mdp.pipeline.rounds import Rounds
from mdp.pipeline.volatility import collect_dvol
from mdp.ports import ARCHIVE_FILES, FAILED_FETCHES, FETCHES, RAW_OHLCV, ArchiveFile, Fetched
from mdp.storage.memory import MemoryStore
from mdp_tests.support.builders import DVOL, MARKET, NOW, at, window
from mdp_tests.support.scripted_source import ScriptedExchanges

OKX = Market.parse("okx:BTC-USDT")
BYBIT = Market.parse("bybit:BTC-USDT")
AT_ONCE = Collecting(Rounds(wait_s=0))


def clock():
    return NOW


def day(text):
    return date.fromisoformat(text)


def test_days_become_the_fewest_slices_of_one_market_and_month():
    days = [(MARKET, day(text)) for text in ("2025-01-01", "2024-12-31", "2024-12-30", "2025-01-03")]
    parts = parts_of([*days, (OKX, day("2024-12-30"))])
    assert [(part.market, str(part.window)) for part in parts] == [
        (MARKET, "[2024-12-30T00:00:00Z, 2025-01-01T00:00:00Z)"),
        (MARKET, "[2025-01-01T00:00:00Z, 2025-01-02T00:00:00Z)"),
        (MARKET, "[2025-01-03T00:00:00Z, 2025-01-04T00:00:00Z)"),
        (OKX, "[2024-12-30T00:00:00Z, 2024-12-31T00:00:00Z)"),
    ]


def test_a_slice_is_asked_once_and_leaves_evidence_for_each_day():
    exchanges, store = ScriptedExchanges(), MemoryStore()
    part = parts_of([(MARKET, day("2024-12-30")), (MARKET, day("2024-12-31"))])[0]
    (batch,) = collect_candles([part], exchanges, clock)
    keep(store, batch)
    assert exchanges.asked == [(MARKET, Timeframe.M1, part.window)]
    assert store.read(RAW_OHLCV, part).height == 2880
    assert store.read(FETCHES, part)["rows"].to_list() == [1440, 1440]
    assert [report.rows for report in batch.days.values()] == [1440, 1440]


def test_rows_outside_the_window_are_kept_under_the_nearest_day():
    def stray(_, rows):
        before = rows.head(1).with_columns(pl.lit(at("2024-12-20")).cast(pl.Datetime("us", "UTC")).alias("open_time"))
        after = rows.head(1).with_columns(pl.lit(at("2025-01-09")).cast(pl.Datetime("us", "UTC")).alias("open_time"))
        return pl.concat([before, rows, after])

    part = parts_of([(MARKET, day("2024-12-30")), (MARKET, day("2024-12-31"))])[0]
    (batch,) = collect_candles([part], ScriptedExchanges(edit=stray), clock)
    assert [report.rows for report in batch.days.values()] == [1441, 1441]


def test_raw_rows_are_followed_by_the_evidence_of_having_asked():
    (batch,) = collect_candles(parts_of([(MARKET, day("2024-12-30"))]), ScriptedExchanges(), clock)
    assert [write.table for write in batch.writes] == [RAW_OHLCV, ARCHIVE_FILES, FETCHES]


def test_what_a_fetch_took_is_told_of_each_of_its_days():
    file = ArchiveFile(
        "data/BTCUSDT-1m-2024-12-30.zip", window("2024-12-30", "2024-12-31"), "ab" * 32, is_verified=True, size=9,
        rows=1440, fetched_at=NOW,
    )  # fmt: skip

    def answer(asked, rows):
        is_file = pl.col("open_time") < at("2024-12-31T00:10")
        rows = rows.with_columns(source=pl.when(is_file).then(pl.lit("archive")).otherwise(pl.lit("rest")))
        return Fetched(rows, requests=3, retried={"RateLimited": 2}, waited_s=1.5, files=(file,))

    store, tallies = MemoryStore(), {}
    part = parts_of([(MARKET, day(text)) for text in ("2024-12-29", "2024-12-30", "2024-12-31")])[0]
    (batch,) = collect_candles([part], ScriptedExchanges(answer=answer), clock, tallies=tallies)
    keep(store, batch)
    reports = list(batch.days.values())
    assert [report.source for report in reports] == ["archive", "archive", "archive+rest"]
    assert [report.files for report in reports] == [(), (file,), ()]
    assert {(report.requests, report.waited_s, *report.retried.items()) for report in reports} == {
        (3, 1.5, ("RateLimited", 2))
    }
    assert store.read(FETCHES, part)["source"].to_list() == [report.source for report in reports]
    (row,) = store.read(ARCHIVE_FILES, part).iter_rows(named=True)
    assert (row["window_start"], row["window_end"]) == (at("2024-12-30"), at("2024-12-31"))
    assert (row["path"], row["sha256"], row["is_verified"], row["size"], row["rows"]) == (
        file.path, file.sha256, True, 9, 1440,
    )  # fmt: skip
    assert tallies == {Exchange.BINANCE: Tally(1, 0, 3, Counter(RateLimited=2), 1.5, 1)}


@pytest.mark.parametrize(
    ("about", "days"),
    [
        (("2024-12-29T16:00", "2024-12-30T16:00"), ("2024-12-30", "2024-12-31")),
        (("2024-12-30T16:00", "2024-12-31T16:00"), ("2024-12-30", "2025-01-01")),
        (("2024-12-31T16:00", "2025-01-01T16:00"), ("2024-12-31", "2025-01-01")),
        (("2024-12-01", "2025-01-01"), ("2024-12-30", "2025-01-01")),
        (("2025-01-01", "2025-02-01"), ("2024-12-31", "2025-01-01")),
    ],
)
def test_a_bulk_file_is_remembered_under_the_asked_days_it_is_about(about, days):
    file = ArchiveFile("file", window(*about), "00" * 32, is_verified=False, size=1, rows=1, fetched_at=NOW)
    part = parts_of([(OKX, day("2024-12-30")), (OKX, day("2024-12-31"))])[0]
    exchanges = ScriptedExchanges(answer=lambda asked, rows: Fetched(rows, requests=0, files=(file,)))
    (batch,) = collect_candles([part], exchanges, clock)
    rows = batch.writes[1].rows
    assert rows.select("window_start", "window_end").row(0) == (at(days[0]), at(days[1]))


def test_pages_are_forgotten_only_when_their_slice_is_durable():
    spool = RememberedDiscards()
    how = Collecting(spool=spool)
    parts = parts_of([(DVOL, day("2024-12-31")), (DVOL, day("2025-01-01"))], Timeframe.H1)
    batches = collect_dvol(parts, ScriptedExchanges(), clock, max_age_minutes=120, how=how)
    next(batches)
    assert spool.discarded == []
    next(batches)
    assert spool.discarded == [(DVOL, Timeframe.H1, window("2024-12-30T22:00", "2025-01-01"))]
    batches.close()
    assert len(spool.discarded) == 1, "the second was never said to be durable"


class RememberedDiscards:
    def __init__(self):
        self.discarded = []

    def load(self, market, timeframe, window):
        return None

    def keep(self, market, timeframe, window, rows):
        pass

    def discard(self, market, timeframe, window):
        self.discarded.append((market, timeframe, window))


def test_what_could_not_be_had_is_written_down_and_said_last():
    def down(asked, rows):
        if asked[0].exchange is Exchange.BYBIT:
            raise ExchangeUnavailable("bybit", "503")
        return rows

    store, tallies = MemoryStore(), {}
    parts = parts_of([(market, day(text)) for market in (BYBIT, MARKET) for text in ("2024-12-30", "2024-12-31")])
    batches = collect_candles(
        parts, ScriptedExchanges(edit=down), clock, how=AT_ONCE, run_id="this run", tallies=tallies
    )
    done = []

    def keep_all():
        for batch in batches:
            keep(store, batch)
            done.append((batch.part.market, len(batch.days)))

    with pytest.raises(NotCollected) as raised:
        keep_all()
    assert done == [(MARKET, 2), (BYBIT, 0)]
    (failure,) = raised.value.failures
    assert (failure.market, failure.days, failure.error, failure.attempts) == (BYBIT, 2, "ExchangeUnavailable", 3)
    assert raised.value.retryable
    assert "bybit: 503 (tried 3 times)" in str(raised.value)
    rows = store.read(FAILED_FETCHES, parts[0] if parts[0].market == BYBIT else parts[1])
    assert rows["window_start"].to_list() == [at("2024-12-30"), at("2024-12-31")]
    assert set(rows.select("error", "message", "retryable", "attempts", "run_id", "failed_at").iter_rows()) == {
        ("ExchangeUnavailable", "bybit: 503", True, 3, "this run", NOW)
    }
    assert (tallies[Exchange.BYBIT].missed, tallies[Exchange.BINANCE].slices) == (1, 1)


def test_every_exchange_that_failed_is_heard_and_a_retry_helps_when_it_helps_one():
    def down(asked, rows):
        if asked[0].exchange is Exchange.BYBIT:
            raise RequestRejected("bybit", "451")
        raise ExchangeUnavailable("okx", "503")

    parts = parts_of([(market, day("2024-12-30")) for market in (BYBIT, OKX)])
    with pytest.raises(NotCollected) as raised:
        list(collect_candles(parts, ScriptedExchanges(edit=down), clock, how=AT_ONCE))
    assert raised.value.retryable
    assert "bybit: 451 (tried once)" in str(raised.value)
    assert "okx: 503 (tried 3 times)" in str(raised.value)
    assert len(raised.value.__notes__) == 2, "what to do about the one and about the other"


def test_the_asked_window_of_a_market_is_the_day_itself():
    exchanges = ScriptedExchanges()
    list(collect_candles(parts_of([(MARKET, day("2024-02-29"))]), exchanges, clock))
    assert exchanges.asked[0][2] == Interval.of_day(day("2024-02-29"))
