"""Files that must be on the disk itself and not only on their way to it, and second names for files.

Not here: the Parquet files of the lake (``parquet``), pages of a fetch (``spool``).
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

_HAS_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}
"""Another file system, one without hard links, or too many of one file."""


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no second names; then sync it.

    Raises:
        OSError: neither can be done.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _HAS_NO_LINKS:
            raise
        shutil.copyfile(source, target)
    _sync(target)


def write_synced(path: Path, body: bytes | memoryview) -> None:
    """Write a new file and sync it.

    Raises:
        OSError: it cannot be written.
    """
    path.write_bytes(body)
    _sync(path)


def make_directory(directory: Path) -> None:
    """Make a directory, with those above it that are missing, and sync the name of each.

    Raises:
        OSError: it is there already, or cannot be made.
    """
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True)
    for path in missing:
        _sync(path.parent)


def sync_directories(directory: Path, *, is_deep: bool = True) -> None:
    """Sync the names in a directory and, where asked, in all below it.

    Raises:
        OSError: they cannot be synced.
    """
    below = (path for path in directory.rglob("*") if path.is_dir()) if is_deep else ()
    for path in (*below, directory):
        _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
