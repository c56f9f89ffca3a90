"""What an exchange's own longer candle says of minutes that it did not give: was there trading in them?

Not here: asking for it (``pipeline``), what follows for a gap (``sightings``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import polars as pl

from mdp.domain.amounts import slack
from mdp.domain.candles import TIME
from mdp.domain.interval import Interval, format_time
from mdp.domain.rules import RULES, Asked
from mdp.domain.sightings import Finding
from mdp.domain.timeframe import EPOCH, Timeframe

OPINION_LENGTH = Timeframe.M5
"""The longer candle that is asked for: short enough that most of its minutes are missing, or none."""

_ABSENT = "the exchange has no 5m candle there either"
_IDLE = "the exchange's 5m candles there have volume 0"


_ABOUT_PLACE = ("open_time_is_on_grid", "open_time_is_inside_window")
"""Rules about where a row stands, not about what it holds."""


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


class _Minute(NamedTuple):
    open_time: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float | None


def second_opinions(gaps: Iterable[Interval], minutes: pl.DataFrame, longer: pl.DataFrame) -> list[Opinion]:
    """Tell what the exchange's own 5m candles say of some gaps.

    A minute without a candle had no trades where the longer candle over it holds the volume of the minutes that are
    there, to 8 decimals, and prices that fit theirs. One that holds more tells that minutes were lost.

    Args:
        gaps: Slots without a candle, ascending, disjoint; bounds on the grid of minutes.
        minutes: The minutes stored around them, all of the 5m candles that they touch; any order, unique.
        longer: What the exchange answered for these 5m candles; any order, repetitions allowed, the last one counts.

    Returns:
        Ascending; they tile the gaps, but for slots whose longer candle had not closed, has no volume or breaks a rule:
        such a candle says nothing.

    Shape:
        ``CANDLE_SCHEMA`` and the answer's columns of ``RAW_SCHEMA``.
    """
    parts = [part for gap in gaps for part in gap.split(OPINION_LENGTH.duration)]
    told, stored = _told(longer), _minutes_by_bucket(minutes, {OPINION_LENGTH.floor(part.start) for part in parts})
    joined: list[Opinion] = []
    for one in (opinion for part in parts for opinion in _of_part(part, stored, told)):
        last = joined[-1] if joined else None
        if last and last[1:] == one[1:] and last.interval.end == one.interval.start:
            joined[-1] = one._replace(interval=Interval(last.interval.start, one.interval.end))
        else:
            joined.append(one)
    return joined


def _told(longer: pl.DataFrame) -> dict[datetime, _Candle | None]:
    """The longer candles by their open times; None for one that says nothing."""
    asked = Asked(Interval(EPOCH, EPOCH), OPINION_LENGTH)
    rules = [rule(asked) for name, rule in RULES.items() if name not in _ABOUT_PLACE]
    is_good = pl.all_horizontal(*rules, pl.col("volume").is_not_null()).fill_null(value=False)
    columns = ("open_time", *_Candle._fields)
    return {
        open_time: _Candle(*values) if good else None
        for open_time, *values, good in longer.with_columns(is_good.alias("good")).select(*columns, "good").iter_rows()
    }


def _minutes_by_bucket(minutes: pl.DataFrame, starts: Collection[datetime]) -> dict[datetime, list[_Minute]]:
    """The minutes inside some longer candles, ascending."""
    start = pl.col("open_time").dt.truncate(OPINION_LENGTH.duration)
    wanted = pl.Series("start", sorted(starts), dtype=TIME).to_frame()
    mine = minutes.with_columns(start.alias("start")).join(wanted, on="start", how="semi").sort("open_time")
    found: dict[datetime, list[_Minute]] = {}
    for bucket, *values in mine.select("start", *_Minute._fields).iter_rows():
        found.setdefault(bucket, []).append(_Minute(*values))
    return found


def _of_part(
    part: Interval, stored: Mapping[datetime, list[_Minute]], told: Mapping[datetime, _Candle | None]
) -> Iterator[Opinion]:
    start = OPINION_LENGTH.floor(part.start)
    if start not in told:
        yield Opinion(part, Finding.ABSENT_AT_5M, _ABSENT)
        return
    longer, mine = told[start], stored.get(start, [])
    if longer is None:
        return
    volume = float(sum(one.volume or 0.0 for one in mine))
    candle = f"the exchange's 5m candle of {format_time(start)}"
    if not longer.volume and not mine:
        yield Opinion(part, Finding.NO_TRADES, _IDLE)
    elif abs(longer.volume - volume) > slack(volume):
        yield Opinion(part, Finding.TRADED, f"{candle} has volume {longer.volume!r}, the minutes {volume!r}")
    elif not _prices_fit(mine, longer, Interval(start, start + OPINION_LENGTH.duration)):
        yield Opinion(part, Finding.TRADED, f"{candle} has other prices than the minutes")
    else:
        yield Opinion(part, Finding.NO_TRADES, f"{candle} has volume {longer.volume!r}, as the minutes have")


def _prices_fit(mine: Sequence[_Minute], longer: _Candle, bucket: Interval) -> bool:
    """Tell whether the minutes that are there can be all that the longer candle is made of."""
    if not mine:
        return True
    first, last = mine[0], mine[-1]
    has_first = first.open_time == bucket.start
    has_last = last.open_time == bucket.end - Timeframe.M1.duration
    return (
        longer.low <= min(one.low for one in mine)
        and max(one.high for one in mine) <= longer.high
        and (not has_first or first.open == longer.open)
        and (not has_last or last.close == longer.close)
    )
