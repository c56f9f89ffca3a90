"""Pages that tile a window, and the slots an answer left empty. Pure.

Not here: how an exchange spells the bounds of a page (each exchange's ``pager``), asking for it (``paging``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from mdp.domain.interval import Interval
from mdp.domain.timeframe import EPOCH, Timeframe

_MICROSECOND = timedelta(microseconds=1)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Page:
    """What one request asks for.

    Attributes:
        window: Candles that open inside it; no more slots than the exchange gives in one answer.
        endpoint: Where it is asked: CCXT's name of the method, or a path.
        max_rows: How many rows the exchange gives in one answer.
    """

    window: Interval
    endpoint: str
    max_rows: int


def tile(window: Interval, timeframe: Timeframe, max_slots: int) -> list[Interval]:
    """Cut a window into parts of at most ``max_slots`` slots.

    Returns:
        Ascending parts that tile the window exactly, off-grid edges included. Empty for an empty window.
    """
    parts: list[Interval] = []
    start = window.start
    while start < window.end:
        end = min(ceil_to_slot(start, timeframe) + max_slots * timeframe.duration, window.end)
        parts.append(Interval(start, end))
        start = end
    return parts


def ceil_to_slot(moment: datetime, timeframe: Timeframe) -> datetime:
    """Return the first open time at or after ``moment``."""
    return timeframe.floor(moment - _MICROSECOND) + timeframe.duration


def to_milliseconds(moment: datetime) -> int:
    """Return the first whole millisecond since the epoch at or after ``moment``."""
    return -((EPOCH - moment) // _MILLISECOND)


def missing_stretch(
    open_times: pl.Series, window: Interval, timeframe: Timeframe, settled_before: datetime
) -> Interval | None:
    """Return from the first to the last slot of ``window`` that ought to hold a candle and does not.

    A slot holds a candle when a row opens inside it, on the grid or not. A slot that closes after ``settled_before``
    owes nothing yet.

    Args:
        open_times: Open times received, any order; those outside the window are ignored.
        window: What was asked.
        timeframe: Its grid.
        settled_before: The exchange's time, less what it takes to publish a candle.

    Returns:
        A stretch that starts and ends on the grid, or None where nothing is missing.

    Shape:
        ``open_times`` is ``(n,)`` of ``Datetime("us", "UTC")``.
    """
    first = ceil_to_slot(window.start, timeframe)
    settled = Interval(first, max(first, min(window.end, timeframe.floor(settled_before))))
    slots = settled.slots(timeframe)
    if not slots:
        return None
    # Whole microseconds: a float of seconds would lose some.
    origin = (first - EPOCH) // _MICROSECOND
    seen = (open_times.to_numpy().view(np.int64) - origin) // timeframe.microseconds
    is_filled = np.zeros(slots, dtype=bool)
    is_filled[seen[(seen >= 0) & (seen < slots)]] = True
    empty = np.flatnonzero(~is_filled)
    if not empty.size:
        return None
    step = timeframe.duration
    return Interval(first + int(empty[0]) * step, first + (int(empty[-1]) + 1) * step)


def confirming_pages(page: Page, received: pl.Series, timeframe: Timeframe, settled_before: datetime) -> list[Page]:
    """Return what to ask again because the answer to ``page`` left slots empty: nothing, one page or two.

    Two halves where the answer was full: rows between the slots may then have pushed others out of it.
    """
    stretch = missing_stretch(received, page.window, timeframe, settled_before)
    if stretch is None:
        return []
    was_cut = len(received) >= page.max_rows
    slots = -(-stretch.slots(timeframe) // 2) if was_cut else page.max_rows
    return [Page(part, page.endpoint, page.max_rows) for part in tile(stretch, timeframe, slots)]


def join_answers(first: pl.DataFrame, again: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Add what a second asking brought: a row that only repeats one already received is left out.

    A row that says something else about the same candle stays, for the judge to see both.

    Shape:
        All of the same schema; compared by every column but ``fetched_at``.
    """
    compared = [name for name in first.columns if name != "fetched_at"]
    new = [frame.join(first, on=compared, how="anti", nulls_equal=True) for frame in again]
    return pl.concat([first, *new])
