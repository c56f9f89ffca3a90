"""The exchanges compared with each other, as they are stored; made of a recorded day."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from mdp.domain.market import SPOT_MARKETS, Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.checking.agreement import compare_exchanges
from mdp.pipeline.checking.freshness import lags
from mdp.ports import DVOL, OHLCV, Slice
from mdp.storage.memory import MemoryStore
from mdp_tests.golden.binance_native.test_resampling_equals_binance import minutes_of
from mdp_tests.support.builders import NOW, at, frame, window

DAY = window("2024-12-30", "2024-12-31")
BINANCE, BYBIT, OKX = (Market(exchange, "BTC", "USDT") for exchange in (Exchange.BINANCE, Exchange.BYBIT, Exchange.OKX))
MARKETS = (BINANCE, BYBIT, OKX)


def day_at(market, seed=0):
    """The recorded day as another exchange would have seen it, a basis point away from minute to minute."""
    rows = minutes_of("2024-12-30")
    noise = np.exp(np.random.default_rng(seed).standard_normal(len(rows)) * 1e-4) if seed else 1.0
    prices = (pl.col(name) * noise for name in ("open", "high", "low", "close"))
    return rows.with_columns(exchange=pl.lit(market.exchange.value)).with_columns(prices)


def put(store, market, rows):
    store.replace(OHLCV, Slice(market, (Timeframe.M1,), window("2024-12-29", "2025-01-01")), rows)


@pytest.fixture
def store():
    kept = MemoryStore()
    for seed, market in enumerate(MARKETS):
        put(kept, market, day_at(market, seed))
    return kept


def later(rows, hours):
    return rows.with_columns(pl.col("open_time") + timedelta(hours=hours))


def test_a_recorded_day_at_three_exchanges_agrees(store):
    found = compare_exchanges(store, MARKETS, DAY)
    assert found.standings.keys() == set(MARKETS)
    assert (found.apart, found.not_judged, found.far_minutes) == ([], {}, ())


@pytest.mark.parametrize("hours", [8, 9, -5])
def test_a_day_of_another_time_zone_is_named_with_its_hours(store, hours):
    put(store, OKX, later(day_at(OKX, 2), hours))
    found = compare_exchanges(store, MARKETS, DAY)
    assert found.apart == [OKX]
    assert [f"shifted by {hours:+d} h " in reason for reason in found.standings[OKX].reasons] == [True, True]


def test_prices_of_a_test_network_are_named_with_the_minutes_furthest_apart(store):
    rows = day_at(BYBIT, 1)
    put(store, BYBIT, rows.with_columns(close=pl.when(pl.int_range(pl.len()) == 7).then(1.0).otherwise("close") * 1.01))
    found = compare_exchanges(store, MARKETS, DAY)
    assert found.apart == [BYBIT]
    assert "price level is +1.0" in found.standings[BYBIT].reasons[0]
    assert len(found.far_minutes) == 20
    worst = found.far_minutes[0]
    assert (worst.symbol, worst.open_time, worst.closes["bybit"]) == ("BTC-USDT", at("2024-12-30T00:07"), 1.01)
    assert worst.distance > 10_000


def test_the_outer_two_of_three_levels_disagree_though_none_of_them_is_named(store):
    for market, level in ((BINANCE, 0.9983), (BYBIT, 1.0), (OKX, 1.0017)):
        put(store, market, day_at(market).with_columns(pl.col("close") * level))
    found = compare_exchanges(store, MARKETS, DAY)
    assert found.apart == []
    assert [(market, why.split(" is ")[0]) for market, why in found.disputes] == [
        (BINANCE, "against okx: price level"), (OKX, "against binance: price level"),
    ]  # fmt: skip
    assert len(found.far_minutes) == 20


def test_one_exchange_alone_is_not_judged_and_says_so(store):
    only = MemoryStore()
    put(only, OKX, day_at(OKX))
    found = compare_exchanges(only, SPOT_MARKETS, DAY)
    assert found.standings == {}
    assert found.not_judged.keys() == {"BTC-USDT", "ETH-USDT", "SOL-USDT"}
    assert found.not_judged["BTC-USDT"].endswith("stored: okx")
    assert found.not_judged["SOL-USDT"].endswith("stored: none")


def test_a_market_with_few_minutes_is_not_judged_beside_those_that_have_all(store):
    put(store, OKX, day_at(OKX).head(59))
    found = compare_exchanges(store, MARKETS, DAY)
    assert found.standings.keys() == {BINANCE, BYBIT}
    assert found.not_judged == {"okx:BTC-USDT": "fewer than 60 minutes in common with any other"}


def test_a_market_that_is_not_stored_is_not_judged_beside_those_that_are(store):
    put(store, BYBIT, day_at(BYBIT).clear())
    put(store, OKX, day_at(OKX).head(59))
    found = compare_exchanges(store, MARKETS, DAY)
    assert found.not_judged == {"BTC-USDT": found.not_judged["BTC-USDT"]}, "59 minutes in common prove nothing"
    put(store, OKX, day_at(OKX).head(60))
    found = compare_exchanges(store, MARKETS, DAY)
    assert found.standings.keys() == {BINANCE, OKX}
    assert found.not_judged == {"bybit:BTC-USDT": "no candles stored"}


def test_minutes_outside_the_window_are_not_looked_at(store):
    put(store, OKX, pl.concat([later(day_at(OKX), -24).with_columns(close=1.0), day_at(OKX, 2)]))
    assert compare_exchanges(store, MARKETS, DAY).apart == []


def test_an_index_is_as_old_as_its_newest_minute():
    store, index = MemoryStore(), Market.parse("deribit:BTC-DVOL")
    row = {"exchange": "deribit", "symbol": "BTC-DVOL", "timeframe": "1m", "open_time": at("2024-12-30T23:59"),
           "dvol": 50.0, "hour_open_time": at("2024-12-30T22:00"), "age_minutes": 59, "source": "rest",
           "ingested_at": NOW}  # fmt: skip
    store.replace(DVOL, Slice(index, (Timeframe.M1,), DAY), frame([row], DVOL.schema))
    assert lags(store, [index, BINANCE], at("2024-12-31T00:40")) == {index: timedelta(minutes=40), BINANCE: None}
    week_later = at("2025-01-06T23:59")
    assert lags(store, [index], week_later) == {index: timedelta(days=7) - timedelta(minutes=1)}
    assert lags(store, [index], week_later + timedelta(seconds=1)) == {index: None}
