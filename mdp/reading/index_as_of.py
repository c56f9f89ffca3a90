"""A volatility index as it was stored at an earlier time, or a refusal where that cannot be told.

What is revised of an index is the close of a candle, which many minutes carry; and a minute may carry another candle
than it did when one came late. So a day is given only where its evidence says what it was: it was not asked again
since, or it says now what it said then, or only closes changed, which are recorded, while no candle came or went.
What a feed received live is given by its time of receipt until the day is collected; from then on the day counts from
when it was collected first.
Not here: candles (``domain.revisions``).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import polars as pl

from mdp.domain.candles import DVOL_SCHEMA
from mdp.domain.dvol import LENGTHS, candle_minutes
from mdp.domain.interval import DAY, Interval, format_time
from mdp.domain.market import Market
from mdp.domain.revisions import each_change_once
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError
from mdp.ports import DVOL, FETCHES, GAP_SIGHTINGS, REVISIONS, CandleStore, Slice

_KEY = ["length", "hour_open_time"]


def index_as_of(store: CandleStore, market: Market, window: Interval, moment: datetime) -> pl.DataFrame:
    """Return the minutes of an index that were stored at a moment.

    Args:
        store: Where the minutes are, what was revised, and when each day was asked for.
        market: A volatility index.
        window: Any bounds.
        moment: When.

    Shape:
        ``DVOL_SCHEMA``, sorted by ``open_time``, unique. ``ingested_at`` of a day that was asked again and said the
        same may lie after ``moment``.

    Raises:
        InputError: what is kept does not tell what a day was; the message says which day, and from when on it is known.
    """
    days = Interval(Timeframe.D1.floor(window.start), Timeframe.D1.floor(window.end + DAY - datetime.resolution))
    # A minute may carry a candle of the day before. Minutes first: a writer records a revision before it stores them.
    stored = store.read(DVOL, Slice(market, (Timeframe.M1,), days))
    wide = Slice(market, LENGTHS, Interval(days.start - 2 * DAY, days.end))
    revisions = each_change_once(store.read(REVISIONS, wide))
    later = revisions.filter(pl.col("revised_at") > moment)
    is_inside = pl.col("open_time").is_between(window.start, window.end, closed="left")
    if later.is_empty() and (stored["ingested_at"] <= moment).all():
        return stored.filter(is_inside)
    fetches = store.read(FETCHES, Slice(market, LENGTHS, days)).sort("fetched_at", maintain_order=True)
    seen = Slice(market, (Timeframe.H1,), Interval(days.start - 2 * DAY, days.end))
    missed = store.read(GAP_SIGHTINGS, seen).filter(pl.col("fetched_at") <= moment)
    found = [DVOL_SCHEMA.to_frame()]
    for day in days.days():
        rows = stored.filter(pl.col("open_time").is_between(day.start, day.end, closed="left"))
        asked = fetches.filter(window_start=day.start)
        then = asked.filter(pl.col("fetched_at") <= moment)
        if then.is_empty():
            # Nobody had asked for it: what a feed told of it is known as long as nobody has, then since when is not.
            received = _undo(rows, later).filter(pl.col("ingested_at") <= moment)
            found.append(received if asked.is_empty() else received.clear())
            continue
        undone, fetched = _undo(rows, later), _Fetched(*(one.row(-1, named=True) for one in (then, asked)))
        if not fetched.said_the_same and not _is_known(day, undone, fetched, later, missed, moment):
            since = format_time(fetched.now["fetched_at"])
            expected = f"{since} or later: what is kept does not tell what {market} was on {day.start.date()} before"
            raise InputError("as_of", got=format_time(moment), expected=expected)
        found.append(undone)
    return pl.concat(found).filter(is_inside)


class _Fetched(NamedTuple):
    """The last fetch of a day by then, and the last one of all."""

    then: dict[str, Any]
    now: dict[str, Any]

    @property
    def said_the_same(self) -> bool:
        return all(self.then[name] == self.now[name] for name in ("timeframe", "digest"))

    @property
    def said_as_much(self) -> bool:
        return all(self.then[name] == self.now[name] for name in ("timeframe", "rows"))


def _is_known(
    day: Interval,
    undone: pl.DataFrame,
    fetched: _Fetched,
    later: pl.DataFrame,
    missed: pl.DataFrame,
    moment: datetime,
) -> bool:
    """Tell whether the same candles were there, so that only their closes differed."""
    gone = later.filter(pl.col("new_close").is_null() & pl.col("open_time").is_between(day.start - DAY, day.end))
    if not gone.is_empty() or not fetched.said_as_much:
        return False
    # A candle that says what it said is received again with its day. An hour that was not there had been seen missing.
    # Where it is not known when a close was received, it counts as received in time, as for candles.
    again = undone.filter(pl.col("ingested_at") > moment)["hour_open_time"].unique()
    if fetched.now["timeframe"] != Timeframe.H1.value:
        return again.is_empty()
    was_missing = [
        again.is_between(start, end, closed="left").any() for start, end in missed.select("start", "end").iter_rows()
    ]
    return not any(was_missing)


def _undo(rows: pl.DataFrame, later: pl.DataFrame) -> pl.DataFrame:
    """Give each minute the close that its candle had before the first of the later revisions."""
    length = {timeframe.value: timeframe.minutes for timeframe in LENGTHS}
    first = later.sort("revised_at", maintain_order=True).unique(["timeframe", "open_time"], keep="first")
    old = first.select(
        pl.col("timeframe").replace_strict(length, return_dtype=pl.Int64).alias("length"),
        pl.col("open_time").alias("hour_open_time"),
        pl.col("old_close").alias("dvol_then"),
        pl.col("old_source").alias("source_then"),
        pl.col("old_ingested_at").alias("ingested_at_then"),
        pl.lit(value=True).alias("is_undone"),
    )
    names = ("dvol", "source", "ingested_at")
    return (
        rows.with_columns(candle_minutes().cast(pl.Int64).alias("length"))
        .join(old, on=_KEY, how="left", maintain_order="left")
        .with_columns(
            pl.when("is_undone").then(pl.col(f"{name}_then")).otherwise(pl.col(name)).alias(name) for name in names
        )
        .select(DVOL_SCHEMA.names())
    )
