"""The folder in which backups lie side by side: their names, who works there, what was never finished.

Not here: what a backup says of itself (``records``), which of them stay (``pruning``).
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mdp.errors import InputError, LeaseHeld, OutdatedStore, StorageError, StoreCorrupt
from mdp.pipeline.backing_up.records import MANIFEST, Manifest, load_manifest
from mdp.storage.disk import make_directory

_NAME = "%Y-%m-%dT%H%M%S.%fZ"
_NAMED = re.compile(r"\d{4}-\d{2}-\d{2}T\d{6}\.\d{6}Z")
_CLOCKS_DIFFER = timedelta(minutes=5)
_UNFINISHED = re.compile(rf"\.{_NAMED.pattern}\.(?:unfinished|deleted)")


def name_of(moment: datetime) -> str:
    """Return the name of a backup that is begun at a moment; names sort as moments do.

    Examples:
        >>> from datetime import UTC, datetime, timedelta
        >>> name_of(datetime(2025, 1, 8, 3, 30, tzinfo=UTC))
        '2025-01-08T033000.000000Z'
    """
    return moment.astimezone(UTC).strftime(_NAME)


def moment_of(name: str) -> datetime:
    """Return the moment that a name says; the inverse of :func:`name_of`."""
    return datetime.strptime(name, _NAME).replace(tzinfo=UTC)


def backups_in(place: Path) -> list[Path]:
    """Return the folders of backups of a place, ascending by time; one without a manifest is none.

    Raises:
        StorageError: the place cannot be looked at.
    """
    return [path for path in _entries(place) if _NAMED.fullmatch(path.name) and (path / MANIFEST).is_file()]


def readable_backups(place: Path) -> Iterator[tuple[Path, Manifest | str]]:
    """Yield each backup of a place with its manifest, or with why that cannot be read.

    Raises:
        StorageError: the place cannot be looked at.
    """
    for path in backups_in(place):
        try:
            yield path, load_manifest(path)
        except (StoreCorrupt, OutdatedStore) as error:
            yield path, str(error)


def is_of_the_future(backup: Path, now: datetime) -> bool:
    """Tell whether a backup was begun later than it is now: by a clock that was wrong, then or now."""
    return moment_of(backup.name) > now + _CLOCKS_DIFFER


def backup_at(path: Path, now: datetime) -> Path:
    """Return the backup that a path means: itself, or the newest of a place.

    Raises:
        InputError: there is none, or which is the newest cannot be told.
    """
    if (path / MANIFEST).is_file() or _NAMED.fullmatch(path.absolute().name):
        return path
    found = backups_in(path) if path.is_dir() else []
    if not found:
        raise InputError("backup", got=str(path), expected="the folder of a backup, or one in which backups lie")
    if is_of_the_future(found[-1], now):
        expected = f"one of its folders by name, for {found[-1].name} is of the future (it is {name_of(now)} here)"
        raise InputError("backup", got=str(path), expected=expected)
    return found[-1]


@contextmanager
def working_in(place: Path) -> Iterator[None]:
    """Be the only one who makes or removes backups in a place; what others left unfinished there is removed.

    Raises:
        LeaseHeld: somebody else does.
        StorageError: the place cannot be made or written to.
    """
    try:
        if not place.is_dir():
            make_directory(place)
        lock = (place / ".lock").open("a")
    except OSError as error:
        raise StorageError(f"{place}: cannot be written: {error.strerror or error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LeaseHeld(f"backups in {place}", "another process") from error
        except OSError as error:
            raise StorageError(f"{place}: its disk knows no locks: {error.strerror or error}") from error
        for path in _entries(place):
            if _UNFINISHED.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)  # whoever wrote it held the lock, and is gone
        yield


def unfinished_in(place: Path, name: str) -> Path:
    """Return the folder of a backup until it is whole."""
    return place / f".{name}.unfinished"


def remove_backup(path: Path) -> None:
    """Remove a backup: at once for whoever lists them, then file by file.

    Raises:
        StorageError: it cannot be removed.
    """
    hidden = path.with_name(f".{path.name}.deleted")
    try:
        path.rename(hidden)
        shutil.rmtree(hidden)
    except OSError as error:
        raise StorageError(f"{path}: cannot be removed: {error.strerror or error}") from error


def free_bytes_of(place: Path) -> int | None:
    """Return how many bytes this process may still write there; None where that cannot be told."""
    with suppress(OSError):
        status = os.statvfs(place)
        return status.f_bavail * status.f_frsize
    return None


def _entries(place: Path) -> list[Path]:
    try:
        return sorted(place.iterdir())
    except OSError as error:
        raise StorageError(f"{place}: cannot be read: {error.strerror or error}") from error
