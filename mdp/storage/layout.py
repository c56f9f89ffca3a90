"""Where in the lake a row is kept: the partitions of a table and the periods they cover.

``<lake>/<table>/exchange=…/symbol=…/timeframe=…/period=…``: a period is a calendar month of the table's time column
(``2024-12``), a year (``2024``) from 1h up, so that files have thousands of rows at every timeframe and a window of any
length touches few of them. ``period`` is the lake's own column: it is added on write and never read back.
Not here: what a file looks like inside (``parquet``), which files are live (``delta_files``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import polars as pl

from mdp.domain.interval import Interval
from mdp.domain.timeframe import Timeframe
from mdp.ports import Table
from mdp.storage.rows import KEY_COLUMNS, in_order

PARTITION_COLUMNS: tuple[str, ...] = (*KEY_COLUMNS, "period")

_INSTANT = timedelta(microseconds=1)


Key = tuple[str, str, str]
"""Exchange, symbol, timeframe."""


class Partition(NamedTuple):
    """One market, one timeframe, one period: what is rewritten as a whole."""

    exchange: str
    symbol: str
    timeframe: str
    period: str

    @property
    def key(self) -> Key:
        """Its market and timeframe."""
        return self[:3]

    @property
    def path(self) -> str:
        """Its directory, relative to the table's."""
        return "/".join(f"{name}={value}" for name, value in self.values.items())

    @property
    def values(self) -> dict[str, str | None]:
        """Its values by column, as the Delta log keeps them."""
        return dict(zip(PARTITION_COLUMNS, self, strict=True))

    @property
    def window(self) -> Interval:
        """All instants of its period."""
        year, month = int(self.period[:4]), int(self.period[5:] or 1)
        is_year = len(self.period) == len("2024")
        start = datetime(year, month, 1, tzinfo=UTC)
        after = (year + 1, 1) if is_year or month == 12 else (year, month + 1)
        return Interval(start, datetime(*after, 1, tzinfo=UTC))


@dataclass(frozen=True, slots=True, order=True)
class LiveFile:
    """A file of the table's current version.

    Attributes:
        partition: Where it belongs; files sort by it, then by path, which is the order of their writing.
        path: Relative to the table's directory.
        size_bytes: How long it was when it was written.
        rows: How many it holds; None where the log does not say.
        first: The earliest time of its rows in the table's time column; None where the log does not say.
        last: The latest, in the same way.
    """

    partition: Partition
    path: str
    size_bytes: int
    rows: int | None = field(default=None, compare=False)
    first: datetime | None = field(default=None, compare=False)
    last: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that was written and belongs to no version yet.

    Attributes:
        partition: Where it belongs.
        path: Relative to the table's directory.
        size_bytes: Its length.
        stats: Its rows and bounds of time, as the Delta log keeps them.
    """

    partition: Partition
    path: str
    size_bytes: int
    stats: str


def periods_of(timeframe: str, window: Interval) -> tuple[str, str]:
    """Return the first and the last period that a window touches. Periods of one timeframe compare as text."""
    form = _period_format(timeframe)
    return window.start.strftime(form), (window.end - _INSTANT).strftime(form)


def stored_schema(table: Table) -> pl.Schema:
    """Return the columns of a table's files: all but those that its partitions say."""
    return pl.Schema({name: dtype for name, dtype in table.schema.items() if name not in KEY_COLUMNS})


def by_partition(table: Table, rows: pl.DataFrame, keys: Iterable[Key]) -> dict[Partition, pl.DataFrame]:
    """Cut rows into their partitions.

    Args:
        table: Whose rows.
        rows: Of the table's schema, any order; time is present in every row.
        keys: Every exchange, symbol and timeframe that occurs in the rows.

    Shape:
        Each part has the columns of :func:`stored_schema`, is in the table's order and has at least one row.
    """
    pieces: dict[Partition, pl.DataFrame] = {}
    keys = list(keys)
    for key in keys:
        # One key is the rule, and comparing three texts a row costs as much as writing the row.
        of_key = (
            rows if len(keys) == 1 else rows.filter(*(pl.col(n) == v for n, v in zip(KEY_COLUMNS, key, strict=True)))
        )
        ordered = in_order(table, of_key.select(list(stored_schema(table))))
        times, form, start = ordered[table.time_column], _period_format(key[2]), 0
        while start < ordered.height:
            partition = Partition(*key, times[start].strftime(form))
            end = int(times.search_sorted(partition.window.end, side="left"))
            pieces[partition] = ordered.slice(start, end - start)
            start = end
    return pieces


def _is_yearly(timeframe: str) -> bool:
    return Timeframe(timeframe).seconds >= Timeframe.H1.seconds


def _period_format(timeframe: str) -> str:
    return "%Y" if _is_yearly(timeframe) else "%Y-%m"
