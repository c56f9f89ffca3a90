"""Is the last day that should be stored there to its end, and how old is the newest stored minute of each market?

Not here: whether the days before it are complete (``pipeline.coverage``).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import polars as pl

from mdp.domain.interval import DAY, Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.coverage import may_be_filled
from mdp.ports import DVOL, GAPS, OHLCV, CandleStore, Slice

COLLECTED_AFTER = timedelta(minutes=40)
"""So long after the end of a day its last minute must be stored: collecting it begins after 10 to 15 minutes."""


def lags(store: CandleStore, markets: Iterable[Market], now: datetime) -> dict[Market, timedelta | None]:
    """Return how long ago the last stored minute of each market or index closed; None when it is over a week."""
    window = Interval(now - 7 * DAY, now)
    found: dict[Market, timedelta | None] = {}
    for market in markets:
        table = DVOL if market.is_volatility_index else OHLCV
        last = store.read(table, Slice(market, (Timeframe.M1,), window), columns=["open_time"])["open_time"].max()
        found[market] = now - last - Timeframe.M1.duration if isinstance(last, datetime) else None
    return found


def last_minute_due(now: datetime) -> Interval:
    """Return the last minute that must be stored: of the last UTC day, from 00:40 on; until then of the day before."""
    end = last_full_day(now - COLLECTED_AFTER).end
    return Interval(end - Timeframe.M1.duration, end)


def ends_missing(store: CandleStore, markets: Iterable[Market], now: datetime) -> dict[Market, str]:
    """Return the markets whose last day is not there to its end, and what is known of its last minute.

    A minute that is stored is there; so is one in a gap that is settled, explained or permanent: no more will come.
    """
    due = last_minute_due(now)
    day = Interval(due.end - DAY, due.end)
    found: dict[Market, str] = {}
    for market in markets:
        table = DVOL if market.is_volatility_index else OHLCV
        if not store.read(table, Slice(market, (Timeframe.M1,), due), columns=["open_time"]).is_empty():
            continue
        gaps = store.read(GAPS, Slice(market, (Timeframe.M1,), day)).filter(pl.col("end") == day.end)
        if gaps.is_empty():
            found[market] = "neither stored nor in a gap"
        elif gaps.select(may_be_filled().any()).item():
            found[market] = f"in a gap that may still be filled: {gaps['cause'][0]}"
    return found


def last_full_day(now: datetime) -> Interval:
    """Return the last UTC day that has ended."""
    today = Timeframe.D1.floor(now)
    return Interval(today - DAY, today)
