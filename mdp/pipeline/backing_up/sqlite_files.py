"""Dagster's storage on SQLite: every database as it is at one moment, while Dagster writes to it.

Not here: its storage in Postgres (``postgres``).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from mdp.errors import StoreCorrupt
from mdp.pipeline.backing_up.copying import stamp_of

_PATIENCE_S = 60.0
_SIDE_FILES = ("-wal", "-shm", "-journal")
_FIRST = ("schedules/schedules.db", "history/runs/index.db", "history/runs.db")
"""In this order, before the events of each run: what one database says of a run is in those that are read after it."""


def databases_in(folder: Path) -> list[Path]:
    """Return the databases below Dagster's folder, in the order in which they are to be copied."""
    found = sorted(folder.rglob("*.db"))
    rank = {folder / path: number for number, path in enumerate(_FIRST)}
    return sorted(found, key=lambda path: (rank.get(path, len(rank)), path))


def other_files_in(folder: Path) -> Iterator[Path]:
    """Yield what else is there: what runs and steps printed, and small things they left."""
    for above, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            path = Path(above, name)
            is_of_database = any(name.endswith(f".db{side}") for side in ("", *_SIDE_FILES))
            if not is_of_database and path.is_file() and not path.is_symlink():
                yield path


def database_stamp(path: Path) -> str:
    """Return what changes with the content of a database, that of its log of writes included.

    Raises:
        FileNotFoundError: the database is not there any more.
    """
    stamp = stamp_of(path.stat())
    try:
        written = path.with_name(f"{path.name}-wal").stat()
    except FileNotFoundError:
        return stamp
    return f"{stamp}:{stamp_of(written)}" if written.st_size else stamp


def copy_database(source: Path, target: Path) -> None:
    """Copy a database as it is at one moment, whoever writes to it, into one file.

    Raises:
        FileNotFoundError: it is not there any more.
        StoreCorrupt: it cannot be read, or its copy is not whole.
        OSError: the copy cannot be written.
    """
    status = source.stat()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(_opened(source)) as reading, closing(sqlite3.connect(target)) as writing:
            reading.backup(writing)
            writing.execute("PRAGMA journal_mode=DELETE")
            said = writing.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if not source.exists():
            raise FileNotFoundError(source) from error
        _raise_full(target, error)
        raise StoreCorrupt(f"{source}: cannot be read: {error}") from error
    except sqlite3.DatabaseError as error:
        raise StoreCorrupt(f"{source}: cannot be read: {error}") from error
    if said != "ok":
        raise StoreCorrupt(f"{source}: is damaged: {said}")
    target.chmod(status.st_mode & 0o777)


def unfinished_runs(folder: Path) -> list[str]:
    """Return the ids of the runs that were executing when a storage was copied.

    Raises:
        StoreCorrupt: its runs cannot be read.
    """
    path = folder / "history" / "runs.db"
    if not path.is_file():
        return []
    try:
        with closing(_opened(path)) as database:
            tables = database.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'runs'").fetchall()
            asked = "SELECT run_id FROM runs WHERE status IN ('STARTING', 'STARTED', 'CANCELING') ORDER BY run_id"
            return [str(row[0]) for row in database.execute(asked)] if tables else []
    except sqlite3.DatabaseError as error:
        raise StoreCorrupt(f"{path}: cannot be read: {error}") from error


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=_PATIENCE_S)


def _raise_full(target: Path, error: sqlite3.OperationalError) -> None:
    if "full" in str(error) or "disk I/O" in str(error):
        free = shutil.disk_usage(target.parent).free
        raise OSError(28, f"no room left, {free:,} bytes are free", str(target)) from error
