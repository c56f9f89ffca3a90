"""From when to when anything of a market is stored.

Not here: what is missing between (``reports``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.ports import DVOL, OHLCV, CandleStore, Slice
from mdp.reading.arguments import FIRST_DAY

_YEARS = 4
"""Looked at together: 2.1 million minutes, of which only the times are read."""


def stored_range(store: CandleStore, market: Market, now: datetime) -> Interval | None:
    """Return the range from the first stored minute to the end of the last one; None where nothing is stored."""
    windows = list(_windows(Interval(FIRST_DAY, max(now, FIRST_DAY) + Timeframe.D1.duration)))
    first = _first_found(store, market, windows, at=0)
    last = None if first is None else _first_found(store, market, reversed(windows), at=-1)
    if first is None or last is None:
        return None
    return Interval(first, last + Timeframe.M1.duration)


def _first_found(store: CandleStore, market: Market, windows: Iterable[Interval], *, at: int) -> datetime | None:
    table = DVOL if market.is_volatility_index else OHLCV
    for window in windows:
        found = store.read(table, Slice(market, (Timeframe.M1,), window), columns=["open_time"])["open_time"]
        if not found.is_empty():
            moment: datetime = found[at]
            return moment
    return None


def _windows(whole: Interval) -> Iterator[Interval]:
    start = whole.start
    while start < whole.end:
        end = min(datetime(start.year // _YEARS * _YEARS + _YEARS, 1, 1, tzinfo=UTC), whole.end)
        yield Interval(start, end)
        start = end
