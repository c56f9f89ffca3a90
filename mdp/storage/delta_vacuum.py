"""Removing files of the lake that no version of a table holds which somebody may still read.

Not the library's vacuum: it writes two commits for each run, and takes a file that was written and is not yet
published for one that nobody needs. Not here: which rows are old (``delta_upkeep``).
"""

from __future__ import annotations

import stat
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from mdp.errors import InputError, StorageError
from mdp.ports import Vacuum
from mdp.storage.delta_table import LakeTable
from mdp.storage.parquet import os_reason

_UNPUBLISHED_KEEP = timedelta(days=1)
"""A file that the log does not know may be one that its writer is about to publish."""

_LONGEST_KEEP = timedelta(days=30)
"""So long the log remembers what was removed, and when: Delta's ``delta.logRetentionDuration``, unless it is set."""


@dataclass(frozen=True, slots=True)
class FileOnDisk:
    """A data file as it lies on the disk.

    Attributes:
        written_at_s: When it was last written, in seconds since the epoch.
        free_bytes: What becomes free when it is removed: nothing where a snapshot holds it too.
    """

    written_at_s: float
    free_bytes: int


def files_on_disk(directory: Path) -> dict[str, FileOnDisk]:
    """Return the data files below a table's directory by their path in it, whatever version they belong to.

    Raises:
        StorageError: the directory cannot be looked at.
    """
    found: dict[str, FileOnDisk] = {}
    try:
        for path in directory.glob("*=*/**/*.parquet"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # a writer that lost removed its file
            if stat.S_ISREG(status.st_mode):
                free = status.st_size if status.st_nlink == 1 else 0
                found[path.relative_to(directory).as_posix()] = FileOnDisk(status.st_mtime, free)
    except OSError as error:
        raise StorageError(f"{directory}: cannot be read: {os_reason(error)}") from error
    return found


def require_remembered(keep: timedelta) -> None:
    """Refuse a time that could not be kept: once the log forgot a removal, only the age of the file is left.

    Raises:
        InputError: longer than the log remembers.
    """
    if keep > _LONGEST_KEEP:
        expected = "at most 30 days, for which the log remembers what was removed"
        raise InputError("keep", got=keep, expected=expected)


def vacuum_files(lake: LakeTable, keep: timedelta, *, dry_run: bool) -> Vacuum:
    """Remove files that were removed from the table longer ago than ``keep``, and old ones that it never had.

    What the log forgot that it ever had goes by the age of the file: the log remembers thirty days.

    Args:
        lake: The table.
        keep: How long readers and writers may work on an older version; not checked here.
        dry_run: Only count.

    Raises:
        StoreCorrupt: the log cannot be read; nothing was removed.
        StorageError: a file cannot be removed; those before it were.
    """
    # The disk is looked at before the log: a file that is published in between is live when we look for it there.
    on_disk = files_on_disk(lake.directory)
    if lake.log.version() is None:
        return Vacuum()
    old, recent = lake.log.removals(keep)
    live = {file.path for file in lake.log.live_files()}
    border_s = time.time() - max(keep, _UNPUBLISHED_KEEP).total_seconds()
    gone = [
        path
        for path, file in on_disk.items()
        if path not in live and path not in recent and (path in old or file.written_at_s < border_s)
    ]
    if not dry_run:
        for path in gone:
            _remove(lake.directory / path)
    return Vacuum(len(gone), sum(on_disk[path].free_bytes for path in gone))


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{path}: cannot be removed: {os_reason(error)}") from error
