"""``mdp heal``: find what is wrong, make it whole through Dagster, show before and after.

Not here: what is wrong and how it is healed (``pipeline.healing``), the job (``defs.healing``).
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mdp.cli.backfill import INCOMPLETE
from mdp.cli.output import print_table
from mdp.cli.processes import ServiceDied, dagster_environment, last_line, start, stop
from mdp.config.reference import load_reference
from mdp.config.services import require_simulator
from mdp.config.settings import Settings, load_settings
from mdp.domain.gaps import Cause
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError
from mdp.pipeline.healing.ailments import Yardstick
from mdp.pipeline.healing.prognosis import days_between, days_to_look_at, diagnose_all, set_aside_damaged
from mdp.pipeline.healing.telling import ailment_json, looked_at_json
from mdp.ports import REJECTED_OHLCV
from mdp.reading import FIRST_DAY, parse_days, parse_markets
from mdp.storage import open_store

HEALER = (sys.executable, "-m", "mdp.cli.healer")

Report = Mapping[str, Any]
"""As ``pipeline.healing.telling`` makes it."""


class Order(msgspec.Struct, frozen=True):
    """What the process that heals is told."""

    run_id: str
    markets: tuple[str, ...]
    start: str = ""
    end: str = ""


def run_heal(
    markets: Sequence[str] | None, start: str | None, end: str | None, *, only_looks: bool, as_json: bool
) -> int:
    """Heal, or only look, show the outcome and return the exit code.

    Raises:
        InputError: a market, a day or their order is wrong; nothing was started.
        ConfigError: the simulator does not answer; nothing was started.
        ServiceDied: the process that heals did not come to its end.
    """
    settings = load_settings()
    wanted = parse_markets(markets, settings)
    if (start is None) != (end is None):
        given = f"--start {start or 'missing'}, --end {end or 'missing'}"
        raise InputError("start, end", got=given, expected="both, or neither for all that is stored")
    window = parse_days(start, end, datetime.now(UTC)) if start and end else None
    if only_looks:
        return _look(settings, wanted, window, as_json=as_json)
    require_simulator(settings, {market.exchange for market in wanted})
    order = Order(str(uuid.uuid4()), tuple(map(str, wanted)), start or "", end or "")
    error, report = _heal(settings, order)
    if as_json:
        _write_json({"error": error, **report})
    else:
        _show(error, report)
    return 0 if report["whole"] and not error else INCOMPLETE


def _look(settings: Settings, markets: Sequence[Market], asked: Interval | None, *, as_json: bool) -> int:
    """Tell what is wrong, and touch nothing."""
    store, now = open_store(settings), datetime.now(UTC)
    by = Yardstick(
        load_reference(), settings.gaps.apart, settings.gaps.ask_again, Timeframe(settings.dvol.resolution),
        settings.maintenance.kept_since(REJECTED_OHLCV.name, now),
    )  # fmt: skip
    if damaged := set_aside_damaged(store, dry_run=True):
        return _tell_damaged(damaged, as_json=as_json)
    windows = {market: days_to_look_at(store, market, asked, Interval(FIRST_DAY, now), now) for market in markets}
    found = [ailment_json(one) for market in markets for one in diagnose_all(store, market, windows[market], by)]
    hints = [looked_at_json(market, windows[market], days_between(windows[market])) for market in markets]
    if as_json:
        _write_json({"markets": hints, "found": found})
    else:
        _write_ailments("FOUND", found)
        _write_hints(hints)
        to_do = sum(not one["explained"] for one in found)
        sys.stdout.write(f"{to_do:,} to be healed; nothing was changed\n")
    return 0 if any(windows.values()) and all(one["explained"] for one in found) else INCOMPLETE


def _tell_damaged(damaged: Sequence[str], *, as_json: bool) -> int:
    """While files cannot be read, nothing can be told of what they held, nor of what rests on it."""
    if as_json:
        _write_json({"markets": [], "found": [], "damaged": list(damaged)})
    else:
        sys.stdout.writelines(f"DAMAGED {one}\n" for one in damaged)
        sys.stdout.write("without --dry-run they are set aside, and what they held is made again\n")
    return INCOMPLETE


def _heal(settings: Settings, order: Order) -> tuple[str, Report]:
    """Let a process of its own do it; it ends with us."""
    log = settings.data_dir / "log" / f"heal-{os.getpid()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as errors:
        process = start(
            HEALER,
            environment=dagster_environment(settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    try:
        assert process.stdin is not None  # a pipe
        with process.stdin as orders:
            orders.write(msgspec.json.encode(order))
        for message in _followed(process):
            if "error" in message:
                if message["report"] is None:
                    raise ServiceDied(f"heal: {message['error']} (whole log: {log})")
                return message["error"], message["report"]
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: what was healed stays; the run under way ends as failed\n")
        raise
    finally:
        stop(process, patience_s=2.5, grace_s=6)
    raise ServiceDied(f"heal: its process died: {last_line(log)}")


def _followed(process: subprocess.Popen[bytes]) -> Iterator[Mapping[str, Any]]:
    """Yield what the process says, and draw on stderr how far it is."""
    assert process.stdout is not None  # a pipe
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), TextColumn("{task.completed:.0f} partitions"), TimeElapsedColumn())
    with process.stdout, Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("looking", total=None)
        for line in process.stdout:
            message = msgspec.json.decode(line)
            if "asset" in message:
                progress.update(task, advance=1, description=f"healing {message['asset']}")
            yield message


def _show(error: str, report: Report) -> None:
    print_table(_coverage_table(report["markets"]))
    sys.stdout.writelines(f"SET ASIDE {one}\n" for one in report["set_aside"])
    _write_ailments("FOUND", report["found"])
    for market, why in report["no_second_opinion"].items():
        sys.stdout.write(f"NO SECOND OPINION {market}: {why}\n")
    if error:
        sys.stdout.write(f"FAILED {error}\n")
    _write_ailments("LEFT", report["left"])
    _write_hints(report["markets"])
    sys.stdout.flush()


def _coverage_table(markets: Sequence[Mapping[str, Any]]) -> Table:
    """Draw one row for each market: what was there, what is, and why the rest is not."""
    causes = [cause for cause in Cause if any(one["after"]["missing"].get(cause.value) for one in markets)]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("market", "first day", "last day"):
        table.add_column(name, no_wrap=True)
    for name in ("expected", "before", "after", "revised", "permanent", *causes):
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for one in markets:
        after = one["after"]
        numbers = (one["expected"], one["before"]["present"], after["present"], one["revised"], after["permanent"])
        missing = (after["missing"].get(cause.value, 0) for cause in causes)
        table.add_row(one["market"], *_days(one), *(f"{number:,}" for number in (*numbers, *missing)))
    return table


def _days(one: Mapping[str, Any]) -> tuple[str, str]:
    if one["start"] is None:
        return "nothing stored", ""
    window = Interval(datetime.fromisoformat(one["start"]), datetime.fromisoformat(one["end"]))
    return str(window.start.date()), str(max(day.start for day in window.days()).date())


def _write_ailments(head: str, ailments: Sequence[Mapping[str, Any]]) -> None:
    """Write one line for each; those about which nothing is to be done are only counted."""
    settled = [one for one in ailments if one["explained"] and one["ask_from"]]
    if settled:
        gaps = "1 gap is" if len(settled) == 1 else f"{len(settled):,} gaps are"
        sys.stdout.write(f"{head} nothing to do: {gaps} explained, and asked for once more when that tells something\n")
    for one in (one for one in ailments if one not in settled):
        detail = f" ({one['detail']})" if one["detail"] else ""
        again = f"; ask again from {one['ask_from']}" if one["ask_from"] else ""
        where = f"[{one['start']}, {one['end']})"
        sys.stdout.write(f"{head} {one['market']} {where}: {one['count']:,} {one['reason']}{detail}{again}\n")


def _write_hints(markets: Sequence[Mapping[str, Any]]) -> None:
    """Name what was not looked at, and how it is collected."""
    for one in markets:
        collect = f"mdp backfill --missing -m {one['market']}"
        if one["start"] is None:
            sys.stdout.write(f"NOTHING KNOWN {one['market']}: it was never asked for: {collect} --start … --end …\n")
        if one["never_asked"]:
            days = sum(stretch["days"] for stretch in one["never_asked"])
            bounds = one["never_asked"][0]["start"][:10], one["never_asked"][-1]["end"][:10]
            were = "1 day between was" if days == 1 else f"{days:,} days between were"
            where = f"--start {bounds[0]} --end {bounds[1]}"
            sys.stdout.write(f"NOT LOOKED AT {one['market']}: {were} never asked for: {collect} {where}\n")


def _write_json(report: Report) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
