"""Rows as examples of what is wrong with them: when they open, what they say, what was expected.

Not here: finding them (``pipeline.integrity``, ``domain.plausibility``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import polars as pl

from mdp.domain.candles import VALUE_COLUMNS
from mdp.domain.interval import Interval, format_time
from mdp.domain.plausibility import Minutes, Odd
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.checking.verdicts import SAMPLED, Example

_MADE = "_made"


def rows_as_they_are(rows: pl.DataFrame, expected: str, columns: Sequence[str] = VALUE_COLUMNS) -> Iterator[Example]:
    """Show the values of some columns of rows."""
    for row in rows.head(SAMPLED).iter_rows(named=True):
        yield Example(row["open_time"], row["timeframe"], values(row, columns), expected)


def repeated_keys(rows: pl.DataFrame) -> Iterator[Example]:
    """Show the keys that occur more than once."""
    repeated = rows.group_by("timeframe", "open_time").len().filter(pl.col("len") > 1).sort("timeframe", "open_time")
    for timeframe, open_time, count in repeated.head(SAMPLED).iter_rows():
        yield Example(open_time, timeframe, f"{count} rows", "1 row")


def differing_rows(both: pl.DataFrame, columns: Sequence[str], suffix: str = _MADE) -> Iterator[Example]:
    """Show what differs between rows and those they were joined with, which have ``suffix`` to their columns.

    Args:
        both: A full join on the key; where one side is missing, all its columns are null.
        columns: Those compared.
        suffix: Of the other side.
    """
    for row in both.sort("timeframe", "open_time").head(SAMPLED).iter_rows(named=True):
        differing = [name for name in columns if row[name] != row[f"{name}{suffix}"]]
        wanted = {name: row[f"{name}{suffix}"] for name in columns}
        is_there, is_wanted = (any(side[name] is not None for name in columns) for side in (row, wanted))
        yield Example(
            row["open_time"],
            row["timeframe"],
            values(row, differing) if is_there else "no candle",
            values(wanted, differing) if is_wanted else "no candle",
        )


def rejected_rows(rows: pl.DataFrame) -> Iterator[Example]:
    """Show rejected rows that are stored, or not, otherwise than the raw rows tell; ``is_stored`` says which."""
    for row in rows.head(SAMPLED).iter_rows(named=True):
        said = f"{values(row, VALUE_COLUMNS)}: {', '.join(row['failed_rules'])}"
        found, expected = (said, "no rejected row") if row["is_stored"] else ("no rejected row", said)
        yield Example(row["open_time"] or row["window_start"], row["timeframe"], found, expected)


def stretches(found: Iterable[Interval], what: str, expected: str) -> Iterator[Example]:
    """Show stretches of minutes."""
    for one in found:
        yield Example(one.start, Timeframe.M1.value, f"{what} until {format_time(one.end)}", expected)


def odd_minutes(minutes: Minutes, odd: Iterable[Odd]) -> Iterator[Example]:
    """Show minutes that no market makes."""
    for one in odd:
        yield Example(minutes.time(one.row), Timeframe.M1.value, one.found, one.expected)


def values(row: dict[str, Any], columns: Iterable[str]) -> str:
    """Write some values of a row, such as ``open=1.0 close=2.0``; what is null is left out."""
    return " ".join(f"{name}={row[name]}" for name in columns if row[name] is not None) or "all null"
