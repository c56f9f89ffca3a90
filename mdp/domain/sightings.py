"""How often slots were found missing, and what that makes of a gap: two sightings apart in time make it permanent.

Not here: why a slot is missing (``gaps``), asking for it (``pipeline``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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

    ``ABSENT`` and ``REJECTED`` are answers: no row, or one that broke a rule. The others are second opinions, told by
    the exchange's own longer candle over the slots.
    """

    ABSENT = "absent"
    REJECTED = "rejected"
    NO_TRADES = "no_trades"
    TRADED = "traded"
    ABSENT_AT_5M = "absent_at_5m"

    @property
    def is_opinion(self) -> bool:
        """Tell whether it is a second opinion, and no answer."""
        return self not in (Finding.ABSENT, Finding.REJECTED)


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
        is_disputed: Whether the exchange says that there is a candle all the same: the latest answer held a row, which
            broke a rule, or its own longer candle holds more than the minutes that are there.
    """

    gap: Gap
    sightings: int = 0
    first_seen_at: datetime | None = None
    seen_at: datetime | None = None
    source: str | None = None
    is_disputed: bool = False

    @property
    def is_permanent(self) -> bool:
        """Tell whether enough sightings, apart in time, agree, and nothing speaks against them."""
        return self.sightings >= PERMANENT_FROM and not self.is_disputed


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
            repeated or goes on after it was killed adds nothing. But after a row that was rejected it is news.

    Returns:
        Ascending, disjoint parts of ``missing``.
    """
    answers = [one for one in recorded if not one.finding.is_opinion]
    return _pieces_where(missing, answers, lambda spans: not _is_known_absent(spans, asked_at, apart))


def new_rejections(
    rejected: Iterable[Interval], detail: str, asked_at: datetime, recorded: Iterable[Sighting]
) -> list[Interval]:
    """Return what is to be recorded of slots whose row broke a rule: where the latest answer was another one.

    Args:
        rejected: Ascending, disjoint.
        detail: Which rules it broke.
        asked_at: When it was given.
        recorded: What was seen before.
    """
    answers = [one for one in recorded if not one.finding.is_opinion]

    def is_new(spans: Sequence[Sighting]) -> bool:
        last = max((one for one in spans if one.fetched_at <= asked_at), key=_answered_at, default=None)
        return last is None or (last.finding, last.detail) != (Finding.REJECTED, detail)

    return _pieces_where(rejected, answers, is_new)


def rejected_last(runs: Iterable[Interval], recorded: Iterable[Sighting]) -> list[Interval]:
    """Return the parts of some runs, ascending and disjoint, of which the latest answer was a row that broke a rule."""
    answers = [one for one in recorded if not one.finding.is_opinion]
    return _pieces_where(runs, answers, _is_rejected)


def _pieces_where(
    runs: Iterable[Interval], sightings: Iterable[Sighting], holds: Callable[[Sequence[Sighting]], bool]
) -> list[Interval]:
    """The parts of some runs over whose sightings something holds; those of one run that touch are one."""
    found: list[Interval] = []
    for piece in cut(runs, sightings, lambda one: one.interval):
        if not holds(piece.spans):
            continue
        if found and not piece.is_first and found[-1].end == piece.interval.start:
            found[-1] = Interval(found[-1].start, piece.interval.end)
        else:
            found.append(piece.interval)
    return found


def _is_known_absent(answers: Sequence[Sighting], asked_at: datetime, apart: timedelta) -> bool:
    is_near = any(one.finding is Finding.ABSENT and abs(asked_at - one.fetched_at) < apart for one in answers)
    return is_near and not _is_rejected([
        one for one in answers
        if one.fetched_at < asked_at or (one.fetched_at == asked_at and one.finding is Finding.ABSENT)
    ])  # fmt: skip


def _is_rejected(answers: Sequence[Sighting]) -> bool:
    """Tell whether the latest of some answers is a row that broke a rule."""
    return bool(answers) and max(answers, key=_answered_at).finding is Finding.REJECTED


def _answered_at(one: Sighting) -> tuple[datetime, bool]:
    """Of what one asking was taken for, first for an absent row, then for a rejected one, the latter holds."""
    return one.fetched_at, one.finding is Finding.REJECTED


def facts_of(sightings: Iterable[Sighting]) -> list[Fact]:
    """Return what second opinions and rejected rows make known of the slots, the latest first."""
    known = [one for one in sightings if one.finding is not Finding.ABSENT]
    known.sort(key=_in_order, reverse=True)
    return [
        Fact(one.interval, Cause.NO_TRADES if one.finding is Finding.NO_TRADES else Cause.UNKNOWN, one.detail)
        for one in known
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
    in_order = sorted(sightings, key=_in_order)
    seen: list[SeenGap] = []
    waiting = iter(gaps)
    gap = Gap(Interval(EPOCH, EPOCH), Cause.UNKNOWN)
    for piece in cut((gap.interval for gap in gaps), in_order, lambda one: one.interval):
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
    is_disputed = gap.cause is Cause.UNKNOWN and _is_disputed(in_order)
    absent = [one for one in in_order if one.finding is Finding.ABSENT]
    if not absent:
        return SeenGap(gap, is_disputed=is_disputed)
    times = [one.fetched_at for one in absent]
    return SeenGap(gap, count_apart(times, apart), times[0], times[-1], absent[-1].source, is_disputed)


def _is_disputed(in_order: Sequence[Sighting]) -> bool:
    """Tell whether the exchange, asked last, gave a row or says that there was trading."""
    opinions = [one for one in in_order if one.finding.is_opinion]
    was_traded = bool(opinions) and opinions[-1].finding is Finding.TRADED
    return was_traded or _is_rejected([one for one in in_order if not one.finding.is_opinion])


def _in_order(one: Sighting) -> tuple[datetime, str, str, str]:
    return one.fetched_at, one.finding.value, one.source, one.detail or ""
