"""A volatility index: ask for its candles, judge them, make its minutes.

The length of its candles is that of the slice: hours, or minutes. Not here: how a minute gets its value
(``domain.dvol``), what every market has in common (``collect``, ``judge``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import NamedTuple

import polars as pl

from mdp.config.reference import Reference
from mdp.domain import dvol
from mdp.domain.candles import TIME
from mdp.domain.rules import Asked, split_by_rules
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.batches import Batch, Write, days_of, rows_by_day
from mdp.pipeline.collect import Answers, Collecting, Tallies, collect_asks
from mdp.pipeline.failed_days import LeftOut
from mdp.pipeline.fetching import Ask
from mdp.pipeline.gap_evidence import APART, GapEvidence, Seen
from mdp.pipeline.judge import not_yet_recorded, read_collected, reports_of
from mdp.ports import (
    DVOL,
    GAP_SIGHTINGS,
    GAPS,
    RAW_DVOL,
    REJECTED_OHLCV,
    REVISIONS,
    CandleStore,
    Clock,
    Fetched,
    OpenSource,
    Slice,
)

_AS_USUAL = Collecting()


def collect_dvol(
    parts: Iterable[Slice],
    open_source: OpenSource,
    clock: Clock,
    *,
    max_age_minutes: int,
    how: Collecting = _AS_USUAL,
    run_id: str = "",
    tallies: Tallies | None = None,
) -> Iterator[Batch]:
    """Ask for the candles of the volatility index from which the minutes of each slice can be made.

    A day needs candles of the day before; each day keeps its own copy, so that it can be made again alone.

    Args:
        parts: Whole UTC days of volatility indices, each at the length of the candles to ask for.
        open_source: Gives the source of an exchange.
        clock: Stamps the evidence.
        max_age_minutes: How far before a day its first candle may have closed.
        how: How they are asked.
        run_id: Written beside what could not be had.
        tallies: Filled with what it took, by exchange.

    Yields:
        Batches, as :func:`mdp.pipeline.collect.collect_candles` does.

    Raises:
        NotCollected: as for :func:`mdp.pipeline.collect.collect_candles`.
    """
    asks = [
        Ask(part, length_of(part), dvol.candles_needed(part.window, length_of(part), max_age_minutes)) for part in parts
    ]

    def rows(ask: Ask, fetched: Fetched) -> pl.DataFrame:
        return _candles_by_day(ask.part, fetched.rows, max_age_minutes)

    into = Answers(RAW_DVOL, rows, clock, run_id, {} if tallies is None else tallies)
    yield from collect_asks(asks, open_source, how, into)


def judge_dvol(
    parts: Iterable[Slice],
    store: CandleStore,
    reference: Reference,
    clock: Clock,
    *,
    max_age_minutes: int,
    apart: timedelta = APART,
    run_id: str = "",
) -> Iterator[Batch]:
    """Judge the raw candles of each slice of a volatility index and make its minutes.

    Made of hours, the gaps are those of hours and of minutes. Made of minutes, they are those of minutes alone: a
    minute has none while an earlier candle still speaks for it, and its ``age_minutes`` says so. Gaps of the
    other length are replaced along.

    Args:
        parts: Whole UTC days of volatility indices, all of them collected at the slice's length of candles.
        store: Where the raw candles are, and the minutes of an earlier time, to which the new ones are compared.
        reference: Listings and outages, which explain gaps.
        clock: Stamps revisions.
        max_age_minutes: A minute this long after the last closed candle has no value.
        apart: How far apart in time two sightings of a gap count as two.
        run_id: The run on whose behalf; see :class:`LeftOut`.

    Yields:
        One batch for each slice.

    Raises:
        SliceMissing: a day was never asked for.
        NotCollected: after everything else was yielded, the latest attempt at some days had failed.
    """
    left_out = LeftOut(store, run_id)
    for part in left_out.without(parts):
        judged = _judge_days(part, store, clock, max_age_minutes)
        gaps, sightings = _gaps(judged, reference, GapEvidence(store, part, reference, apart), part)
        # The first minutes of a day carry a candle of the day before: its revision lies before the window.
        needed = dvol.candles_needed(part.window, length_of(part), max_age_minutes)
        yield Batch(
            part=part,
            writes=(
                Write(REJECTED_OHLCV, part, judged.rejected),
                Write(GAP_SIGHTINGS, part, sightings, appends=True),
                Write(GAPS, Slice(part.market, dvol.LENGTHS, part.window), gaps),
                Write(REVISIONS, part, not_yet_recorded(store, part, needed, judged.revisions), appends=True),
                Write(DVOL, by_minute_of(part), judged.minutes),
            ),
            days=reports_of(part, judged.minutes, judged.rejected, gaps, _on_the_day_it_shows(judged.revisions, part)),
        )
    left_out.require_none()


def length_of(part: Slice) -> Timeframe:
    """Return the length of the candles of an index that a slice is about."""
    return part.timeframes[0]


def by_minute_of(part: Slice) -> Slice:
    """Return the slice of the minutes that are made of a slice of candles."""
    return Slice(part.market, (Timeframe.M1,), part.window)


class _Judged(NamedTuple):
    """The days of one slice: accepted candles that open on them, rejected rows, their minutes, what changed."""

    candles: pl.DataFrame
    rejected: pl.DataFrame
    minutes: pl.DataFrame
    revisions: pl.DataFrame


def _judge_days(part: Slice, store: CandleStore, clock: Clock, max_age_minutes: int) -> _Judged:
    """Judge each day by its own copy of the candles it needs."""
    length = length_of(part)
    raw = dict(rows_by_day(read_collected(store, RAW_DVOL, part), "window_start", part))
    stored = dict(rows_by_day(store.read(DVOL, by_minute_of(part)), "open_time", part))
    days = []
    for day, window in days_of(part):
        asked = Asked(dvol.candles_needed(window, length, max_age_minutes), length)
        accepted, rejected = split_by_rules(raw[day], asked)
        days.append(
            _Judged(
                accepted.filter(pl.col("open_time") >= window.start),
                rejected,
                dvol.minutes_from_candles(accepted, length, window, max_age_minutes=max_age_minutes),
                dvol.find_revisions(stored[day], accepted, asked, revised_at=clock()),
            )
        )
    candles, rejected, minutes, revisions = (pl.concat(tables) for tables in zip(*days, strict=True))
    # A candle that speaks on both sides of a midnight is a candle of both days, and one revision.
    return _Judged(candles, rejected, minutes, revisions.unique("open_time", keep="first", maintain_order=True))


def _candles_by_day(part: Slice, rows: pl.DataFrame, max_age_minutes: int) -> pl.DataFrame:
    """Give each day its copy of the candles it needs; those that nobody asked for go to the first or last day."""
    days = []
    for _, window in days_of(part):
        needed = dvol.candles_needed(window, length_of(part), max_age_minutes)
        is_mine = pl.col("open_time").is_between(needed.start, needed.end, closed="left")
        is_mine |= pl.lit(window.start == part.window.start) & (pl.col("open_time") < needed.start)
        is_mine |= pl.lit(window.end == part.window.end) & (pl.col("open_time") >= needed.end)
        days.append(rows.filter(is_mine).with_columns(pl.lit(window.start, dtype=TIME).alias("window_start")))
    return pl.concat(days)


def _gaps(judged: _Judged, reference: Reference, evidence: GapEvidence, part: Slice) -> Seen:
    """Find missing hours, where they are asked for, and the minutes without a value.

    The first candle of all gives a value only when it has closed.
    """
    length, first_candle = length_of(part), reference.listed_at(part.market)
    first_value = first_candle and first_candle + length.duration
    of_minutes = evidence.see(judged.minutes["open_time"], Timeframe.M1, first_value, judged.rejected)
    if length is Timeframe.M1:
        return of_minutes
    of_candles = evidence.see(judged.candles["open_time"], length, first_candle, judged.rejected)
    return Seen(*(pl.concat(both) for both in zip(of_candles, of_minutes, strict=True)))


def _on_the_day_it_shows(revisions: pl.DataFrame, part: Slice) -> pl.DataFrame:
    """Count the revision of a candle on the day of the first minute that carries it."""
    closed: pl.Expr = pl.col("open_time") + length_of(part).duration
    first_minute = pl.max_horizontal(closed, pl.lit(part.window.start))
    return revisions.with_columns(first_minute.cast(revisions.schema["open_time"]).alias("open_time"))
