"""All tables of the lake at one moment: a version of each, such that all of them were the newest at the same time.

Not here: copying what they hold (``pipeline.backing_up``), a slice under a name (``delta_snapshots``).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deltalake import DeltaTable

from mdp.errors import StorageError, StoreCorrupt
from mdp.ports import Table
from mdp.storage.delta_faults import DELTA_FAILURES, delta_reason
from mdp.storage.delta_files import live_index
from mdp.storage.delta_log import DeltaLog
from mdp.storage.layout import LiveFile

_LOG_FILE = re.compile(r"(\d{20})\.(?:json|checkpoint(?:\.\d+\.\d+)?\.parquet)")
_CHECKSUM = re.compile(r"-([0-9a-f]{8})\.parquet\Z")
_LOOKS = 1_000
"""How often versions are looked at; a look at all tables takes a millisecond, and commits are rarer."""

_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class PinnedTable:
    """A table at one version.

    Attributes:
        table: Which.
        version: Of the Delta table.
        files: That hold it, sorted by partition, paths relative to the table's directory.
    """

    table: Table
    version: int
    files: tuple[LiveFile, ...]


@dataclass(frozen=True, slots=True)
class PinnedLake:
    """The tables at one moment; those that were never written to are absent.

    Attributes:
        tables: In the order that was asked.
        was_quiet: Whether nobody had written for some seconds. Otherwise a writer may have been in the middle of a day:
            its raw candles are stored, the judged ones are not yet; as after a power cut.
    """

    tables: tuple[PinnedTable, ...]
    was_quiet: bool


def pin_lake(
    lake_dir: Path,
    tables: Sequence[Table],
    *,
    quiet_s: float = 2.0,
    patience_s: float = 20.0,
    wait: Callable[[float], None] = time.sleep,
) -> PinnedLake:
    """Find a moment, rather one at which nobody writes, and what every table held then.

    Args:
        lake_dir: Of the lake.
        tables: Which.
        quiet_s: How long nobody shall have written.
        patience_s: How long such a moment is waited for; then any is taken.
        wait: Sleeps.

    Raises:
        StoreCorrupt: a log cannot be read.
        StorageError: writers never left two looks alike.
    """
    logs = {table.name: DeltaLog(lake_dir / table.name, table) for table in tables}
    deadline = time.monotonic() + patience_s
    while True:
        versions = at_one_moment({name: log.version for name, log in logs.items()}, wait)
        was_quiet = _age_s(lake_dir, versions) >= quiet_s
        if was_quiet or time.monotonic() >= deadline:
            break
        wait(_PAUSE_S)
    pinned = tuple(
        PinnedTable(table, version, files_at(lake_dir, table, version))
        for table in tables
        if (version := versions[table.name]) is not None
    )
    return PinnedLake(pinned, was_quiet)


def at_one_moment(
    looks: Mapping[str, Callable[[], int | None]], wait: Callable[[float], None] = time.sleep
) -> dict[str, int | None]:
    """Return versions that were all the newest at the same time.

    Args:
        looks: Tell the newest version of each table.
        wait: Sleeps.

    Raises:
        StorageError: writers never left two looks alike.
    """
    # Versions only grow: what is the same at two looks in a row was so at every moment between them.
    seen = {name: look() for name, look in looks.items()}
    for _ in range(_LOOKS):
        again = {name: look() for name, look in looks.items()}
        if again == seen:
            return seen
        seen = again
        wait(0.001)
    raise StorageError("the lake: no moment was found at which no table was being written to; try again")


def _age_s(lake_dir: Path, versions: dict[str, int | None]) -> float:
    """Tell how long ago somebody wrote last; one that we cannot see wrote long ago."""
    written = 0.0
    for name, version in versions.items():
        if version is not None:
            with suppress(OSError):
                written = max(written, (lake_dir / name / "_delta_log" / f"{version:020d}.json").stat().st_mtime)
    return time.time() - written


def files_at(lake_dir: Path, table: Table, version: int) -> tuple[LiveFile, ...]:
    """Return the files that hold a version of a table, sorted by partition.

    Raises:
        StoreCorrupt: the log cannot be read, or does not tell that version.
    """
    directory = lake_dir / table.name
    try:
        index = live_index(DeltaTable(str(directory), version=version), table.time_column)
    except DELTA_FAILURES as error:
        raise StoreCorrupt(f"{directory / '_delta_log'}: cannot be read: {delta_reason(error)}") from error
    return tuple(file for files in index.values() for file in files)


def log_files(directory: Path, version: int) -> list[Path]:
    """Return the files of a table's log that tell its versions up to one, ascending.

    The library's hint at its last checkpoint is not among them: it finds that by itself, and a hint at a later one
    would lead it astray.

    Raises:
        StorageError: the log cannot be looked at.
    """
    try:
        paths = sorted((directory / "_delta_log").iterdir())
    except OSError as error:
        raise StorageError(f"{directory}: its log cannot be read: {error.strerror or error}") from error
    return [path for path in paths if (found := _LOG_FILE.fullmatch(path.name)) and int(found[1]) <= version]


def named_checksum(name: str) -> str | None:
    """Return the CRC-32 that the name of a file of the lake says its bytes have; None where it says none.

    Examples:
        >>> named_checksum("17f0-ab-0123abcd.parquet")
        '0123abcd'
    """
    found = _CHECKSUM.search(name)
    return found[1] if found else None
