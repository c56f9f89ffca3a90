"""``mdp backfill``: days of markets through Dagster, with workers, a progress bar and an honest exit code.

Not here: the jobs (``defs.jobs``), what counts as complete (``pipeline.coverage``).
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mdp.cli.coverage import coverage_json, coverage_table
from mdp.cli.output import print_table
from mdp.cli.workers import Durable, Ended, Work, run_workers, settle_dead_runs
from mdp.config.services import require_simulator
from mdp.config.settings import Settings, load_settings
from mdp.domain.gaps import Coverage
from mdp.domain.interval import DAY, Interval, format_time
from mdp.domain.market import Market
from mdp.errors import ConfigError
from mdp.pipeline.coverage import Shortfall, coverage_by_day, days_to_do, shortfalls
from mdp.reading import parse_days, parse_markets
from mdp.storage import open_store

INCOMPLETE = 3


@dataclass(frozen=True, slots=True)
class Result:
    """What a backfill came to: what is stored now, what is not, and which runs failed with what error."""

    coverage: dict[Market, dict[date, Coverage]]
    shortfalls: tuple[Shortfall, ...]
    failures: tuple[Ended, ...]

    @property
    def is_complete(self) -> bool:
        """Tell whether every asked minute is stored or known not to exist."""
        return not self.shortfalls and not self.failures


def run_backfill(markets: Sequence[str] | None, start: str, end: str, *, only_missing: bool, as_json: bool) -> int:
    """Backfill, show the outcome and return the exit code.

    Raises:
        InputError: a market, a day or their order is wrong; nothing was started.
        ConfigError: the data directory cannot be written, or the simulator does not answer; nothing was started.
    """
    settings = load_settings()
    window = parse_days(start, end, datetime.now(UTC))
    wanted = parse_markets(markets, settings)
    _require_writable(settings)
    require_simulator(settings, {market.exchange for market in wanted})
    result = backfill(settings, wanted, window, only_missing=only_missing)
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(_as_json(result)), indent=2) + b"\n")
    else:
        _show(result)
    return 0 if result.is_complete else INCOMPLETE


def backfill(settings: Settings, markets: Sequence[Market], window: Interval, *, only_missing: bool) -> Result:
    """Run the jobs of some markets over whole days and report what is stored afterwards."""
    store = open_store(settings)
    work = [
        Work(market, part)
        for market in markets
        for part in (days_to_do(shortfalls(store, market, window)) if only_missing else [window])
    ]
    failures = []
    if work:
        with _progress(work) as advance:
            for message in run_workers(settings, work):
                advance(message)
                if isinstance(message, Ended) and message.error:
                    failures.append(message)
    else:
        settle_dead_runs(settings)
    return Result(
        coverage={market: coverage_by_day(store, market, window) for market in markets},
        shortfalls=tuple(short for market in markets for short in shortfalls(store, market, window)),
        failures=tuple(failures),
    )


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
    for failure in result.failures:
        sys.stdout.write(f"FAILED  {failure.work.market} {failure.work.window}: {failure.error}\n")
    for short in result.shortfalls:
        sys.stdout.write(f"MISSING {short.market} {short.interval}: {short.minutes} minutes, {short.reason}\n")
    sys.stdout.flush()


def _as_json(result: Result) -> dict[str, Any]:
    return {
        "complete": result.is_complete,
        "coverage": coverage_json(result.coverage),
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
