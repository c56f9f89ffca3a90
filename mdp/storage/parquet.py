"""The Parquet files of the lake: how rows become a file, and a file that is whole becomes rows again.

A file is written once under a name of its own and never changed. Its name ends in the CRC-32 of its bytes, because a
damaged file is otherwise read without complaint: of 150 files with eight bytes overwritten, 98 gave wrong prices and no
error. Not here: which files belong to a table (``delta_files``), where they lie (``layout``).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import secrets
import time
import zlib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from mdp.domain.candles import require_schema
from mdp.errors import SchemaMismatch, StorageError, StoreCorrupt
from mdp.ports import Table
from mdp.storage.layout import NewFile, Partition, stored_schema

ROW_GROUP_ROWS = 44_640
"""A month of minutes: a file of minutes is one row group."""

# Values that stay the same over many rows. A dictionary for any other column makes files larger: 43 bytes a candle
# against 28, measured on recorded minutes.
_REPEATED = frozenset(
    {"source", "cause", "old_source", "new_source", "minutes", "age_minutes", "dvol", "hour_open_time"}
    | {"window_start", "ingested_at", "fetched_at", "seen_at", "revised_at", "first_seen_at", "old_ingested_at"}
)
_MOMENT = re.compile(r"([0-9a-f]{16})-")
_DIGEST = re.compile(r"-([0-9a-f]{8})\.parquet")

_REMEDY = "what to do: `mdp heal` sets lost and damaged files aside, and makes what they held again"

Stamp = tuple[int, int]
"""Size and time of change of a file, by which we know that it is still the one whose digest was compared."""


def write_file(
    root: Path, table: Table, partition: Partition, rows: pl.DataFrame, *, in_place_of: str | None = None
) -> NewFile:
    """Write the rows of one partition as one new file, whose name sorts after those written before.

    Args:
        root: Directory of the table.
        table: Which table.
        partition: Where the rows belong.
        rows: With the columns of ``stored_schema``, in the table's order, at least one.
        in_place_of: A file that it replaces without changing a row: its name sorts where that file's did, so that rows
            that tie with those of other files stay in their order.

    Raises:
        StorageError: the directory or the file cannot be written; no file is left behind.
    """
    body = _encode(table, rows)
    name = f"{_moment(in_place_of)}-{secrets.token_hex(4)}-{zlib.crc32(body):08x}.parquet"
    file = NewFile(partition, f"{partition.path}/{name}", len(body), _stats(table, rows))
    path = root / file.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    except OSError as error:
        remove_files(root, [file])
        raise StorageError(f"{path}: cannot be written: {os_reason(error)}") from error
    return file


def _moment(in_place_of: str | None) -> str:
    known = _MOMENT.match(Path(in_place_of).name) if in_place_of else None
    return known[1] if known else f"{time.time_ns():016x}"


def remove_files(root: Path, files: Iterable[NewFile]) -> None:
    """Remove files that belong to no version of the table, as far as they are there and can be removed."""
    for file in files:
        # What stays takes room and harms nothing: readers look only at files that the log names.
        with contextlib.suppress(OSError):
            (root / file.path).unlink(missing_ok=True)


def _stats(table: Table, rows: pl.DataFrame) -> str:
    times = rows[table.time_column]
    first, last = (f"{times[at].replace(tzinfo=None).isoformat(timespec='microseconds')}Z" for at in (0, -1))
    return json.dumps(
        {
            "numRecords": rows.height,
            "minValues": {table.time_column: first},
            "maxValues": {table.time_column: last},
            "nullCount": {table.time_column: 0},
        }
    )


def os_reason(error: OSError) -> str:
    """Return the operating system's words for an error, without the path."""
    return error.strerror or (os.strerror(error.errno) if error.errno else str(error))


def _encode(table: Table, rows: pl.DataFrame) -> bytes:
    body = io.BytesIO()
    stored = stored_schema(table)
    packed = [name for name, dtype in stored.items() if name not in _REPEATED and _is_whole_number(dtype)]
    pq.write_table(  # type: ignore[no-untyped-call]  # pyarrow has no types
        rows.select(list(stored)).to_arrow(),
        body,
        compression="zstd",
        compression_level=3,
        row_group_size=ROW_GROUP_ROWS,
        use_dictionary=[name for name in stored if name in _REPEATED],
        # Times and counts as differences from the row before: times cost next to nothing, 31.6 -> 28.0 bytes a candle.
        column_encoding=dict.fromkeys(packed, "DELTA_BINARY_PACKED"),
        write_page_checksum=True,  # for readers that look at it, DuckDB's views among them
        store_schema=False,  # the table's schema is in the log; a second one in each file could only differ from it
    )
    return body.getvalue()


def _is_whole_number(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or isinstance(dtype, pl.Datetime)


class FileReader:
    """Reads files of the lake and refuses damaged ones. Safe for many threads.

    A file's digest is compared once, and again only when its size or time of change is another: 4 ms for a year of
    minutes the first time, nothing later.
    """

    def __init__(self) -> None:
        self._compared: dict[Path, Stamp] = {}

    def read(
        self,
        paths: Sequence[Path],
        schema: pl.Schema,
        keep: pl.Expr | None,
        *,
        younger: Collection[str] = (),
    ) -> pl.DataFrame:
        """Return the rows of some files, file after file.

        Args:
            paths: At least one.
            schema: The columns to read, at least one, and the types they must have.
            keep: Which rows, by columns of the files; all when None.
            younger: Columns that a file may lack, because it was written before they were added; null in its rows.

        Raises:
            StoreCorrupt: names the first file that is missing, damaged or of another form.
        """
        for path in paths:
            self.require_whole(path)
        try:
            return _read(paths, schema, keep, younger)
        except _UNREADABLE as error:
            found = _first_unreadable(paths, schema, keep, younger)
            raise StoreCorrupt(f"{found}: cannot be read: {one_line(error)}") from error

    def require_whole(self, path: Path) -> None:
        """Compare a file with the digest in its name.

        Raises:
            StoreCorrupt: it is missing or damaged.
        """
        try:
            damage = self.damage(path)
        except OSError as error:
            raise StoreCorrupt(f"{path}: cannot be read: {os_reason(error)}") from error
        if damage is not None:
            broken = StoreCorrupt(f"{path}: {damage}")
            broken.add_note(_REMEDY)
            raise broken

    def damage(self, path: Path) -> str | None:
        """Return why a file will never be again what was written; None where it is whole.

        Raises:
            OSError: it cannot be looked at now, which says nothing about it.
        """
        try:
            status = path.stat()
            stamp = (status.st_size, status.st_mtime_ns)
            if self._compared.get(path) == stamp:
                return None
            found = f"{zlib.crc32(path.read_bytes()):08x}"
        except FileNotFoundError as error:
            return f"cannot be read: {os_reason(error)}"
        # Files that another tool wrote, such as a compaction, carry no digest in their name.
        named = _DIGEST.search(path.name)
        if named and named[1] != found:
            return f"damaged: expected bytes of CRC-32 {named[1]}, found {found}, {stamp[0]} bytes"
        self._compared[path] = stamp
        return None


_UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, SchemaMismatch)
"""What reading a broken file raises. A panic is not an ``Exception``."""


def _read(paths: Sequence[Path], schema: pl.Schema, keep: pl.Expr | None, younger: Collection[str]) -> pl.DataFrame:
    try:
        rows = _scan(paths, keep).select(list(schema)).collect()
    except pl.exceptions.PolarsError:
        if not younger:
            raise
        # Files of several versions of the schema; one at a time, so that only what may be absent is made null.
        rows = pl.concat(_read_older(path, schema, keep, younger) for path in paths)
    require_schema(rows, schema, "its columns")
    return rows


def _read_older(path: Path, schema: pl.Schema, keep: pl.Expr | None, younger: Collection[str]) -> pl.DataFrame:
    present = pl.read_parquet_schema(path)
    absent = [pl.lit(None, schema[name]).alias(name) for name in schema if name in younger and name not in present]
    return _scan([path], keep).with_columns(absent).select(list(schema)).collect()


def _scan(paths: Sequence[Path], keep: pl.Expr | None) -> pl.LazyFrame:
    stored = pl.scan_parquet(list(paths), hive_partitioning=False, glob=False)
    return stored if keep is None else stored.filter(keep)


def _first_unreadable(paths: Sequence[Path], schema: pl.Schema, keep: pl.Expr | None, younger: Collection[str]) -> Path:
    for path in paths:
        try:
            _read([path], schema, keep, younger)
        except _UNREADABLE:
            return path
    return paths[0]


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind where it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
