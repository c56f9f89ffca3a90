"""How much of what should be stored is there, and what is known about the rest.

Not here: filling anything (``collect`` asks again), pictures of it (``cli``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date, datetime

import polars as pl

from mdp.domain.gaps import Cause, Coverage
from mdp.domain.interval import Interval, merge
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.batches import rows_by_day
from mdp.ports import DVOL, GAPS, OHLCV, CandleStore, Slice


def coverage_by_day(store: CandleStore, market: Market, window: Interval) -> dict[date, Coverage]:
    """Count the present and missing minutes of each day of a window.

    Args:
        store: Where candles and gaps are.
        market: A spot market or a volatility index.
        window: Whole UTC days.

    Returns:
        Every day of the window. Slots that are neither stored nor recorded as a gap are ``unfetched``.
    """
    part = Slice(market, (Timeframe.M1,), window)
    table = DVOL if market.is_volatility_index else OHLCV
    present = store.read(table, part, columns=["open_time"])
    gaps = store.read(GAPS, part, columns=["start", "cause", "slots"])
    rows = dict(rows_by_day(present, "open_time", part))
    return {
        day: _coverage(len(rows[day]), found, Interval.of_day(day).slots(Timeframe.M1))
        for day, found in rows_by_day(gaps, "start", part)
    }


def stored_days(store: CandleStore, market: Market, within: Interval) -> Interval | None:
    """Return the days from the first to the last of which a candle or a gap is stored; None when there is none."""
    part = Slice(market, (Timeframe.M1,), within)
    table = DVOL if market.is_volatility_index else OHLCV
    known = pl.concat([store.read(table, part, columns=["open_time"])["open_time"], store.read(GAPS, part)["start"]])
    first, last = known.min(), known.max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        return None
    return Interval.of_days(first.date(), last.date())


def missing_days(days: Mapping[date, Coverage]) -> list[Interval]:
    """Return the stretches of days that hold a slot which is neither stored nor explained."""
    return merge(Interval.of_day(day) for day, found in days.items() if not found.is_explained)


def total(days: Mapping[date, Coverage]) -> Coverage:
    """Add the days up."""
    missing: Counter[Cause] = Counter()
    for day in days.values():
        missing.update(day.missing)
    return Coverage(
        sum(day.expected for day in days.values()), sum(day.present for day in days.values()), dict(missing)
    )


def _coverage(present: int, gaps: pl.DataFrame, expected: int) -> Coverage:
    missing: Counter[Cause] = Counter()
    for cause, slots in gaps.select("cause", "slots").iter_rows():
        missing[Cause(cause)] += slots
    unfetched = expected - present - missing.total()
    if unfetched:
        missing[Cause.UNFETCHED] += unfetched
    return Coverage(expected, present, dict(missing))
