"""Stores of candles: reading, writing, snapshots, and what looking after them comes to.

Not here: any store (``storage``), the tables (``tables``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import polars as pl

from mdp.ports.tables import Slice, Table


@dataclass(frozen=True, slots=True)
class Compaction:
    """What joining small files came to; all zero where a store keeps no files of its own."""

    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0


@dataclass(frozen=True, slots=True)
class Vacuum:
    """What was removed because no version that may still be read holds it."""

    files: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DiskUse:
    """How much room a table takes.

    Attributes:
        rows: Of the current version.
        files: That hold it; 0 where the store keeps no files of its own.
        size_bytes: Of these, or what the store says it keeps.
        old_bytes: Of files that are no longer part of it and not yet removed; what a snapshot holds is not among them.
    """

    rows: int = 0
    files: int = 0
    size_bytes: int = 0
    old_bytes: int = 0


class SnapshotDraft(Protocol):
    """A snapshot in the making. What it has taken stays as it was; nobody else sees it before it is published."""

    def take(self, table: Table, parts: Collection[Slice]) -> str:
        """Hold the present content of some slices of one table, all of one version; call it once for each table.

        Returns:
            Which version that was, in the store's own words.
        """
        ...

    def read(self, table: Table, part: Slice) -> pl.DataFrame:
        """Return the rows of a slice that was taken, as :meth:`CandleStore.read_snapshot` will."""
        ...

    def publish(self, manifest: bytes) -> None:
        """Make the snapshot known under its name, in one atomic step.

        Raises:
            SnapshotExists: another one has that name; nothing was published.
        """
        ...


class CandleStore(Protocol):
    """Where tables are kept. Safe for many processes at once; every write is all or nothing."""

    def read(self, table: Table, part: Slice, *, columns: Collection[str] | None = None) -> pl.DataFrame:
        """Return the rows of a slice, sorted by timeframe, then by the table's order. Empty where there are none.

        Raises:
            StoreCorrupt: a file cannot be read.
        """
        ...

    def replace(self, table: Table, part: Slice, rows: pl.DataFrame) -> None:
        """Make ``rows`` the content of a slice, in one atomic step; what lies outside the slice stays as it is.

        Args:
            table: Where to.
            part: The slice: its market, all its timeframes, its window.
            rows: Of the table's schema, any order, all inside the slice; may be empty.

        Raises:
            SchemaMismatch: the frame is not of the table's schema.
            InvariantViolation: a row lies outside the slice; nothing was written.
            WriteConflict: other writers kept winning; nothing was written.
            StorageError: the disk is full or cannot be written; nothing was written.
        """
        ...

    def append(self, table: Table, rows: pl.DataFrame) -> None:
        """Add rows to an append-only table, in one atomic step.

        Raises:
            SchemaMismatch: the frame is not of the table's schema.
            InvariantViolation: a row names no market, timeframe or time; nothing was written.
            WriteConflict: other writers kept winning; nothing was written.
            StorageError: the disk is full or cannot be written; nothing was written.
        """
        ...

    def append_live(self, table: Table, rows: pl.DataFrame) -> None:
        """Add or change single rows of a table whose key is its market, timeframe and time column.

        Of several rows with one key the one that was written last is read. A later :meth:`replace` of the slice wins.

        Args:
            table: ``OHLCV`` or ``DVOL``.
            rows: Of the table's schema, any order, keys unique among them; may be empty.

        Raises:
            SchemaMismatch, InvariantViolation, WriteConflict, StorageError: as for :meth:`append`.
        """
        ...

    def draft_snapshot(self, name: str) -> AbstractContextManager[SnapshotDraft]:
        """Begin a snapshot. Leaving the context without having published leaves nothing behind.

        Raises:
            SnapshotExists: the name is taken.
            StorageError: nothing can be written.
        """
        ...

    def snapshots(self) -> Mapping[str, bytes]:
        """Return every published snapshot: its name to its manifest, ascending by name.

        What is no snapshot is not looked at. One whose manifest cannot be read is named in the log and left out.
        """
        ...

    def manifest(self, name: str) -> bytes:
        """Return the manifest of one snapshot; others may be damaged.

        Raises:
            SnapshotMissing: there is no such snapshot.
            StoreCorrupt: it has none that can be read.
        """
        ...

    def read_snapshot(
        self, name: str, table: Table, part: Slice, *, columns: Collection[str] | None = None
    ) -> pl.DataFrame:
        """Return the rows of a slice as they were when the snapshot took them; the same for ever.

        Only what lies inside the slices that were taken is there; as for :meth:`read`, the rest is absent.

        Raises:
            SnapshotMissing: there is no such snapshot.
            StoreCorrupt: a file cannot be read.
        """
        ...

    def delete_snapshot(self, name: str) -> None:
        """Forget a snapshot and give up what it holds.

        Raises:
            SnapshotMissing: there is no such snapshot.
        """
        ...

    def compact(self, table: Table) -> Compaction:
        """Join files that are small or many; no row changes. Safe beside readers and writers."""
        ...

    def vacuum(self, table: Table, keep: timedelta, *, dry_run: bool = False) -> Vacuum:
        """Remove what ceased to be part of the table longer ago than ``keep``. What a snapshot holds stays.

        Args:
            table: Which.
            keep: At least an hour: a reader or writer that works on an older version needs its files.
            dry_run: Only count.
        """
        ...

    def set_aside_damaged(self, table: Table, *, dry_run: bool = False) -> tuple[str, ...]:
        """Take out of a table what can no longer be read: it is missing from then on, and can be made again.

        Nothing is removed from the disk.

        Args:
            table: Which.
            dry_run: Only tell.

        Returns:
            What it was, and what is wrong with it, in words; empty where all is whole.
        """
        ...

    def prune(self, table: Table, column: str, before: datetime) -> int:
        """Remove rows whose time in ``column`` lies before a moment, in one atomic step for each market and timeframe.

        Returns:
            How many. Rows that others add meanwhile are not lost.
        """
        ...

    def disk_use(self, table: Table) -> DiskUse:
        """Tell how much room a table takes."""
        ...
