"""The Delta log of one table: which files are live, and how a change of files is published in one atomic step.

Optimistic concurrency, decided here and not in the library: a commit is tried only at the version that was looked at
(``max_commit_retries=0``). Who loses that race looks at the new version; if the files of the slice are still the same,
the other writer worked elsewhere and the same commit is tried again, otherwise the slice must be worked out anew.
Not here: what is in the files (``parquet``), what a slice is replaced by (``delta``), the actions of a commit
(``delta_files``), older tables (``delta_versions``), broken logs (``delta_faults``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from itertools import chain
from pathlib import Path

from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import TableNotFoundError

from mdp.errors import StorageError, StoreCorrupt, WriteConflict
from mdp.ports import Slice, Table
from mdp.storage.delta_faults import DELTA_FAILURES, LINES_KEY, delta_reason, remains, require_whole_commits
from mdp.storage.delta_files import Change, Index, files_of_slice, live_index, removals
from mdp.storage.delta_versions import (
    delta_schema_of,
    description_of,
    marked_version,
    require_known,
    upgrade,
    version_of,
)
from mdp.storage.layout import PARTITION_COLUMNS, LiveFile, NewFile, Partition

_COMMIT_ATTEMPTS = 100
"""How often a commit is tried again because of writers elsewhere in the table; a try takes milliseconds."""

_CHECKPOINT_EVERY = 20
"""Commits after which maintenance writes a checkpoint; the library by itself does so after a hundred."""


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
        self._files: tuple[int, Index] | None = None
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
        _, files = self._current()
        return list(chain.from_iterable(files.values()) if part is None else files_of_slice(files, part))

    def files_of(self, partitions: Collection[Partition]) -> list[LiveFile]:
        """Return the files of the current version that hold some partitions, sorted as for :meth:`live_files`.

        Raises:
            StoreCorrupt: the log cannot be read.
        """
        _, files = self._current()
        wanted = set(partitions)
        keys = sorted({partition.key for partition in wanted})
        return [file for key in keys for file in files.get(key, ()) if file.partition in wanted]

    def at_one_version(self, parts: Collection[Slice]) -> tuple[int | None, list[LiveFile]]:
        """Return a version, None where there is no table yet, and its files that may hold rows of any of the slices.

        Raises:
            StoreCorrupt: the log cannot be read.
        """
        version, files = self._current()
        return version, sorted({file for part in parts for file in files_of_slice(files, part)})

    def commit(
        self, change: Change, *, look: Callable[[], list[LiveFile]], seen: Sequence[LiveFile], what: object
    ) -> None:
        """Publish files in the place of others, or nothing.

        Args:
            change: The files.
            look: Returns the live files that matter to the change.
            seen: What it returned when the change was worked out.
            what: What is changed, for the message.

        Raises:
            WriteConflict: the files that matter are others by now; nothing was published.
            StoreCorrupt: the log can no longer be read; whether the files were published is not known.
            StorageError: the log cannot be written; nothing was published.
        """
        with self._lock:
            for _ in range(_COMMIT_ATTEMPTS):
                self._refresh()
                if look() != list(seen):
                    raise WriteConflict(f"{self._table.name} {what}: another writer replaced it at the same time")
                if self._try_commit(change):
                    return
        raise WriteConflict(f"{self._table.name} {what}: other writers of the table won {_COMMIT_ATTEMPTS} times")

    def removals(self, keep: timedelta) -> tuple[set[str], set[str]]:
        """Return the files that were removed longer ago than ``keep``, and those removed since; see ``delta_files``.

        Raises:
            StoreCorrupt: the log cannot be read.
        """
        with self._lock:
            delta = self._refresh()
            try:
                return (set(), set()) if delta is None else removals(delta, self._log_dir, keep)
            except DELTA_FAILURES as error:
                raise StoreCorrupt(f"{self._log_dir}: cannot be read: {delta_reason(error)}") from error

    def checkpoint(self) -> None:
        """Sum the log up where it has grown, and let the library remove commits that are older than thirty days.

        Raises:
            StorageError: it cannot be written; the table is as it was.
        """
        with self._lock:
            delta = self._refresh()
            if delta is None or delta.version() - self._last_checkpoint() < _CHECKPOINT_EVERY:
                return
            try:
                delta.create_checkpoint()
                delta.cleanup_metadata()
            except DELTA_FAILURES as error:
                raise StorageError(f"{self._log_dir}: cannot be written: {delta_reason(error)}") from error

    def create(self) -> None:
        """Make sure that the table is there; several processes may do so at once.

        Raises:
            StorageError: it cannot be created.
        """
        if self._refresh() is not None:
            return
        try:
            DeltaTable.create(
                str(self.directory),
                delta_schema_of(self._table),
                mode="error",
                partition_by=list(PARTITION_COLUMNS),
                name=self._table.name,
                description=description_of(self._table),
                # With retries, a second creator writes the table's beginning once more, as version 1.
                commit_properties=CommitProperties(custom_metadata={LINES_KEY: 3}, max_commit_retries=0),
            )
        except DELTA_FAILURES as error:
            if self._refresh() is None:
                raise StorageError(f"{self.directory}: cannot be created: {delta_reason(error)}") from error

    def _current(self) -> tuple[int | None, Index]:
        with self._lock:
            delta = self._refresh()
            if delta is None:
                return None, {}
            if self._files is None or self._files[0] != delta.version():
                self._files = (delta.version(), live_index(delta, self._table.time_column))
            return self._files

    def _last_checkpoint(self) -> int:
        versions = [int(path.name[:20]) for path in self._log_dir.glob("*.checkpoint*.parquet")]
        return max(versions, default=-1)

    def _try_commit(self, change: Change) -> bool:
        """Try at the version last looked at; False when another writer was first."""
        delta, added = self._delta, change.added
        if delta is None:
            raise StorageError(f"{self.directory}: the table disappeared while it was written to")
        version = delta.version()
        for file in added:
            # A writer that slept for days (a closed laptop) may find that its files were removed as nobody's.
            if not (self.directory / file.path).exists():
                raise WriteConflict(f"{self.directory / file.path}: was removed before it was published")
        actions = change.actions
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
        version = version_of(self.directory, self._table, delta)
        require_whole_commits(self._log_dir, 0, delta.version())
        return delta if version == self._table.version else self._upgraded(delta)

    def _upgraded(self, delta: DeltaTable) -> DeltaTable:
        for _ in range(_COMMIT_ATTEMPTS):
            try:
                upgrade(self._log_dir, self._table, delta)
            except OSError:
                return delta  # where nothing can be written, the older table can still be read
            delta = self._update(delta)
            # Another may have committed first: the same upgrade, or rows of a program that is older.
            if version_of(self.directory, self._table, delta) == self._table.version:
                return delta
        raise StorageError(f"{self.directory}: other writers of the table won {_COMMIT_ATTEMPTS} times")

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
        require_known(self.directory, self._table, marked_version(delta) or 1)
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
