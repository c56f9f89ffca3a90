"""How much of what should be stored is there, what is known about the rest, and what is left to do.

Not here: filling anything (``collect`` asks again), pictures of it (``cli``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import polars as pl

from mdp.domain.dvol import LENGTHS
from mdp.domain.gaps import Cause, Coverage, cut, find_gaps
from mdp.domain.interval import Interval, merge
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.batches import days_of, parts_of, rows_by_day
from mdp.pipeline.failed_days import FailedDays, days_failed
from mdp.pipeline.integrity import inspect_resampled
from mdp.ports import DVOL, FETCHES, GAPS, OHLCV, CandleStore, Slice

NOT_RESAMPLED = "not resampled"
"""What is left to do on a day whose longer candles are not those of its minutes."""

NOT_COLLECTED = "not collected: what is stored was received live"
"""What is left to do on a day that nobody asked for as a whole, however many of its minutes feeds received."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A stretch of a market that is not complete, how many minutes of it, and why.

    The reason is a cause, ``NOT_COLLECTED`` or ``NOT_RESAMPLED``; of days that are not collected the minutes are those
    that are stored.
    """

    market: Market
    interval: Interval
    minutes: int
    reason: str


def coverage_by_day(store: CandleStore, market: Market, window: Interval) -> dict[date, Coverage]:
    """Count the present and missing minutes of each day of a window.

    Args:
        store: Where candles and gaps are.
        market: A spot market or a volatility index.
        window: Whole UTC days.

    Returns:
        Every day of the window. Minutes that are neither stored nor recorded as a gap are ``unfetched``; a gap recorded
        where a candle is counts for nothing.
    """
    found: dict[date, Coverage] = {}
    for part in _months(market, window):
        present, gaps = _minutes(store, part), store.read(GAPS, part)
        rows, recorded = dict(rows_by_day(present, "open_time", part)), dict(rows_by_day(gaps, "start", part))
        found |= {day: _coverage(rows[day]["open_time"], recorded[day], whole) for day, whole in days_of(part)}
    return found


def known_days(store: CandleStore, market: Market, within: Interval) -> list[Interval]:
    """Return the stretches of whole UTC days of which anything is known: ascending, none touches another.

    Known is a day that was asked for, of which a candle or a gap is stored, or of which is written down that it could
    not be collected.

    Args:
        store: Where.
        market: A spot market or a volatility index.
        within: What of it begins outside counts for nothing.
    """
    part = Slice(market, (Timeframe.M1,), within)
    asked_at = LENGTHS if market.is_volatility_index else part.timeframes
    moments = [
        _minutes(store, part)["open_time"],
        store.read(GAPS, part, columns=["start"])["start"],
        store.read(FETCHES, Slice(market, asked_at, within), columns=["window_start"])["window_start"],
    ]
    days = {day for some in moments for day in some.dt.date().unique().to_list()}
    failed = [one.window for one in failed_days(store, market, within)]
    return merge([*(Interval.of_day(day) for day in days), *failed])


def stored_days(store: CandleStore, market: Market, within: Interval) -> Interval | None:
    """Return the days from the first to the last of which anything is known; None when there is none."""
    known = known_days(store, market, within)
    return Interval(known[0].start, known[-1].end) if known else None


def coverage_of_stored_days(store: CandleStore, market: Market, within: Interval) -> dict[date, Coverage]:
    """Return the coverage of :func:`stored_days`; empty when nothing is stored."""
    window = stored_days(store, market, within)
    return coverage_by_day(store, market, window) if window else {}


def shortfalls(store: CandleStore, market: Market, window: Interval) -> list[Shortfall]:
    """List what keeps a market from being complete in a window of whole UTC days.

    Complete is a day that was collected, whose every minute is stored, explained or permanently missing, and whose
    longer candles are those of its minutes: the last layer counts too, for a run may have died before it. What a feed
    received collects no day: only the answer for the whole of it is what its minutes are measured by.

    Returns:
        Ascending within each kind: gaps that are neither explained nor permanent, stretches nobody asked for, days that
        were only received live, days not resampled.
    """
    recorded = store.read(GAPS, Slice(market, (Timeframe.M1,), window))
    days = coverage_by_day(store, market, window)
    unfetched = {day: found.missing[Cause.UNFETCHED] for day, found in days.items() if Cause.UNFETCHED in found.missing}
    left = [
        Shortfall(market, Interval(row["start"], row["end"]), row["slots"], row["cause"])
        for row in recorded.filter(may_be_filled()).iter_rows(named=True)
    ]
    left += _stretches(market, unfetched, Cause.UNFETCHED.value)
    left += _stretches(market, _only_received_live(store, market, window, days), NOT_COLLECTED)
    if not market.is_volatility_index:
        stale = {
            day: days[day].present
            for part in _months(market, window)
            for day, seen in inspect_resampled(store, part).items()
            if not seen.holds
        }
        left += _stretches(market, stale, NOT_RESAMPLED)
    return left


def may_be_filled() -> pl.Expr:
    """Tell of a row of ``GAP_SCHEMA`` whether asking again may fill it: it is neither explained nor permanent."""
    explained = [cause.value for cause in Cause if cause.is_explained]
    return ~pl.col("cause").is_in(explained) & ~pl.col("is_permanent").fill_null(value=False)


def idle_minutes(store: CandleStore, market: Market, window: Interval) -> dict[date, int]:
    """Count the stored minutes of each day in which nothing was traded: they are candles, and no gaps.

    Args:
        store: Where candles are.
        market: A spot market; an index has no volume, and none of its minutes is idle.
        window: Whole UTC days.

    Returns:
        Every day of the window that has any.
    """
    found: dict[date, int] = {}
    for part in [] if market.is_volatility_index else _months(market, window):
        idle = store.read(OHLCV, part, columns=["open_time", "volume"]).filter(pl.col("volume") == 0)
        days = idle.group_by(pl.col("open_time").dt.date().alias("day")).agg(pl.len().alias("minutes")).sort("day")
        found |= dict(days.iter_rows())
    return found


def failed_days(store: CandleStore, market: Market, window: Interval) -> list[FailedDays]:
    """Return the days of a market whose latest attempt failed, and why; ascending.

    An index may be asked for by the hour one day and by the minute another: its latest attempt is that of either.
    """
    asked_at = LENGTHS if market.is_volatility_index else (Timeframe.M1,)
    return days_failed(store, Slice(market, asked_at, window))


def days_to_do(left: Iterable[Shortfall], failed: Iterable[FailedDays] = ()) -> list[Interval]:
    """Return the stretches of whole days that hold a shortfall, or whose latest attempt failed."""
    windows = [*(one.interval for one in left), *(one.window for one in failed)]
    return merge(Interval.of_day(day.start.date()) for window in windows for day in window.days())


def total(days: Mapping[date, Coverage]) -> Coverage:
    """Add the days up."""
    missing: Counter[Cause] = Counter()
    for day in days.values():
        missing.update(day.missing)
    return Coverage(
        sum(day.expected for day in days.values()),
        sum(day.present for day in days.values()),
        dict(missing),
        sum(day.permanent for day in days.values()),
    )


def _months(market: Market, window: Interval) -> list[Slice]:
    """A window of whole days month by month: what is held does not grow with its length."""
    return parts_of((market, day.start.date()) for day in window.days())


def _minutes(store: CandleStore, part: Slice) -> pl.DataFrame:
    """The open times of a market's stored minutes."""
    return store.read(DVOL if part.market.is_volatility_index else OHLCV, part, columns=["open_time"])


def _only_received_live(
    store: CandleStore, market: Market, window: Interval, days: Mapping[date, Coverage]
) -> dict[date, int]:
    """The stored minutes of each day that has some and was never asked for."""
    asked_at = LENGTHS if market.is_volatility_index else (Timeframe.M1,)
    asked = store.read(FETCHES, Slice(market, asked_at, window), columns=["window_start"])["window_start"]
    collected = set(asked.dt.date().to_list())
    return {day: found.present for day, found in days.items() if found.present and day not in collected}


def _coverage(open_times: pl.Series, recorded: pl.DataFrame, whole: Interval) -> Coverage:
    missing: Counter[Cause] = Counter()
    permanent = 0
    gaps = [
        (Interval(start, end), Cause(name), bool(is_permanent))
        for start, end, name, is_permanent in recorded.select("start", "end", "cause", "is_permanent").iter_rows()
    ]
    for piece in cut(find_gaps(open_times, Timeframe.M1, whole), gaps, lambda gap: gap[0]):
        slots = piece.interval.slots(Timeframe.M1)
        _, cause, is_permanent = piece.spans[0] if piece.spans else (whole, Cause.UNFETCHED, False)
        missing[cause] += slots
        permanent += slots if is_permanent and not cause.is_explained else 0
    expected = whole.slots(Timeframe.M1)
    by_cause = {cause: slots for cause, slots in missing.items() if slots}
    return Coverage(expected, expected - missing.total(), by_cause, permanent)


def _stretches(market: Market, minutes: Mapping[date, int], reason: str) -> list[Shortfall]:
    """Join consecutive days into one shortfall each."""
    return [
        Shortfall(market, stretch, sum(minutes[day.start.date()] for day in stretch.days()), reason)
        for stretch in merge(Interval.of_day(day) for day in minutes)
    ]
