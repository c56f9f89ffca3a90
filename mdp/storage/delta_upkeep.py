"""Looking after a table of the lake: joining files, removing old rows and broken files, telling its size.

Not here: removing files from the disk (``delta_vacuum``), when any of it is done (``pipeline``).
"""

from __future__ import annotations

from datetime import datetime
from itertools import groupby

import polars as pl

from mdp.errors import StorageError, WriteConflict
from mdp.ports import Compaction, DiskUse
from mdp.storage.delta_files import Change
from mdp.storage.delta_table import LakeTable, Piece, races, while_there
from mdp.storage.delta_vacuum import files_on_disk
from mdp.storage.layout import Key, LiveFile
from mdp.storage.parquet import os_reason


def compact(lake: LakeTable, most_files: int) -> Compaction:
    """Join the files of every partition that has more than ``most_files``, one commit for each.

    Returns:
        Counts of the partitions that were joined; one that another writer changed meanwhile is not among them.

    Raises:
        StoreCorrupt: a file cannot be read; partitions that were joined before stay so.
        StorageError: the lake cannot be written to.
    """
    done: list[Compaction] = []
    for _, group in groupby(lake.log.live_files(), key=lambda file: file.partition):
        files = list(group)
        if len(files) > most_files:
            done += _joined(lake, files)
    lake.log.checkpoint()
    return Compaction(
        sum(each.files_before for each in done),
        sum(each.files_after for each in done),
        sum(each.bytes_before for each in done),
        sum(each.bytes_after for each in done),
    )


def _joined(lake: LakeTable, files: list[LiveFile]) -> list[Compaction]:
    # Stands where the last of them stood: files that are written, and not yet published, have later names.
    look = lake.still_live(files)
    if look() != files:
        return []
    try:
        added = lake.write([Piece(files[0].partition, lake.read(files), in_place_of=files[-1].path)])
        lake.publish(Change(added, files, changes_rows=False), look=look, seen=files, what=files[0].partition.path)
    except WriteConflict:
        return []
    before, after = (sum(file.size_bytes for file in each) for each in (files, added))
    return [Compaction(len(files), len(added), before, after)]


def set_aside_damaged(lake: LakeTable, *, dry_run: bool) -> tuple[str, ...]:
    """Take the live files out of a table that are gone or are not what was written.

    They stay on the disk until a vacuum takes them, as far as they are there.

    Returns:
        Their paths, and what is wrong with each.

    Raises:
        StorageError: a file cannot be looked at, which says nothing about it; or the lake cannot be written to.
    """
    found: dict[LiveFile, str] = {}
    for attempt in races():
        with attempt:
            found = _damaged(lake)
            if found and not dry_run:
                files = list(found)
                lake.publish(Change([], files), look=lake.still_live(files), seen=files, what="its damaged files")
    return tuple(f"{lake.table.name}/{file.path}: {why}" for file, why in found.items())


def _damaged(lake: LakeTable) -> dict[LiveFile, str]:
    found: dict[LiveFile, str] = {}
    for file in lake.log.live_files():
        path = lake.directory / file.path
        try:
            why = lake.reader.damage(path)
        except OSError as error:
            raise StorageError(f"{path}: cannot be read: {os_reason(error)}") from error
        if why is not None:
            found[file] = why
    # What was replaced and removed while we looked is not lost.
    live = set(lake.log.live_files())
    return {file: why for file, why in found.items() if file in live}


def prune(lake: LakeTable, column: str, before: datetime) -> int:
    """Remove the rows whose time in a column lies before a moment; those without one stay.

    Returns:
        How many.

    Raises:
        WriteConflict: other writers kept winning; the market and timeframe that is named is as it was.
        StoreCorrupt: a file cannot be read.
        StorageError: the lake cannot be written to.
    """
    keys = sorted({file.partition.key for file in lake.log.live_files()})
    return sum(_prune_key(lake, key, column, before) for key in keys)


def _prune_key(lake: LakeTable, key: Key, column: str, before: datetime) -> int:
    removed = 0
    for attempt in races():
        with attempt:
            removed = while_there(
                lambda: [file for file in lake.log.live_files() if file.partition.key == key],
                lambda files: _prune_once(lake, files, column, before),
            )
    return removed


def _prune_once(lake: LakeTable, files: list[LiveFile], column: str, before: datetime) -> int:
    # File by file, so that an append that is published meanwhile is neither lost nor in the way.
    pieces: list[Piece] = []
    touched: list[LiveFile] = []
    count = 0
    for file in files:
        rows = lake.read([file])
        kept = rows.filter((pl.col(column) >= before).fill_null(value=True))
        if kept.height < rows.height:
            count += rows.height - kept.height
            touched.append(file)
            pieces.append(Piece(file.partition, kept, in_place_of=file.path))
    if touched:
        change = Change(lake.write(pieces), touched)
        what = f"{' '.join(files[0].partition.key)} before {before.isoformat()}"
        lake.publish(change, look=lake.still_live(touched), seen=touched, what=what)
    return count


def disk_use(lake: LakeTable) -> DiskUse:
    """Tell how much room a table takes; of its old files those that no snapshot holds.

    Raises:
        StoreCorrupt: the log, or a file that it tells no number of rows of, cannot be read.
    """
    on_disk = files_on_disk(lake.directory)
    live = lake.log.live_files()
    paths = {file.path for file in live}
    return DiskUse(
        rows=sum(lake.read([file]).height if file.rows is None else file.rows for file in live),
        files=len(live),
        size_bytes=sum(file.size_bytes for file in live),
        old_bytes=sum(file.free_bytes for path, file in on_disk.items() if path not in paths),
    )
