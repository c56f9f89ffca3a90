"""``mdp coverage``: how much of each market is stored, and why the rest is not.

Not here: counting (``pipeline.coverage``, ``pipeline.coverage_report``), the page (``pipeline.coverage_page``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import polars as pl
from rich.table import Table

from mdp.cli.output import print_table, write_file, write_rows
from mdp.config.settings import load_settings
from mdp.domain.gaps import Cause, Coverage
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
from mdp.pipeline.coverage import total
from mdp.pipeline.coverage_page import coverage_page
from mdp.pipeline.coverage_report import CAUSES, MarketReport
from mdp.pipeline.failed_days import FailedDays
from mdp.reading import FIRST_DAY, parse_days, parse_markets
from mdp.reading.reports import failed_json, report
from mdp.storage import open_store

CoverageByMarket = Mapping[Market, Mapping[date, Coverage]]


def reports_of(markets: Sequence[str] | None, start: str | None, end: str | None) -> list[MarketReport]:
    """Report each market over a window of whole days, or over all its days that anything is known of.

    Raises:
        InputError: a market or a day is wrong.
    """
    settings, now = load_settings(), datetime.now(UTC)
    store = open_store(settings)
    window = parse_days(start or FIRST_DAY, end or now.date(), now) if start or end else None
    wanted = parse_markets(markets, settings)
    return [report(store, market, window, now) for market in wanted]


def show_coverage(
    markets: Sequence[str] | None,
    start: str | None,
    end: str | None,
    *,
    as_json: bool,
    html: Path | None = None,
    days_format: str | None = None,
) -> None:
    """Show the coverage of each market over a window, or over all its days that anything is known of.

    Args:
        markets: None: all.
        start: First day.
        end: Day after the last.
        as_json: JSON instead of a table.
        html: Write a page of its own to this file instead.
        days_format: Write one row per market and day instead, as :func:`mdp.cli.output.write_rows` does.

    Raises:
        InputError: a market or a day is wrong.
        OSError: the page cannot be written; a file that was there before is as it was.
    """
    reports = reports_of(markets, start, end)
    if html is not None:
        write_file(html, coverage_page(reports, generated_at=datetime.now(UTC).replace(microsecond=0)).encode())
    elif days_format is not None:
        write_rows(pl.concat(report.days for report in reports), days_format, None)
    elif as_json:
        rows = [_json_row(_summary_of_report(one), one.failed) for one in reports]
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")
    else:
        print_table(_draw([_summary_of_report(one) for one in reports]))
        write_failed_days(failed for one in reports for failed in one.failed)


def write_failed_days(failed: Iterable[FailedDays]) -> None:
    """Write one line on stdout for each stretch of days whose latest attempt failed."""
    for one in failed:
        again = "asking again may help" if one.retryable else "asking again will not help"
        when = format_time(one.failed_at)
        sys.stdout.write(f"NOT COLLECTED {one.market} {one.window}: {one.error} at {when}, {one.message}; {again}\n")


class _Summary(NamedTuple):
    """One market: its first and last day, how many, and its minutes; ``idle`` is None where it was not counted."""

    market: Market
    first: date | None
    last: date | None
    days: int
    expected: int
    present: int
    idle: int | None
    missing: Mapping[str, int]
    permanent: int

    @property
    def share(self) -> float | None:
        return self.present / self.expected if self.days else None


def _summary_of_report(report: MarketReport) -> _Summary:
    days = report.days["day"].to_list()
    idle = None if report.market.is_volatility_index else report.total("idle")
    missing = {cause: report.total(cause) for cause in CAUSES}
    first, last = (days[0], days[-1]) if days else (None, None)
    counts = (report.total("expected"), report.total("present"))
    return _Summary(report.market, first, last, len(days), *counts, idle, missing, report.total("permanent"))


def _summary_of_days(market: Market, days: Mapping[date, Coverage]) -> _Summary:
    sum_ = total(days)
    first, last = (min(days), max(days)) if days else (None, None)
    missing = {cause.value: slots for cause, slots in sum_.missing.items()}
    return _Summary(market, first, last, len(days), sum_.expected, sum_.present, None, missing, sum_.permanent)


def coverage_table(found: CoverageByMarket) -> Table:
    """Draw one row for each market."""
    return _draw([_summary_of_days(market, days) for market, days in found.items()])


def _draw(rows: Sequence[_Summary]) -> Table:
    """Causes that no market has are left out, and so is what nobody counted."""
    causes = [cause.value for cause in Cause if any(row.missing.get(cause) for row in rows)]
    has_idle, has_permanent = any(row.idle for row in rows), any(row.permanent for row in rows)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("market", "first day", "last day"):
        table.add_column(name, no_wrap=True)
    names = ("days", "expected", "present", "coverage", *["idle"] * has_idle, *causes, *["permanent"] * has_permanent)
    for name in names:
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for row in rows:
        first_last = (str(row.first), str(row.last)) if row.days else ("nothing stored", "")
        share = "" if row.share is None else f"{row.share:.2%}"
        numbers = [f"{row.days:,}", f"{row.expected:,}", f"{row.present:,}", share]
        numbers += ["" if row.idle is None else f"{row.idle:,}"] * has_idle
        numbers += [f"{row.missing.get(cause, 0):,}" for cause in causes]
        table.add_row(str(row.market), *first_last, *numbers, *[f"{row.permanent:,}"] * has_permanent)
    return table


def coverage_json(found: CoverageByMarket, failed: Sequence[FailedDays]) -> list[dict[str, Any]]:
    """Return the same for machines: minutes expected, present and missing by cause, and what could not be had."""
    return [
        _json_row(_summary_of_days(market, days), [one for one in failed if one.market == market])
        for market, days in found.items()
    ]


def _json_row(row: _Summary, failed: Iterable[FailedDays]) -> dict[str, Any]:
    return {
        "market": str(row.market),
        "start": str(row.first) if row.first else None,
        "end": str(Interval.of_day(row.last).end.date()) if row.last else None,
        "days": row.days,
        "expected": row.expected,
        "present": row.present,
        "coverage": row.share,
        **({} if row.idle is None else {"idle": row.idle}),
        "missing": {cause: slots for cause, slots in row.missing.items() if slots},
        "permanent": row.permanent,
        "failed": [failed_json(one) for one in failed],
    }
