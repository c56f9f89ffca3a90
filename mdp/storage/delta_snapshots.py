"""Snapshots of the lake: a directory each, with a manifest, what was taken, and hard links to the files that hold it.

Files of the lake are written once and never changed, so a second name for one holds its content whatever becomes of the
first: neither vacuum nor compaction, nor another tool's, can take away what a snapshot pins. A draft is a hidden
directory; one rename publishes it. Not here: what is written about it (``delta_taken``), what a manifest says
(``pipeline``).
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from mdp.errors import InputError, SnapshotExists, SnapshotMissing, StorageError, StoreCorrupt
from mdp.ports import Slice, Table
from mdp.storage.delta_table import LakeTable, read_windows, while_there
from mdp.storage.delta_taken import Taken, load_taken, save_taken
from mdp.storage.disk import link_or_copy, make_directory, sync_directories, write_synced
from mdp.storage.layout import LiveFile
from mdp.storage.parquet import FileReader, os_reason
from mdp.storage.rows import chosen_columns, is_snapshot_name, require_snapshot_name

_log = logging.getLogger(__name__)

_MANIFEST, _TAKEN = "manifest.json", "taken.json"
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.(draft|deleted)")
_ABANDONED_AFTER_S = 86_400
"""Nobody drafts a snapshot for longer than a day."""


class Snapshots:
    """The snapshots of one lake. Safe for many processes.

    Args:
        directory: Where they are; made with the first.
        reader: Knows the files that were found whole before.
    """

    def __init__(self, directory: Path, reader: FileReader) -> None:
        self.directory = directory
        self._reader = reader

    @contextmanager
    def draft(self, name: str, open_table: Callable[[Table], LakeTable]) -> Iterator[Draft]:
        """Begin a snapshot; what was not published is removed at the end.

        Raises:
            InputError: the name is none, or something else has it.
            SnapshotExists: the name is taken.
            StorageError: nothing can be written.
        """
        require_snapshot_name(name)
        if _is_snapshot(self.directory / name):
            raise SnapshotExists(name)
        if os.path.lexists(self.directory / name):
            expected = f"another name: {self.directory / name} is there, and is no snapshot"
            raise InputError("snapshot", got=name, expected=expected)
        hidden = self._hidden(name, "draft")
        with _writing(hidden):
            make_directory(hidden)
        try:
            yield Draft(self.directory / name, hidden, open_table, self._reader)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)

    def manifests(self) -> dict[str, bytes]:
        """Return every published snapshot's manifest by its name, ascending; one that is damaged is left out.

        Raises:
            StorageError: the directory of snapshots cannot be read.
        """
        found: dict[str, bytes] = {}
        for name in self._names():
            try:
                found[name] = self.manifest(name)
            except SnapshotMissing:
                continue  # deleted between two looks
            except StoreCorrupt as error:
                _log.warning("%s; it is left out", error)
        return found

    def manifest(self, name: str) -> bytes:
        """Return the manifest of one snapshot.

        Raises:
            InputError: the name is none.
            SnapshotMissing: there is no such snapshot.
            StoreCorrupt: it has no manifest that can be read.
        """
        path = self._existing(name) / _MANIFEST
        try:
            return path.read_bytes()
        except OSError as error:
            self._existing(name)  # deleted while it was read
            raise StoreCorrupt(f"snapshot {name!r}: {path}: cannot be read: {os_reason(error)}") from error

    def read(self, name: str, table: Table, part: Slice, *, columns: Collection[str] | None) -> pl.DataFrame:
        """Return the rows of a slice as they were taken.

        Raises:
            InputError: the name is none, or a column that the table does not have.
            SnapshotMissing: there is no such snapshot.
            StoreCorrupt: one of its files cannot be read.
            OutdatedStore: it was made by a later version of this program.
        """
        names = chosen_columns(table, columns)
        directory = self._existing(name)
        try:
            taken = load_taken(directory / _TAKEN)
            return read_taken(directory, table, taken.get(table.name), self._reader, part=part, names=names)
        except StoreCorrupt:
            self._existing(name)  # deleted while it was read
            raise

    def delete(self, name: str) -> None:
        """Forget a snapshot: at once for everybody who begins to read it, then file by file.

        Raises:
            SnapshotMissing: there is no such snapshot.
            StorageError: it cannot be removed.
        """
        directory = self._existing(name)
        hidden = self._hidden(name, "deleted")
        try:
            directory.rename(hidden)
        except FileNotFoundError as error:
            raise SnapshotMissing(name, self._names()) from error
        except OSError as error:
            raise StorageError(f"{directory}: cannot be removed: {os_reason(error)}") from error
        shutil.rmtree(hidden, ignore_errors=True)  # what stays is removed with the next vacuum

    def remove_unfinished(self) -> None:
        """Remove drafts that nobody published within a day, and what a deletion that broke off left."""
        border_s = time.time() - _ABANDONED_AFTER_S
        for path in _entries(self.directory):
            with contextlib.suppress(FileNotFoundError):
                if _UNFINISHED.fullmatch(path.name) and path.stat().st_mtime < border_s:
                    shutil.rmtree(path, ignore_errors=True)

    def own_bytes(self) -> int:
        """Return the bytes of files that have no name outside of snapshots any more."""
        links: Counter[tuple[int, int]] = Counter()
        files: dict[tuple[int, int], tuple[int, int]] = {}
        for name in self._names():
            for path in (self.directory / name).glob("**/*.parquet"):
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    inode = (status.st_dev, status.st_ino)
                    links[inode] += 1
                    files[inode] = (status.st_nlink, status.st_size)
        return sum(size for inode, (count, size) in files.items() if links[inode] == count)

    def _names(self) -> list[str]:
        return [path.name for path in _entries(self.directory) if is_snapshot_name(path.name) and _is_snapshot(path)]

    def _existing(self, name: str) -> Path:
        require_snapshot_name(name)
        if not _is_snapshot(self.directory / name):
            raise SnapshotMissing(name, self._names())
        return self.directory / name

    def _hidden(self, name: str, why: str) -> Path:
        return self.directory / f".{name}.{secrets.token_hex(4)}.{why}"


class Draft:
    """A snapshot of the lake in the making.

    Args:
        final: Its directory once it is published.
        hidden: Its directory until then.
        open_table: Returns a table of the lake.
        reader: Knows the files that were found whole before.
    """

    def __init__(self, final: Path, hidden: Path, open_table: Callable[[Table], LakeTable], reader: FileReader) -> None:
        self._final, self._hidden = final, hidden
        self._open_table = open_table
        self._reader = reader
        self._taken: dict[str, Taken] = {}

    def take(self, table: Table, parts: Collection[Slice]) -> str:
        """Hold some slices of one table, as the port promises.

        Returns:
            The version of the Delta table; ``none`` where it was never written to.

        Raises:
            InputError: the table was taken before.
            StoreCorrupt: a file is damaged; a snapshot holds only what is whole.
            StorageError: nothing can be written.
        """
        if table.name in self._taken:
            raise InputError("table", got=table.name, expected="a table that this snapshot has not taken yet")
        lake = self._open_table(table)
        version: int | None = None

        def look() -> list[LiveFile]:
            nonlocal version
            version, files = lake.log.at_one_version(parts)
            return files

        def hold(files: list[LiveFile]) -> list[LiveFile]:
            self._hold(lake, files)
            return files

        held = while_there(look, hold)
        self._taken[table.name] = Taken(version, table.version, tuple(parts), tuple(held))
        return "none" if version is None else str(version)

    def read(self, table: Table, part: Slice) -> pl.DataFrame:
        """Return the rows of a slice that was taken, as the port promises."""
        taken = self._taken.get(table.name)
        return read_taken(self._hidden, table, taken, self._reader, part=part, names=list(table.schema))

    def publish(self, manifest: bytes) -> None:
        """Make the snapshot known, as the port promises. It survives a power cut from here on."""
        with _writing(self._final):
            write_synced(self._hidden / _MANIFEST, manifest)
            save_taken(self._hidden / _TAKEN, self._taken)
            sync_directories(self._hidden)
        try:
            # A directory that is not empty is never replaced, and that of a snapshot never is.
            self._hidden.rename(self._final)
        except OSError as error:
            if self._final.exists():
                raise SnapshotExists(self._final.name) from error
            raise StorageError(f"{self._final}: cannot be written: {os_reason(error)}") from error
        with _writing(self._final):
            sync_directories(self._final.parent, is_deep=False)

    def _hold(self, lake: LakeTable, files: Collection[LiveFile]) -> None:
        held = self._hidden / lake.table.name
        with _writing(held):
            shutil.rmtree(held, ignore_errors=True)  # what an attempt took whose files vanished
            for file in files:
                source, target = lake.directory / file.path, held / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                if not source.is_file():
                    raise StoreCorrupt(f"{source}: cannot be read: it is not there")
                link_or_copy(source, target)
                self._reader.require_whole(target)


def read_taken(
    directory: Path, table: Table, taken: Taken | None, reader: FileReader, *, part: Slice, names: list[str]
) -> pl.DataFrame:
    """Return the rows of a slice that a snapshot holds; always in one piece, so that its bytes are always the same.

    Raises:
        StoreCorrupt: a file cannot be read.
        OutdatedStore: it was taken by a later version of this program.
    """
    if taken is None:
        return table.schema.to_frame().select(names)
    taken.require_known(directory, table)
    files = taken.files_of(part)
    where = directory / table.name
    windows = taken.windows_of(part)
    return read_windows(where, table, reader, files, windows=windows, names=names).rechunk()


def _is_snapshot(directory: Path) -> bool:
    """Tell a snapshot, a damaged one too, from what somebody else put beside them."""
    try:
        return any(path.name in (_MANIFEST, _TAKEN) for path in directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # whoever reads it is told why it cannot be


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"{directory}: cannot be read: {os_reason(error)}") from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {os_reason(error)}") from error
