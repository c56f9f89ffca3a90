"""Does what is stored agree with the clock, with the other exchanges and with the exchange's own longer candles?

Not here: whether a table keeps its own promises (``integrity``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from mdp.domain.interval import DAY, Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.ports import OHLCV, CandleStore, OpenSource, Slice

FRESH_WITHIN = timedelta(hours=26)
"""A day is collected within two hours of its end."""

CLOSES_WITHIN = 0.01
"""How far 99 % of a market's closes may lie from the median of the exchanges, as a share of the price."""

DISAGREEMENT_SQL = """
    SELECT exchange, symbol, count(*) AS minutes, quantile_cont(abs(close / median - 1), 0.99) AS distance
    FROM (
        SELECT *, median(close) OVER (PARTITION BY symbol, open_time) AS median,
                  count(*) OVER (PARTITION BY symbol, open_time) AS exchanges
        FROM ohlcv_1m WHERE open_time >= ? AND open_time < ?
    )
    WHERE exchanges >= 3
    GROUP BY ALL ORDER BY symbol, exchange
"""
"""Distance of each market's closes from the median of at least three exchanges; parameters: start and end."""


@dataclass(frozen=True, slots=True)
class NativeComparison:
    """Our candles of one market on one day, against the exchange's own: how many, and how many differ."""

    market: Market
    window: Interval
    compared: int
    differing: int


def lags(store: CandleStore, markets: Iterable[Market], now: datetime) -> dict[Market, timedelta | None]:
    """Return how long ago the last stored minute of each market closed; None when it is over a week."""
    window = Interval(now - 7 * DAY, now)
    found: dict[Market, timedelta | None] = {}
    for market in markets:
        last = store.read(OHLCV, Slice(market, (Timeframe.M1,), window), columns=["open_time"])["open_time"].max()
        found[market] = now - last - Timeframe.M1.duration if isinstance(last, datetime) else None
    return found


def last_full_day(now: datetime) -> Interval:
    """Return the last UTC day that has ended."""
    today = Timeframe.D1.floor(now)
    return Interval(today - DAY, today)


def compare_with_native(
    store: CandleStore, markets: Iterable[Market], open_source: OpenSource, window: Interval
) -> list[NativeComparison]:
    """Ask each exchange for its own 1h candles of a window and compare them with ours.

    Open, high, low and close must be equal, volume to 8 decimals; a candle that only one side has differs. A market
    without any stored candle in the window is left out: whether it should have some, ``lags`` tells.

    Raises:
        ExchangeError: an exchange could not be asked.
    """
    hour = Timeframe.H1

    async def native(market: Market) -> pl.DataFrame:
        async with open_source(market.exchange) as source:
            return (await source.fetch(market, hour, window)).rows

    compared = []
    for market in markets:
        ours = store.read(OHLCV, Slice(market, (hour,), window))
        if ours.is_empty():
            continue
        theirs = asyncio.run(native(market)).filter("closed").unique("open_time", keep="last")
        both = ours.join(theirs, on="open_time", how="full", suffix="_native", coalesce=True)
        prices = pl.any_horizontal(
            pl.col(name).ne_missing(pl.col(f"{name}_native")) for name in ("open", "high", "low", "close")
        )
        volume = pl.col("volume").round(8).ne_missing(pl.col("volume_native").round(8))
        compared.append(NativeComparison(market, window, len(both), both.filter(prices | volume).height))
    return compared
