"""How old the newest stored minute of each market is.

Not here: whether the days before it are complete (``pipeline.coverage``).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from mdp.domain.interval import DAY, Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.ports import DVOL, OHLCV, CandleStore, Slice

FRESH_WITHIN = timedelta(hours=26)
"""A day is collected within two hours of its end."""


def lags(store: CandleStore, markets: Iterable[Market], now: datetime) -> dict[Market, timedelta | None]:
    """Return how long ago the last stored minute of each market or index closed; None when it is over a week."""
    window = Interval(now - 7 * DAY, now)
    found: dict[Market, timedelta | None] = {}
    for market in markets:
        table = DVOL if market.is_volatility_index else OHLCV
        last = store.read(table, Slice(market, (Timeframe.M1,), window), columns=["open_time"])["open_time"].max()
        found[market] = now - last - Timeframe.M1.duration if isinstance(last, datetime) else None
    return found


def last_full_day(now: datetime) -> Interval:
    """Return the last UTC day that has ended."""
    today = Timeframe.D1.floor(now)
    return Interval(today - DAY, today)
