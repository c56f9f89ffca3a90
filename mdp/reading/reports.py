"""What is known about stored markets, for commands and the service alike: coverage and gaps by day, revisions.

Not here: counting (``pipeline.coverage_report``), how it is shown (``cli``, ``api``).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import polars as pl

from mdp.domain.candles import REVISION_SCHEMA
from mdp.domain.dvol import LENGTHS
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
from mdp.domain.revisions import each_change_once
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.coverage_report import MarketReport, report_market
from mdp.pipeline.failed_days import FailedDays
from mdp.ports import REVISIONS, CandleStore, Slice
from mdp.reading.arguments import FIRST_DAY


def report(store: CandleStore, market: Market, days: Interval | None, now: datetime) -> MarketReport:
    """Report a market over a window of whole days, or over all its days that anything is known of.

    Args:
        store: Where it is stored.
        market: Which.
        days: The window; None: all that is known.
        now: The present.
    """
    return report_market(store, market, days or Interval(FIRST_DAY, now), is_whole=days is not None)


def revisions_of(store: CandleStore, markets: Iterable[Market], window: Interval) -> pl.DataFrame:
    """Return stored candles for which the exchange later gave other values, each change once.

    Shape:
        ``REVISION_SCHEMA``, by market as given, then by open time, then as recorded.
    """
    found = [REVISION_SCHEMA.to_frame()]
    for market in markets:
        lengths = LENGTHS if market.is_volatility_index else (Timeframe.M1,)
        changes = each_change_once(store.read(REVISIONS, Slice(market, lengths, window)))
        found.append(changes.sort("open_time", maintain_order=True))
    return pl.concat(found)


def failed_json(one: FailedDays) -> dict[str, Any]:
    """Return a stretch of days whose latest attempt failed, for machines; ``end`` is not part of it."""
    return {
        "start": str(one.window.start.date()),
        "end": str(one.window.end.date()),
        "error": one.error,
        "message": one.message,
        "retryable": one.retryable,
        "attempts": one.attempts,
        "failed_at": format_time(one.failed_at),
    }
