from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import ExchangeUnavailable, RequestRejected
from mdp.pipeline.batches import keep, parts_of
from mdp.pipeline.collect import collect_candles, collect_dvol
from mdp.ports import FETCHES, RAW_DVOL, RAW_OHLCV
from mdp.storage.memory import MemoryStore
from mdp_tests.support.builders import DVOL, MARKET, NOW, at, window
from mdp_tests.support.scripted_source import ScriptedExchanges

OKX = Market.parse("okx:BTC-USDT")
BYBIT = Market.parse("bybit:BTC-USDT")


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


def test_each_day_of_an_index_carries_the_hours_its_first_minutes_need():
    store = MemoryStore()
    part = parts_of([(DVOL, day("2024-12-30")), (DVOL, day("2024-12-31"))], Timeframe.H1)[0]
    exchanges = ScriptedExchanges()
    (batch,) = collect_dvol([part], exchanges, clock, max_age_minutes=120)
    keep(store, batch)
    assert exchanges.asked == [(DVOL, Timeframe.H1, window("2024-12-29T22:00", "2025-01-01"))]
    by_day = store.read(RAW_DVOL, part).group_by("window_start").agg(pl.col("open_time").min(), pl.len())
    assert sorted(by_day.iter_rows()) == [
        (at("2024-12-30"), at("2024-12-29T22:00"), 26),
        (at("2024-12-31"), at("2024-12-30T22:00"), 26),
    ]


def test_rows_of_an_index_that_nobody_asked_for_are_kept_once():
    def stray(_, rows):
        late = rows.head(1).with_columns(pl.lit(at("2025-02-01")).cast(pl.Datetime("us", "UTC")).alias("open_time"))
        return pl.concat([rows, late])

    part = parts_of([(DVOL, day("2024-12-30")), (DVOL, day("2024-12-31"))], Timeframe.H1)[0]
    (batch,) = collect_dvol([part], ScriptedExchanges(edit=stray), clock, max_age_minutes=120)
    assert [report.rows for report in batch.days.values()] == [26, 27]


def test_an_exchange_that_is_down_is_asked_once_and_holds_nobody_up():
    def down(asked, rows):
        if asked[0].exchange is Exchange.BYBIT:
            raise ExchangeUnavailable("bybit", "503")
        return rows

    exchanges = ScriptedExchanges(edit=down)
    eth = Market.parse("bybit:ETH-USDT")
    parts = parts_of([(market, day("2024-12-30")) for market in (MARKET, BYBIT, eth, OKX)])
    batches = collect_candles(parts, exchanges, clock)
    yielded = [next(batches).part.market, next(batches).part.market]
    with pytest.raises(ExchangeUnavailable) as raised:
        next(batches)
    assert yielded == [MARKET, OKX]
    assert [asked[0] for asked in exchanges.asked] == [MARKET, BYBIT, OKX]
    (note,) = raised.value.__notes__
    assert "bybit:BTC-USDT" in note
    assert "bybit:ETH-USDT" in note


def test_every_exchange_that_failed_is_heard_and_a_retry_helps_when_it_helps_one():
    def down(asked, rows):
        if asked[0].exchange is Exchange.BYBIT:
            raise RequestRejected("bybit", "451")
        raise ExchangeUnavailable("okx", "503")

    parts = parts_of([(market, day("2024-12-30")) for market in (BYBIT, OKX)])
    with pytest.raises(ExchangeUnavailable, match="okx: 503") as raised:
        list(collect_candles(parts, ScriptedExchanges(edit=down), clock))
    assert raised.value.retryable
    rejected, missing = raised.value.__notes__
    assert rejected == "bybit: 451"
    assert "bybit:BTC-USDT" in missing
    assert "okx:BTC-USDT" in missing


def test_every_opened_source_is_closed_even_when_the_reader_stops_early():
    exchanges = ScriptedExchanges()
    parts = parts_of([(market, day("2024-12-30")) for market in (MARKET, OKX)])
    batches = collect_candles(parts, exchanges, clock)
    next(batches)
    batches.close()
    assert exchanges.opened == exchanges.closed == [Exchange.BINANCE]


def test_the_asked_window_of_a_market_is_the_day_itself():
    exchanges = ScriptedExchanges()
    list(collect_candles(parts_of([(MARKET, day("2024-02-29"))]), exchanges, clock))
    assert exchanges.asked[0][2] == Interval.of_day(day("2024-02-29"))
