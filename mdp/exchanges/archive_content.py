"""What is inside a bulk file: a zip with one CSV of candles, into a table of ours. Pure.

A file is believed as a whole or not at all: the first thing that cannot be read refuses it, with a text that names the
place, and its candles are asked of REST. A row that can be read is kept whatever it says: judging is not done here.
Not here: which columns an exchange prints (its ``archive``), fetching files (``archive_downloads``).
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from mdp.domain.candles import TIME
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import PayloadError
from mdp.exchanges.frames import ANSWER_SCHEMA

MOST_INFLATED = 64 * 1024 * 1024
"""Bytes that a file may hold; a month of minutes holds 7 MB."""

FIRST_MICROSECONDS = 100_000_000_000_000
"""A time at or above this counts microseconds: Binance's files changed over on 2025-01-01. As milliseconds it would lie
in the year 5138."""

_LAST_MICROSECONDS = 100 * FIRST_MICROSECONDS
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_LOCAL_HEADER = 30
_ENCRYPTED = 0x1


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of an exchange's files.

    Attributes:
        exchange: Whose.
        columns: All of them, in order, in the exchange's own words.
        taken: Those that are read, in the exchange's words, to ours and the type they are read as.
    """

    exchange: Exchange
    columns: tuple[str, ...]
    taken: Mapping[str, tuple[str, pl.DataType]]


def unpack(content: bytes, exchange: Exchange, path: str, *, most_bytes: int = MOST_INFLATED) -> bytes:
    """Return the one member of a zip.

    Args:
        content: Of the zip.
        exchange: Whose it is, for the error.
        path: Its name, for the error.
        most_bytes: What it may hold.

    Raises:
        PayloadError: not a zip, damaged, not exactly one member, or too large.
    """
    try:
        members = zipfile.ZipFile(io.BytesIO(content)).infolist()
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        body = "" if content[:2] == b"PK" else content[:1_000].decode(errors="replace")
        raise refuse(exchange, path, f"expected a zip, got something else ({error})", body) from error
    if len(members) != 1:
        names = ", ".join(member.filename for member in members[:4])
        raise refuse(exchange, path, f"expected a zip with one member, got {len(members)} ({names})")
    member = members[0]
    if member.file_size > most_bytes:
        raise refuse(exchange, path, f"expected at most {most_bytes} bytes inside, got {member.file_size}")
    if member.compress_type not in (_STORED, _DEFLATED) or member.flag_bits & _ENCRYPTED:
        raise refuse(exchange, path, f"expected a member that is deflated, got method {member.compress_type}")
    text = _inflate(content, member, exchange, path)
    if len(text) != member.file_size or zlib.crc32(text) != member.CRC:
        raise refuse(exchange, path, f"expected {member.file_size} bytes of CRC {member.CRC:08x} inside, got others")
    return text


def _inflate(content: bytes, member: zipfile.ZipInfo, exchange: Exchange, path: str) -> bytes:
    """Inflate in one call, without the GIL; never more than was announced, whatever is inside."""
    header = content[member.header_offset : member.header_offset + _LOCAL_HEADER]
    start = member.header_offset + _LOCAL_HEADER
    start += int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    packed = memoryview(content)[start : start + member.compress_size]
    if member.compress_type == _STORED:
        return bytes(packed)
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, member.file_size + 1)
    except zlib.error as error:
        raise refuse(exchange, path, f"expected a zip that can be inflated ({error})") from error


def read_csv(text: bytes, layout: Layout, path: str) -> pl.DataFrame:
    """Read the taken columns of a CSV, with or without a header, with lines ended in either way.

    Returns:
        One row for each line, in order, none of them null; numbers are finite.

    Raises:
        PayloadError: another number of columns, or a value that is not what it should be; names line and field.

    Shape:
        Columns and types are those of ``layout.taken``.
    """
    text = text.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in text[:1_000]:
        text = text.replace(b"\r\n", b"\n")
    has_header = _has_header(text, layout, path)
    places = [layout.columns.index(name) for name in layout.taken]
    schema = {name: layout.taken[name][1] if name in layout.taken else pl.String() for name in layout.columns}
    if not text:
        return pl.DataFrame(schema=dict(layout.taken.values()))
    try:
        rows = pl.read_csv(text, has_header=False, skip_rows=int(has_header), schema=schema, columns=places)
    except pl.exceptions.NoDataError:
        rows = pl.DataFrame(schema={name: schema[name] for name in layout.taken})
    except pl.exceptions.PolarsError as error:
        raise _blame(text, layout, path, has_header=has_header) from error
    commas, lines = text.count(b","), len(rows) + has_header
    if commas != lines * (len(layout.columns) - 1) or sum(rows.null_count().row(0)):
        raise _blame(text, layout, path, has_header=has_header)
    _require_finite(rows, layout, path)
    return rows.rename({name: ours for name, (ours, _) in layout.taken.items()})


def _has_header(text: bytes, layout: Layout, path: str) -> bool:
    """A header names columns: it begins with a letter and holds no number where a number belongs."""
    first = text[: text.find(b"\n") if b"\n" in text else len(text)].decode(errors="replace")
    fields = first.split(",")
    if first and len(fields) != len(layout.columns):
        expected = f"{len(layout.columns)} columns ({', '.join(layout.columns)})"
        raise refuse(layout.exchange, path, f"line 1: expected {expected}, got {len(fields)}", first)
    numbers = [place for place, name in enumerate(layout.columns) if name in layout.taken]
    return bool(first) and not any(_is_number(fields[place]) for place in numbers)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _require_finite(rows: pl.DataFrame, layout: Layout, path: str) -> None:
    for column in rows.iter_columns():
        if column.dtype.is_float() and not (is_finite := np.isfinite(column.to_numpy())).all():
            row = int(is_finite.argmin())
            what = f"row {row}, field {column.name}: expected a finite number, got {column[row]}"
            raise refuse(layout.exchange, path, what)


def _blame(text: bytes, layout: Layout, path: str, *, has_header: bool) -> PayloadError:
    """Find the first line that is wrong; slow, for it looks at each as Python does."""
    for number, line in enumerate(text.decode(errors="replace").removesuffix("\n").split("\n"), start=1):
        fields = line.split(",")
        if len(fields) != len(layout.columns):
            what = f"line {number}: expected {len(layout.columns)} columns, got {len(fields)}"
            return refuse(layout.exchange, path, what, line)
        if number == 1 and has_header:
            continue
        for name, found in zip(layout.columns, fields, strict=True):
            if name in layout.taken and not _fits(found, layout.taken[name][1]):
                kind = "a whole number" if layout.taken[name][1].is_integer() else "a number"
                return refuse(layout.exchange, path, f"line {number}, field {name}: expected {kind}, got {found!r}")
    return refuse(layout.exchange, path, f"expected CSV with {len(layout.columns)} columns, got something else")


def _fits(text: str, dtype: pl.DataType) -> bool:
    if dtype == pl.String:
        return bool(text)
    return text.lstrip("-").isdigit() and len(text) < 19 if dtype.is_integer() else _is_number(text)


def to_answer(
    rows: pl.DataFrame, market: Market, received_at: datetime, path: str, closed: pl.Series | None = None
) -> pl.DataFrame:
    """Make the rows of a file a table of answers.

    Args:
        rows: From :func:`read_csv`; ``open_time`` in milliseconds or microseconds, whichever it is in each row.
        market: Whose candles.
        received_at: When the file was there.
        path: Of the file, for the error.
        closed: The exchange's own flag; None: all are, for a file is published after its end.

    Raises:
        PayloadError: a time that can be neither.

    Shape:
        Result: ``ANSWER_SCHEMA``, ``source`` is ``archive``; rows in the order of the file.
    """
    times = rows["open_time"].to_numpy()
    if len(times) and not (int(times.min()) >= 0 and int(times.max()) < _LAST_MICROSECONDS):
        row = int(((times < 0) | (times >= _LAST_MICROSECONDS)).argmax())
        raise refuse(market.exchange, path, f"row {row}, field open_time: expected a time, got {times[row]}")
    same = {
        "exchange": market.exchange.value,
        "symbol": market.symbol_key,
        "timeframe": Timeframe.M1.value,
        "open_time": pl.Series(np.where(times < FIRST_MICROSECONDS, times * 1_000, times)).cast(TIME),
        "closed": True if closed is None else closed,
        "source": "archive",
        "fetched_at": received_at,
    }
    return pl.DataFrame([_column(name, dtype, rows, same.get(name)) for name, dtype in ANSWER_SCHEMA.items()])


def _column(name: str, dtype: pl.DataType, rows: pl.DataFrame, value: object) -> pl.Series:
    if isinstance(value, pl.Series):
        return value.alias(name)
    if value is None and name in rows.columns:
        return rows[name]
    return pl.Series(name, [value], dtype=dtype).new_from_index(0, len(rows))


def refuse(exchange: Exchange, path: str, what: str, body: str = "") -> PayloadError:
    """Say what is wrong with a file."""
    return PayloadError(exchange.value, f"archive file {path}: {what}", body=body)
