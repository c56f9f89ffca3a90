"""How often slots were found missing, and what that makes of a gap: two sightings apart in time make it permanent.

Not here: why a slot is missing (``gaps``), asking for it (``pipeline``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

import polars as pl

from mdp.domain.gaps import Cause, Fact, Gap, cut
from mdp.domain.interval import Interval
from mdp.domain.timeframe import EPOCH

PERMANENT_FROM = 2
"""Sightings, apart in time, from which a gap is permanent."""


class Finding(StrEnum):
    """What was found of slots that hold no candle.

    All but ``ABSENT`` are second opinions, told by the exchange's own longer candle over the slots.
    """

    ABSENT = "absent"
    NO_TRADES = "no_trades"
    TRADED = "traded"
    ABSENT_AT_5M = "absent_at_5m"


@dataclass(frozen=True, slots=True)
class Sighting:
    """A run of slots that was asked for and not given, once.

    Attributes:
        interval: The slots.
        finding: What was found.
        source: What was asked: ``rest``, ``archive`` or ``archive+rest``.
        fetched_at: When, UTC.
        detail: What was found, in words.
    """

    interval: Interval
    finding: Finding
    source: str
    fetched_at: datetime
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class SeenGap:
    """A gap and its history; maximal: no two that touch have the same cause, detail and history.

    Attributes:
        gap: Where, and why.
        sightings: How often it was found missing, apart in time.
        first_seen_at: When it was found missing first; None: never, for it was not yet closed when it was asked for.
        seen_at: When it was found missing last.
        source: What was asked then.
    """

    gap: Gap
    sightings: int = 0
    first_seen_at: datetime | None = None
    seen_at: datetime | None = None
    source: str | None = None

    @property
    def is_permanent(self) -> bool:
        """Tell whether enough sightings, apart in time, agree."""
        return self.sightings >= PERMANENT_FROM


def sightings_of(rows: pl.DataFrame) -> list[Sighting]:
    """Return rows of ``SIGHTING_SCHEMA`` of one market and timeframe as sightings."""
    columns = ("start", "end", "finding", "source", "fetched_at", "detail")
    return [
        Sighting(Interval(start, end), Finding(finding), source, fetched_at, detail)
        for start, end, finding, source, fetched_at, detail in rows.select(columns).iter_rows()
    ]


def count_apart(moments: Iterable[datetime], apart: timedelta) -> int:
    """Count the moments that lie so far apart that each is a witness of its own: from the first one on, greedily."""
    counted, last = 0, None
    for moment in sorted(moments):
        if last is None or moment - last >= apart:
            counted, last = counted + 1, moment
    return counted


def new_sightings(
    missing: Iterable[Interval], asked_at: datetime, recorded: Iterable[Sighting], apart: timedelta
) -> list[Interval]:
    """Return what of a missing stretch is to be recorded as seen.

    Args:
        missing: Ascending, disjoint.
        asked_at: When it was asked for.
        recorded: What was seen before.
        apart: What was seen closer than this to ``asked_at``, before or after, is no new witness: a run that is
            repeated or goes on after it was killed adds nothing.

    Returns:
        Ascending, disjoint parts of ``missing``.
    """
    absent = [one for one in recorded if one.finding is Finding.ABSENT]
    new: list[Interval] = []
    for piece in cut(missing, absent, lambda one: one.interval):
        if any(abs(asked_at - one.fetched_at) < apart for one in piece.spans):
            continue
        if new and not piece.is_first and new[-1].end == piece.interval.start:
            new[-1] = Interval(new[-1].start, piece.interval.end)
        else:
            new.append(piece.interval)
    return new


def facts_of(sightings: Iterable[Sighting]) -> list[Fact]:
    """Return what second opinions make known of the slots, the latest first."""
    opinions = [one for one in sightings if one.finding is not Finding.ABSENT]
    opinions.sort(key=lambda one: (one.fetched_at, one.finding, one.detail or ""), reverse=True)
    return [
        Fact(one.interval, Cause.NO_TRADES if one.finding is Finding.NO_TRADES else Cause.UNKNOWN, one.detail)
        for one in opinions
    ]


def with_history(gaps: Sequence[Gap], sightings: Iterable[Sighting], apart: timedelta) -> list[SeenGap]:
    """Give gaps their history.

    Args:
        gaps: Ascending, disjoint.
        sightings: All that are recorded, any order; those of slots that are not missing count for nothing.
        apart: How far apart two must lie to count as two.

    Returns:
        Ascending gaps that cover the same slots, cut where their histories differ.
    """
    absent = sorted(
        (one for one in sightings if one.finding is Finding.ABSENT), key=lambda one: (one.fetched_at, one.source)
    )
    seen: list[SeenGap] = []
    waiting = iter(gaps)
    gap = Gap(Interval(EPOCH, EPOCH), Cause.UNKNOWN)
    for piece in cut((gap.interval for gap in gaps), absent, lambda one: one.interval):
        if piece.is_first:
            gap = next(waiting)
        mine = _seen(replace(gap, interval=piece.interval), piece.spans, apart)
        if not piece.is_first and replace(mine, gap=seen[-1].gap) == seen[-1]:
            whole = Interval(seen[-1].gap.interval.start, piece.interval.end)
            seen[-1] = replace(mine, gap=replace(gap, interval=whole))
        else:
            seen.append(mine)
    return seen


def _seen(gap: Gap, in_order: Sequence[Sighting], apart: timedelta) -> SeenGap:
    if not in_order:
        return SeenGap(gap)
    times = [one.fetched_at for one in in_order]
    return SeenGap(gap, count_apart(times, apart), times[0], times[-1], in_order[-1].source)
