"""The coverage of many markets and days as a map: which cells there are, what each says, how it is divided.

A cell is a day, a week or a month, so that years fit into the width of a page. Not here: counting
(``coverage_report``), drawing (``heat_map_picture``, ``coverage_page``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

import polars as pl

from mdp.domain.gaps import Cause
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.coverage_report import DAY_SCHEMA, MarketReport


class Kind(StrEnum):
    """What the minutes of a cell are."""

    PRESENT = "present"
    BEFORE_LISTING = "before listing"
    EXPLAINED = "explained or permanent"
    UNEXPLAINED = "unexplained"
    NOT_COLLECTED = "not collected"


COLOURS: Mapping[Kind, str] = {
    Kind.BEFORE_LISTING: "#a6a6a6",
    Kind.EXPLAINED: "#f0c000",
    Kind.UNEXPLAINED: "#d55e00",
    Kind.NOT_COLLECTED: "#ffffff",
}
"""Of what is missing. They differ in lightness too: they stay apart for the colour-blind and in print."""

_FROM_THE_TOP = (Kind.NOT_COLLECTED, Kind.UNEXPLAINED, Kind.EXPLAINED, Kind.BEFORE_LISTING)

SHADES: tuple[tuple[float, str, str], ...] = (
    (1.0, "#08519c", "complete"),
    (0.99, "#3182bd", "99 % or more"),
    (0.9, "#6baed6", "90 % or more"),
    (0.0, "#bdd7e7", "less"),
)
"""Of what is there: the least share that has the colour, the colour, its name."""

LEAST_BAND = 3
"""Pixels that anything missing takes at least: one missing minute is seen in a month of minutes."""

MOST_COLUMNS = 124
_COUNTED = tuple(name for name in DAY_SCHEMA if name not in ("market", "day"))


@dataclass(frozen=True, slots=True)
class Cell:
    """One market over some days.

    Attributes:
        market: Its name.
        first: First day.
        last: Last day, included.
        counts: The columns of ``DAY_SCHEMA``, added up over the days of which anything is known; days of which nothing
            is known count as ``unfetched``.
    """

    market: str
    first: date
    last: date
    counts: Mapping[str, int]

    @property
    def minutes(self) -> dict[Kind, int]:
        """How many minutes of each kind, adding up to those expected."""
        count, permanent = self.counts, self.counts["permanent"]
        known = count[Cause.EXCHANGE_OUTAGE] + count[Cause.NO_TRADES]
        unfetched = count[Cause.UNFETCHED]
        return {
            Kind.PRESENT: count["present"],
            Kind.BEFORE_LISTING: count[Cause.BEFORE_LISTING],
            Kind.EXPLAINED: known + permanent,
            Kind.UNEXPLAINED: count[Cause.UNKNOWN] - permanent,
            Kind.NOT_COLLECTED: unfetched,
        }

    @property
    def shade(self) -> str:
        """The colour of what is there."""
        share = self.counts["present"] / self.counts["expected"]
        return next(colour for least, colour, _ in SHADES if share >= least)

    def bands(self, height: int) -> list[tuple[str, int]]:
        """Divide the height of a cell: colours from top to bottom, and how high each is; what is missing is on top."""
        minutes, expected = self.minutes, self.counts["expected"]
        parts = [(COLOURS[kind], minutes[kind]) for kind in _FROM_THE_TOP if minutes[kind]]
        least = [LEAST_BAND] * len(parts)
        if minutes[Kind.PRESENT]:
            parts.append((self.shade, minutes[Kind.PRESENT]))
            least.append(1)
        rest = height - sum(least)
        heights = [low + round(rest * n / expected) for low, (_, n) in zip(least, parts, strict=True)]
        # What rounding comes to is taken from, or given to, the largest part.
        largest = heights.index(max(heights))
        heights[largest] += height - sum(heights)
        return [(colour, high) for (colour, _), high in zip(parts, heights, strict=True)]

    def __str__(self) -> str:
        days = str(self.first) if self.first == self.last else f"{self.first} to {self.last}"
        count = self.counts
        said = [f"{count['present']:,} of {count['expected']:,} minutes"]
        said += [f"{count['idle']:,} of them idle"] if count["idle"] else []
        said += [f"{count[cause]:,} {cause.value.replace('_', ' ')}" for cause in Cause if count[cause]]
        said += [f"{count[name]:,} {name}" for name in ("permanent", "rejected", "revised") if count[name]]
        return f"{self.market} {days}: {', '.join(said)}"


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Cells in rows and columns.

    Attributes:
        markets: Of the rows.
        unit: What a column is: ``day``, ``week`` (from Monday) or ``month``.
        columns: First day of each.
        cells: By row, then column.
    """

    markets: tuple[str, ...]
    unit: str
    columns: tuple[date, ...]
    cells: tuple[tuple[Cell, ...], ...]


def heat_map(
    reports: Sequence[MarketReport],
    *,
    within: tuple[date, date] | None = None,
    most_columns: int = MOST_COLUMNS,
) -> HeatMap | None:
    """Lay the days of some markets out on one axis of time.

    Args:
        reports: Of the markets, in the order of the rows.
        within: First and last day of the axis; None: those of all that is known.
        most_columns: Days are joined to weeks, and weeks to months, until there are no more columns.

    Returns:
        None where nothing is known of any market, or of any day on that axis.
    """
    rows = pl.concat([DAY_SCHEMA.to_frame(), *(report.days for report in reports)])
    if within is not None:
        rows = rows.filter(pl.col("day").is_between(*within))
    first, last = within or (rows["day"].min(), rows["day"].max())
    if rows.is_empty() or not isinstance(first, date) or not isinstance(last, date):
        return None
    unit, columns = _columns(first, last, most_columns)
    markets = tuple(str(report.market) for report in reports)
    counted = _counts(rows, columns)
    bounds = [*columns[1:], last + timedelta(days=1)]
    cells = tuple(
        tuple(
            _cell(market, start, end - timedelta(days=1), counted.get((market, number), {}))
            for number, (start, end) in enumerate(zip(columns, bounds, strict=True))
        )
        for market in markets
    )
    return HeatMap(markets, unit, columns, cells)


def _columns(first: date, last: date, most: int) -> tuple[str, tuple[date, ...]]:
    """The first day of each column; the first column begins with the first day, whatever day of the week it is."""
    for unit in ("day", "week", "month"):
        days = pl.date_range(first, last, eager=True)
        columns = tuple(days.to_frame("day").group_by(_unit(unit), maintain_order=True).first()["day"].to_list())
        if len(columns) <= most:
            break
    return unit, columns


def _unit(unit: str) -> pl.Expr:
    return pl.col("day").dt.truncate({"day": "1d", "week": "1w", "month": "1mo"}[unit]).alias("unit")


def _counts(rows: pl.DataFrame, columns: Iterable[date]) -> dict[tuple[str, int], dict[str, int]]:
    """The sums of each market and column, with the number of days they are of."""
    starts = pl.Series("start", list(columns))
    numbered = rows.with_columns((starts.search_sorted(rows["day"], side="right") - 1).cast(pl.Int64).alias("column"))
    summed = numbered.group_by("market", "column").agg(pl.col(_COUNTED).sum())
    return {(row["market"], row["column"]): row for row in summed.iter_rows(named=True)}


def _cell(market: str, first: date, last: date, counted: Mapping[str, int]) -> Cell:
    expected = ((last - first).days + 1) * Timeframe.D1.minutes
    counts = {name: int(counted.get(name) or 0) for name in _COUNTED}
    counts[Cause.UNFETCHED.value] += expected - counts["expected"]
    return Cell(market, first, last, {**counts, "expected": expected})
