"""Putting a backup back: copied and compared byte by byte beside its place, then moved there.

Not here: the place (``targets``), reading a backup without restoring it (``verifying``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mdp.config.settings import Settings
from mdp.errors import ConfigError, InputError, LeaseHeld, OutdatedStore, StorageError, StoreCorrupt
from mdp.pipeline.backing_up.contents import DUMP, KEYS, SETTINGS
from mdp.pipeline.backing_up.copying import Advance, copy_file, require_room
from mdp.pipeline.backing_up.creating import say_nothing
from mdp.pipeline.backing_up.places import name_of
from mdp.pipeline.backing_up.postgres import PostgresStorage, storage_of
from mdp.pipeline.backing_up.records import Manifest, Record, load_manifest, read_records, require_whole_listing
from mdp.pipeline.backing_up.sqlite_files import unfinished_runs
from mdp.pipeline.backing_up.targets import put_in_place, require_free, require_idle, require_movable, staged
from mdp.ports import TABLES, Clock
from mdp.storage.delta_pins import files_at
from mdp.storage.disk import link_or_copy, sync_directories


class Restored(NamedTuple):
    """What a restore came to.

    Attributes:
        manifest: Of the backup.
        before: Where the former content of the data directory is; None where there was none.
        unfinished_runs: Runs that were executing when the backup was made; they are failed when Dagster starts.
        has_dagster: Whether Dagster's storage was restored.
        keys_aside: Where the API's keys are, if the settings say that they are read from another file; else None.
    """

    manifest: Manifest
    before: Path | None
    unfinished_runs: tuple[str, ...]
    has_dagster: bool
    keys_aside: Path | None


class Choices(NamedTuple):
    """What a person decides of a restore.

    Attributes:
        replaces: Whether what is there is set aside; Dagster's runs in Postgres are replaced.
        leaves_dagster: Whether Dagster's storage stays as it is.
    """

    replaces: bool = False
    leaves_dagster: bool = False


def restore_backup(
    backup: Path,
    settings: Settings,
    into: Path,
    clock: Clock,
    choices: Choices | None = None,
    *,
    advance: Advance = say_nothing,
) -> Restored:
    """Put a backup into a data directory, all of it or nothing: nothing changes before every byte was compared.

    Args:
        backup: Its folder.
        settings: Of the place; where Dagster's storage in Postgres is, stands there.
        into: The data directory.
        clock: Names what is set aside.
        choices: Of a person.
        advance: Told of bytes as they are compared.

    Raises:
        StoreCorrupt: the backup is damaged; the file is named.
        InputError: the directory, or the database, holds something.
        ConfigError: Dagster's storage of the backup is of another kind than that of the settings.
        LeaseHeld: something is at work there.
        OutdatedStore: a later version of this program made it.
        StorageError: something cannot be written.
    """
    choices = choices or Choices()
    into = into.absolute()
    manifest = _readable(backup)
    database = None if choices.leaves_dagster else _database(manifest, settings)
    _require_room_to_act(into, database, choices)
    with _writing(into, "nothing was restored"), staged(into) as staging:
        require_room(into, _size_of(backup, choices), "make room")
        runs = _stage(backup, manifest, staging, choices, advance)
        if database is not None:
            database.restore(staging / DUMP)
            (staging / DUMP).unlink()
        done = "Dagster's runs are restored, the files are not" if database else "not all of it is in its place"
        with _writing(into, f"{done}: mend that, and run it again with --replace"):
            _leave_locks(into, runs)
            before = put_in_place(staging, into, name_of(clock()))
    keys = into / KEYS
    has_dagster = manifest.dagster != "none" and not choices.leaves_dagster
    return Restored(manifest, before, tuple(runs), has_dagster, keys if _are_read_elsewhere(keys, settings) else None)


def _are_read_elsewhere(keys: Path, settings: Settings) -> bool:
    return settings.api.keys_file is not None and settings.keys_file != keys and keys.exists()


def _size_of(backup: Path, choices: Choices) -> int:
    """Return how many bytes a backup takes where it is restored: what snapshots share with the lake counts once."""
    size, seen = 0, set()
    for record in read_records(backup):
        if not _is_left(record.path, choices):
            inode = _inode_of(backup / record.path)
            size += 0 if _may_share(record) and inode in seen else record.size
            seen.add(inode)
    return size


def _readable(backup: Path) -> Manifest:
    manifest = load_manifest(backup)
    require_whole_listing(backup, manifest)
    known = {table.name: table.version for table in TABLES}
    for name, held in manifest.tables.items():
        if held.schema_version > known.get(name, 0):
            said = f"holds {name} of schema version {held.schema_version}, this program knows {known.get(name, 0)}"
            raise OutdatedStore(f"{backup}: {said}; run a newer mdp")
    return manifest


def _database(manifest: Manifest, settings: Settings) -> PostgresStorage | None:
    """Return the database to restore to; None where the storage is on SQLite, or not in the backup."""
    is_sqlite = settings.dagster.instance == "sqlite"
    if manifest.dagster == "none":
        return None
    if (manifest.dagster == "sqlite") is not is_sqlite:
        kind = "sqlite" if manifest.dagster == "sqlite" else "postgres or celery"
        expected = f"{kind}, for so is Dagster's storage of this backup; or --without-dagster"
        raise ConfigError("MDP_DAGSTER__INSTANCE", got=settings.dagster.instance, expected=expected)
    return None if is_sqlite else storage_of(settings)


def _require_room_to_act(into: Path, database: PostgresStorage | None, choices: Choices) -> None:
    require_idle(into)
    require_movable(into)
    if not choices.replaces:
        require_free(into)
    if database is None:
        return
    if (others := database.others_connected()) > 0:
        raise LeaseHeld(f"Dagster's storage {database.shown}", f"somebody with {others} connections: stop Dagster")
    if not choices.replaces and (runs := database.runs()) > 0:
        expected = "one without runs, or --replace, which removes them"
        raise InputError("Dagster's storage", got=f"{database.shown} with {runs:,} runs", expected=expected)


def _stage(backup: Path, manifest: Manifest, staging: Path, choices: Choices, advance: Advance) -> list[str]:
    twins: dict[tuple[int, int], Path] = {}
    done = 0
    for record in read_records(backup):
        if not _is_left(record.path, choices):
            _put(backup, record, staging, twins)
        done += record.size
        advance(done, manifest.size)
    for name, held in manifest.tables.items():
        table = next(table for table in TABLES if table.name == name)
        files_at(staging / "lake", table, held.version)
    runs = [] if choices.leaves_dagster else unfinished_runs(staging / "dagster")
    sync_directories(staging)
    return runs


def _is_left(path: str, choices: Choices) -> bool:
    return path == SETTINGS or (choices.leaves_dagster and path.startswith("dagster/"))


def _put(backup: Path, record: Record, staging: Path, twins: dict[tuple[int, int], Path]) -> None:
    source, target = backup / record.path, staging / record.path
    if not target.resolve().is_relative_to(staging.resolve()):
        raise StoreCorrupt(f"{backup}: {record.path}: leads out of the backup")
    target.parent.mkdir(parents=True, exist_ok=True)
    inode = _inode_of(source)
    if _may_share(record) and inode in twins:
        link_or_copy(twins[inode], target)
        return
    size, sha256, _ = copy_file(source, target)
    if (size, sha256) != (record.size, record.sha256):
        said = f"expected {record.size:,} bytes of SHA-256 {record.sha256}, found {size:,} of {sha256}"
        raise StoreCorrupt(f"{source}: damaged: {said}; nothing was restored")
    twins[inode] = target


def _inode_of(source: Path) -> tuple[int, int]:
    try:
        status = source.stat()
    except OSError as error:
        raise StoreCorrupt(f"{source}: cannot be read: {error.strerror or error}; nothing was restored") from error
    return status.st_dev, status.st_ino


def _may_share(record: Record) -> bool:
    """Only what never changes may have two names: a snapshot's file is the lake's, a database is nobody else's."""
    return record.path.endswith(".parquet")


def _leave_locks(data_dir: Path, runs: list[str]) -> None:
    """Leave free locks of runs that nobody executes any more: whoever starts next marks them as failed."""
    for run_id in runs:
        path = data_dir / "run" / "runs" / f"{run_id}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@contextmanager
def _writing(into: Path, what_is: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{error.filename or into}: {error.strerror or error}; {what_is}") from error
