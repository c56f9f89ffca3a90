"""The Delta log of one table: which files are live, and how a change of files is published in one atomic step.

Optimistic concurrency, decided here and not in the library: a commit is tried only at the version that was looked at
(``max_commit_retries=0``). Who loses that race looks at the new version; if the files of the slice are still the same,
the other writer worked elsewhere and the same commit is tried again, otherwise the slice must be worked out anew.
Not here: what is in the files (``parquet``), what a slice is replaced by (``delta``), broken logs (``delta_faults``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import polars as pl
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from mdp.errors import StorageError, StoreCorrupt, WriteConflict
from mdp.ports import Slice, Table
from mdp.storage.delta_faults import (
    DELTA_FAILURES,
    LINES_KEY,
    delta_reason,
    remains,
    require_form,
    require_whole_commits,
)
from mdp.storage.layout import PARTITION_COLUMNS, Key, LiveFile, NewFile, Partition, periods_of
from mdp.storage.rows import timeframe_names

_COMMIT_ATTEMPTS = 100
"""How often a commit is tried again because of writers elsewhere in the table; a try takes milliseconds."""


_Index = dict[Key, list[LiveFile]]
"""The live files by exchange, symbol and timeframe, sorted."""


class DeltaLog:
    """One table of the lake, seen by one process. Safe for its threads.

    Args:
        directory: Of the table.
        table: Which table.
    """

    def __init__(self, directory: Path, table: Table) -> None:
        self.directory = directory
        self._table = table
        self._delta: DeltaTable | None = None
        self._inode = 0
        self._files: tuple[int, _Index] | None = None
        self._lock = threading.RLock()

    def version(self) -> int | None:
        """Return the current version; None where there is no table yet.

        Raises:
            StoreCorrupt: the log cannot be read.
        """
        delta = self._refresh()
        return None if delta is None else delta.version()

    def live_files(self, part: Slice | None = None) -> list[LiveFile]:
        """Return the files of the current version that may hold rows of a slice, of the whole table when None.

        Returns:
            Sorted by partition, then in the order of their writing. Empty where there is no table yet.

        Raises:
            StoreCorrupt: the log cannot be read.
        """
        with self._lock:
            delta = self._refresh()
            if delta is None:
                return []
            if self._files is None or self._files[0] != delta.version():
                self._files = (delta.version(), _index(delta))
            files = self._files[1]
        return list(chain.from_iterable(files.values()) if part is None else _may_hold(files, part))

    def commit(
        self, added: Sequence[NewFile], removed: Sequence[LiveFile], *, part: Slice, seen: Sequence[LiveFile]
    ) -> None:
        """Publish files of a slice in the place of others, or nothing.

        Args:
            added: New files, already written.
            removed: Files that they replace.
            part: The slice that was worked on.
            seen: Its live files when it was worked out.

        Raises:
            WriteConflict: the slice's files are others by now; nothing was published.
            StoreCorrupt: the log can no longer be read; whether the files were published is not known.
            StorageError: the log cannot be written; nothing was published.
        """
        with self._lock:
            for _ in range(_COMMIT_ATTEMPTS):
                if self.live_files(part) != list(seen):
                    raise WriteConflict(f"{self._table.name} {part}: another writer replaced it at the same time")
                if self._try_commit(added, removed):
                    return
        raise WriteConflict(f"{self._table.name} {part}: other writers of the table won {_COMMIT_ATTEMPTS} times")

    def commit_append(self, added: Sequence[NewFile]) -> None:
        """Publish files beside those that are there.

        Raises:
            WriteConflict: other writers of the table kept winning; nothing was published.
            StoreCorrupt: the log can no longer be read; whether the files were published is not known.
            StorageError: the log cannot be written; nothing was published.
        """
        with self._lock:
            for _ in range(_COMMIT_ATTEMPTS):
                self._refresh()
                if self._try_commit(added, ()):
                    return
        raise WriteConflict(f"{self._table.name}: other writers of the table won {_COMMIT_ATTEMPTS} times")

    def create(self) -> None:
        """Make sure that the table is there; several processes may do so at once.

        Raises:
            StorageError: it cannot be created.
        """
        if self._refresh() is not None:
            return
        columns = pl.DataFrame(schema={**self._table.schema, "period": pl.String()})
        try:
            DeltaTable.create(
                str(self.directory),
                columns.to_arrow(compat_level=pl.CompatLevel.oldest()).schema,
                mode="error",
                partition_by=list(PARTITION_COLUMNS),
                name=self._table.name,
                # With retries, a second creator writes the table's beginning once more, as version 1.
                commit_properties=CommitProperties(custom_metadata={LINES_KEY: 3}, max_commit_retries=0),
            )
        except DELTA_FAILURES as error:
            if self._refresh() is None:
                raise StorageError(f"{self.directory}: cannot be created: {delta_reason(error)}") from error

    def _try_commit(self, added: Sequence[NewFile], removed: Sequence[LiveFile]) -> bool:
        """Try at the version last looked at; False when another writer was first."""
        delta = self._delta
        if delta is None:
            raise StorageError(f"{self.directory}: the table disappeared while it was written to")
        version = delta.version()
        actions: list[AddAction | RemoveAction] = [*map(_remove_action, removed), *map(_add_action, added)]
        properties = CommitProperties(custom_metadata={LINES_KEY: len(actions) + 1}, max_commit_retries=0)
        try:
            delta.create_write_transaction(
                actions, "append", delta.schema(), list(PARTITION_COLUMNS), commit_properties=properties
            )
        except DELTA_FAILURES as error:
            # Another writer was first, or what follows a commit (a checkpoint) failed after the commit itself was done,
            # or nothing can be written: only the log knows.
            if self._is_published(added):
                return True
            if self.version() != version:
                return False
            raise StorageError(f"{self.directory}: cannot be written: {delta_reason(error)}") from error
        return True

    def _is_published(self, added: Sequence[NewFile]) -> bool:
        # Removals tell nothing: another writer may have removed the same files for reasons of its own.
        live = {file.path for file in self.live_files()}
        return bool(added) and all(file.path in live for file in added)

    def _refresh(self) -> DeltaTable | None:
        with self._lock:
            # Forgotten until it is loaded whole: a table that failed half-way must not be taken for a known one.
            known, self._delta = self._delta, None
            if known is None or not self._is_same_table(known):
                known, self._files = None, None
            try:
                self._delta = self._open() if known is None else self._update(known)
            except DELTA_FAILURES as error:
                raise StoreCorrupt(f"{self._log_dir}: cannot be read: {delta_reason(error)}") from error
            return self._delta

    def _open(self) -> DeltaTable | None:
        delta = self._find()
        if delta is None:
            return None
        self._inode = self._log_dir.stat().st_ino
        require_form(self.directory, self._table, delta)
        require_whole_commits(self._log_dir, 0, delta.version())
        return delta

    def _find(self) -> DeltaTable | None:
        try:
            return DeltaTable(str(self.directory))
        except TableNotFoundError:
            left = remains(self.directory)
        if left is None:
            return None
        try:
            return DeltaTable(str(self.directory))  # made by another process between the two looks
        except TableNotFoundError as error:
            raise StoreCorrupt(f"{self._log_dir}: is missing or empty, but {left} is there") from error

    def _update(self, delta: DeltaTable) -> DeltaTable:
        known = delta.version()
        # A look at the next commit's name costs a twentieth of the library's own look.
        if not self._commit_path(known + 1).exists():
            return delta
        delta.update_incremental()
        require_whole_commits(self._log_dir, known + 1, delta.version())
        return delta

    def _is_same_table(self, delta: DeltaTable) -> bool:
        # A lake may be deleted and begun anew under a running process. The library would not notice, and would commit
        # after the old table's version, where the new table has nothing.
        try:
            self._commit_path(delta.version()).stat()
            return self._log_dir.stat().st_ino == self._inode
        except OSError:
            return False

    def _commit_path(self, version: int) -> Path:
        return self._log_dir / f"{version:020d}.json"

    @property
    def _log_dir(self) -> Path:
        return self.directory / "_delta_log"


def _index(delta: DeltaTable) -> _Index:
    columns = ["size_bytes", "path", *(f"partition.{name}" for name in PARTITION_COLUMNS)]
    found: _Index = {}
    for size_bytes, path, *values in pl.DataFrame(delta.get_add_actions(flatten=True).select(columns)).iter_rows():
        partition = Partition(*values)
        found.setdefault(partition.key, []).append(LiveFile(partition, path, size_bytes))
    return {key: sorted(found[key]) for key in sorted(found)}


def _may_hold(files: _Index, part: Slice) -> Iterator[LiveFile]:
    for timeframe in timeframe_names(part):
        first, last = periods_of(timeframe, part.window)
        of_key = files.get((part.market.exchange.value, part.market.symbol_key, timeframe), [])
        yield from (file for file in of_key if first <= file.partition.period <= last)


def _add_action(file: NewFile) -> AddAction:
    return AddAction(
        path=file.path,
        size=file.size_bytes,
        partition_values=file.partition.values,
        modification_time=_now_ms(),
        data_change=True,
        stats=file.stats,
    )


def _remove_action(file: LiveFile) -> RemoveAction:
    return RemoveAction(file.path, True, _now_ms(), file.size_bytes, file.partition.values)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
