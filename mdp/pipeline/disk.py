"""What fills the disk: the tables, what only snapshots still hold, pages, the bus, Dagster's own storage.

Not here: making room (``maintenance``), how a store counts (``storage``).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mdp.config.settings import Settings
from mdp.errors import ConfigError
from mdp.ports import TABLES, CandleStore, DiskUse, Table


@dataclass(frozen=True, slots=True)
class Room:
    """The room that something beside the tables takes, and in which directory."""

    name: str
    directory: Path
    files: int
    size_bytes: int


def disk_uses(store: CandleStore, tables: Sequence[Table] = TABLES) -> dict[str, DiskUse]:
    """Return the room that each table takes, by its name.

    Raises:
        StorageError: a table cannot be read.
    """
    return {table.name: store.disk_use(table) for table in tables}


def rooms(settings: Settings) -> list[Room]:
    """Return what else of ours takes room on this machine; what is not there takes none.

    A snapshot shares its files with the lake for as long as they are part of it: counted is what is not in the lake.
    """
    in_lake = {_inode(file) for file in _files(settings.lake_dir)}
    found = [
        _room("snapshots, beside the lake", settings.snapshots_dir, in_lake),
        _room("logs of the tables", settings.lake_dir, set(), below="_delta_log"),
        _room("pages waiting", settings.spool_dir),
        _room("Dagster", settings.dagster_dir),
    ]
    if settings.bus.url is None and (bus := _bus_dir(settings)) is not None:
        found.append(_room("bus", bus))
    return found


def free_bytes(directory: Path) -> int | None:
    """Return how much room is left on the disk of a directory; None where that cannot be told."""
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return None


def _bus_dir(settings: Settings) -> Path | None:
    try:
        return settings.bus_dir / "bus"
    except ConfigError:  # a user without a home has no bus either, which is another command's to say
        return None


def _room(name: str, directory: Path, shared: set[tuple[int, int]] | None = None, *, below: str = "") -> Room:
    sizes: dict[tuple[int, int], int] = {}
    for file in _files(directory):
        if not below or below in file.path:
            sizes[_inode(file)] = file.stat(follow_symlinks=False).st_size
    own = [size for inode, size in sizes.items() if inode not in (shared or ())]
    return Room(name, directory, len(own), sum(own))


def _files(directory: Path | str) -> Iterator[os.DirEntry[str]]:
    """Yield every file below a directory; what vanishes meanwhile is left out."""
    try:
        with os.scandir(directory) as entries:
            found = list(entries)
    except OSError:
        return
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path)
        elif entry.is_file(follow_symlinks=False) and _is_there(entry):
            yield entry


def _is_there(entry: os.DirEntry[str]) -> bool:
    try:
        entry.stat(follow_symlinks=False)  # kept by the entry from here on
    except OSError:
        return False
    return True


def _inode(entry: os.DirEntry[str]) -> tuple[int, int]:
    status = entry.stat(follow_symlinks=False)
    return status.st_dev, status.st_ino
