"""The local lake: a Delta table of Parquet files for each of our tables, behind the port ``CandleStore``.

A partition (one market, timeframe and month or year) is kept in one sorted file; replacing a slice writes the
partitions it touches anew and publishes all of them in one commit. Therefore a reader sees the old slice or the new
one, whoever dies in between, and a year of minutes is read from twelve files.
Not here: the log (``delta_log``), the files (``parquet``), SQL (``sql``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import polars as pl
import stamina

from mdp.errors import InputError, StorageError, StoreCorrupt, WriteConflict
from mdp.ports import Slice, Table
from mdp.storage.delta_log import DeltaLog
from mdp.storage.layout import LiveFile, NewFile, Partition, by_partition, stored_schema
from mdp.storage.parquet import FileReader, remove_files, write_file
from mdp.storage.rows import (
    KEY_COLUMNS,
    chosen_columns,
    in_order,
    is_in_window,
    require_inside,
    require_storable,
    timeframe_names,
)

_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")

_RACES = 12
"""How often a slice is worked out anew because another writer replaced it meanwhile: about seven seconds of waiting."""


class DeltaStore:
    """Candles in a Delta Lake on this machine's disk. Safe for many processes, and for the threads of each.

    It holds no file open and no lock between calls. Use it in processes that were started, not forked: the libraries
    beneath it do not survive a fork. A killed process leaves at most files that belong to no version of a table; a
    power cut can tear files that were just written, which is found and named when they are read.

    Args:
        lake_dir: Directory of the lake; made on the first write.

    Raises:
        InputError: a path that the Delta library would not find again.
    """

    def __init__(self, lake_dir: Path) -> None:
        if _ESCAPE.search(str(lake_dir.absolute())):
            # deltalake 1.6.6 writes the log of such a table and then looks for it under the decoded name.
            raise InputError("lake_dir", got=str(lake_dir), expected="a path without % and two hexadecimal digits")
        self.lake_dir = lake_dir
        self._logs: dict[str, DeltaLog] = {}
        self._reader = FileReader()

    def read(self, table: Table, part: Slice, *, columns: Collection[str] | None = None) -> pl.DataFrame:
        """Return the rows of a slice, as the port promises. A lake that was never written to has no rows."""
        names = chosen_columns(table, columns)
        needed = {*names, *table.sort_by}
        stored = pl.Schema({name: dtype for name, dtype in stored_schema(table).items() if name in needed})
        frames = []
        for key, group in groupby(self._log(table).live_files(part), key=lambda file: file.partition.key):
            files = list(group)
            is_all_asked = all(part.window.covers(file.partition.window) for file in files)
            asked = None if is_all_asked else is_in_window(table.time_column, part.window)
            rows = self._read(table, files, stored, asked)
            frames.append(in_order(table, rows).with_columns(_constants(key)).select(names))
        return pl.concat(frames) if frames else table.schema.to_frame().select(names)

    def replace(self, table: Table, part: Slice, rows: pl.DataFrame) -> None:
        """Make ``rows`` the content of a slice, as the port promises.

        Raises:
            StorageError: the lake cannot be written to; the slice is as it was.
            StoreCorrupt: a file of which the slice is a part cannot be read. Replacing its whole period mends it.
        """
        require_inside(table, part, rows)
        exchange, symbol = part.market.exchange.value, part.market.symbol_key
        pieces = by_partition(table, rows, [(exchange, symbol, timeframe) for timeframe in timeframe_names(part)])
        if pieces:
            self._log(table).create()
        for attempt in stamina.retry_context(
            on=WriteConflict, attempts=_RACES, timeout=None, wait_initial=0.02, wait_max=1, wait_jitter=0.1
        ):
            with attempt:
                self._replace_once(table, part, pieces)

    def append(self, table: Table, rows: pl.DataFrame) -> None:
        """Add rows, as the port promises.

        Raises:
            InvariantViolation: rows without a known market, timeframe or time; nothing was written.
            StorageError: the lake cannot be written to; nothing was written.
        """
        require_storable(table, rows)
        log = self._log(table)
        pieces = by_partition(table, rows, rows.select(KEY_COLUMNS).unique().iter_rows())
        if pieces:
            log.create()
            added = self._write(table, pieces)
            with _removed_unless_published(log.directory, added):
                log.commit_append(added)

    def version(self, table: Table) -> int | None:
        """Return the current version of a table, by which its content can be asked for again; None before any write.

        Raises:
            StoreCorrupt: the log cannot be read.
        """
        return self._log(table).version()

    def live_files(self, table: Table) -> list[LiveFile]:
        """Return the files that hold the current version of a table, sorted by partition.

        Raises:
            StoreCorrupt: the log cannot be read.
        """
        return self._log(table).live_files()

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

    def _replace_once(self, table: Table, part: Slice, pieces: Mapping[Partition, pl.DataFrame]) -> None:
        log = self._log(table)
        seen = log.live_files(part)
        stored = {partition: list(files) for partition, files in groupby(seen, key=lambda file: file.partition)}
        removed: list[LiveFile] = []
        changed: dict[Partition, pl.DataFrame] = {}
        for partition in sorted({*stored, *pieces}):
            files, piece = stored.get(partition, []), pieces.get(partition)
            kept, is_smaller = self._split_off(table, part, files)
            if piece is not None or is_smaller:
                removed += files
                changed[partition] = kept if piece is None else pl.concat([kept, piece])
        if changed:
            added = self._write(table, changed)
            with _removed_unless_published(log.directory, added):
                log.commit(added, removed, part=part, seen=seen)

    def _split_off(self, table: Table, part: Slice, files: Sequence[LiveFile]) -> tuple[pl.DataFrame, bool]:
        """Return the rows of a partition's files that lie outside the slice, and whether any lie inside."""
        stored = stored_schema(table)
        if not files or part.window.covers(files[0].partition.window):
            return stored.to_frame(), bool(files)
        rows = self._read(table, files, stored, None)
        kept = rows.filter(~is_in_window(table.time_column, part.window))
        return kept, kept.height < rows.height

    def _read(self, table: Table, files: Sequence[LiveFile], schema: pl.Schema, keep: pl.Expr | None) -> pl.DataFrame:
        directory = self.directory(table)
        return self._reader.read([directory / file.path for file in files], schema, keep)

    def _write(self, table: Table, changed: Mapping[Partition, pl.DataFrame]) -> list[NewFile]:
        written: list[NewFile] = []
        try:
            for partition, rows in changed.items():
                if not rows.is_empty():
                    written.append(write_file(self.directory(table), table, partition, in_order(table, rows)))
        except StorageError:
            remove_files(self.directory(table), written)
            raise
        return written

    def _log(self, table: Table) -> DeltaLog:
        return self._logs.setdefault(table.name, DeltaLog(self.directory(table), table))


@contextmanager
def _removed_unless_published(directory: Path, files: Sequence[NewFile]) -> Iterator[None]:
    try:
        yield
    except StoreCorrupt:
        raise  # whether they were published is not known, and a published file must stay
    except StorageError:
        remove_files(directory, files)
        raise


def _constants(key: Sequence[str]) -> list[pl.Expr]:
    return [pl.lit(value).alias(name) for name, value in zip(KEY_COLUMNS, key, strict=True)]
