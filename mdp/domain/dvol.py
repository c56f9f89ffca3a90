"""The volatility index by the minute, made from the exchange's closed candles: hours, or minutes.

Not here: judging the candles (``rules``), fetching them (``exchanges``), which length is wanted (``config``).
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mdp.domain.candles import CANDLE_SCHEMA, DVOL_SCHEMA, REVISION_SCHEMA, TIME
from mdp.domain.interval import Interval
from mdp.domain.revisions import find_revisions as find_candle_revisions
from mdp.domain.rules import Asked
from mdp.domain.timeframe import EPOCH, Timeframe

LENGTHS: tuple[Timeframe, ...] = (Timeframe.M1, Timeframe.H1)
"""Lengths of the candles from which the index may be made."""

Ints = NDArray[np.int64]

_MINUTE_US = Timeframe.M1.microseconds


def candles_needed(window: Interval, candle: Timeframe, max_age_minutes: int) -> Interval:
    """Return the window of candles from which every minute of ``window`` can be made.

    The first minute may take its value from a candle that closed up to ``max_age_minutes`` before it.

    Args:
        window: Minutes wanted.
        candle: Length of the candles, one of ``LENGTHS``.
        max_age_minutes: A minute that opens this long or longer after the last closed candle has no value.
    """
    earliest = candle.floor(window.start - timedelta(minutes=max_age_minutes))
    return Interval(earliest, window.end)


def minutes_from_candles(
    candles: pl.DataFrame, candle: Timeframe, window: Interval, *, max_age_minutes: int
) -> pl.DataFrame:
    """Give each minute the close of the last candle that was closed when the minute opened.

    Args:
        candles: Accepted candles of one index, sorted by open time, unique; those of ``candles_needed(window, …)``.
        candle: Their length, one of ``LENGTHS``.
        window: Minutes wanted.
        max_age_minutes: A minute that opens this long or longer after the last closed candle has no row.

    Returns:
        Minutes that have a value; a minute without one is absent, never filled across an outage.

    Raises:
        ValueError: a bound of ``window`` is off the grid of minutes.

    Shape:
        Accepted ``RAW_SCHEMA`` in, ``DVOL_SCHEMA`` out, sorted by ``open_time``, unique.
    """
    if not (Timeframe.M1.is_on_grid(window.start) and Timeframe.M1.is_on_grid(window.end)):
        raise ValueError(f"window: expected bounds on the grid of minutes, got {window}")
    opened = candles["open_time"].to_physical().to_numpy()
    closed = opened // _MINUTE_US + candle.minutes
    first, minutes = _minutes_carried(closed, window, max_age_minutes)
    # Each candle is written once for each minute that carries it: no search, and no table of empty minutes.
    place = np.cumsum(minutes) - minutes
    age = np.repeat((first - closed - place).astype(np.int32), minutes)
    age += np.arange(len(age), dtype=np.int32)
    open_time = np.repeat(first - place, minutes)
    open_time += np.arange(len(age))
    open_time *= _MINUTE_US
    carried = pl.DataFrame(
        {
            "open_time": pl.Series(open_time).cast(TIME),
            "hour_open_time": pl.Series(np.repeat(opened, minutes)).cast(TIME),
            "dvol": np.repeat(candles["close"].to_numpy(), minutes),
            "age_minutes": age,
        },
        schema_overrides={"dvol": pl.Float64()},
    )
    return carried.with_columns(
        *(pl.lit(candles[name].first(), dtype=pl.String()).alias(name) for name in ("exchange", "symbol")),
        pl.lit(Timeframe.M1.value).alias("timeframe"),
        _repeated(candles["source"], minutes),
        _repeated(candles["fetched_at"], minutes).alias("ingested_at"),
    ).select(DVOL_SCHEMA.names())


def _minutes_carried(closed: Ints, window: Interval, max_age_minutes: int) -> tuple[Ints, Ints]:
    """The first minute that carries each candle, and how many do; times are minutes since the epoch.

    A candle speaks from its close until the next one closes, or until it is too old.
    """
    start, end = ((moment - EPOCH) // Timeframe.M1.duration for moment in (window.start, window.end))
    first = np.maximum(closed, start)
    until = np.minimum(np.append(closed[1:], end), closed + max_age_minutes)
    return first, np.maximum(np.minimum(until, end) - first, 0)


def _repeated(values: pl.Series, times: Ints) -> pl.Expr | pl.Series:
    """A column in which each value stands so many times; a column of one value costs nothing."""
    if values.eq_missing(values.first()).all():
        return pl.lit(values.first(), dtype=values.dtype).alias(values.name)
    return values.gather(pl.Series(np.repeat(np.arange(len(values), dtype=np.uint32), times)))


def find_revisions(stored: pl.DataFrame, candles: pl.DataFrame, asked: Asked, *, revised_at: datetime) -> pl.DataFrame:
    """List the candles whose close, as stored minutes carry it, is another one now or is gone.

    A stored minute tells by itself how long the candle was that it carries. Candles of another length than asked for,
    stored before the resolution was changed, are left out: they say nothing about those of this length. So are
    candles from before what was asked for, stored when a greater age was allowed.

    Args:
        stored: Minutes that are stored for a window.
        candles: Accepted candles from which the minutes of that window are made now.
        asked: The window and the length of ``candles``.
        revised_at: When they came.

    Shape:
        ``DVOL_SCHEMA`` and accepted ``RAW_SCHEMA`` in, ``REVISION_SCHEMA`` out: of the values only ``old_close`` and
        ``new_close`` are set; ``timeframe`` is the length of the candle.
    """
    is_compared = (candle_minutes() == asked.timeframe.minutes) & (pl.col("hour_open_time") >= asked.window.start)
    old = stored.filter(is_compared).unique("hour_open_time", keep="first", maintain_order=True)
    if old.is_empty():
        return pl.DataFrame(schema=REVISION_SCHEMA)
    return find_candle_revisions(
        _closes(old, asked.timeframe, open_time="hour_open_time", close="dvol", received_at="ingested_at"),
        _closes(candles, asked.timeframe, open_time="open_time", close="close", received_at="fetched_at"),
        revised_at=revised_at,
    )


def candle_minutes() -> pl.Expr:
    """The length in minutes of the candle that a stored minute carries, as its times tell it."""
    return (pl.col("open_time") - pl.col("hour_open_time")).dt.total_minutes() - pl.col("age_minutes")


def _closes(rows: pl.DataFrame, candle: Timeframe, *, open_time: str, close: str, received_at: str) -> pl.DataFrame:
    """Candles of which only the close is known: Deribit's other prices are not what a minute carries."""
    known = {
        "exchange": pl.col("exchange"),
        "symbol": pl.col("symbol"),
        "timeframe": pl.lit(candle.value),
        "open_time": pl.col(open_time),
        "close": pl.col(close),
        "source": pl.col("source"),
        "ingested_at": pl.col(received_at),
    }
    return rows.select(known.get(name, pl.lit(None, dtype=dtype)).alias(name) for name, dtype in CANDLE_SCHEMA.items())
