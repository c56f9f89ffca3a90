"""One table of the lake: reading its files, writing new ones, and publishing them in the place of others.

Not here: which rows belong where and why they change (``delta``, ``delta_live``, ``delta_upkeep``), the log itself
(``delta_log``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, TypeVar

import polars as pl
import stamina

from mdp.domain.interval import Interval
from mdp.errors import StorageError, StoreCorrupt, WriteConflict
from mdp.ports import Table
from mdp.storage.delta_files import Change
from mdp.storage.delta_log import DeltaLog
from mdp.storage.layout import Key, LiveFile, NewFile, Partition, stored_schema
from mdp.storage.parquet import FileReader, remove_files, write_file
from mdp.storage.rows import KEY_COLUMNS, in_order, is_in_window

_RACES = 12
"""How often a change is worked out anew because another writer was first: about seven seconds of waiting."""

_LOOKS = 20
"""How often a read begins anew because the files it had planned for were removed meanwhile."""

Result = TypeVar("Result")


class Piece(NamedTuple):
    """Rows that become a file of their own.

    Attributes:
        partition: Where they belong.
        rows: With the columns of ``stored_schema``, any order; none: no file.
        in_place_of: The path of a file whose place in the order of files it takes.
    """

    partition: Partition
    rows: pl.DataFrame
    in_place_of: str | None = None


class LakeTable:
    """One table of the lake, seen by one process. Safe for its threads.

    Args:
        directory: Of the table; made on the first write.
        table: Which table.
        reader: Knows the files that were found whole before.
        log: Of the table.
    """

    def __init__(self, directory: Path, table: Table, reader: FileReader, log: DeltaLog | None = None) -> None:
        self.directory = directory
        self.table = table
        self.reader = reader
        self.log = log or DeltaLog(directory, table)

    def read(self, files: Sequence[LiveFile]) -> pl.DataFrame:
        """Return all rows of some files, file after file, with the columns of ``stored_schema``.

        Raises:
            StoreCorrupt: a file cannot be read.
        """
        stored = stored_schema(self.table)
        if not files:
            return stored.to_frame()
        paths = [self.directory / file.path for file in files]
        return self.reader.read(paths, stored, None, younger=self.table.younger_columns)

    def write(self, pieces: Iterable[Piece]) -> list[NewFile]:
        """Write files that belong to no version yet.

        Raises:
            StorageError: one cannot be written; none is left behind.
        """
        written: list[NewFile] = []
        try:
            for partition, rows, in_place_of in pieces:
                if not rows.is_empty():
                    ordered = in_order(self.table, rows)
                    written.append(write_file(self.directory, self.table, partition, ordered, in_place_of=in_place_of))
        except StorageError:
            remove_files(self.directory, written)
            raise
        return written

    def publish(
        self,
        change: Change,
        *,
        look: Callable[[], list[LiveFile]] = list,
        seen: Sequence[LiveFile] = (),
        what: object = "",
    ) -> None:
        """Commit a change, or remove its files again; see :meth:`DeltaLog.commit`."""
        try:
            self.log.commit(change, look=look, seen=seen, what=what)
        except StoreCorrupt:
            raise  # whether they were published is not known, and a published file must stay
        except StorageError:
            remove_files(self.directory, change.added)
            raise

    def still_live(self, files: Sequence[LiveFile]) -> Callable[[], list[LiveFile]]:
        """Return a look at those of some files, all of them live now, that still are; for :meth:`publish`."""
        partitions, wanted = {file.partition for file in files}, set(files)
        return lambda: [file for file in self.log.files_of(partitions) if file in wanted]


def races() -> Iterator[stamina.Attempt]:
    """Return the attempts at a change that is worked out anew when another writer was first; each a context."""
    return iter(
        stamina.retry_context(
            on=WriteConflict, attempts=_RACES, timeout=None, wait_initial=0.02, wait_max=1, wait_jitter=0.1
        )
    )


def while_there(look: Callable[[], list[LiveFile]], work: Callable[[list[LiveFile]], Result]) -> Result:
    """Work on the live files, and begin anew where they were replaced and then removed in the middle of it.

    Raises:
        StoreCorrupt: a file that is live cannot be read.
    """
    files = look()
    for _ in range(_LOOKS):
        try:
            return work(files)
        except StoreCorrupt:
            now = look()
            if now == files:
                raise
            files = now
    return work(files)


def read_windows(
    lake_files: Path,
    table: Table,
    reader: FileReader,
    files: Sequence[LiveFile],
    *,
    windows: Callable[[Key], Sequence[Interval]],
    names: Sequence[str],
) -> pl.DataFrame:
    """Return the rows of some files that lie in the windows of their market and timeframe, in the port's order.

    Args:
        lake_files: The directory to which the files' paths are relative.
        table: Whose files.
        reader: Of files.
        files: Sorted.
        windows: What is asked of a market and timeframe; disjoint.
        names: The columns to return, in order.

    Raises:
        StoreCorrupt: a file cannot be read.
    """
    needed = {*names, *table.sort_by}
    stored = pl.Schema({name: dtype for name, dtype in stored_schema(table).items() if name in needed})
    frames = []
    for key, group in groupby(files, key=lambda file: file.partition.key):
        of_key, asked = list(group), windows(key)
        if asked:
            paths = [lake_files / file.path for file in of_key]
            rows = reader.read(paths, stored, _condition(table, of_key, asked), younger=table.younger_columns)
            frames.append(in_order(table, rows).with_columns(_constants(key)).select(names))
    return pl.concat(frames) if frames else table.schema.to_frame().select(names)


def _condition(table: Table, files: Sequence[LiveFile], asked: Sequence[Interval]) -> pl.Expr | None:
    if any(all(window.covers(file.partition.window) for file in files) for window in asked):
        return None
    return pl.any_horizontal(is_in_window(table.time_column, window) for window in asked)


def _constants(key: Sequence[str]) -> list[pl.Expr]:
    return [pl.lit(value).alias(name) for name, value in zip(KEY_COLUMNS, key, strict=True)]
