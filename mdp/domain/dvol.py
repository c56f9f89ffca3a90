"""The volatility index by the minute, made from the exchange's closed hours.

Not here: judging the hours (``rules``), fetching them (``exchanges``).
"""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from mdp.domain.candles import DVOL_SCHEMA, TIME
from mdp.domain.interval import Interval
from mdp.domain.timeframe import Timeframe

HOUR = Timeframe.H1


def hours_needed(window: Interval, max_age_minutes: int) -> Interval:
    """Return the window of hours from which every minute of ``window`` can be made.

    The first minute may take its value from an hour that closed up to ``max_age_minutes`` before it.
    """
    earliest = HOUR.floor(window.start - timedelta(minutes=max_age_minutes))
    return Interval(earliest, window.end)


def minutes_from_hours(
    hours: pl.DataFrame, window: Interval, *, max_age_minutes: int, ingested_at: datetime
) -> pl.DataFrame:
    """Give each minute the close of the last hour that was closed when the minute opened.

    Args:
        hours: Accepted hours of one index, sorted by open time, unique; those of ``hours_needed(window)``.
        window: Minutes wanted.
        max_age_minutes: A minute that opens this long or longer after the last closed hour has no row.
        ingested_at: Written into every row.

    Returns:
        Minutes that have a value; a minute without one is absent, never filled across an outage.

    Shape:
        Accepted ``RAW_SCHEMA`` in, ``DVOL_SCHEMA`` out, sorted by ``open_time``, unique.
    """
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
            pl.lit(ingested_at, dtype=TIME).alias("ingested_at"),
        )
        .select(DVOL_SCHEMA.names())
    )
