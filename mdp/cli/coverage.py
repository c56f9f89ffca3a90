"""``mdp coverage``: how much of each market is stored, and why the rest is not.

Not here: counting (``pipeline.coverage``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import msgspec
from rich.table import Table

from mdp.cli.output import print_table
from mdp.config.settings import load_settings
from mdp.domain.gaps import Cause, Coverage
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
from mdp.pipeline.coverage import coverage_by_day, failed_days, stored_days, total
from mdp.pipeline.failed_days import FailedDays
from mdp.reading import FIRST_DAY, parse_days, parse_markets
from mdp.storage import open_store

CoverageByMarket = Mapping[Market, Mapping[date, Coverage]]


def show_coverage(markets: Sequence[str] | None, start: str | None, end: str | None, *, as_json: bool) -> None:
    """Print the coverage of each market over a window, or over all its days that anything is known of.

    Raises:
        InputError: a market or a day is wrong.
    """
    settings = load_settings()
    now = datetime.now(UTC)
    store = open_store(settings)
    asked = parse_days(start or FIRST_DAY, end or now.date(), now) if start or end else None
    found: dict[Market, dict[date, Coverage]] = {}
    failed: list[FailedDays] = []
    for market in parse_markets(markets, settings):
        window = asked or stored_days(store, market, Interval(FIRST_DAY, now))
        found[market] = coverage_by_day(store, market, window) if window else {}
        failed += failed_days(store, market, window) if window else []
    if as_json:
        rows = coverage_json(found, failed)
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")
    else:
        print_table(coverage_table(found))
        write_failed_days(failed)


def write_failed_days(failed: Iterable[FailedDays]) -> None:
    """Write one line on stdout for each stretch of days whose latest attempt failed."""
    for one in failed:
        again = "asking again may help" if one.retryable else "asking again will not help"
        when = format_time(one.failed_at)
        sys.stdout.write(f"NOT COLLECTED {one.market} {one.window}: {one.error} at {when}, {one.message}; {again}\n")


def coverage_table(found: CoverageByMarket) -> Table:
    """Draw one row for each market."""
    causes = [cause for cause in Cause if any(total(days).missing.get(cause) for days in found.values())]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("market", "first day", "last day"):
        table.add_column(name, no_wrap=True)
    for name in ("days", "expected", "present", "coverage", *causes):
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for market, days in found.items():
        sum_ = total(days)
        first_last = (str(min(days)), str(max(days))) if days else ("nothing stored", "")
        share = f"{sum_.share:.2%}" if days else ""
        causes_found = (f"{sum_.missing.get(cause, 0):,}" for cause in causes)
        numbers = (f"{len(days):,}", f"{sum_.expected:,}", f"{sum_.present:,}", share, *causes_found)
        table.add_row(str(market), *first_last, *numbers)
    return table


def coverage_json(found: CoverageByMarket, failed: Sequence[FailedDays]) -> list[dict[str, Any]]:
    """Return the same for machines: minutes expected, present and missing by cause, and what could not be had."""
    rows = []
    for market, days in found.items():
        sum_ = total(days)
        rows.append(
            {
                "market": str(market),
                "start": str(min(days)) if days else None,
                "end": str(Interval.of_day(max(days)).end.date()) if days else None,
                "days": len(days),
                "expected": sum_.expected,
                "present": sum_.present,
                "coverage": sum_.share if days else None,
                "missing": {cause.value: slots for cause, slots in sum_.missing.items() if slots},
                "failed": [failed_json(one) for one in failed if one.market == market],
            }
        )
    return rows


def failed_json(one: FailedDays) -> dict[str, Any]:
    """Return a stretch of days whose latest attempt failed, for machines; ``end`` is not part of it."""
    return {
        "start": str(one.window.start.date()),
        "end": str(one.window.end.date()),
        "error": one.error,
        "message": one.message,
        "retryable": one.retryable,
        "attempts": one.attempts,
        "failed_at": format_time(one.failed_at),
    }
