"""What of a backtest's range is missing, and why.

Not here: filling it (``backtest_generation``), the coverage of whole days (``pipeline.coverage``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from mdp.domain.aligned import whole_slots
from mdp.domain.gaps import Cause, cut, find_gaps
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import Incomplete
from mdp.pipeline.coverage import NOT_RESAMPLED
from mdp.pipeline.manifests import whole_days
from mdp.pipeline.snapshots import read_snapshot
from mdp.ports import GAPS, Slice
from mdp.reading.backtest_past import Past

_LISTED = 20
"""Stretches that an error names; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A stretch of the range without candles.

    Attributes:
        market: Whose.
        interval: The stretch.
        minutes: How many of it are missing.
        cause: One of ``mdp.domain.gaps.Cause``; ``not resampled`` where the minutes are there and a longer candle is
            not, or holds another number of them.
        is_permanent: Whether it was missing whenever it was asked for, times enough.
        detail: Where a known cause is written; None without one.
    """

    market: Market
    interval: Interval
    minutes: int
    cause: str
    is_permanent: bool = False
    detail: str | None = None

    @property
    def is_explained(self) -> bool:
        """Tell whether nothing is left to ask for: it is known why the exchange has none, or missing for good."""
        return self.is_permanent or (not self.is_stale and Cause(self.cause).is_explained)

    @property
    def is_stale(self) -> bool:
        """Tell whether the minutes are there, and only a longer candle is not theirs."""
        return self.cause == NOT_RESAMPLED

    def __str__(self) -> str:
        return f"{self.market} {self.interval}"


def find_missing(past: Past, markets: Iterable[Market], timeframes: Sequence[Timeframe]) -> tuple[Missing, ...]:
    """List what is missing of a range, explained or not; by market, then by kind, then ascending.

    It is judged by the minutes; where a snapshot holds none, by the shortest of the timeframes. Causes are those that
    are known now, also where candles are read as of an earlier time.

    Args:
        past: The range, and what may be seen of it.
        markets: Each once.
        timeframes: That are wanted, shortest first. Longer ones are compared with the minutes: is each bucket there,
            with as many minutes as are stored?
    """
    found: list[Missing] = []
    for market in markets:
        grid = Timeframe.M1 if market.is_volatility_index or holds_minutes(past, market) else timeframes[0]
        longer = [one for one in timeframes if grid is Timeframe.M1 and one is not grid]
        stale: list[Missing] = []
        for month in past.window.months():
            rows = past.open_times(market, grid, month)
            found = _joined(found, _holes(past, market, grid, month, rows["open_time"]))
            # an index has no longer candles of its own, and as of a time they are made of the minutes as they were
            if not market.is_volatility_index and past.view.as_of is None:
                stale += [one for length in longer for one in _stale(past, market, length, month, rows)]
        found += stale
    return tuple(found)


def holds_minutes(past: Past, market: Market) -> bool:
    """Tell whether minutes of a market can be read: not of a snapshot that holds longer candles only."""
    if past.view.snapshot is None:
        return True
    return Timeframe.M1 in past.timeframes_of(market)


def require_whole(missing: Iterable[Missing]) -> None:
    """Refuse a range that lacks more than what is explained.

    Raises:
        Incomplete: names the stretches.
    """
    left = [one for one in missing if not one.is_explained]
    if not left:
        return
    listed = {str(one): f"{one.minutes} minutes, {one.cause}" for one in left[:_LISTED]}
    if len(left) > _LISTED:
        rest = left[_LISTED:]
        listed["and"] = f"{len(rest)} more stretches, {sum(one.minutes for one in rest)} minutes"
    raise Incomplete(listed, retryable=False)


def _holes(past: Past, market: Market, grid: Timeframe, month: Interval, opened: pl.Series) -> Iterator[Missing]:
    within = whole_slots(month, grid)
    if within.end > past.window.end:  # a slot that is not over by the end of the range is not expected
        within = Interval(within.start, max(within.start, grid.floor(past.window.end)))
    if within.is_empty:
        return
    runs = find_gaps(opened, grid, within)
    recorded = _recorded_gaps(past, market, within) if runs else []
    for piece in cut(runs, recorded, lambda one: one.interval):
        minutes = piece.interval.duration // timedelta(minutes=1)
        if piece.spans:
            known = piece.spans[0]
            yield Missing(market, piece.interval, minutes, known.cause, known.is_permanent, known.detail)
        else:
            yield Missing(market, piece.interval, minutes, Cause.UNFETCHED.value)


def _recorded_gaps(past: Past, market: Market, within: Interval) -> list[Missing]:
    part = Slice(market, (Timeframe.M1,), whole_days(within))
    store, name = past.view.store, past.view.snapshot
    rows = store.read(GAPS, part) if name is None else read_snapshot(store, name, GAPS, part)
    return [
        Missing(market, Interval(start, end), 0, cause, bool(is_permanent), detail)
        for start, end, cause, is_permanent, detail in rows.select(
            "start", "end", "cause", "is_permanent", "detail"
        ).iter_rows()
    ]


def _stale(past: Past, market: Market, length: Timeframe, month: Interval, minutes: pl.DataFrame) -> Iterator[Missing]:
    """Buckets inside the range that are not there, or do not hold as many minutes as are stored."""
    bucket = pl.col("open_time").dt.truncate(length.value)
    is_inside = (bucket >= past.window.start) & (bucket + length.duration <= past.window.end)
    expected = minutes.filter(is_inside).group_by(bucket.alias("open_time")).agg(pl.len().alias("expected"))
    stored = past.open_times(market, length, month)
    wrong = (
        expected.join(stored, on="open_time", how="full", coalesce=True)
        .filter(pl.col("expected").ne_missing(pl.col("minutes")))
        .sort("open_time")
    )
    found: list[Missing] = []
    for opened, count in wrong.select("open_time", pl.col("expected").fill_null(0)).iter_rows():
        one = Missing(market, Interval(opened, opened + length.duration), count, NOT_RESAMPLED)
        found = _joined(found, [one])
    yield from found


def _joined(found: list[Missing], more: Iterable[Missing]) -> list[Missing]:
    """Join what touches and is alike: gaps end with their day and are found by the month, people think of neither."""
    for one in more:
        last = found[-1] if found else None
        if last and last.interval.end == one.interval.start and _kind(last) == _kind(one):
            whole = Interval(last.interval.start, one.interval.end)
            found[-1] = Missing(one.market, whole, last.minutes + one.minutes, one.cause, one.is_permanent, one.detail)
        else:
            found.append(one)
    return found


def _kind(one: Missing) -> tuple[object, ...]:
    return one.market, one.cause, one.is_permanent, one.detail
