"""What goes into a backup, kind by kind: Dagster's storage, the lake, snapshots, keys, settings.

Not here: when and where (``creating``), how a file is put there (``copying``).
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from mdp.config.effective import effective_settings
from mdp.config.settings import Settings
from mdp.errors import StorageError, StoreCorrupt
from mdp.pipeline.backing_up.copying import Filling, Wanted, require_room
from mdp.pipeline.backing_up.postgres import storage_of
from mdp.pipeline.backing_up.records import DagsterKind, MarketPart, Record
from mdp.pipeline.backing_up.sqlite_files import copy_database, database_stamp, databases_in, other_files_in
from mdp.ports import CandleStore
from mdp.storage.delta_pins import PinnedLake, PinnedTable, files_at, log_files

DUMP, KEYS, SETTINGS = "dagster/postgres.dump", "api/keys.json", "settings.json"

_NEVER = {
    "bus": "live buffers and counts of requests: feeds fill the buffers again, from the lake and from the exchange",
    "pages waiting": "answers of fetches that were broken off: they are asked again",
    "logs of processes": "what they printed; data/log",
    "secrets": "passwords and addresses that hold one: they are given by variables, and masked in settings.json",
}

Done = Callable[[int], None]
"""Told how many bytes more are done."""


def left_out(settings: Settings, dagster: DagsterKind) -> dict[str, str]:
    """Say what a backup of a place does not hold, and why."""
    said = dict(_NEVER)
    if settings.store == "bigquery":
        said["candles"] = (
            f"are in BigQuery, dataset {settings.bigquery.dataset}: its time travel and copies of the dataset keep them"
        )
        said["candles of snapshots"] = "are in BigQuery too; their manifests are in catalogue/"
    if dagster == "none":
        said["Dagster's storage"] = "is of Kubernetes' chart, and MDP_DAGSTER__POSTGRES_URL does not say where"
    return said


def dagster_kind(settings: Settings) -> DagsterKind:
    """Return which kind of Dagster's storage is backed up."""
    if settings.dagster.instance == "sqlite":
        return "sqlite"
    is_unknown = settings.dagster.instance == "kubernetes" and settings.dagster.postgres_url is None
    return "none" if is_unknown else "postgres"


def fill_dagster(filling: Filling, settings: Settings, done: Done) -> None:
    """Take what Dagster keeps of runs, and what they printed; what Dagster removes meanwhile is left out."""
    kind, folder = dagster_kind(settings), settings.dagster_dir
    if kind == "postgres":
        storage_of(settings).dump(filling.folder / DUMP)
        filling.made(DUMP, "")
    elif kind == "sqlite":
        for database in databases_in(folder):
            with suppress(FileNotFoundError):
                done(_fill_database(filling, folder, database).size)
    for source in other_files_in(folder):
        with suppress(FileNotFoundError):
            path = f"dagster/{source.relative_to(folder).as_posix()}"
            done(filling.add(Wanted(source, path, source.stat().st_size)).size)


def _fill_database(filling: Filling, folder: Path, database: Path) -> Record:
    path, stamp = f"dagster/{database.relative_to(folder).as_posix()}", database_stamp(database)
    if (kept := filling.keep(path, stamp)) is not None:
        return kept
    copy_database(database, filling.folder / path)
    return filling.made(path, stamp)


def wanted_of(table: PinnedTable, lake_dir: Path) -> list[Wanted]:
    """Return the files of a table at its version: those that hold it, and those of its log."""
    directory, name = lake_dir / table.table.name, f"lake/{table.table.name}"
    held = [Wanted(directory / file.path, f"{name}/{file.path}", file.size_bytes) for file in table.files]
    logs = (Wanted(path, f"{name}/_delta_log/{path.name}", 0) for path in log_files(directory, table.version))
    return [*held, *logs]


def fill_lake(filling: Filling, lake: PinnedLake, lake_dir: Path, done: Done) -> None:
    """Take all tables at their versions, and make sure that they open as they should.

    Raises:
        FileNotFoundError: a file was removed meanwhile; what replaced it belongs to a later version.
        StoreCorrupt: a file is damaged.
    """
    for table in lake.tables:
        for wanted in wanted_of(table, lake_dir):
            try:
                done(filling.add(wanted).size)
            except StoreCorrupt as error:
                error.add_note("what to do: `mdp heal` sets damaged files aside, and makes what they held again")
                raise
        if files_at(filling.folder / "lake", table.table, table.version) != table.files:
            raise StorageError(f"{table.table.name}: its copy is not version {table.version}; nothing was kept")


def parts_of(lake: PinnedLake, records: list[Record]) -> tuple[MarketPart, ...]:
    """Say what is held of each table and market."""
    by_path = {record.path: record for record in records if record.path.startswith("lake/")}
    parts = []
    for pinned in lake.tables:
        markets = defaultdict(list)
        for file in pinned.files:
            markets[f"{file.partition.exchange}:{file.partition.symbol}"].append(file)
        for market, files in sorted(markets.items()):
            sha, size = hashlib.sha256(), 0
            for file in files:
                record = by_path[f"lake/{pinned.table.name}/{file.path}"]
                sha.update(f"{record.sha256}  {file.path}\n".encode())
                size += record.size
            counts = [file.rows for file in files]
            rows = None if None in counts else sum(count or 0 for count in counts)
            parts.append(MarketPart(pinned.table.name, market, len(files), rows, size, sha.hexdigest()))
    return tuple(parts)


def fill_snapshots(filling: Filling, store: CandleStore, settings: Settings, done: Done) -> tuple[str, ...]:
    """Take every published snapshot, of BigQuery's what they say of themselves; return their names."""
    found = store.snapshots()
    if settings.store == "bigquery":
        for name, body in found.items():
            _make(filling, f"catalogue/{name}.json", body)
        return tuple(found)
    return tuple(name for name in found if _fill_snapshot(filling, settings.snapshots_dir, name, done))


def _fill_snapshot(filling: Filling, snapshots_dir: Path, name: str, done: Done) -> bool:
    directory = snapshots_dir / name
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    try:
        for source in files:
            path = f"snapshots/{source.relative_to(snapshots_dir).as_posix()}"
            done(filling.add(Wanted(source, path, source.stat().st_size)).size)
    except FileNotFoundError:
        if directory.exists():
            raise
        filling.forget(f"snapshots/{name}")  # somebody deleted it meanwhile
        return False
    except StoreCorrupt as error:
        error.add_note(f"what to do: `mdp snapshot verify {name}`, then `mdp snapshot delete {name}`")
        raise
    return bool(files)


def fill_small_things(filling: Filling, settings: Settings) -> None:
    """Take the hashes of the API's keys, and the settings as they may be shown."""
    with suppress(FileNotFoundError):
        filling.add(Wanted(settings.keys_file, KEYS, 0))
    told: Mapping[str, object] = {
        one.setting: {"value": one.value, "origin": one.origin} for one in effective_settings(settings)
    }
    _make(filling, SETTINGS, msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n")


def _make(filling: Filling, path: str, body: bytes) -> None:
    target = filling.folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(body)
    filling.made(path, "")


def require_room_for(place: Path, filling: Filling, wanted: list[Wanted]) -> None:
    """Refuse a lake that the disk of the backups has no room for, what the backup before holds not counted.

    Raises:
        StorageError: says how much there is and how much is needed.
    """
    require_room(place, sum(one.size for one in wanted if one.path not in filling.earlier))


def size_of_dagster(settings: Settings) -> int:
    """Return how many bytes Dagster's storage on SQLite has."""
    total = 0
    for above, _, names in os.walk(settings.dagster_dir):
        for name in names:
            with suppress(OSError):
                total += Path(above, name).stat().st_size
    return total
