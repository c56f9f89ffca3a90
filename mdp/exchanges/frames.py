"""From the rows of one answer to a table of ours, and the error that says which field of which row is wrong. Pure.

Not here: what an exchange calls its fields and how it wraps its rows (each exchange's ``parse``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from mdp.domain.candles import RAW_SCHEMA, TIME
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.errors import PayloadError

ANSWER_SCHEMA = pl.Schema({name: dtype for name, dtype in RAW_SCHEMA.items() if name != "window_start"})
"""What a source returns: ``RAW_SCHEMA`` without the window it was asked for."""

# A bound that separates milliseconds (13 digits today) from microseconds (16): an exchange that changes its unit
# must be noticed, not stored as a candle of the year 52000.
Milliseconds = Annotated[int, msgspec.Meta(ge=0, lt=100_000_000_000_000)]
"""A time on the wire: whole milliseconds since the epoch."""

Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""A number of trades."""

_MICROSECOND = timedelta(microseconds=1)
_PLACE = re.compile(r" - at `(?P<path>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field")
_INDEX = re.compile(r"\[(\d+)\]")

T = TypeVar("T")
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Asked:
    """What an answer answers.

    Attributes:
        market: Whose candles.
        timeframe: Their length.
        answered_at: Our time when the answer was there.
        settled_before: A candle that closes at or before this is closed, where the exchange itself does not say.
    """

    market: Market
    timeframe: Timeframe
    answered_at: datetime
    settled_before: datetime

    @property
    def exchange(self) -> Exchange:
        """Who answered."""
        return self.market.exchange


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of one answer; None for what an exchange does not give.

    Attributes:
        open_times_ms: Milliseconds since the epoch.
        numbers: ``open``, ``high``, ``low``, ``close`` and, where given, ``volume`` and ``quote_volume``.
        trades: Number of trades.
        closed: The exchange's own flag.
    """

    open_times_ms: IntArray
    numbers: Mapping[str, FloatArray]
    trades: IntArray | None = None
    closed: BoolArray | None = None


class Row(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A row of an answer: an array of exactly the fields of the subclass, in order.

    Not a tuple, because a thousand new tuples a page keep Python's garbage collector busy for a fifth of the time that
    a page takes; these it does not look at, and they hold nothing that could refer back to them.
    """


def as_tuple(row: type[Row]) -> Any:
    """Return the type of the same row as a tuple, whose decoder names the place of every mistake.

    msgspec does not say which row it is that has too many fields.
    """
    return tuple[tuple(field.type for field in msgspec.structs.fields(row))]  # type: ignore[misc]


def floats_of(rows: Sequence[Row], name: str) -> FloatArray:
    """Return a field of all rows."""
    return np.fromiter(map(attrgetter(name), rows), dtype=np.float64, count=len(rows))


def integers_of(rows: Sequence[Row], name: str) -> IntArray:
    """Return a field of all rows."""
    return np.fromiter(map(attrgetter(name), rows), dtype=np.int64, count=len(rows))


def decode(
    body: str | bytes,
    decoder: msgspec.json.Decoder[T],
    exchange: Exchange,
    fields: Sequence[str] = (),
    explainer: msgspec.json.Decoder[Any] | None = None,
) -> T:
    """Read a body as what an exchange is known to answer.

    Args:
        body: As received.
        decoder: Knows the shape.
        exchange: Who answered, for the error.
        fields: Names of the fields of a row, for the error.
        explainer: Knows the same shape, and says better than ``decoder`` where a body differs from it.

    Raises:
        PayloadError: not JSON, or cut off (transient: a proxy or a broken connection); or JSON of another shape, with
            the row and field that differ (not transient).
    """
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # The first difference is what is complained of; further on the body may be cut off, which explains it better.
        broken = _find_break(body)
        what = f"expected JSON, got something else ({broken})"
        if broken is None:
            what = describe_place(str((explainer and _complaint(body, explainer)) or error), fields)
        raise PayloadError(exchange.value, what, body=as_text(body), is_transient=broken is not None) from error


def _complaint(body: str | bytes, decoder: msgspec.json.Decoder[Any]) -> Exception | None:
    try:
        decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return error
    return None


def _find_break(body: str | bytes) -> Exception | None:
    try:
        msgspec.json.decode(body)
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return error
    return None


def describe_place(complaint: str, fields: Sequence[str]) -> str:
    """Say in words where a shape differs.

    Examples:
        >>> describe_place("Expected `float`, got `null` - at `$[3][1]`", ("open_time", "open"))
        'row 3, field open: expected `float`, got `null`'
    """
    match = _PLACE.search(complaint)
    text = _MISSING.sub("Expected an object with the field", _PLACE.sub("", complaint))
    text = text[:1].lower() + text[1:]
    if match is None:
        return text
    indices = [int(index) for index in _INDEX.findall(match["path"])]
    if not indices:
        return f"field {match['path'].removeprefix('$.')}: {text}"
    row, *rest = indices
    if not rest:
        return f"row {row}: {text}, its fields being {', '.join(fields)}"
    return f"row {row}, field {fields[rest[0]] if rest[0] < len(fields) else rest[0]}: {text}"


def as_text(body: str | bytes) -> str:
    """Return the beginning of a body as text, enough for an error message."""
    return body[:1000].decode(errors="replace") if isinstance(body, bytes) else body[:1000]


def to_frame(columns: Columns, asked: Asked) -> pl.DataFrame:
    """Make a table of the columns of one answer, in the order received; nothing is filtered.

    Raises:
        PayloadError: a number that is not finite; names row and field.

    Shape:
        Result: ``ANSWER_SCHEMA``.
    """
    rows = len(columns.open_times_ms)
    series = {"open_time": to_times(columns.open_times_ms)}
    for name, values in columns.numbers.items():
        _require_finite(name, values, asked.exchange)
        series[name] = pl.Series(name, values)
    if columns.trades is not None:
        series["trades"] = pl.Series("trades", columns.trades)
    if columns.closed is not None:
        series["closed"] = pl.Series("closed", columns.closed)
    else:
        closed = series["open_time"] <= asked.settled_before - asked.timeframe.duration
        series["closed"] = closed.alias("closed")
    same = {
        "exchange": asked.exchange.value,
        "symbol": asked.market.symbol_key,
        "timeframe": asked.timeframe.value,
        "source": "rest",
    }
    fetched_at = np.full(rows, (asked.answered_at - EPOCH) // _MICROSECOND, dtype=np.int64)
    series["fetched_at"] = pl.Series("fetched_at", fetched_at).cast(TIME)
    return pl.DataFrame(
        [
            series[name] if name in series else _repeat(name, same.get(name), rows, dtype)
            for name, dtype in ANSWER_SCHEMA.items()
        ]
    )


@lru_cache
def _one(name: str, value: object, dtype: pl.DataType) -> pl.Series:
    return pl.Series(name, [value], dtype=dtype)


def _repeat(name: str, value: object, rows: int, dtype: pl.DataType) -> pl.Series:
    # Ten times quicker than `pl.repeat` or a literal, which go through the query engine for each page.
    return _one(name, value, dtype).new_from_index(0, rows)


def to_times(milliseconds: IntArray) -> pl.Series:
    """Make a column of times of whole milliseconds since the epoch."""
    return pl.Series("open_time", milliseconds * 1_000).cast(TIME)


def from_milliseconds(milliseconds: int) -> datetime:
    """Return the UTC time of whole milliseconds since the epoch."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def join_pages(pages: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Put the pages of a window together, in the order of ``open_time``, ties as received."""
    frames = list(pages)
    if not frames:
        return pl.DataFrame(schema=ANSWER_SCHEMA)
    rows = pl.concat(frames, rechunk=True)
    # Looking costs a twentieth of sorting what is in order.
    return rows if rows["open_time"].is_sorted() else rows.sort("open_time", maintain_order=True)


def _require_finite(name: str, values: FloatArray, exchange: Exchange) -> None:
    is_finite = np.isfinite(values)
    if is_finite.all():
        return
    row = int(is_finite.argmin())
    raise PayloadError(exchange.value, f"row {row}, field {name}: expected a finite number, got {values[row]}")
