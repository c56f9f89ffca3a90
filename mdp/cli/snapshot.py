"""``mdp snapshot``: candles of some markets and days under a name, to be read the same for ever.

Not here: making, comparing and carrying them (``pipeline.snapshots``, ``exporting``, ``exported``).
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mdp.cli.output import print_table
from mdp.config.settings import Settings, load_settings
from mdp.domain.gaps import Cause
from mdp.domain.interval import format_time
from mdp.domain.timeframe import Timeframe
from mdp.errors import ConfigError, SnapshotMissing
from mdp.pipeline.exported import is_export, load_export, verify_export
from mdp.pipeline.exporting import export_snapshot
from mdp.pipeline.manifests import Manifest, Part, sorted_by_length
from mdp.pipeline.snapshots import (
    Advance,
    Verification,
    create_snapshot,
    delete_snapshot,
    manifest_of,
    manifests,
    verify_snapshot,
)
from mdp.ports import GAPS, CandleStore
from mdp.reading import parse_markets, parse_timeframe, parse_window
from mdp.sources import utc_now
from mdp.storage import DeltaStore, open_store

DIFFERS = 1
_SHORT = 12


def create(
    name: str,
    markets: Sequence[str] | None,
    timeframes: Sequence[str] | None,
    bounds: tuple[str, str],
    *,
    note: str,
    allows_empty: bool,
    as_json: bool,
) -> None:
    """Make a snapshot and say what is in it.

    Raises:
        InputError: an argument is wrong, or nothing is stored there.
        SnapshotExists: the name is taken.
    """
    settings = load_settings()
    wanted = parse_markets(markets, settings)
    lengths = [parse_timeframe(text) for text in timeframes or Timeframe]
    with _bar("reading") as advance:
        made = create_snapshot(
            open_store(settings),
            name,
            wanted,
            lengths,
            parse_window(*bounds),
            utc_now,
            note,
            allows_empty=allows_empty,
            advance=advance,
        )
    _write_one(made, as_json=as_json)
    _say_what_is_missing(made)


def list_all(*, as_json: bool) -> None:
    """Show every snapshot, one in a line."""
    found = manifests(open_store(load_settings()))
    if as_json:
        _write_json([_summary(one) for one in found.values()])
        return
    table = _table("name", "created", "start", "end", "markets", "timeframes", "rows", "id", "note", numbers=("rows",))
    for one in found.values():
        lengths = " ".join(_lengths(one))
        bounds = (format_time(moment.replace(microsecond=0)) for moment in (one.created_at, one.start, one.end))
        markets = str(len({part.market for part in one.parts}))
        table.add_row(one.name, *bounds, markets, lengths, f"{one.rows:,}", one.id[:_SHORT], one.note)
    print_table(table)


def show(name: str, *, as_json: bool) -> None:
    """Show all that a snapshot says of itself.

    Raises:
        SnapshotMissing: there is none of that name.
    """
    _write_one(manifest_of(open_store(load_settings()), name), as_json=as_json)


def verify(name_or_folder: str, *, as_json: bool) -> int:
    """Read a snapshot again, one of this store or an exported one, and name what is not as it says.

    Returns:
        The exit code: 0 everything is, 1 something is not.

    Raises:
        SnapshotMissing: there is no such snapshot, nor such a folder.
        StoreCorrupt: its manifest cannot be read.
    """
    with _bar("verifying") as advance:
        found = _verify(name_or_folder, advance)
    if as_json:
        _write_json({"name": found.manifest.name, "id": found.manifest.id, **_verdict(found)})
    else:
        _show_verdict(found)
    return DIFFERS if found.differences else 0


def _verify(name_or_folder: str, advance: Advance) -> Verification:
    folder = Path(name_or_folder)
    if os.sep in name_or_folder:
        return verify_export(folder, advance=advance)
    try:
        return verify_snapshot(open_store(load_settings()), name_or_folder, advance=advance)
    except SnapshotMissing:
        if not is_export(folder):
            raise
        return verify_export(folder, advance=advance)


def _show_verdict(found: Verification) -> None:
    for one in found.differences:
        sys.stdout.write(f"DIFFERS {one.where}: {one.what}: expected {one.expected}, found {one.found}\n")
    made = found.manifest
    count, rows = len(found.differences), f"{len(made.parts)} parts, {made.rows:,} rows"
    verdict = f"{count} {'difference' if count == 1 else 'differences'}" if count else "everything is as it says"
    sys.stdout.write(f"{made.name}: {rows}, id {made.id}: {verdict}\n")
    if not found.compares_bytes:
        sys.stdout.write(f"digests were compared, not bytes: it was made with polars {made.polars_version}\n")


def _verdict(found: Verification) -> dict[str, Any]:
    listed = [msgspec.to_builtins(one) for one in found.differences]
    return {"holds": not listed, "compares_bytes": found.compares_bytes, "differences": listed}


def delete(name: str) -> None:
    """Forget a snapshot.

    Raises:
        SnapshotMissing: there is none of that name.
    """
    gone = delete_snapshot(open_store(load_settings()), name)
    said = f": {gone.window}, {gone.rows:,} rows, id {gone.id}" if gone else ", whose manifest could not be read"
    sys.stdout.write(f"deleted snapshot {name}{said}\n")


def export(name: str, folder: Path) -> None:
    """Write a snapshot as a folder of Parquet.

    Raises:
        InputError: the folder holds something.
        SnapshotMissing: there is none of that name.
    """
    with _bar("writing") as advance:
        made = export_snapshot(open_store(load_settings()), name, folder, advance=advance)
    size = sum(file.size for file in made.files)
    sys.stdout.write(
        f"{folder}: {len(made.files)} files, {made.snapshot.rows:,} rows, {size:,} bytes, id {made.snapshot.id}\n"
    )


def load(folder: Path, name: str | None) -> None:
    """Make an exported snapshot one of this store.

    Raises:
        InputError: no exported snapshot.
        StoreCorrupt: it is not what it says.
        SnapshotExists: the name is taken.
    """
    with _scratch_store(load_settings()) as scratch, _bar("verifying") as advance:
        made = load_export(scratch, folder, name, advance=advance)
    sys.stdout.write(f"snapshot {made.name}: {made.window}, {made.rows:,} rows, id {made.id}\n")


@contextmanager
def _scratch_store(settings: Settings) -> Iterator[CandleStore]:
    """Open a lake without tables that has the snapshots of the settings' lake, and is removed afterwards.

    It lies beside them, for a snapshot shares the files of its lake, and is named as a draft: where this process is
    killed, the next vacuum after a day removes it.
    """
    if settings.store != "duckdb":
        expected = "duckdb: what is in BigQuery cannot take it up; the files of the folder can be read as they are"
        raise ConfigError("MDP_STORE", got=settings.store, expected=expected)
    lake_dir = settings.snapshots_dir / f".loading.{secrets.token_hex(4)}.draft"
    try:
        yield DeltaStore(lake_dir, snapshots_dir=settings.snapshots_dir)
    finally:
        shutil.rmtree(lake_dir, ignore_errors=True)


@contextmanager
def _bar(doing: str) -> Iterator[Advance]:
    """Draw how many parts are done on stderr, where somebody watches."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        task = bars.add_task(doing, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _write_one(made: Manifest, *, as_json: bool) -> None:
    if as_json:
        _write_json(made)
        return
    for label, value in (
        ("snapshot", made.name), ("id", made.id), ("window", str(made.window)),
        ("created", f"{format_time(made.created_at)} by mdp {made.mdp_version}"), ("note", made.note or "-"),
        ("versions", ", ".join(f"{table} {version}" for table, version in made.versions.items())),
    ):  # fmt: skip
        sys.stdout.write(f"{label:9} {value}\n")
    table = _table(
        "table", "market", "timeframe", "rows", "expected", "first", "last", "missing", "sources", "digest",
        numbers=("rows", "expected"),
    )  # fmt: skip
    for part in made.parts:
        table.add_row(*_cells(part))
    print_table(table)


def _cells(part: Part) -> tuple[str, ...]:
    first, last = (f"{moment:%Y-%m-%dT%H:%MZ}" if moment else "" for moment in (part.first, part.last))
    counts = (", ".join(f"{count:,} {name}" for name, count in of.items()) for of in (part.missing, part.sources))
    expected = "" if part.expected is None else f"{part.expected:,}"
    rows = f"{part.rows:,}"
    return part.table, part.market, part.timeframe.value, rows, expected, first, last, *counts, part.digest[:_SHORT]


def _say_what_is_missing(made: Manifest) -> None:
    if empty := [str(part) for part in made.parts if part.expected and not part.rows]:
        sys.stderr.write(f"mdp: nothing is stored of {', '.join(empty)}\n")
    for part in made.parts:
        if unfetched := part.missing.get(Cause.UNFETCHED.value):
            were = "1 minute was" if unfetched == 1 else f"{unfetched:,} minutes were"
            sys.stderr.write(f"mdp: {part}: {were} not collected, and will not be in it\n")


def _summary(made: Manifest) -> dict[str, Any]:
    fields = msgspec.to_builtins(made)
    markets = list(dict.fromkeys(part.market for part in made.parts))
    return {
        **{name: value for name, value in fields.items() if name != "parts"},
        "markets": markets,
        "timeframes": _lengths(made),
        "rows": made.rows,
    }


def _lengths(made: Manifest) -> list[str]:
    """Of its candles: gaps are minutes whatever it can be read at."""
    return [one.value for one in sorted_by_length({part.timeframe for part in made.parts if part.table != GAPS.name})]


def _table(*names: str, numbers: Sequence[str]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in numbers else "left", no_wrap=True)
    return table


def _write_json(value: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
