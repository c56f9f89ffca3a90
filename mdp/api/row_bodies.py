"""Rows as bodies of answers: JSON, CSV, Arrow, Parquet; every value comes back as it was stored.

A hundred thousand candles are spelled column by column: as text by polars, their times from tables of days and
minutes; no object is made for a row. Not here: which form is wanted (``formats``), what stands around the rows
(``row_answers``).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, cast

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray
from pyarrow import (  # type: ignore[attr-defined]  # pyarrow has no types
    BufferOutputStream,
    LargeStringArray,
    ipc,
    py_buffer,
)

from mdp.api.formats import Format

_DAY_S, _SECOND_US = 86_400, 1_000_000
_BATCH = 65_536
"""Rows spelled at once: a third faster than the 1,024 of polars."""
_MINUTES = np.array([f"{minute // 60:02d}:{minute % 60:02d}:" for minute in range(1_440)], dtype="S6")
_SECONDS = np.array([f"{second:02d}Z" for second in range(60)], dtype="S3")


def as_json(rows: pl.DataFrame, head: Mapping[str, Any]) -> bytes:
    """Return an object: what is the same in all rows, then ``columns``, then ``rows``, a list of lists.

    Times are text, ``2024-12-30T10:15:00Z``, with a fraction where there is one. A float is written with as many
    digits as bring back the very same float; one that is no number (NaN, infinity) is null, for JSON has none.

    Args:
        rows: Columns of numbers, booleans, texts, UTC times and dates.
        head: Names to values, as msgspec writes them.
    """
    said = msgspec.json.encode({**head, "columns": rows.columns})
    body = io.BytesIO()
    body.write(said[:-1] + b',"rows":[')
    if not rows.is_empty():
        _write_json_rows(rows, body)
    body.write(b"]}\n")
    return body.getvalue()


def as_csv(rows: pl.DataFrame) -> bytes:
    """Return a header line and a line for each row; times as in JSON, null is empty, an empty text is quoted."""
    return _write_csv(rows.select(_time_texts(column) for column in rows.iter_columns()))


def as_arrow(rows: pl.DataFrame) -> bytes:
    """Return an Arrow IPC stream; texts are ``large_string``, as every reader of Arrow knows them."""
    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    sink = BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:  # type: ignore[no-untyped-call]
        writer.write_table(table)
    return cast("bytes", sink.getvalue().to_pybytes())


def as_parquet(rows: pl.DataFrame) -> bytes:
    """Return a Parquet file, compressed with zstd."""
    buffer = io.BytesIO()
    rows.write_parquet(buffer)
    return buffer.getvalue()


SPELLED: Mapping[Format, Callable[[pl.DataFrame, Mapping[str, Any]], bytes]] = MappingProxyType(
    {
        Format.JSON: as_json,
        Format.CSV: lambda rows, _: as_csv(rows),
        Format.ARROW: lambda rows, _: as_arrow(rows),
        Format.PARQUET: lambda rows, _: as_parquet(rows),
    }
)
"""How rows and what stands around them become a body; only JSON has room for the latter."""


def _write_json_rows(rows: pl.DataFrame, body: io.BytesIO) -> None:
    """Write after what is there already: a body of megabytes is not copied once more."""
    spelled = rows.select(_json_texts(column) for column in rows.iter_columns())
    body.write(b"[")
    # What a table of text without quotes needs between two rows is what JSON has there.
    spelled.write_csv(
        body, include_header=False, quote_style="never", line_terminator="],[", null_value="null", batch_size=_BATCH
    )
    body.seek(-2, io.SEEK_END)  # after the last row there is none
    body.truncate()


def _json_texts(column: pl.Series) -> pl.Series:
    """Spell a column so that each value, written as it is, is one of JSON."""
    dtype = column.dtype
    if dtype.is_float():
        is_number = column.is_finite()
        return column if is_number.all() else pl.select(pl.when(is_number).then(column)).to_series().alias(column.name)
    if dtype.is_temporal():
        return _time_texts(column, quote='"')
    if dtype == pl.String:
        return _json_strings(column)
    return column


def _json_strings(column: pl.Series) -> pl.Series:
    """Few different texts stand in a column, so each is spelled once."""
    different = column.unique().drop_nulls()
    spelled = [msgspec.json.encode(text).decode() for text in different]
    if len(spelled) == 1 and not column.has_nulls():
        return pl.repeat(spelled[0], len(column), dtype=pl.String, eager=True).alias(column.name)
    return column.replace_strict(different, pl.Series(spelled, dtype=pl.String), default=None, return_dtype=pl.String)


def _time_texts(column: pl.Series, quote: str = "") -> pl.Series:
    """Turn a column of times or dates into text; any other stays."""
    if column.dtype == pl.Date:
        return column.dt.strftime(f"{quote}%Y-%m-%d{quote}")
    if not isinstance(column.dtype, pl.Datetime):
        return column
    if column.has_nulls() or column.is_empty():
        return _any_times(column, quote)
    seconds, fractions = np.divmod(column.to_physical().to_numpy(), _SECOND_US)
    if fractions.any() or seconds.min() < 0:
        return _any_times(column, quote)
    return _whole_seconds(seconds, quote).alias(column.name)


def _any_times(column: pl.Series, quote: str) -> pl.Series:
    """Times of which some are missing or have a fraction: each different one once, as many rows came together."""
    different = column.unique().drop_nulls()
    spelled = different.dt.strftime(f"{quote}%Y-%m-%dT%H:%M:%S%.fZ{quote}")
    if 2 * len(different) > len(column):
        return column.dt.strftime(f"{quote}%Y-%m-%dT%H:%M:%S%.fZ{quote}")
    return column.replace_strict(different, spelled, default=None, return_dtype=pl.String)


def _whole_seconds(seconds: NDArray[np.int64], quote: str) -> pl.Series:
    """Put texts of one length together from those of day, minute and second: half the time of a calendar's work."""
    days, of_day = np.divmod(seconds, _DAY_S)
    first = int(days.min())
    calendar = pl.int_range(first, int(days.max()) + 1, dtype=pl.Int32, eager=True).cast(pl.Date)
    dates = calendar.dt.strftime(f"{quote}%Y-%m-%dT").to_numpy().astype(f"S{11 + len(quote)}")
    ends = _SECONDS if not quote else np.char.add(_SECONDS, quote.encode())
    minutes, left = np.divmod(of_day, 60)
    pieces = [(dates, days - first), (_MINUTES, minutes), (ends, left)]
    length = sum(table.itemsize for table, _ in pieces)
    letters = np.empty((len(seconds), length), dtype=np.uint8)
    at = 0
    for table, place in pieces:
        width = table.itemsize
        letters[:, at : at + width] = table.view(np.uint8).reshape(-1, width)[place]
        at += width
    ends_at = np.arange(0, letters.size + 1, length, dtype=np.int64)
    texts = LargeStringArray.from_buffers(len(seconds), py_buffer(ends_at), py_buffer(letters))
    return cast("pl.Series", pl.from_arrow(texts))


def _write_csv(rows: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    rows.write_csv(buffer)
    return buffer.getvalue()
