"""The local lake: a Delta table of Parquet files for each of our tables, behind the port ``CandleStore``.

A partition (one market, timeframe and month or year) is kept in one sorted file; replacing a slice writes the
partitions it touches anew and publishes all of them in one commit. Therefore a reader sees the old slice or the new
one, whoever dies in between, and a year of minutes is read from twelve files.
Not here: one table's files (``delta_table``), its log (``delta_log``), single rows (``delta_live``), looking after it
(``delta_upkeep``, ``delta_vacuum``), snapshots (``delta_snapshots``), SQL (``sql``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

import polars as pl

from mdp.errors import InputError
from mdp.ports import Compaction, DiskUse, Slice, SnapshotDraft, Table, Vacuum
from mdp.storage import delta_upkeep as upkeep
from mdp.storage.delta_files import Change
from mdp.storage.delta_live import upsert
from mdp.storage.delta_snapshots import Snapshots
from mdp.storage.delta_table import LakeTable, Piece, races, read_windows, while_there
from mdp.storage.delta_vacuum import require_remembered, vacuum_files
from mdp.storage.layout import LiveFile, Partition, by_partition
from mdp.storage.parquet import FileReader
from mdp.storage.rows import (
    KEY_COLUMNS,
    chosen_columns,
    is_in_window,
    require_inside,
    require_live,
    require_long_enough,
    require_storable,
    require_time_column,
    timeframe_names,
)

_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")


class DeltaStore:
    """Candles in a Delta Lake on this machine's disk. Safe for many processes, and for the threads of each.

    It holds no file open and no lock between calls. Use it in processes that were started, not forked: the libraries
    beneath it do not survive a fork. A killed process leaves at most files that belong to no version of a table; a
    power cut can tear files that were just written, which is found and named when they are read.

    Args:
        lake_dir: Directory of the lake; made on the first write.
        snapshots_dir: Directory of the snapshots, on the same file system where possible; beside the lake when None.
        compact_files: A partition with more files than this is joined to one by :meth:`compact`.

    Raises:
        InputError: a path that the Delta library would not find again.
    """

    def __init__(self, lake_dir: Path, *, snapshots_dir: Path | None = None, compact_files: int = 4) -> None:
        if _ESCAPE.search(str(lake_dir.absolute())):
            # deltalake 1.6.6 writes the log of such a table and then looks for it under the decoded name.
            raise InputError("lake_dir", got=str(lake_dir), expected="a path without % and two hexadecimal digits")
        self.lake_dir = lake_dir
        self._compact_files = compact_files
        self._reader = FileReader()
        self._tables: dict[str, LakeTable] = {}
        self._snapshots = Snapshots(snapshots_dir or lake_dir.parent / "snapshots", self._reader)

    def read(self, table: Table, part: Slice, *, columns: Collection[str] | None = None) -> pl.DataFrame:
        """Return the rows of a slice, as the port promises. A lake that was never written to has no rows."""
        names, lake = chosen_columns(table, columns), self._table(table)

        def read_all(files: list[LiveFile]) -> pl.DataFrame:
            return read_windows(
                lake.directory, table, self._reader, files, windows=lambda _: [part.window], names=names
            )

        return while_there(lambda: lake.log.live_files(part), read_all)

    def replace(self, table: Table, part: Slice, rows: pl.DataFrame) -> None:
        """Make ``rows`` the content of a slice, as the port promises.

        Raises:
            StorageError: the lake cannot be written to; the slice is as it was.
            StoreCorrupt: a file of which the slice is a part cannot be read. Replacing its whole period mends it.
        """
        require_inside(table, part, rows)
        exchange, symbol = part.market.exchange.value, part.market.symbol_key
        pieces = by_partition(table, rows, [(exchange, symbol, timeframe) for timeframe in timeframe_names(part)])
        lake = self._table(table)
        if pieces:
            lake.log.create()
        for attempt in races():
            with attempt:
                while_there(lambda: lake.log.live_files(part), lambda seen: _replace_once(lake, part, pieces, seen))

    def append(self, table: Table, rows: pl.DataFrame) -> None:
        """Add rows, as the port promises.

        Raises:
            InvariantViolation: rows without a known market, timeframe or time; nothing was written.
            StorageError: the lake cannot be written to; nothing was written.
        """
        require_storable(table, rows)
        lake = self._table(table)
        pieces = by_partition(table, rows, rows.select(KEY_COLUMNS).unique().iter_rows())
        if pieces:
            lake.log.create()
            lake.publish(Change(lake.write(Piece(*each) for each in pieces.items())))

    def append_live(self, table: Table, rows: pl.DataFrame) -> None:
        """Add or change single rows, as the port promises.

        Raises:
            InputError: another table than ``OHLCV`` or ``DVOL``.
            InvariantViolation: rows that belong nowhere, or two of one key; nothing was written.
            StorageError: the lake cannot be written to; nothing was written.
        """
        require_live(table, rows)
        upsert(self._table(table), rows)

    def draft_snapshot(self, name: str) -> AbstractContextManager[SnapshotDraft]:
        """Begin a snapshot, as the port promises.

        Raises:
            InputError: what is no name of a snapshot.
        """
        return self._snapshots.draft(name, self._table)

    def snapshots(self) -> Mapping[str, bytes]:
        """Return every published snapshot and its manifest, as the port promises."""
        return self._snapshots.manifests()

    def manifest(self, name: str) -> bytes:
        """Return the manifest of one snapshot, as the port promises."""
        return self._snapshots.manifest(name)

    def read_snapshot(
        self, name: str, table: Table, part: Slice, *, columns: Collection[str] | None = None
    ) -> pl.DataFrame:
        """Return the rows of a slice as a snapshot took them, as the port promises.

        Raises:
            OutdatedStore: the snapshot was made by a later version of this program.
        """
        return self._snapshots.read(name, table, part, columns=columns)

    def delete_snapshot(self, name: str) -> None:
        """Forget a snapshot, as the port promises."""
        self._snapshots.delete(name)

    def snapshot_bytes(self) -> int:
        """Return how much room snapshots take: bytes of files that only they still hold."""
        return self._snapshots.own_bytes()

    def compact(self, table: Table) -> Compaction:
        """Join the files of partitions that have many, as the port promises, and sum up the log.

        A partition that another writer changes meanwhile is left for the next time.

        Returns:
            Counts of the partitions that were joined.
        """
        return upkeep.compact(self._table(table), self._compact_files)

    def vacuum(self, table: Table, keep: timedelta, *, dry_run: bool = False) -> Vacuum:
        """Remove what ceased to be part of the table, as the port promises.

        Files that never became part of it go too, a day after they were written at the earliest, and drafts of
        snapshots that nobody finished within a day.

        Returns:
            The files; of their bytes those that become free, and not what a snapshot holds.

        Raises:
            InputError: ``keep`` is less than an hour, or longer than the log remembers.
        """
        require_long_enough(keep)
        require_remembered(keep)
        if not dry_run:
            self._snapshots.remove_unfinished()
        return vacuum_files(self._table(table), keep, dry_run=dry_run)

    def set_aside_damaged(self, table: Table, *, dry_run: bool = False) -> tuple[str, ...]:
        """Take files out of the table that are gone or not what was written, as the port promises."""
        return upkeep.set_aside_damaged(self._table(table), dry_run=dry_run)

    def prune(self, table: Table, column: str, before: datetime) -> int:
        """Remove old rows, as the port promises.

        Raises:
            InputError: the table has no such time, or the moment no time zone.
        """
        require_time_column(table, column, before)
        return upkeep.prune(self._table(table), column, before)

    def disk_use(self, table: Table) -> DiskUse:
        """Tell how much room a table takes, as the port promises."""
        return upkeep.disk_use(self._table(table))

    def version(self, table: Table) -> int | None:
        """Return the current version of a table, by which its content can be asked for again; None before any write.

        Raises:
            StoreCorrupt: the log cannot be read.
        """
        return self._table(table).log.version()

    def live_files(self, table: Table) -> list[LiveFile]:
        """Return the files that hold the current version of a table, sorted by partition.

        Raises:
            StoreCorrupt: the log cannot be read.
        """
        return self._table(table).log.live_files()

    def require_whole(self, table: Table) -> None:
        """Compare every file of a table's current version with the digest in its name.

        Raises:
            StoreCorrupt: names the first file that is missing or damaged, or the log that cannot be read.
        """
        for file in self.live_files(table):
            self._reader.require_whole(self.directory(table) / file.path)

    def directory(self, table: Table) -> Path:
        """Return the directory to which the paths of a table's files are relative."""
        return self.lake_dir / table.name

    def _table(self, table: Table) -> LakeTable:
        return self._tables.setdefault(table.name, LakeTable(self.directory(table), table, self._reader))


def _replace_once(lake: LakeTable, part: Slice, pieces: Mapping[Partition, pl.DataFrame], seen: list[LiveFile]) -> None:
    stored = {partition: list(files) for partition, files in groupby(seen, key=lambda file: file.partition)}
    removed: list[LiveFile] = []
    changed: list[Piece] = []
    for partition in sorted({*stored, *pieces}):
        files, piece = stored.get(partition, []), pieces.get(partition)
        kept, is_smaller = _split_off(lake, part, files)
        if piece is not None or is_smaller:
            removed += files
            changed.append(Piece(partition, kept if piece is None else pl.concat([kept, piece])))
    if changed:
        change = Change(lake.write(changed), removed)
        lake.publish(change, look=lambda: lake.log.live_files(part), seen=seen, what=part)


def _split_off(lake: LakeTable, part: Slice, files: list[LiveFile]) -> tuple[pl.DataFrame, bool]:
    """Return the rows of a partition's files that lie outside the slice, and whether any lie inside."""
    if not files or part.window.covers(files[0].partition.window):
        return lake.read([]), bool(files)
    rows = lake.read(files)
    kept = rows.filter(~is_in_window(lake.table.time_column, part.window))
    return kept, kept.height < rows.height
