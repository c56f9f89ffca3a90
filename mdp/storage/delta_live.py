"""Single rows that are added or changed by their key, without writing a whole month for each.

Rows go to the end of their partition, into a file of their own that is joined with others not much larger, up to a day
of minutes: so each row is written about fifteen times, and a partition has few files. A month of minutes would be
1.2 MB for each minute that comes in, a day of them 40 kB. A larger file is written anew only where it holds one of the
keys. Compaction, and the next replacement of a slice, join them.
Not here: whole slices (``delta``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import polars as pl

from mdp.ports import Table
from mdp.storage.delta_files import Change
from mdp.storage.delta_table import LakeTable, Piece, races, while_there
from mdp.storage.layout import LiveFile, Partition, by_partition
from mdp.storage.rows import KEY_COLUMNS

SMALL_FILE_ROWS = 1_440
"""A file of fewer rows may be written anew with the next ones: a day of minutes, 40 kB."""

_LARGER = 8
"""How many times the rows that are written a file may have, to be written anew with them."""

_STATED_TO = timedelta(milliseconds=1)
"""Other tools cut the times of a file in the log to milliseconds."""


def upsert(lake: LakeTable, rows: pl.DataFrame) -> None:
    """Add rows, each in the place of the stored one with its key, in one commit.

    Args:
        lake: The table.
        rows: Of its schema, keys unique.

    Raises:
        WriteConflict: other writers kept winning; nothing was written.
        StorageError: the lake cannot be written to; nothing was written.
        StoreCorrupt: a file that may hold one of the keys cannot be read.
    """
    pieces = by_partition(lake.table, rows, rows.select(KEY_COLUMNS).unique().iter_rows())
    if not pieces:
        return
    lake.log.create()
    for attempt in races():
        with attempt:
            while_there(lambda: lake.log.files_of(pieces), lambda seen: _upsert_once(lake, pieces, seen))


def _upsert_once(lake: LakeTable, pieces: Mapping[Partition, pl.DataFrame], seen: list[LiveFile]) -> None:
    changed: list[Piece] = []
    removed: list[LiveFile] = []
    for partition, piece in pieces.items():
        taken = _taken(lake.table, [file for file in seen if file.partition == partition], piece)
        kept = lake.read(taken).join(piece, on=lake.table.time_column, how="anti", maintain_order="left")
        changed.append(Piece(partition, pl.concat([kept, piece])))
        removed += taken
    change = Change(lake.write(changed), removed)
    lake.publish(change, look=lambda: lake.log.files_of(pieces), seen=seen, what="live rows")


def _taken(table: Table, files: Sequence[LiveFile], piece: pl.DataFrame) -> list[LiveFile]:
    """The files that are written anew: those that may hold one of the keys, and small ones, smallest first."""
    taken = {file for file in files if _may_hold(table, file, piece)}
    rows = len(piece) + sum(file.rows or 0 for file in taken)
    for file in sorted(set(files) - taken, key=lambda file: file.rows or 0):
        if (file.rows or 0) >= SMALL_FILE_ROWS or (file.rows or 0) > _LARGER * rows:
            break
        taken.add(file)
        rows += file.rows or 0
    return [file for file in files if file in taken]


def _may_hold(table: Table, file: LiveFile, piece: pl.DataFrame) -> bool:
    if file.rows is None or file.first is None or file.last is None:
        return True
    return bool(piece[table.time_column].is_between(file.first, file.last + _STATED_TO).any())
