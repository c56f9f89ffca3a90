"""The volatility index by the minute, made from the exchange's closed hours.

Not here: judging the hours (``rules``), fetching them (``exchanges``).
"""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from mdp.domain.candles import CANDLE_SCHEMA, DVOL_SCHEMA
from mdp.domain.interval import Interval
from mdp.domain.revisions import find_revisions as find_candle_revisions
from mdp.domain.timeframe import Timeframe

HOUR = Timeframe.H1


def hours_needed(window: Interval, max_age_minutes: int) -> Interval:
    """Return the window of hours from which every minute of ``window`` can be made.

    The first minute may take its value from an hour that closed up to ``max_age_minutes`` before it.
    """
    earliest = HOUR.floor(window.start - timedelta(minutes=max_age_minutes))
    return Interval(earliest, window.end)


def minutes_from_hours(hours: pl.DataFrame, window: Interval, *, max_age_minutes: int) -> pl.DataFrame:
    """Give each minute the close of the last hour that was closed when the minute opened.

    Args:
        hours: Accepted hours of one index, sorted by open time, unique; those of ``hours_needed(window)``.
        window: Minutes wanted.
        max_age_minutes: A minute that opens this long or longer after the last closed hour has no row.

    Returns:
        Minutes that have a value; a minute without one is absent, never filled across an outage.

    Raises:
        ValueError: a bound of ``window`` is off the grid of minutes.

    Shape:
        Accepted ``RAW_SCHEMA`` in, ``DVOL_SCHEMA`` out, sorted by ``open_time``, unique.
    """
    if not (Timeframe.M1.is_on_grid(window.start) and Timeframe.M1.is_on_grid(window.end)):
        raise ValueError(f"window: expected bounds on the grid of minutes, got {window}")
    if hours.is_empty() or window.is_empty:
        return pl.DataFrame(schema=DVOL_SCHEMA)
    minutes = pl.DataFrame(
        {"open_time": pl.datetime_range(window.start, window.end, "1m", closed="left", time_unit="us", eager=True)}
    )
    closes = hours.select(
        (pl.col("open_time") + HOUR.duration).alias("hour_close_time"),
        pl.col("open_time").alias("hour_open_time"),
        pl.col("close").alias("dvol"),
        "source",
        pl.col("fetched_at").alias("ingested_at"),
    )
    age = (pl.col("open_time") - pl.col("hour_close_time")).dt.total_minutes().cast(pl.Int32)
    return (
        minutes.join_asof(closes, left_on="open_time", right_on="hour_close_time", strategy="backward")
        .with_columns(age.alias("age_minutes"))
        .filter(pl.col("age_minutes") < max_age_minutes)
        .with_columns(
            pl.lit(hours["exchange"][0]).alias("exchange"),
            pl.lit(hours["symbol"][0]).alias("symbol"),
            pl.lit(Timeframe.M1.value).alias("timeframe"),
        )
        .select(DVOL_SCHEMA.names())
    )


def find_revisions(stored: pl.DataFrame, new: pl.DataFrame, *, revised_at: datetime) -> pl.DataFrame:
    """List the hours whose close, as stored minutes carry it, differs in the new minutes or is gone.

    Args:
        stored: Minutes that are stored for a window.
        new: Minutes that will replace them, of the same window.
        revised_at: When the new ones came.

    Shape:
        ``DVOL_SCHEMA`` in, ``REVISION_SCHEMA`` out: timeframe 1h, only ``old_close`` and ``new_close`` are set.
    """
    return find_candle_revisions(_hours_of(stored), _hours_of(new), revised_at=revised_at)


def _hours_of(minutes: pl.DataFrame) -> pl.DataFrame:
    """The hours behind some minutes, as candles of which only the close is known."""
    known = {
        "timeframe": pl.lit(HOUR.value),
        "open_time": pl.col("hour_open_time"),
        "close": pl.col("dvol"),
    }
    hours = minutes.unique("hour_open_time", keep="first", maintain_order=True)
    return hours.select(
        known[name].alias(name) if name in known
        else pl.col(name) if name in hours.columns
        else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in CANDLE_SCHEMA.items()
    )  # fmt: skip
