"""Single rows that are added or changed by their key, without writing a whole month for each.

Rows go to the end of their partition: into a small file of its own, a day of minutes at most, that is written anew
with them. A month of minutes would be 1.2 MB for each minute that comes in. A larger file is written anew only where it
holds one of the keys. Compaction, and the next replacement of a slice, join them.
Not here: whole slices (``delta``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

from mdp.ports import Table
from mdp.storage.delta_files import Change
from mdp.storage.delta_table import LakeTable, Piece, races, while_there
from mdp.storage.layout import LiveFile, Partition, by_partition
from mdp.storage.rows import KEY_COLUMNS

SMALL_FILE_ROWS = 1_440
"""A file of fewer rows is written anew with the next ones: a day of minutes, 40 kB."""

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
        taken = [file for file in seen if file.partition == partition and _takes(lake.table, file, piece)]
        kept = lake.read(taken).join(piece, on=lake.table.time_column, how="anti", maintain_order="left")
        changed.append(Piece(partition, pl.concat([kept, piece])))
        removed += taken
    change = Change(lake.write(changed), removed)
    lake.publish(change, look=lambda: lake.log.files_of(pieces), seen=seen, what="live rows")


def _takes(table: Table, file: LiveFile, piece: pl.DataFrame) -> bool:
    """Tell whether a file is written anew: it is small, or may hold one of the keys."""
    if file.rows is None or file.first is None or file.last is None or file.rows < SMALL_FILE_ROWS:
        return True
    return bool(piece[table.time_column].is_between(file.first, file.last + _STATED_TO).any())
