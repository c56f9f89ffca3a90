"""``mdp backfill``: days of markets through Dagster, with workers, a progress bar and an honest exit code.

Not here: the jobs (``defs.jobs``), what counts as complete (``pipeline.coverage``).
"""

from __future__ import annotations

import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mdp.cli.coverage import coverage_json, coverage_table, write_failed_days
from mdp.cli.output import print_table
from mdp.cli.workers import Durable, Ended, Work, run_workers, settle_dead_runs
from mdp.config.reference import load_reference
from mdp.config.services import require_simulator
from mdp.config.settings import Settings, load_settings
from mdp.domain.gaps import Coverage
from mdp.domain.interval import DAY, Interval, format_time
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import ConfigError, InputError
from mdp.pipeline.coverage import Shortfall, coverage_by_day, days_to_do, failed_days, shortfalls
from mdp.pipeline.failed_days import FailedDays
from mdp.ports import CandleStore
from mdp.reading import FIRST_DAY, parse_days, parse_markets
from mdp.storage import open_store

INCOMPLETE = 3


@dataclass(frozen=True, slots=True)
class Result:
    """What a backfill came to.

    Attributes:
        coverage: What is stored now.
        shortfalls: What is not.
        failures: Runs that failed, with their error.
        failed_days: Days whose latest attempt failed, and why.
        retried: Why requests were repeated on the way, and how often.
    """

    coverage: dict[Market, dict[date, Coverage]]
    shortfalls: tuple[Shortfall, ...]
    failures: tuple[Ended, ...]
    failed_days: tuple[FailedDays, ...]
    retried: Mapping[str, int]

    @property
    def is_complete(self) -> bool:
        """Tell whether every asked minute is stored or known not to exist, and nothing failed."""
        return not self.shortfalls and not self.failures and not self.failed_days


def run_backfill(
    markets: Sequence[str] | None, start: str | None, end: str | None, *, only_missing: bool, as_json: bool
) -> int:
    """Backfill, show the outcome and return the exit code.

    Without ``start`` and ``end`` the days are those of :func:`windows_to_fill`.

    Raises:
        InputError: a market, a day or their order is wrong; nothing was started.
        ConfigError: the data directory cannot be written, or the simulator does not answer; nothing was started.
    """
    settings = load_settings()
    windows = windows_to_fill(settings, parse_markets(markets, settings), start, end, datetime.now(UTC))
    _require_writable(settings)
    require_simulator(settings, {market.exchange for market in windows})
    result = backfill_each(settings, windows, only_missing=only_missing)
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(_as_json(result)), indent=2) + b"\n")
    else:
        _show(result)
    return 0 if result.is_complete else INCOMPLETE


def windows_to_fill(
    settings: Settings, markets: Sequence[Market], start: str | None, end: str | None, now: datetime
) -> dict[Market, Interval]:
    """Return the days of each market that are asked for.

    Args:
        settings: Say how much history they want, when no start is given: so many days before today, or all of it. All
            of it begins with the day on which a market was listed, where that is established.
        markets: Which.
        start: First day; None: as the settings say.
        end: Day after the last; None: today, so that yesterday is the last.
        now: Our time.

    Raises:
        InputError: a day is wrong, or no market has one of those days.
    """
    today = Timeframe.D1.floor(now)
    days = settings.history_days
    first = FIRST_DAY if days is None else max(today - timedelta(days=days), FIRST_DAY)
    window = parse_days(first if start is None else start, today if end is None else end, now)
    if start is not None or days is not None:
        return dict.fromkeys(markets, window)
    listed = {market: load_reference().listed_at(market) or FIRST_DAY for market in markets}
    begins = {market: max(window.start, Timeframe.D1.floor(listed[market])) for market in markets}
    found = {market: Interval(begin, window.end) for market, begin in begins.items() if begin < window.end}
    if not found:
        expected = f"a day after {min(begins.values()).date()}, on which the first of these markets was listed"
        raise InputError("end", got=str(window.end.date()), expected=expected)
    return found


def backfill(settings: Settings, markets: Sequence[Market], window: Interval, *, only_missing: bool) -> Result:
    """Run the jobs of some markets over whole days and report what is stored afterwards."""
    return backfill_each(settings, dict.fromkeys(markets, window), only_missing=only_missing)


def backfill_each(settings: Settings, windows: Mapping[Market, Interval], *, only_missing: bool) -> Result:
    """Run the jobs of markets over whole days of each and report what is stored afterwards."""
    store = open_store(settings)
    work = [
        Work(market, part, resumes=only_missing)
        for market, window in windows.items()
        for part in (_missing(store, market, window) if only_missing else [window])
    ]
    ended: list[Ended] = []
    if work:
        with _progress(work) as advance:
            for message in run_workers(settings, work):
                advance(message)
                if isinstance(message, Ended):
                    ended.append(message)
    else:
        settle_dead_runs(settings)
    return Result(
        coverage={market: coverage_by_day(store, market, window) for market, window in windows.items()},
        shortfalls=tuple(short for market, window in windows.items() for short in shortfalls(store, market, window)),
        failures=tuple(one for one in ended if one.error),
        failed_days=tuple(one for market, window in windows.items() for one in failed_days(store, market, window)),
        retried=sum((Counter(one.retried) for one in ended), Counter[str]()),
    )


def _missing(store: CandleStore, market: Market, window: Interval) -> list[Interval]:
    return days_to_do(shortfalls(store, market, window), failed_days(store, market, window))


def _require_writable(settings: Settings) -> None:
    probe = settings.run_dir / f".{uuid.uuid4()}"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"writable")
        probe.unlink()
    except OSError as error:
        expected = f"a directory that can be written ({error.strerror})"
        raise ConfigError("MDP_DATA_DIR", got=str(settings.data_dir), expected=expected) from error


@contextmanager
def _progress(work: Sequence[Work]) -> Iterator[Callable[[Durable | Ended], None]]:
    """Draw a bar for each market on stderr: partitions of all layers that are durable."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks = {
            one: bars.add_task(str(one.market), total=_layers(one.market) * (one.window.duration // DAY), start=False)
            for one in work
        }

        def advance(message: Durable | Ended) -> None:
            task = tasks[message.work]
            bars.start_task(task)
            if isinstance(message, Durable):
                bars.advance(task)
                return
            bars.stop_task(task)
            if not console.is_terminal:
                state = f"failed: {message.error}" if message.error else "done"
                sys.stderr.write(f"{message.work.market} {message.work.window}: {state}\n")

        yield advance


def _layers(market: Market) -> int:
    """How many partitioned assets a day of a market passes through."""
    return 2 if market.is_volatility_index else 3


def _show(result: Result) -> None:
    print_table(coverage_table(result.coverage))
    if result.retried:
        sys.stdout.write(f"{repeated(result.retried)}\n")
    for failure in result.failures:
        sys.stdout.write(f"FAILED  {failure.work.market} {failure.work.window}: {failure.error}\n")
    write_failed_days(result.failed_days)
    for short in result.shortfalls:
        sys.stdout.write(f"MISSING {short.market} {short.interval}: {short.minutes} minutes, {short.reason}\n")
    sys.stdout.flush()


def repeated(retried: Mapping[str, int]) -> str:
    """Say how many requests were repeated and why: ``3 requests repeated: 2 RateLimited, 1 ExchangeUnavailable``."""
    total = sum(retried.values())
    listed = ", ".join(
        f"{count} {error}" for error, count in sorted(retried.items(), key=lambda one: (-one[1], one[0]))
    )
    return f"{total} {'request' if total == 1 else 'requests'} repeated: {listed}"


def _as_json(result: Result) -> dict[str, Any]:
    return {
        "complete": result.is_complete,
        "coverage": coverage_json(result.coverage, result.failed_days),
        "retried": dict(result.retried),
        "failed": [
            {"market": str(one.work.market), "window": _bounds(one.work.window), "error": one.error}
            for one in result.failures
        ],
        "missing": [
            {"market": str(one.market), "window": _bounds(one.interval), "minutes": one.minutes, "cause": one.reason}
            for one in result.shortfalls
        ],
    }


def _bounds(window: Interval) -> dict[str, str]:
    return {"start": format_time(window.start), "end": format_time(window.end)}
