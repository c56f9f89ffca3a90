"""The unit of work: some days of one market in one month, what is written for them, and what to report.

Not here: how a batch is made (``collect``, ``judge``, ``resampling``), how it is stored (``storage``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl

from mdp.domain.digests import content_equals, digests_of_runs
from mdp.domain.interval import DAY, Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.pipeline.counting import count_unchanged, counted_write
from mdp.ports import ArchiveFile, CandleStore, Slice, Table

_MICROSECOND = timedelta(microseconds=1)
_DAY_US = DAY // _MICROSECOND


@dataclass(frozen=True, slots=True)
class DayReport:
    """What became of one market on one day; the fields are those of the metadata people read.

    Attributes:
        rows: Rows stored for the day.
        first_open_time: Of the stored rows; None without rows.
        last_open_time: The same for the last.
        digest: Of the stored rows (``domain.digests``).
        requests: Requests answered by the exchange for the batch the day was part of; None where it was not asked.
        source: Where the rows came from: ``rest``, ``archive`` or ``archive+rest``; None where they were made here.
        retried: Why requests for that batch were repeated, and how often.
        waited_s: Seconds that they waited for the budget, added up.
        files: Bulk files of the exchange that are about the day.
        gaps: Missing slots by cause.
        rejected: Rejected rows by rule.
        revised: Stored candles that were replaced by other values.
    """

    rows: int
    first_open_time: datetime | None
    last_open_time: datetime | None
    digest: str
    requests: int | None = None
    source: str | None = None
    retried: dict[str, int] = field(default_factory=dict)
    waited_s: float = 0.0
    files: tuple[ArchiveFile, ...] = ()
    gaps: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    revised: int | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """The new content of one slice of one table."""

    table: Table
    part: Slice
    rows: pl.DataFrame
    appends: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be written for some days of one market, in this order, and the report of each day."""

    part: Slice
    writes: tuple[Write, ...]
    days: dict[date, DayReport]


def parts_of(days: Iterable[tuple[Market, date]], timeframe: Timeframe = Timeframe.M1) -> list[Slice]:
    """Group market days into the fewest slices of consecutive days of one market inside one calendar month.

    Args:
        days: Any order, repetitions allowed.
        timeframe: Written into each slice.

    Returns:
        Slices ordered by market, then time; together they hold exactly the given days.
    """
    grouped: list[Slice] = []
    for market, day in sorted(set(days)):
        window = Interval.of_day(day)
        last = grouped[-1] if grouped else None
        if last and last.market == market and last.window.end == window.start and day.day != 1:
            grouped[-1] = Slice(market, (timeframe,), Interval(last.window.start, window.end))
        else:
            grouped.append(Slice(market, (timeframe,), window))
    return grouped


def days_of(part: Slice) -> Iterator[tuple[date, Interval]]:
    """Yield each UTC day of a slice and its window."""
    for window in part.window.days():
        yield window.start.date(), window


def rows_by_day(frame: pl.DataFrame, time_column: str, part: Slice) -> Iterator[tuple[date, pl.DataFrame]]:
    """Yield each day of a slice with its rows of ``frame``, in the order in which they stand there."""
    grouped, cuts = _cut(frame, time_column, part)
    for (day, _), (first, last) in zip(days_of(part), pairwise(cuts), strict=True):
        yield day, grouped.slice(first, last - first)


def report_days(frame: pl.DataFrame, time_column: str, part: Slice) -> dict[date, DayReport]:
    """Report of each day what every table has: number of rows, first and last open time, digest."""
    grouped, cuts = _cut(frame, time_column, part)
    digests = digests_of_runs(grouped, cuts)
    return {
        day: _report(grouped.slice(first, last - first), digest)
        for (day, _), (first, last), digest in zip(days_of(part), pairwise(cuts), digests, strict=True)
    }


def _report(rows: pl.DataFrame, digest: str) -> DayReport:
    first, last = rows["open_time"].min(), rows["open_time"].max()
    return DayReport(len(rows), first, last, digest)  # type: ignore[arg-type]  # times, or None without rows


def _cut(frame: pl.DataFrame, time_column: str, part: Slice) -> tuple[pl.DataFrame, list[int]]:
    """Return a frame whose days stand one after the other, and the row at which each begins, and the last one ends.

    Cutting is why a month of days costs no more than one: filtering day by day takes most of the time of a backfill.
    """
    times = frame[time_column].to_physical().to_numpy()
    days = times // _DAY_US
    if not (days[1:] >= days[:-1]).all():
        order = np.argsort(days, kind="stable")
        frame, days = frame[order], days[order]
    wanted = [(window.start - EPOCH) // _MICROSECOND // _DAY_US for _, window in days_of(part)]
    return frame, np.searchsorted(days, [*wanted, wanted[-1] + 1]).tolist() if wanted else [0]


def keep(store: CandleStore, batch: Batch) -> None:
    """Write a batch, table by table, the table that others are derived from last.

    Killed between two tables, the slice is only written in part; written again, it is as if nothing had happened.
    A slice whose content would not change is left alone.
    """
    for write in batch.writes:
        if write.appends:
            if len(write.rows):
                with counted_write(write.table, len(write.rows)):
                    store.append(write.table, write.rows)
        elif _is_stored(store.read(write.table, write.part), write):
            count_unchanged(write.table)
        else:
            with counted_write(write.table, len(write.rows)):
                store.replace(write.table, write.part, write.rows)


def _is_stored(stored: pl.DataFrame, write: Write) -> bool:
    if len(stored) != len(write.rows):
        return False
    order = ("timeframe", *write.table.sort_by)
    return content_equals(*(rows.sort(order, maintain_order=True) for rows in (stored, write.rows)))


def floor_to_day(column: str, window: Interval) -> pl.Expr:
    """Return the start of the day of ``window`` that a row belongs to; rows outside go to the nearest day."""
    last_day = window.end - DAY
    return pl.col(column).dt.truncate("1d").clip(window.start, max(window.start, last_day))
