"""The data directory that a backup is put into: whether it is free, and taking its place in one step.

Not here: what is put there (``restoring``).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mdp.errors import InputError, LeaseHeld, StorageError
from mdp.storage.disk import make_directory, sync_directories

CONTENT = ("dagster", "api", "snapshots", "catalogue", "lake")
"""Folders of a data directory that a backup holds; in this order they take their places where that is not one step."""

_STAGING, _BEFORE = ".restoring-", ".before-restore-"


def require_idle(data_dir: Path) -> None:
    """Refuse a directory in which something is at work, as far as locks of this machine tell.

    Raises:
        LeaseHeld: names the lock.
    """
    for path in sorted([*(data_dir / "run").rglob("*.lock"), *(data_dir / "bus").glob("*.lock")]):
        if _is_held(path):
            raise LeaseHeld(f"data directory {data_dir}", f"whoever has {path.relative_to(data_dir)} locked")


def _is_held(path: Path) -> bool:
    try:
        with path.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def require_movable(data_dir: Path) -> None:
    """Refuse a directory whose content is on a disk of its own: it could not be set aside, and nothing take its place.

    Raises:
        InputError: names the folder.
    """
    for name in CONTENT:
        if (data_dir / name).is_mount():
            expected = "a folder of the data directory's own disk; put the disk where the whole data directory is"
            raise InputError("into", got=f"{data_dir / name}, where a disk is mounted", expected=expected)


def require_free(data_dir: Path) -> None:
    """Refuse a directory that holds something a backup would take the place of.

    Raises:
        InputError: names the first file.
    """
    if data_dir.exists() and not data_dir.is_dir():
        raise InputError("into", got=str(data_dir), expected="a folder")
    found = next(_content(data_dir), None)
    if found is not None:
        expected = f"a data directory without content (this one has {found}), or --replace, which sets it aside"
        raise InputError("into", got=str(data_dir), expected=expected)


def _content(data_dir: Path) -> Iterator[str]:
    for name in CONTENT:
        for above, _, files in os.walk(data_dir / name):
            for file in sorted(files):
                yield Path(above, file).relative_to(data_dir).as_posix()


@contextmanager
def staged(data_dir: Path) -> Iterator[Path]:
    """Give a folder to fill, on the disk of a data directory; it is removed unless :func:`put_in_place` took it.

    Raises:
        LeaseHeld: another restore is at work there.
        StorageError: the directory cannot be made or written to.
    """
    try:
        if not data_dir.is_dir():
            make_directory(data_dir)
        lock = os.open(data_dir, os.O_RDONLY)
    except OSError as error:
        raise StorageError(f"{data_dir}: cannot be written: {error.strerror or error}") from error
    staging = data_dir / f"{_STAGING}{secrets.token_hex(4)}"
    try:
        _claim(data_dir, lock)
        for left in data_dir.glob(f"{_STAGING}*"):
            shutil.rmtree(left, ignore_errors=True)  # of a restore that was killed: nobody has its lock any more
        staging.mkdir(mode=0o700)
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(lock)


def _claim(data_dir: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LeaseHeld(f"data directory {data_dir}", "another restore") from error


def put_in_place(staging: Path, data_dir: Path, stamp: str) -> Path | None:
    """Move what was staged to its places, the lake last; what was there before is set aside, not removed.

    Folders are renamed one by one, because a data directory may be the root of a disk that cannot be renamed itself.
    Should the machine die between two of them, the lake is not there yet, and restoring again with ``--replace`` does
    it anew; nothing of the directory's former content is ever removed.

    Returns:
        Where the former content is; None where there was none.

    Raises:
        OSError: something cannot be renamed.
    """
    before = data_dir / f"{_BEFORE}{stamp}"
    # The lake goes first: without it nobody takes the half for the whole.
    for name in reversed(CONTENT):
        with suppress(FileNotFoundError):
            if any((data_dir / name).iterdir()):
                before.mkdir(exist_ok=True)
                (data_dir / name).rename(before / name)
            else:
                (data_dir / name).rmdir()
    sync_directories(data_dir, is_deep=False)
    for name in CONTENT:
        if (staging / name).exists():
            (staging / name).rename(data_dir / name)
    sync_directories(data_dir, is_deep=False)
    return before if before.exists() else None
