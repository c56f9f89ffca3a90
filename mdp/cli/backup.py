"""``mdp backup``: a copy of everything that a machine would lose with its disk.

Not here: making, comparing and restoring them (``pipeline.backing_up``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mdp.cli.maintain import size_text
from mdp.cli.output import print_table
from mdp.config.settings import load_settings
from mdp.domain.interval import format_time
from mdp.pipeline.backing_up.copying import Advance
from mdp.pipeline.backing_up.creating import create_backup
from mdp.pipeline.backing_up.places import backup_at, readable_backups
from mdp.pipeline.backing_up.pruning import Keep
from mdp.pipeline.backing_up.pruning import prune as prune_place
from mdp.pipeline.backing_up.records import Manifest
from mdp.pipeline.backing_up.restoring import Choices, restore_backup
from mdp.pipeline.backing_up.verifying import verify_backup
from mdp.sources import utc_now
from mdp.storage import open_store

FAULTY = 1


def create(place: Path, *, is_full: bool, as_json: bool) -> None:
    """Make a backup and say what is in it, and what is not.

    Raises:
        InputError: the place is part of what is backed up.
        LeaseHeld: another backup is being made there.
        StorageError: it could not be made.
    """
    settings = load_settings()
    with _bar("copying") as advance:
        made = create_backup(settings, open_store(settings), place, utc_now, is_full=is_full, advance=advance)
    if as_json:
        _write_json(_summary(made.folder, made.manifest))
        return
    held = made.manifest
    sys.stdout.write(
        f"{made.folder}: {held.rows:,} rows in {len(held.tables)} tables, {_count(len(held.snapshots), 'snapshot')}, "
        f"Dagster's storage: {held.dagster}; {held.files:,} files, {size_text(held.size)}, "
        f"{size_text(held.copied)} of them new\n"
    )
    for what, why in held.leaves_out.items():
        sys.stdout.write(f"not in it: {what}: {why}\n")
    if not held.was_quiet:
        sys.stdout.write("it was made while something was being stored: what that was at is as after a power cut\n")


def list_all(place: Path, *, as_json: bool) -> None:
    """Show every backup of a place, one in a line.

    Raises:
        StorageError: the place cannot be looked at.
    """
    found = list(readable_backups(place))
    if as_json:
        _write_json([_summary(path, told) for path, told in found])
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("name", "environment", "rows", "files", "size", "new", "Dagster", "snapshots"):
        table.add_column(name, justify="right" if name in ("rows", "files", "size", "new") else "left", no_wrap=True)
    for path, told in found:
        if isinstance(told, str):
            table.add_row(path.name, "cannot be read")
            sys.stderr.write(f"mdp: {told}\n")
            continue
        numbers = (f"{told.rows:,}", f"{told.files:,}", size_text(told.size), size_text(told.copied))
        table.add_row(path.name, told.environment, *numbers, told.dagster, " ".join(told.snapshots))
    print_table(table)


def verify(folder: Path, *, as_json: bool) -> int:
    """Read a backup and name what is not as it says.

    Returns:
        The exit code: 0 everything is, 1 something is not.

    Raises:
        InputError: there is no backup.
    """
    backup = backup_at(folder, utc_now())
    with _bar("verifying") as advance:
        found = verify_backup(backup, advance=advance)
    if as_json:
        _write_json({"backup": str(backup), "holds": not found.faults, "faults": msgspec.to_builtins(found.faults)})
        return FAULTY if found.faults else 0
    for fault in found.faults:
        sys.stdout.write(f"FAULTY {fault.path}: {fault.what}\n")
    count = f"{found.manifest.files:,} files, {size_text(found.manifest.size)}: " if found.manifest else ""
    verdict = _count(len(found.faults), "fault") if found.faults else "everything is as it says"
    sys.stdout.write(f"{backup}: {count}{verdict}\n")
    return FAULTY if found.faults else 0


def restore(folder: Path, into: Path | None, *, replaces: bool, leaves_dagster: bool, as_json: bool) -> None:
    """Put a backup into a data directory and say what to do next.

    Raises:
        InputError: there is no backup, or the directory holds something.
        StoreCorrupt: the backup is damaged; nothing was changed.
    """
    backup, settings = backup_at(folder, utc_now()), load_settings()
    target = into or settings.data_dir
    with _bar("restoring") as advance:
        choices = Choices(replaces, leaves_dagster)
        done = restore_backup(backup, settings, target, utc_now, choices, advance=advance)
    if as_json:
        before = None if done.before is None else str(done.before)
        keys = None if done.keys_aside is None else str(done.keys_aside)
        told = {"into": str(target), "before": before, "unfinished_runs": done.unfinished_runs, "keys_aside": keys}
        _write_json({**_summary(backup, done.manifest), **told})
        return
    held = done.manifest
    sys.stdout.write(
        f"{target}: as of {format_time(held.created_at.replace(microsecond=0))}: {held.rows:,} rows, "
        f"{_count(len(held.snapshots), 'snapshot')}, Dagster's storage {held.dagster if done.has_dagster else 'left'}\n"
    )
    if done.before is not None:
        sys.stdout.write(f"what was there before is in {done.before}; remove it when you no longer need it\n")
    if done.unfinished_runs:
        sys.stdout.write(f"{_count(len(done.unfinished_runs), 'run')} was at work then, and will be marked as failed\n")
    if done.keys_aside is not None:
        sys.stdout.write(f"keys of the API are in {done.keys_aside}, and read from {settings.keys_file}: copy them\n")


def prune(place: Path, counts: tuple[int, int, int], *, is_dry: bool, as_json: bool) -> None:
    """Remove the backups that need not stay, and name them.

    Raises:
        InputError: numbers that would remove everything.
        LeaseHeld: a backup is being made there.
    """
    kept, gone = prune_place(place, Keep(*counts), utc_now(), is_dry=is_dry)
    if as_json:
        _write_json({"dry_run": is_dry, "kept": [one.name for one in kept], "removed": [one.name for one in gone]})
        return
    for path in gone:
        sys.stdout.write(f"{'would remove' if is_dry else 'removed'} {path.name}\n")
    sys.stdout.write(f"{_count(len(kept), 'backup')} {'would stay' if is_dry else 'stay'}\n")


def _summary(path: Path, told: Manifest | str) -> dict[str, Any]:
    if isinstance(told, str):
        return {"backup": str(path), "error": told}
    return {"backup": str(path), "rows": told.rows, **msgspec.to_builtins(told)}


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


@contextmanager
def _bar(doing: str) -> Iterator[Advance]:
    """Draw how many bytes are done on stderr, where somebody watches."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        task = bars.add_task(doing, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _write_json(value: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
