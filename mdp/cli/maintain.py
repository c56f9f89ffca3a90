"""``mdp maintain`` and ``mdp storage``: making room on the disk, and what fills it.

Not here: the work (``pipeline.maintenance``), the counting (``pipeline.disk``).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec
from rich.table import Table

from mdp.cli.output import print_table
from mdp.config.settings import load_settings
from mdp.domain.market import Market
from mdp.pipeline.disk import Room, disk_uses, free_bytes, rooms
from mdp.pipeline.maintenance import Plan, Upkeep, maintain, require_maintained, total_use
from mdp.pipeline.tidying import tidy
from mdp.ports import DiskUse, Vacuum
from mdp.sources import open_spool, utc_now
from mdp.storage import open_store

_UNITS = ("B", "kB", "MB", "GB", "TB")


def run_maintain(*, is_dry: bool, as_json: bool) -> None:
    """Look after all tables and show what came of it.

    Raises:
        StorageError: some table could not be looked after; the others were.
    """
    settings = load_settings()
    plan = Plan(settings.maintenance, utc_now(), tuple(map(Market.parse, settings.markets)), is_dry)
    done = list(maintain(open_store(settings), plan))
    pages = open_spool(settings, utc_now).sweep(dry_run=is_dry)
    leftovers = tidy(settings, plan.now, is_dry=is_dry)
    if as_json:
        report = {"dry_run": is_dry, "tables": [asdict(one) for one in done], "pages": asdict(pages)}
        report["leftovers"] = asdict(leftovers)
        _write_json(report)
    else:
        print_table(_maintained_table(done))
        _say_removed("pages that nobody came back for", pages, is_dry=is_dry)
        _say_removed("old logs and other leftovers", leftovers, is_dry=is_dry)
        if is_dry:
            sys.stdout.write("nothing was changed; joining small files cannot be foretold and is left out\n")
    sys.stdout.flush()
    require_maintained(done)


def _maintained_table(done: Sequence[Upkeep]) -> Table:
    table = _table("table", "rows", "files", "size", "rows dropped", "files removed", "bytes removed", "")
    for one in done:
        removed = (f"{one.pruned:,}", f"{one.vacuum.files:,}", size_text(one.vacuum.size_bytes))
        failed = "; ".join(f"FAILED {trouble.step}" for trouble in one.troubles)
        table.add_row(one.table, *_change(one.before, one.after), *removed, failed)
    total = (total_use([one.before for one in done]), total_use([one.after for one in done]))
    sums = (sum(one.pruned for one in done), sum(one.vacuum.files for one in done))
    size = size_text(sum(one.vacuum.size_bytes for one in done))
    table.add_row("all", *_change(*total), *(f"{count:,}" for count in sums), size, "", style="bold")
    return table


def _change(before: DiskUse | None, after: DiskUse | None) -> tuple[str, str, str]:
    if before is None or after is None:
        return "?", "?", "?"
    return (
        _arrow(f"{before.rows:,}", f"{after.rows:,}"),
        _arrow(f"{before.files:,}", f"{after.files:,}"),
        _arrow(size_text(before.size_bytes), size_text(after.size_bytes)),
    )


def _arrow(before: str, after: str) -> str:
    return after if before == after else f"{before} → {after}"


def _say_removed(what: str, removed: Vacuum, *, is_dry: bool) -> None:
    if removed.files:
        verb = "would be removed" if is_dry else "were removed"
        sys.stdout.write(f"{removed.files:,} {what}, {size_text(removed.size_bytes)}, {verb}\n")


def show_storage(*, as_json: bool) -> None:
    """Show the room of each table and of everything else of ours on this machine.

    Raises:
        StorageError: a table cannot be read.
    """
    settings = load_settings()
    uses, others = disk_uses(open_store(settings)), rooms(settings)
    free = free_bytes(settings.data_dir)
    if as_json:
        _write_json(_storage_json(uses, others, free))
        return
    print_table(_storage_table(uses))
    sys.stdout.write("\n")
    table = _table("besides", "files", "size", "where")
    table.columns[-1].justify = "left"
    for one in others:
        table.add_row(one.name, f"{one.files:,}", size_text(one.size_bytes), str(one.directory))
    print_table(table)
    if free is not None:
        sys.stdout.write(f"{size_text(free)} are free in {settings.data_dir}\n")


def _storage_table(uses: Mapping[str, DiskUse]) -> Table:
    table = _table("table", "rows", "files", "size", "bytes a row", "no longer part of it")
    for name, use in [*uses.items(), ("all", total_use(list(uses.values())))]:
        old = size_text(use.old_bytes) if use.old_bytes else ""
        a_row = f"{use.size_bytes / use.rows:.1f}" if use.rows and name != "all" else ""
        style = "bold" if name == "all" else None
        table.add_row(name, f"{use.rows:,}", f"{use.files:,}", size_text(use.size_bytes), a_row, old, style=style)
    return table


def _storage_json(uses: Mapping[str, DiskUse], others: Sequence[Room], free: int | None) -> dict[str, Any]:
    return {
        "tables": {name: asdict(use) for name, use in uses.items()},
        "besides": [{**asdict(one), "directory": str(one.directory)} for one in others],
        "free_bytes": free,
    }


def size_text(size: float) -> str:
    """Write a number of bytes for people, in powers of 1,000.

    Examples:
        >>> size_text(999), size_text(12_345_678)
        ('999 B', '12.3 MB')
    """
    unit = 0
    while size >= 999.95 and unit < len(_UNITS) - 1:
        size, unit = size / 1_000, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit else f"{size:.0f} B"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _write_json(value: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
