"""The minutes of a volatility index from candles that its feed told: by the minute, or by the hour.

A minute carries the close of the last candle that was closed when it opened, as ``domain.dvol`` says. A minute is made
once the slot before it is known: told, or told to be empty. By the hour, an hour is made of its minutes only if all
sixty are confirmed; any other is the nightly job's. What is missing of an index only that job sees. Not here: what was
told (``live_told``), spot markets (``live_candles``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

import polars as pl

from mdp.domain import dvol
from mdp.domain.candles import RAW_SCHEMA, SIGHTING_SCHEMA
from mdp.domain.interval import DAY, Interval, merge
from mdp.domain.live import CandleState, LiveCandle
from mdp.domain.market import Market
from mdp.domain.rules import Asked, split_by_rules, to_candles
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.judge import not_yet_recorded
from mdp.pipeline.live_candles import Desk, Fates, Made, collected_days
from mdp.pipeline.live_told import STREAM, Absence, moment_of
from mdp.ports import DVOL, Slice

_MINUTE = Timeframe.M1.duration
_SURE = (CandleState.CONFIRMED, CandleState.CORRECTED)
_SLOT = ["timeframe", "open_time"]
_SAID = ["open_time", "dvol", "hour_open_time", "age_minutes"]


@dataclass(frozen=True, slots=True)
class IndexRule:
    """How the minutes of an index are made.

    Attributes:
        length: Of the candles they carry: an hour, or a minute.
        max_age_minutes: A minute this long after the last closed candle has no value.
    """

    length: Timeframe
    max_age_minutes: int


class Hours(NamedTuple):
    """Hours that were made of minutes, and how many that ended could not be made."""

    rows: pl.DataFrame
    left: int


def make_index_minutes(
    market: Market, told: pl.DataFrame, absences: Sequence[Absence], rule: IndexRule, desk: Desk
) -> list[Made]:
    """Make the minutes of an index that carry what was told.

    Args:
        market: A volatility index.
        told: Good rows at the length of the rule, one a slot, sorted.
        absences: Slots of minutes that hold no candle; they tell nothing of hours.
        rule: How.
        desk: With what.
    """
    length, opened = rule.length, told["open_time"].to_list()
    known = [Interval(start + length.duration, start + 2 * length.duration) for start in opened]
    if length is Timeframe.M1:
        known += [Interval(run.start + _MINUTE, run.end + _MINUTE) for one in absences for run in one.runs]
    # a candle may speak until it is too old, on the day after too
    longest = timedelta(minutes=rule.max_age_minutes)
    days = {day.start.date() for one in known for day in Interval(one.start, one.start + longest).days()}
    made: list[Made] = []
    for day in sorted(days):
        one = _make(_Day(market, day, rule, desk), told, merge(known))
        recorded = [earlier.revisions.select(_SLOT) for earlier in made]
        fresh = one.revisions.join(pl.concat(recorded), on=_SLOT, how="anti") if recorded else one.revisions
        made.append(one._replace(revisions=fresh, revised=len(fresh)))
    return made


def hours_of(told: pl.DataFrame, sure: Iterable[LiveCandle], market: Market) -> Hours:
    """Make hours of an index of its minutes, those only whose sixty minutes are all confirmed.

    Args:
        told: Good rows of minutes, whatever their state: hours that hold none of them are not made.
        sure: Minutes of the same index, told now or before, of any state.
        market: Which index.

    Shape:
        ``RAW_SCHEMA`` in at 1m and out at 1h, sorted, unique.
    """
    confirmed = {one.open_us: one for one in sorted(sure, key=_by_receipt) if one.state in _SURE}
    hour_us, minute_us = Timeframe.H1.microseconds, Timeframe.M1.microseconds
    slots = set(told["open_time"].to_physical().to_list())
    rows, left = [], 0
    for start in sorted({slot - slot % hour_us for slot in slots}):
        minutes = [confirmed.get(slot) for slot in range(start, start + hour_us, minute_us)]
        if None in minutes:
            left += start + hour_us - minute_us in slots
        else:
            rows.append(_hour(market, [one for one in minutes if one is not None]))
    made = pl.DataFrame(rows, schema=RAW_SCHEMA, orient="row")
    if made.is_empty():
        return Hours(made, left)
    days = Interval(Timeframe.D1.floor(made["open_time"][0]), Timeframe.D1.floor(made["open_time"][-1]) + DAY)
    good = split_by_rules(made, Asked(days, Timeframe.H1)).accepted
    return Hours(good, left + len(made) - len(good))


def _by_receipt(one: LiveCandle) -> tuple[int, bool, int]:
    return one.open_us, one.source != STREAM, one.received_us


def _hour(market: Market, minutes: Sequence[LiveCandle]) -> tuple[object, ...]:
    """One row of ``RAW_SCHEMA``."""
    opened = moment_of(minutes[0].open_us)
    source = STREAM if any(one.source == STREAM for one in minutes) else minutes[-1].source
    return (
        market.exchange.value, market.symbol_key, Timeframe.H1.value, Timeframe.D1.floor(opened), opened,
        minutes[0].open, max(one.high for one in minutes), min(one.low for one in minutes), minutes[-1].close,
        None, None, None, True, source, moment_of(max(one.received_us for one in minutes)),
    )  # fmt: skip


class _Day(NamedTuple):
    market: Market
    day: date
    rule: IndexRule
    desk: Desk

    @property
    def window(self) -> Interval:
        return Interval.of_day(self.day)

    @property
    def needed(self) -> Interval:
        return dvol.candles_needed(self.window, self.rule.length, self.rule.max_age_minutes)


def _make(of: _Day, told: pl.DataFrame, known: Sequence[Interval]) -> Made:
    length, window, desk = of.rule.length, of.window, of.desk
    part = Slice(of.market, (length,), window)
    stored = desk.store.read(DVOL, Slice(of.market, (Timeframe.M1,), Interval(of.needed.start, window.end)))
    of_length = stored.filter(dvol.candle_minutes() == length.minutes)
    carried = _candles_carried(of_length, length)
    told = told.filter(_lies_in("open_time", of.needed))
    fates = Fates.of(to_candles(told, length), to_candles(carried, length), collected_days(part, desk), ("close",))
    changed = told.filter(fates.is_changed)
    candles = pl.concat([carried.join(changed, on="open_time", how="anti"), changed]).sort("open_time")
    revisions = dvol.find_revisions(of_length, candles, Asked(of.needed, length), revised_at=desk.now)
    made = dvol.minutes_from_candles(candles, length, window, max_age_minutes=of.rule.max_age_minutes)
    own = stored.filter(pl.col("open_time") >= window.start)
    is_known = pl.any_horizontal(pl.lit(value=False), *(_lies_in("open_time", one) for one in known))
    is_known |= pl.col("open_time").is_in(own["open_time"].implode())
    rows = made.filter(is_known).join(own, on=_SAID, how="anti")
    # each candle counts on the day of the first minute that may carry it
    is_own = _lies_in((pl.col("open_time") + length.duration), window)
    mine = told.select(is_own).to_series()
    new = rows.join(own, on="open_time", how="anti")
    return Made(
        rows=rows,
        revisions=not_yet_recorded(desk.store, part, of.needed, revisions),
        sightings=SIGHTING_SCHEMA.to_frame(),
        changed=rows["open_time"],
        stored=len(new),
        unchanged=int((fates.is_same & mine).sum()),
        superseded=int((fates.is_superseded & mine).sum()),
        left=int((fates.is_left & mine).sum()),
    )


def _candles_carried(stored: pl.DataFrame, length: Timeframe) -> pl.DataFrame:
    """The candles that stored minutes carry, of which only the close is known, as rows of ``RAW_SCHEMA``."""
    known = {
        "exchange": pl.col("exchange"),
        "symbol": pl.col("symbol"),
        "timeframe": pl.lit(length.value),
        "window_start": pl.col("hour_open_time").dt.truncate("1d"),
        "open_time": pl.col("hour_open_time"),
        "close": pl.col("dvol"),
        "closed": pl.lit(value=True),
        "source": pl.col("source"),
        "fetched_at": pl.col("ingested_at"),
    }
    candles = stored.unique("hour_open_time", keep="first", maintain_order=True)
    return candles.select(known.get(name, pl.lit(None, dtype=dtype)).alias(name) for name, dtype in RAW_SCHEMA.items())


def _lies_in(time: str | pl.Expr, window: Interval) -> pl.Expr:
    moment = pl.col(time) if isinstance(time, str) else time
    return moment.is_between(window.start, window.end, closed="left")
