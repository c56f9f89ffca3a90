"""Values of every type a column can have, as text and as JSON: what SQL can answer, a person and a program can read.

Times are ISO 8601, with ``Z`` where they are instants and with a fraction only where there is one; bytes are
hexadecimal; a list, struct or map inside a column is JSON. Not here: where it is written (``output``).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import polars as pl

from mdp.errors import InputError

_EPOCH = date(1970, 1, 1).toordinal()
_FIRST_DAY, _LAST_DAY = date.min.toordinal() - _EPOCH, date.max.toordinal() - _EPOCH
_PER_DAY = {"ms": 86_400 * 10**3, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}

# A sum of whole numbers is a DECIMAL in DuckDB: as a JSON number it keeps all its digits and is still a number.
_JSON = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


def as_text(rows: pl.DataFrame) -> pl.DataFrame:
    """Turn all that is not a number into text.

    Args:
        rows: Any frame.

    Returns:
        The same rows and names; integers and floats as they were, everything else text, nulls still null.

    Raises:
        InputError: names the column that cannot be written as text, and what to cast it to.
    """
    return rows.select(_text(column) for column in rows.iter_columns())


def as_json(rows: pl.DataFrame) -> bytes:
    """Encode rows as a JSON array of objects; a float that is no number (NaN, infinity) is null.

    Raises:
        InputError: names the column that cannot be written as JSON, and what to cast it to.
    """
    columns = [_json_values(column) for column in rows.iter_columns()]
    return _JSON.encode([dict(zip(rows.columns, row, strict=True)) for row in zip(*columns, strict=True)])


def _text(column: pl.Series) -> pl.Series:
    dtype = column.dtype
    if dtype.is_integer() or dtype.is_float() or dtype == pl.String:
        return column
    if dtype.is_nested():
        texts = [None if value is None else _JSON.encode(value).decode() for value in _nested_values(column)]
        return pl.Series(column.name, texts, dtype=pl.String)
    if dtype.is_temporal():
        return _time_text(column)
    if dtype == pl.Binary:
        return column.bin.encode("hex")
    if isinstance(dtype, pl.Decimal | pl.Categorical | pl.Enum | pl.Boolean | pl.Null):
        return column.cast(pl.String)
    raise _unwritable(column, str(dtype))


def _time_text(column: pl.Series) -> pl.Series:
    dtype = column.dtype
    if dtype == pl.Duration:
        return column.dt.to_string("iso")
    if dtype == pl.Time:
        return column.dt.to_string("%H:%M:%S%.f")
    # What DuckDB calls infinity is the largest number of microseconds; polars gives up the whole process over it.
    days = column.to_physical() // (_PER_DAY[dtype.time_unit] if isinstance(dtype, pl.Datetime) else 1)
    if not days.is_between(_FIRST_DAY, _LAST_DAY).all():
        raise _unwritable(column, "a time outside the years 1 to 9999")
    if not isinstance(dtype, pl.Datetime):
        return column.dt.to_string("%Y-%m-%d")
    if dtype.time_zone is None:
        return column.dt.to_string("%Y-%m-%dT%H:%M:%S%.f")
    return column.dt.convert_time_zone("UTC").dt.to_string("%Y-%m-%dT%H:%M:%S%.fZ")


def _json_values(column: pl.Series) -> Iterable[Any]:
    if column.dtype.is_nested():
        return _nested_values(column)
    if column.dtype == pl.Boolean:
        return column
    text = _text(column).to_list()
    return [None if one is None else Decimal(one) for one in text] if column.dtype.is_decimal() else text


def _nested_values(column: pl.Series) -> list[Any]:
    # By way of Arrow, which raises where polars ends the process: at a time that Python does not have.
    try:
        return [_plain(value) for value in column.to_arrow().to_pylist(maps_as_pydicts="strict")]
    except (ValueError, OverflowError, TypeError, KeyError, NotImplementedError) as error:
        raise _unwritable(column, f"{column.dtype} ({error})") from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        keys = (key if isinstance(key, str) else _JSON.encode(_plain(key)).decode().strip('"') for key in value)
        return dict(zip(keys, map(_plain, value.values()), strict=True))
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime):  # with nanoseconds it is a subclass that only knows its own isoformat
        return value.isoformat().replace("+00:00", "Z")
    return value.hex() if isinstance(value, bytes) else value


def _unwritable(column: pl.Series, got: str) -> InputError:
    return InputError(
        f"column {column.name}", got=got, expected="what text can hold; cast it, for example to VARCHAR, in the query"
    )
