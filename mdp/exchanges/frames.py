"""From the rows of one answer to a table of ours, and the error that says which field of which row is wrong. Pure.

Not here: what an exchange calls its fields and how it wraps its rows (each exchange's ``parse``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Annotated, TypeVar

import msgspec
import numpy as np
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

_PLACE = re.compile(r" - at `(?P<path>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field")
_INDEX = re.compile(r"\[(\d+)\]")

T = TypeVar("T")


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

    open_times_ms: Sequence[int]
    numbers: Mapping[str, Sequence[float]]
    trades: Sequence[int] | None = None
    closed: Sequence[bool] | None = None


def decode(body: str | bytes, decoder: msgspec.json.Decoder[T], exchange: Exchange, fields: Sequence[str]) -> T:
    """Read a body as what an exchange is known to answer.

    Args:
        body: As received.
        decoder: Knows the shape.
        exchange: Who answered, for the error.
        fields: Names of the fields of a row, for the error.

    Raises:
        PayloadError: not JSON, or cut off (transient: a proxy or a broken connection); or JSON of another shape, with
            the row and field that differ (not transient).
    """
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # The first difference is what is complained of; further on the body may be cut off, which explains it better.
        broken = _find_break(body)
        what = describe_place(str(error), fields) if broken is None else f"expected JSON, got something else ({broken})"
        raise PayloadError(exchange.value, what, body=as_text(body), is_transient=broken is not None) from error


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
        series[name] = pl.Series(name, values, dtype=pl.Float64)
        _require_finite(series[name], asked.exchange)
    if columns.trades is not None:
        series["trades"] = pl.Series("trades", columns.trades, dtype=pl.Int64)
    if columns.closed is not None:
        series["closed"] = pl.Series("closed", columns.closed, dtype=pl.Boolean)
    else:
        closed = series["open_time"] <= asked.settled_before - asked.timeframe.duration
        series["closed"] = closed.alias("closed")
    same = {
        "exchange": asked.exchange.value,
        "symbol": asked.market.symbol_key,
        "timeframe": asked.timeframe.value,
        "source": "rest",
        "fetched_at": asked.answered_at,
    }
    return pl.DataFrame(
        [
            series[name] if name in series else _repeat(name, same.get(name), rows, dtype)
            for name, dtype in ANSWER_SCHEMA.items()
        ]
    )


@lru_cache(maxsize=256)
def _one(name: str, value: object, dtype: pl.DataType) -> pl.Series:
    return pl.Series(name, [value], dtype=dtype)


def _repeat(name: str, value: object, rows: int, dtype: pl.DataType) -> pl.Series:
    # Ten times quicker than `pl.repeat` or a literal, which go through the query engine for each page.
    return _one(name, value, dtype).new_from_index(0, rows)


def to_times(milliseconds: Sequence[int]) -> pl.Series:
    """Make a column of times of whole milliseconds since the epoch."""
    return (pl.Series("open_time", milliseconds, dtype=pl.Int64) * 1_000).cast(TIME)


def from_milliseconds(milliseconds: int) -> datetime:
    """Return the UTC time of whole milliseconds since the epoch."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def join_pages(pages: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Put the pages of a window together, in the order of ``open_time``, ties as received."""
    frames = list(pages)
    if not frames:
        return pl.DataFrame(schema=ANSWER_SCHEMA)
    return pl.concat(frames, rechunk=True).sort("open_time", maintain_order=True)


def _require_finite(values: pl.Series, exchange: Exchange) -> None:
    is_finite = np.isfinite(values.to_numpy())
    if is_finite.all():
        return
    row = int(is_finite.argmin())
    raise PayloadError(exchange.value, f"row {row}, field {values.name}: expected a finite number, got {values[row]}")
