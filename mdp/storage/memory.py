"""A store that keeps its tables in this process's memory: for tests, for trying things out, and as what is meant.

Not here: anything that outlives the process (``delta``).
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from mdp.errors import InputError, SnapshotExists, SnapshotMissing
from mdp.ports import Compaction, DiskUse, Slice, Table, Vacuum
from mdp.storage.rows import (
    KEY_COLUMNS,
    chosen_columns,
    is_in_slice,
    require_inside,
    require_live,
    require_long_enough,
    require_snapshot_name,
    require_storable,
    require_time_column,
)


class MemoryStore:
    """Candles in memory, behind the port ``CandleStore``. Safe for the threads of one process."""

    def __init__(self) -> None:
        self._tables: dict[str, pl.DataFrame] = {}
        self._changes: dict[str, int] = {}
        self._snapshots: dict[str, MemorySnapshot] = {}
        self._lock = threading.RLock()

    def read(self, table: Table, part: Slice, *, columns: Collection[str] | None = None) -> pl.DataFrame:
        """Return the rows of a slice, as the port promises."""
        names = chosen_columns(table, columns)
        return _chosen(table, self._rows(table).filter(is_in_slice(table, part)), names)

    def replace(self, table: Table, part: Slice, rows: pl.DataFrame) -> None:
        """Make ``rows`` the content of a slice, as the port promises."""
        require_inside(table, part, rows)
        with self._lock:
            self._keep(table, pl.concat([self._rows(table).filter(~is_in_slice(table, part)), rows]))

    def append(self, table: Table, rows: pl.DataFrame) -> None:
        """Add rows, as the port promises."""
        require_storable(table, rows)
        with self._lock:
            self._keep(table, pl.concat([self._rows(table), rows]))

    def append_live(self, table: Table, rows: pl.DataFrame) -> None:
        """Add or change single rows, as the port promises."""
        require_live(table, rows)
        with self._lock:
            kept = self._rows(table).join(rows, on=[*KEY_COLUMNS, table.time_column], how="anti", maintain_order="left")
            self._keep(table, pl.concat([kept, rows]))

    @contextmanager
    def draft_snapshot(self, name: str) -> Iterator[MemoryDraft]:
        """Begin a snapshot, as the port promises."""
        require_snapshot_name(name)
        if name in self._snapshots:
            raise SnapshotExists(name)
        yield MemoryDraft(self, name)

    def snapshots(self) -> Mapping[str, bytes]:
        """Return every published snapshot and its manifest, as the port promises."""
        with self._lock:
            return {name: self._snapshots[name].manifest for name in sorted(self._snapshots)}

    def manifest(self, name: str) -> bytes:
        """Return the manifest of one snapshot, as the port promises."""
        return self._snapshot(name).manifest

    def read_snapshot(
        self, name: str, table: Table, part: Slice, *, columns: Collection[str] | None = None
    ) -> pl.DataFrame:
        """Return the rows of a slice as a snapshot took them, as the port promises."""
        names = chosen_columns(table, columns)
        return self._snapshot(name).read(table, part, names)

    def delete_snapshot(self, name: str) -> None:
        """Forget a snapshot, as the port promises."""
        with self._lock:
            self._snapshot(name)
            del self._snapshots[name]

    def compact(self, table: Table) -> Compaction:  # noqa: ARG002  # the port's
        """Do nothing: there are no files."""
        return Compaction()

    def vacuum(self, table: Table, keep: timedelta, *, dry_run: bool = False) -> Vacuum:  # noqa: ARG002  # the port's
        """Do nothing: there are no older versions."""
        require_long_enough(keep)
        return Vacuum()

    def set_aside_damaged(self, table: Table, *, dry_run: bool = False) -> tuple[str, ...]:  # noqa: ARG002  # the port's
        """Do nothing: memory is whole."""
        return ()

    def prune(self, table: Table, column: str, before: datetime) -> int:
        """Remove old rows, as the port promises."""
        require_time_column(table, column, before)
        with self._lock:
            rows = self._rows(table)
            kept = rows.filter((pl.col(column) >= before).fill_null(value=True))
            self._keep(table, kept)
            return rows.height - kept.height

    def disk_use(self, table: Table) -> DiskUse:
        """Tell how many rows there are, and how much memory they take."""
        rows = self._rows(table)
        return DiskUse(rows=rows.height, size_bytes=int(rows.estimated_size()))

    def taken(self, table: Table, parts: Collection[Slice]) -> tuple[str, pl.DataFrame]:
        """Return the present version of a table, and what of it lies in any of some slices."""
        with self._lock:
            is_taken = pl.any_horizontal(pl.lit(value=False), *(is_in_slice(table, part) for part in parts))
            return str(self._changes.get(table.name, "none")), self._rows(table).filter(is_taken)

    def publish(self, name: str, snapshot: MemorySnapshot) -> None:
        """Make a snapshot known.

        Raises:
            SnapshotExists: the name is taken.
        """
        with self._lock:
            if name in self._snapshots:
                raise SnapshotExists(name)
            self._snapshots[name] = snapshot

    def _snapshot(self, name: str) -> MemorySnapshot:
        require_snapshot_name(name)
        try:
            return self._snapshots[name]
        except KeyError as error:
            raise SnapshotMissing(name, sorted(self._snapshots)) from error

    def _keep(self, table: Table, rows: pl.DataFrame) -> None:
        self._tables[table.name] = rows
        self._changes[table.name] = self._changes.get(table.name, 0) + 1

    def _rows(self, table: Table) -> pl.DataFrame:
        return self._tables.get(table.name, table.schema.to_frame())


@dataclass(slots=True)
class MemorySnapshot:
    """Rows that were taken, by table, and their manifest."""

    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    manifest: bytes = b""

    def read(self, table: Table, part: Slice, names: list[str]) -> pl.DataFrame:
        """Return the rows of a slice in the port's order, in one piece."""
        rows = self.tables.get(table.name, table.schema.to_frame())
        return _chosen(table, rows.filter(is_in_slice(table, part)), names).rechunk()


class MemoryDraft:
    """A snapshot in the making, as the port promises.

    Args:
        store: What it takes from.
        name: Its name once it is published.
    """

    def __init__(self, store: MemoryStore, name: str) -> None:
        self._store, self._name = store, name
        self._snapshot = MemorySnapshot()

    def take(self, table: Table, parts: Collection[Slice]) -> str:
        """Hold some slices of one table."""
        if table.name in self._snapshot.tables:
            raise InputError("table", got=table.name, expected="a table that this snapshot has not taken yet")
        version, self._snapshot.tables[table.name] = self._store.taken(table, parts)
        return version

    def read(self, table: Table, part: Slice) -> pl.DataFrame:
        """Return the rows of a slice that was taken."""
        return self._snapshot.read(table, part, list(table.schema))

    def publish(self, manifest: bytes) -> None:
        """Make the snapshot known."""
        self._snapshot.manifest = manifest
        self._store.publish(self._name, self._snapshot)


def _chosen(table: Table, rows: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    return rows.sort("timeframe", *table.sort_by, maintain_order=True).select(names)
