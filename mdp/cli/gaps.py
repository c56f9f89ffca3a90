"""``mdp gaps`` and ``mdp revisions``: what is missing and why, and what was changed, as rows.

Not here: counting (``pipeline.coverage_report``), filling or asking again (``mdp heal``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from mdp.cli.coverage import reports_of
from mdp.cli.output import write_rows
from mdp.config.settings import load_settings
from mdp.domain.interval import Interval
from mdp.errors import InputError
from mdp.pipeline.coverage_report import CAUSES, STRETCH_SCHEMA
from mdp.reading import FIRST_DAY, parse_markets, parse_window
from mdp.reading.reports import revisions_of
from mdp.storage import open_store


def show_gaps(
    markets: Sequence[str] | None,
    start: str | None,
    end: str | None,
    cause: str | None,
    format_: str,
    output: Path | None,
) -> None:
    """List stretches of missing minutes, by market and time; those of touching days as one where they are alike.

    Raises:
        InputError: a market, a day or the cause is wrong.
    """
    if cause is not None and cause not in CAUSES:
        raise InputError("cause", got=cause, expected=f"one of {', '.join(CAUSES)}")
    found = pl.concat([STRETCH_SCHEMA.to_frame(), *(report.gaps for report in reports_of(markets, start, end))])
    rows = found if cause is None else found.filter(cause=cause)
    write_rows(_stretches_for_people(rows) if format_ == "table" else rows, format_, output)
    if rows.is_empty():
        sys.stderr.write("mdp: no minute is missing there between what is stored\n")


def show_revisions(
    markets: Sequence[str] | None, start: str | None, end: str | None, format_: str, output: Path | None
) -> None:
    """List stored candles for which the exchange later gave other values, in the order of their open times.

    Raises:
        InputError: a market or a time is wrong.
    """
    settings, now = load_settings(), datetime.now(UTC)
    window = parse_window(start or FIRST_DAY, end or now) if start or end else Interval(FIRST_DAY, now)
    rows = revisions_of(open_store(settings), parse_markets(markets, settings), window)
    write_rows(_for_people(rows) if format_ == "table" else rows, format_, output)
    if rows.is_empty():
        sys.stderr.write("mdp: nothing was revised there\n")


def _stretches_for_people(rows: pl.DataFrame) -> pl.DataFrame:
    """What fits a line: times to the minute; ``detail`` and the first sighting are in other formats and `explain`."""
    minute = pl.selectors.temporal().dt.strftime("%Y-%m-%dT%H:%MZ")
    return rows.with_columns(minute).select(
        "market", "start", "end", "slots", "cause", pl.col("sightings").alias("seen"),
        pl.col("seen_at").alias("last_seen"), pl.col("is_permanent").alias("permanent"), "source",
    )  # fmt: skip


def _for_people(rows: pl.DataFrame) -> pl.DataFrame:
    """One column for each value, as ``old -> new`` where it changed."""
    names = [name.removeprefix("old_") for name in rows.columns if name.startswith("old_")]
    changes = [_change(name).alias(name) for name in names if f"new_{name}" in rows.columns]
    market = pl.concat_str("exchange", pl.lit(":"), "symbol").alias("market")
    return rows.select(market, "timeframe", "open_time", "revised_at", *changes)


def _change(name: str) -> pl.Expr:
    old, new = (pl.col(f"{side}_{name}") for side in ("old", "new"))
    text = pl.concat_str(old.cast(pl.String).fill_null("-"), pl.lit(" -> "), new.cast(pl.String).fill_null("-"))
    return pl.when(old.ne_missing(new)).then(text)
