"""The checks over what was collected from three exchanges on their wires."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from mdp.bus import local_budget
from mdp.config.exchange_sections import ExchangeSettings
from mdp.config.reference import load_reference
from mdp.domain.market import SPOT_EXCHANGES, Market
from mdp.domain.resample import resample_all
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp.exchanges import open_source, quotas_of
from mdp.pipeline.batches import keep, parts_of
from mdp.pipeline.checking.agreement import compare_exchanges
from mdp.pipeline.checking.native import RESTATED, compare_with_native
from mdp.pipeline.collect import collect_candles
from mdp.pipeline.integrity import inspect_candles, inspect_raw_candles, inspect_resampled
from mdp.pipeline.judge import judge_candles
from mdp.pipeline.resampling import resample_candles
from mdp.ports import OHLCV, RAW_OHLCV, Slice
from mdp.simulator.threaded import running_in_thread
from mdp.sources import utc_now
from mdp.storage.memory import MemoryStore
from mdp_tests.support.builders import at, window

pytestmark = pytest.mark.slow

MARKETS = [Market(exchange, base, "USDT") for exchange in SPOT_EXCHANGES for base in ("BTC", "SOL")]
DAYS, LAST = window("2024-12-29", "2024-12-31"), window("2024-12-30", "2024-12-31")
OKX_BTC = Market.parse("okx:BTC-USDT")


@pytest.fixture(scope="module")
def simulator():
    with running_in_thread(now="2025-01-08T00:00Z") as running:
        yield running


@pytest.fixture
def opener(simulator):
    def open_(exchange):
        settings = ExchangeSettings(rest_url=simulator.url_of(exchange.value))
        budget = local_budget(exchange, quotas_of(exchange), rate_share=0.8)
        return open_source(exchange, settings, clock=utc_now, budget=budget)

    return open_


@pytest.fixture(scope="module")
def collected(simulator):
    store = MemoryStore()
    parts = parts_of([(market, day.start.date()) for market in MARKETS for day in DAYS.days()])

    def open_(exchange):
        settings = ExchangeSettings(rest_url=simulator.url_of(exchange.value))
        budget = local_budget(exchange, quotas_of(exchange), rate_share=0.8)
        return open_source(exchange, settings, clock=utc_now, budget=budget)

    for step in (
        collect_candles(parts, open_, utc_now),
        judge_candles(parts, store, load_reference(), utc_now),
        resample_candles(parts, store, utc_now),
    ):
        for batch in step:
            keep(store, batch)
    return store._tables


@pytest.fixture
def store(collected):
    kept = MemoryStore()
    kept._tables = dict(collected)
    return kept


def rewrite(store, market, change):
    part = Slice(market, (Timeframe.M1,), DAYS)
    rows = store.read(OHLCV, part)
    changed = change(rows).filter(pl.col("open_time").is_between(DAYS.start, DAYS.end, closed="left"))
    store.replace(OHLCV, part, changed)
    store.replace(OHLCV, Slice(market, RESAMPLED, DAYS), pl.concat(resample_all(changed).values()))


def test_what_was_collected_is_passed_by_every_check(store, opener):
    for market in MARKETS:
        for inspect in (inspect_raw_candles, inspect_candles, inspect_resampled):
            for verdict in inspect(store, Slice(market, (Timeframe.M1,), DAYS)).values():
                assert (verdict.broken, verdict.doubts) == ({}, {})
    agreement = compare_exchanges(store, MARKETS, LAST)
    assert (len(agreement.standings), agreement.apart, agreement.not_judged) == (6, [], {})
    report = compare_with_native(store, MARKETS, opener, LAST)
    assert not report.not_judged
    assert [(one.compared, one.differing) for one in report.compared] == [(313, 0)] * 12, "of two days each"


@pytest.mark.parametrize("hours", [8, 9])
def test_a_time_zone_is_found_by_the_other_exchanges_and_by_the_own_longer_candles(store, opener, hours):
    rewrite(store, OKX_BTC, lambda rows: rows.with_columns(pl.col("open_time") + timedelta(hours=hours)))
    agreement = compare_exchanges(store, MARKETS, LAST)
    assert agreement.apart == [OKX_BTC]
    assert f"shifted by +{hours} h" in agreement.standings[OKX_BTC].reasons[0]
    differing = {str(one.market) for one in compare_with_native(store, MARKETS, opener, LAST).compared if one.differing}
    assert differing == {str(OKX_BTC)}


def test_an_unfinished_minute_that_was_stored_as_final_is_found_by_the_longer_candles(store, opener):
    is_it = pl.col("open_time") == at("2024-12-30T23:59")

    def unfinished(rows):
        return rows.with_columns(
            pl.when(is_it).then(pl.col(name) / 3).otherwise(name).alias(name) for name in ("volume", "quote_volume")
        )

    part = Slice(OKX_BTC, (Timeframe.M1,), DAYS)
    rewrite(store, OKX_BTC, unfinished)
    store.replace(RAW_OHLCV, part, unfinished(store.read(RAW_OHLCV, part)))  # it came like that
    for verdict in inspect_candles(store, part).values():
        assert (verdict.broken, verdict.doubts) == ({}, {}), "the minute alone looks like any other"
    (found,) = [one for one in compare_with_native(store, MARKETS, opener, LAST).compared if one.differing]
    assert (found.market, found.differing, found.cause) == (OKX_BTC, 3, RESTATED)
