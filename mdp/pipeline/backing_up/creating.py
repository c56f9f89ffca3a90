"""Making a backup: Dagster's storage first, then the lake, snapshots, keys and settings; the manifest last.

In this order nothing that Dagster calls stored is absent from the lake of the same backup. A backup has a hidden name
until it is whole; one rename makes it one.
Not here: what is taken (``contents``), how a file is put there (``copying``), putting it back (``restoring``).
"""

from __future__ import annotations

import logging
import re
import shutil
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from mdp.config.settings import Settings
from mdp.errors import InputError, OutdatedStore, StorageError, StoreCorrupt
from mdp.pipeline.backing_up.contents import (
    dagster_kind,
    fill_dagster,
    fill_lake,
    fill_small_things,
    fill_snapshots,
    left_out,
    parts_of,
    require_room_for,
    size_of_dagster,
    wanted_of,
)
from mdp.pipeline.backing_up.copying import Advance, Earlier, Filling, earlier_of, require_room
from mdp.pipeline.backing_up.places import backups_in, is_of_the_future, name_of, unfinished_in, working_in
from mdp.pipeline.backing_up.records import (
    FORMAT,
    MANIFEST,
    Manifest,
    MarketPart,
    TableVersion,
    encode,
    load_manifest,
    require_whole_listing,
    sealed,
)
from mdp.ports import TABLES, CandleStore, Clock
from mdp.storage.delta_pins import PinnedLake, pin_lake
from mdp.storage.disk import sync_directories, write_synced

_log = logging.getLogger(__name__)

_ATTEMPTS = 5
"""How often the lake is looked at anew because files were removed while they were copied."""

_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")


class Made(NamedTuple):
    """A backup: its folder and what it says of itself."""

    folder: Path
    manifest: Manifest


def say_nothing(_done: int, _total: int) -> None:
    """Be told of progress, and keep it."""


def create_backup(
    settings: Settings,
    store: CandleStore,
    place: Path,
    clock: Clock,
    *,
    is_full: bool = False,
    patience_s: float = 20.0,
    advance: Advance = say_nothing,
) -> Made:
    """Write all that a machine would lose with its disk into a new folder of a place: all of it, or nothing.

    Safe beside feeds, backfills and maintenance. It survives a power cut once this returns.

    Args:
        settings: Of the place that is backed up.
        store: Of the same settings.
        place: A folder in which backups lie side by side, best on another disk; made when it is not there.
        clock: Tells when it is made.
        is_full: Copy everything, also what the backup before holds.
        patience_s: How long a moment is waited for at which nobody writes.
        advance: Told of bytes as they are done.

    Raises:
        InputError: the place is part of what is backed up.
        LeaseHeld: another backup is being made there.
        StoreCorrupt: a file is damaged, and named; there is no backup then.
        StorageError: something cannot be read or written, or the disk has no room; there is no backup then.
    """
    place = place.absolute()
    _require_apart(settings, place)
    with working_in(place):
        now = clock()
        for path in backups_in(place):
            if is_of_the_future(path, now):
                _log.warning("%s is of the future: the clock was wrong then, or is now; see to it", path)
        earlier = {} if is_full else _newest(place)
        work = _Work(settings, store, place, now, patience_s, advance, earlier)
        try:
            return work.make()
        except OSError as error:
            where = error.filename or place
            raise StorageError(f"{where}: {error.strerror or error}; no backup was made") from error
        finally:
            for folder in work.folders:
                shutil.rmtree(folder, ignore_errors=True)


def _require_apart(settings: Settings, place: Path) -> None:
    data_dir, where = settings.data_dir.resolve(), place.resolve()
    if where == data_dir or data_dir in where.parents or where in data_dir.parents:
        expected = f"a folder outside of {data_dir}, best on another disk, and not one above it"
        raise InputError("place", got=str(place), expected=expected)
    if _ESCAPE.search(str(place)):
        raise InputError("place", got=str(place), expected="a path without % and two hexadecimal digits")


@dataclass
class _Work:
    settings: Settings
    store: CandleStore
    place: Path
    created_at: datetime
    patience_s: float
    advance: Advance
    earlier: Earlier
    folders: list[Path] = field(default_factory=list)
    done: int = 0
    total: int = 0

    def make(self) -> Made:
        self.total = size_of_dagster(self.settings)
        require_room(self.place, self.total if not self.earlier else 0)
        filling = self._begin()
        fill_dagster(filling, self.settings, self._tell)
        lake = PinnedLake((), was_quiet=True)
        if self.settings.store == "duckdb":
            lake, filling = self._take_lake(filling)
        parts = parts_of(lake, filling.records)
        snapshots = fill_snapshots(filling, self.store, self.settings, self._tell)
        fill_small_things(filling, self.settings)
        return self._publish(filling, lake, parts, snapshots)

    def _begin(self) -> Filling:
        folder = unfinished_in(self.place, name_of(self.created_at))
        folder.mkdir(mode=0o700)
        self.folders.append(folder)
        return Filling(folder, self.earlier)

    def _take_lake(self, filling: Filling) -> tuple[PinnedLake, Filling]:
        """Take the lake at one moment, at a later one where files of the first were removed before they were copied."""
        for _ in range(_ATTEMPTS):
            lake = pin_lake(self.settings.lake_dir, TABLES, patience_s=self.patience_s)
            wanted = [one for table in lake.tables for one in wanted_of(table, self.settings.lake_dir)]
            require_room_for(self.place, filling, wanted)
            self.total = self.done + sum(one.size for one in wanted)
            try:
                fill_lake(filling, lake, self.settings.lake_dir, self._tell)
            except FileNotFoundError as error:
                gone = error.filename
            else:
                return lake, filling
            filling.set_aside("lake")
        raise StorageError(
            f"{gone}: was removed while it was copied, {_ATTEMPTS} times in a row; set a longer "
            "MDP_MAINTENANCE__RETENTION_HOURS, or see `mdp heal`"
        )

    def _tell(self, size: int) -> None:
        self.done += size
        self.advance(self.done, max(self.done, self.total))

    def _publish(
        self, filling: Filling, lake: PinnedLake, parts: tuple[MarketPart, ...], snapshots: tuple[str, ...]
    ) -> Made:
        kind = dagster_kind(self.settings)
        filling.remove_set_aside()
        listing_sha256 = filling.finish()
        manifest = Manifest(
            format=FORMAT,
            created_at=self.created_at,
            mdp_version=version("mdp"),
            environment=self.settings.env,
            store=self.settings.store,
            data_dir=str(self.settings.data_dir),
            was_quiet=lake.was_quiet,
            tables={one.table.name: TableVersion(one.version, one.table.version) for one in lake.tables},
            parts=parts,
            snapshots=snapshots,
            dagster=kind,
            leaves_out=left_out(self.settings, kind),
            files=len(filling.records),
            size=sum(record.size for record in filling.records),
            copied=filling.copied,
            listing_sha256=listing_sha256,
        )
        manifest = sealed(manifest)
        write_synced(filling.folder / MANIFEST, encode(manifest))
        sync_directories(filling.folder, is_deep=False)
        final = self.place / name_of(self.created_at)
        filling.folder.rename(final)
        sync_directories(self.place, is_deep=False)
        return Made(final, manifest)


def _newest(place: Path) -> Earlier:
    """Return what the newest backup holds that can be read."""
    for path in reversed(backups_in(place)):
        try:
            require_whole_listing(path, load_manifest(path))
            return earlier_of(path)
        except (StoreCorrupt, OutdatedStore) as error:
            _log.warning("%s; what it holds is copied again", error)
    return {}
