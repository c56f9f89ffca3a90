"""``mdp verify-archives``: are the bulk files still those that candles were taken from?

Not here: the judgement (``pipeline.verify_archives``), collecting again (``backfill``).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.table import Table

from mdp.bus.bandwidth import open_bandwidth
from mdp.cli.backfill import INCOMPLETE, Result, backfill
from mdp.cli.output import print_table
from mdp.config.services import exchange_settings, require_simulator
from mdp.config.settings import Settings, load_settings
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.exchanges.archive_digests import PublishedDigests
from mdp.pipeline.verify_archives import StoredFile, Verdict, stored_files, verify_files
from mdp.reading import FIRST_DAY, parse_days, parse_markets
from mdp.storage import open_store

FAILED = 1


def run_verify_archives(
    markets: Sequence[str] | None, start: str | None, end: str | None, *, refetches: bool, as_json: bool
) -> int:
    """Verify, show the outcome, collect the days in doubt again if asked to, and return the exit code.

    Returns:
        0: all files are what they were, or there are none, which is said, or every day in doubt was collected again.
        1: some files could not be asked for. 3: days are in doubt, or collecting them again left some incomplete.

    Raises:
        InputError: a market or a day is wrong.
        ConfigError: an archive has no address, or the simulator does not answer.
    """
    settings = load_settings()
    wanted = [market for market in parse_markets(markets, settings) if not market.is_volatility_index]
    window = _window(start, end)
    store = open_store(settings)
    files = [file for market in wanted for file in stored_files(store, market, window)]
    require_simulator(settings, {file.market.exchange for file in files})
    verdict = asyncio.run(_verify(settings, files))
    results = _collect_again(settings, verdict) if refetches else {}
    if not files:
        sys.stderr.write("mdp: no archive files are stored there: nothing was verified\n")
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(_as_json(verdict, results)), indent=2) + b"\n")
    elif files:
        _show(verdict, results)
    return _exit_code(verdict, results)


def _window(start: str | None, end: str | None) -> Interval:
    now = datetime.now(UTC)
    if start is None and end is None:
        return Interval(FIRST_DAY, Timeframe.D1.floor(now))
    return parse_days(start or FIRST_DAY, end or now.date(), now)


async def _verify(settings: Settings, files: Sequence[StoredFile]) -> Verdict:
    async with AsyncExitStack() as stack:
        published = {}
        for exchange in sorted({file.market.exchange for file in files}):
            digests = PublishedDigests(
                exchange, exchange_settings(settings, exchange), bandwidth=open_bandwidth(settings, exchange)
            )
            published[exchange] = (await stack.enter_async_context(digests)).sha256
        return await verify_files(files, published)


def _collect_again(settings: Settings, verdict: Verdict) -> dict[tuple[Market, Interval], Result]:
    """Run the ordinary backfill over the days in doubt: candles that differ become revisions."""
    return {
        (market, stretch): backfill(settings, [market], stretch, only_missing=False)
        for market, stretches in verdict.days().items()
        for stretch in stretches
    }


def _exit_code(verdict: Verdict, results: Mapping[tuple[Market, Interval], Result]) -> int:
    is_in_doubt = bool(verdict.changed) and not results
    if is_in_doubt or not all(result.is_complete for result in results.values()):
        return INCOMPLETE
    return FAILED if verdict.unverified else 0


def _show(verdict: Verdict, results: Mapping[tuple[Market, Interval], Result]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("market", "days in doubt", "file", "was", "is"):
        table.add_column(name, no_wrap=True)
    for one in verdict.changed:
        days = ", ".join(_days(stretch) for stretch in one.days)
        now = one.published[:12] if one.published else "gone"
        table.add_row(str(one.market), days, one.path, one.stored[:12], now)
    if verdict.changed:
        print_table(table)
    for other in verdict.unverified:
        sys.stdout.write(f"NOT VERIFIED {other.market} {other.path}: {other.reason}\n")
    counts = f"{verdict.same} files are what they were, {len(verdict.changed)} are not"
    sys.stdout.write(f"{counts}, {len(verdict.unverified)} could not be asked for\n")
    for (market, stretch), result in results.items():
        state = "collected again" if result.is_complete else "COULD NOT BE COLLECTED AGAIN, see `mdp coverage`"
        sys.stdout.write(f"{market} {_days(stretch)}: {state}; `mdp sql` shows what differed in revisions\n")
    if verdict.changed and not results:
        sys.stdout.write("add --refetch to collect these days again; what differs becomes revisions\n")
    sys.stdout.flush()


def _days(stretch: Interval) -> str:
    """From the first to the last day, exclusive, as ``--start`` and ``--end`` would name them."""
    return f"{stretch.start.date()}/{stretch.end.date()}"


def _as_json(verdict: Verdict, results: Mapping[tuple[Market, Interval], Result]) -> dict[str, Any]:
    return {
        "same": verdict.same,
        "changed": [
            {
                "market": str(one.market),
                "path": one.path,
                "days": [_bounds(stretch) for stretch in one.days],
                "stored_sha256": one.stored,
                "published_sha256": one.published,
            }
            for one in verdict.changed
        ],
        "unverified": [
            {"market": str(one.market), "path": one.path, "reason": one.reason} for one in verdict.unverified
        ],
        "refetched": [
            {"market": str(market), **_bounds(stretch), "complete": result.is_complete}
            for (market, stretch), result in results.items()
        ],
    }


def _bounds(stretch: Interval) -> dict[str, str]:
    return {"start": format_time(stretch.start), "end": format_time(stretch.end)}
