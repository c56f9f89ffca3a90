"""Rows for any table, made from its schema: what a store must bring back, whatever they mean.

Not here: rows that are good candles (``support.builders``).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.ports import OHLCV, CandleStore, Slice, Table
from mdp_tests.support.builders import MARKET, NOW, at, window

OTHER_MARKET = Market.parse("okx:SOL-USDT")


def part(start: str | datetime, end: str | datetime, *timeframes: str, market: Market = MARKET) -> Slice:
    """Return a slice at the given timeframes, 1m when none is given."""
    lengths = tuple(Timeframe(timeframe) for timeframe in timeframes or ("1m",))
    if isinstance(start, str) and isinstance(end, str):
        return Slice(market, lengths, window(start, end))
    return Slice(market, lengths, Interval(start, end))


DAY = part("2024-12-30", "2024-12-31")
EVER = part("2000-01-01", "2100-01-01", "1m", "5m", "15m", "1h", "4h", "1d")


def rows_at(
    table: Table,
    moments: Iterable[str | datetime],
    *,
    market: Market = MARKET,
    timeframe: str = "1m",
    seed: int = 0,
    has_holes: bool = True,
) -> pl.DataFrame:
    """Return one row for each moment of the table's time column, with random values in all other columns.

    Args:
        has_holes: Whether a tenth of the values is missing and another is extreme.
    """
    chance = random.Random(seed)
    key = {"exchange": market.exchange.value, "symbol": market.symbol_key, "timeframe": timeframe}
    rows = []
    for moment in moments:
        fixed = {**key, table.time_column: at(moment) if isinstance(moment, str) else moment}
        rows.append([fixed.get(name) or _value(chance, dtype, has_holes) for name, dtype in table.schema.items()])
    return pl.DataFrame(rows, schema=table.schema, orient="row")


def everything(store: CandleStore, table: Table = OHLCV) -> pl.DataFrame:
    """Return all rows of the two markets of these tests."""
    of_other = Slice(OTHER_MARKET, EVER.timeframes, EVER.window)
    return pl.concat([store.read(table, EVER), store.read(table, of_other)])


def _value(chance: random.Random, dtype: pl.DataType, has_holes: bool) -> Any:
    if has_holes and chance.random() < 0.1:
        return None
    if dtype == pl.Float64:
        odd = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1 + 0.2]
        return chance.choice(odd) if has_holes and chance.random() < 0.1 else round(chance.uniform(1, 90_000), 2)
    if dtype == pl.List(pl.String):
        return chance.choice([[], ["high_is_highest"], ["key_unique", "price_positive", 'it\'s "ünïcode" \\']])
    if isinstance(dtype, pl.Datetime):
        return NOW + timedelta(microseconds=chance.randrange(10**15))
    return {pl.Boolean: chance.random() < 0.5, pl.String: chance.choice(["rest", "", "a'b;--"])}.get(
        type(dtype), chance.randrange(2**31)
    )
