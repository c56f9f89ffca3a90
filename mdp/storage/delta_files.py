"""The files that a Delta log names: which are live, which were removed when, and the actions that change them.

Not here: how changes are published (``delta_log``), what is in the files (``parquet``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable
from deltalake.transaction import AddAction, RemoveAction

from mdp.ports import Slice
from mdp.storage.layout import PARTITION_COLUMNS, Key, LiveFile, NewFile, Partition, periods_of
from mdp.storage.rows import timeframe_names

Index = Mapping[Key, Sequence[LiveFile]]
"""The live files by exchange, symbol and timeframe, sorted."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a table's files.

    Attributes:
        added: New files, already written.
        removed: Live files that they replace.
        changes_rows: False where the same rows are only kept in other files.
    """

    added: Sequence[NewFile]
    removed: Sequence[LiveFile] = ()
    changes_rows: bool = True

    @property
    def actions(self) -> list[AddAction | RemoveAction]:
        """What is written to the log."""
        now = time.time_ns() // 1_000_000
        removals = [
            RemoveAction(file.path, self.changes_rows, now, file.size_bytes, file.partition.values)
            for file in self.removed
        ]
        additions = [
            AddAction(
                path=file.path,
                size=file.size_bytes,
                partition_values=file.partition.values,
                modification_time=now,
                data_change=self.changes_rows,
                stats=file.stats,
            )
            for file in self.added
        ]
        return [*removals, *additions]


def live_index(delta: DeltaTable, time_column: str) -> Index:
    """Return the live files of a version of a table."""
    actions = delta.get_add_actions(flatten=True)
    wanted = ["num_records", f"min.{time_column}", f"max.{time_column}"]
    columns = ["size_bytes", "path", *(f"partition.{name}" for name in PARTITION_COLUMNS)]
    known = [name for name in wanted if name in actions.schema.names]
    described = pl.DataFrame(actions.select([*columns, *known])).with_columns(
        pl.lit(None).alias(name) for name in wanted if name not in known
    )
    found: dict[Key, list[LiveFile]] = {}
    for size_bytes, path, *values, rows, first, last in described.select([*columns, *wanted]).iter_rows():
        partition = Partition(*values)
        found.setdefault(partition.key, []).append(LiveFile(partition, path, size_bytes, rows, first, last))
    return {key: sorted(found[key]) for key in sorted(found)}


def files_of_slice(files: Index, part: Slice) -> Iterator[LiveFile]:
    """Return the live files that may hold rows of a slice, in order."""
    for timeframe in timeframe_names(part):
        first, last = periods_of(timeframe, part.window)
        of_key = files.get((part.market.exchange.value, part.market.symbol_key, timeframe), [])
        yield from (file for file in of_key if first <= file.partition.period <= last)


def removals(delta: DeltaTable, log_dir: Path, keep: timedelta) -> tuple[set[str], set[str]]:
    """Return the files that the log remembers as removed: those removed longer ago than ``keep``, and the others.

    The log remembers them in its commits, which it keeps for thirty days, and in its last checkpoint.
    """
    border, stated = datetime.now(UTC) - keep, _removals_in_commits(log_dir)
    old = {path for path, removed_at in stated.items() if removed_at < border}
    # The library counts in whole hours: what it calls recent may be older, never the other way round.
    hours = -(-int(keep.total_seconds()) // 3600)
    summed_up = set(delta.vacuum(0, dry_run=True, enforce_retention_duration=False)).difference(stated)
    old |= summed_up.intersection(delta.vacuum(hours, dry_run=True, enforce_retention_duration=False))
    return old, summed_up.union(stated) - old


def _removals_in_commits(log_dir: Path) -> dict[str, datetime]:
    found: dict[str, datetime] = {}
    for commit in log_dir.glob("*.json"):
        try:
            lines = commit.read_bytes().splitlines()
        except FileNotFoundError:
            continue  # cleaned up by another process after a checkpoint
        for line in lines:
            if line.startswith(b'{"remove"'):
                action = json.loads(line)["remove"]
                path, removed_at = (
                    unquote(action["path"]),
                    datetime.fromtimestamp(action["deletionTimestamp"] / 1000, UTC),
                )
                found[path] = max(found.get(path, removed_at), removed_at)
    return found
