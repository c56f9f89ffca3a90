"""What an exchange's own longer candle says of minutes that it did not give: was there trading in them?

Not here: asking for it (``pipeline``), what follows for a gap (``sightings``).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

import polars as pl

from mdp.domain.interval import Interval, format_time
from mdp.domain.sightings import Finding
from mdp.domain.timeframe import Timeframe

OPINION_LENGTH = Timeframe.M5
"""The longer candle that is asked for: short enough that most of its minutes are missing, or none."""

_ABSENT = "the exchange has no 5m candle there either"
_IDLE = "the exchange's 5m candles there have volume 0"


class Opinion(NamedTuple):
    """What longer candles say of a stretch of missing minutes."""

    interval: Interval
    finding: Finding
    detail: str


class _Candle(NamedTuple):
    open: float
    high: float
    low: float
    close: float
    volume: float


def second_opinions(gap: Interval, minutes: pl.DataFrame, longer: pl.DataFrame) -> list[Opinion]:
    """Tell what the exchange's own 5m candles say of a gap.

    A minute without a candle had no trades where the longer candle over it holds the volume of the minutes that are
    there, to 8 decimals, and prices that fit theirs. One that holds more tells that minutes were lost.

    Args:
        gap: Slots without a candle; bounds on the grid of minutes.
        minutes: The minutes stored around it, all of the 5m candles that it touches; any order, unique.
        longer: What the exchange answered for these 5m candles; any order, repetitions allowed, the last one counts.

    Returns:
        Ascending; they tile the gap, but for slots whose longer candle had not closed.

    Shape:
        ``CANDLE_SCHEMA`` and the answer's columns of ``RAW_SCHEMA``.
    """
    told: dict[datetime, tuple[_Candle, bool]] = {
        open_time: (_Candle(*values), closed)
        for open_time, *values, closed in longer.select("open_time", *_Candle._fields, "closed").iter_rows()
    }
    opinions = [opinion for part in gap.split(OPINION_LENGTH.duration) for opinion in _of_part(part, minutes, told)]
    joined: list[Opinion] = []
    for _, same in groupby(opinions, key=lambda one: one[1:]):
        run = list(same)
        for one in run:
            last = joined[-1] if joined else None
            if last and one is not run[0] and last.interval.end == one.interval.start:
                joined[-1] = one._replace(interval=Interval(last.interval.start, one.interval.end))
            else:
                joined.append(one)
    return joined


def _of_part(part: Interval, minutes: pl.DataFrame, told: dict[datetime, tuple[_Candle, bool]]) -> Iterator[Opinion]:
    start = OPINION_LENGTH.floor(part.start)
    if start not in told:
        yield Opinion(part, Finding.ABSENT_AT_5M, _ABSENT)
        return
    longer, is_closed = told[start]
    if not is_closed:
        return
    bucket = Interval(start, start + OPINION_LENGTH.duration)
    mine = minutes.filter(pl.col("open_time").is_between(bucket.start, bucket.end, closed="left")).sort("open_time")
    stored = float(mine["volume"].sum())
    if not longer.volume and mine.is_empty():
        yield Opinion(part, Finding.NO_TRADES, _IDLE)
    elif abs(longer.volume - stored) > 5e-9 + 1e-12 * stored:
        detail = (
            f"the exchange's 5m candle of {format_time(start)} has volume {longer.volume!r}, the minutes {stored!r}"
        )
        yield Opinion(part, Finding.TRADED, detail)
    elif not _prices_fit(mine, longer, bucket):
        detail = f"the exchange's 5m candle of {format_time(start)} has other prices than the minutes"
        yield Opinion(part, Finding.TRADED, detail)
    else:
        detail = f"the exchange's 5m candle of {format_time(start)} has volume {longer.volume!r}, as the minutes have"
        yield Opinion(part, Finding.NO_TRADES, detail)


def _prices_fit(mine: pl.DataFrame, longer: _Candle, bucket: Interval) -> bool:
    """Tell whether the minutes that are there can be all that the longer candle is made of."""
    if mine.is_empty():
        return True
    first, last = mine.row(0, named=True), mine.row(-1, named=True)
    has_first = first["open_time"] == bucket.start
    has_last = last["open_time"] == bucket.end - Timeframe.M1.duration
    highest, lowest = max(mine["high"].to_list()), min(mine["low"].to_list())
    return (
        longer.low <= lowest
        and highest <= longer.high
        and (not has_first or first["open"] == longer.open)
        and (not has_last or last["close"] == longer.close)
    )
