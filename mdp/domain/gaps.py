"""Which slots hold no candle, and why.

Not here: filling them (nothing here ever does), asking an exchange again (``pipeline``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import polars as pl

from mdp.domain.interval import Interval, merge
from mdp.domain.timeframe import EPOCH, Timeframe

Span = TypeVar("Span")


class Cause(StrEnum):
    """Why a slot holds no candle."""

    UNFETCHED = "unfetched"
    EXCHANGE_OUTAGE = "exchange_outage"
    NO_TRADES = "no_trades"
    BEFORE_LISTING = "before_listing"
    UNKNOWN = "unknown"

    @property
    def is_explained(self) -> bool:
        """Tell whether nothing is left to find out: the exchange has no candle there, and we know why."""
        return self in (Cause.EXCHANGE_OUTAGE, Cause.NO_TRADES, Cause.BEFORE_LISTING)


@dataclass(frozen=True, slots=True)
class Fact:
    """Something known about a stretch that tells why it holds no candle.

    Attributes:
        interval: The stretch; what of it holds candles all the same is no gap.
        cause: Why. ``unknown`` for what is known of a stretch without explaining it.
        detail: Where that is written, or what was found.
    """

    interval: Interval
    cause: Cause
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """A maximal run of slots without a candle that have one cause, and what is known of it."""

    interval: Interval
    cause: Cause
    detail: str | None = None


def find_gaps(open_times: pl.Series, timeframe: Timeframe, within: Interval) -> list[Interval]:
    """Find maximal runs of expected slots that hold no candle.

    Args:
        open_times: Open times present, any order, duplicates allowed; those off the grid hold no slot.
        timeframe: Grid the series is expected to follow.
        within: Window examined, its bounds on the grid; open times outside it are ignored.

    Returns:
        Disjoint, ascending, non-adjacent intervals. Empty when coverage is complete.

    Raises:
        ValueError: a bound of ``within`` is off the grid.

    Shape:
        ``open_times`` is ``(n,)`` of ``Datetime("us", "UTC")``.
    """
    if not (timeframe.is_on_grid(within.start) and timeframe.is_on_grid(within.end)):
        raise ValueError(f"within: expected bounds on the grid of {timeframe}, got {within}")
    step = timeframe.microseconds
    start, end = (_to_us(bound) for bound in (within.start, within.end))
    present = open_times.to_physical().to_numpy()
    if not (present[1:] > present[:-1]).all():
        present = np.unique(present)
    present = present[slice(*np.searchsorted(present, (start, end)))]
    edges = np.concatenate(([start - step], present, [end]))
    steps = np.diff(edges)
    odd = np.flatnonzero(steps != step)
    if (steps[odd] % step).any():
        return find_gaps(open_times.filter(open_times.to_physical() % step == 0), timeframe, within)
    return [Interval(_from_us(edges[hole] + step), _from_us(edges[hole + 1])) for hole in odd]


def explain(missing: Iterable[Interval], facts: Iterable[Fact]) -> list[Gap]:
    """Split missing stretches by cause.

    Args:
        missing: Stretches that were asked for and for which the exchange gave nothing; ascending, disjoint.
        facts: What is known, any order of time; where two speak of one slot the first one counts.

    Returns:
        Gaps in ascending order that cover the same slots. What no fact speaks of is ``unknown``.
    """
    gaps: list[Gap] = []
    for piece in cut(missing, facts, lambda fact: fact.interval):
        fact = piece.spans[0] if piece.spans else Fact(piece.interval, Cause.UNKNOWN)
        last = gaps[-1] if gaps else None
        if last and not piece.is_first and (last.cause, last.detail) == (fact.cause, fact.detail):
            gaps[-1] = Gap(Interval(last.interval.start, piece.interval.end), last.cause, last.detail)
        else:
            gaps.append(Gap(piece.interval, fact.cause, fact.detail))
    return gaps


@dataclass(frozen=True, slots=True)
class Piece(Generic[Span]):
    """A part of a run over which the same spans lie.

    Attributes:
        interval: The part; never empty.
        spans: Those that cover it, in the order in which they were given.
        is_first: Whether its run begins with it.
    """

    interval: Interval
    spans: tuple[Span, ...]
    is_first: bool


def cut(runs: Iterable[Interval], spans: Iterable[Span], where: Callable[[Span], Interval]) -> Iterator[Piece[Span]]:
    """Cut runs where spans begin and end.

    Args:
        runs: Ascending, disjoint.
        spans: Anything that lies somewhere, any order, overlapping or not.
        where: Tells where a span lies.

    Yields:
        Pieces that tile the runs, ascending. Takes time for what overlaps only, however many there are.
    """
    waiting = sorted(((where(span), number, span) for number, span in enumerate(spans)), key=lambda one: one[:2])
    over: list[tuple[Interval, int, Span]] = []
    next_one = 0
    for run in runs:
        while next_one < len(waiting) and waiting[next_one][0].start < run.end:
            over.append(waiting[next_one])
            next_one += 1
        over = [one for one in over if one[0].end > run.start]
        if not over:
            yield Piece(run, (), is_first=True)
            continue
        bounds = {bound for at, *_ in over for bound in (at.start, at.end) if run.contains(bound)}
        edges = [*sorted({run.start, *bounds}), run.end]
        for start, end in pairwise(edges):
            here = sorted(((number, span) for at, number, span in over if at.start <= start < at.end), key=_number)
            yield Piece(Interval(start, end), tuple(span for _, span in here), start == run.start)


def _number(numbered: tuple[int, object]) -> int:
    return numbered[0]


class Tiling(NamedTuple):
    """How recorded gaps fit what is missing, in slots: not recorded; recorded where a candle is, or twice."""

    unrecorded: int
    overlapping: int

    @property
    def is_exact(self) -> bool:
        """Tell whether candles and gaps cover every slot exactly once."""
        return not self.unrecorded and not self.overlapping


def tile(missing: Iterable[Interval], recorded: Iterable[Interval], timeframe: Timeframe) -> Tiling:
    """Compare the stretches without candles with the gaps that are recorded.

    Args:
        missing: What :func:`find_gaps` finds.
        recorded: The intervals of the recorded gaps, any order, inside the same window.
        timeframe: The grid on which slots are counted.
    """
    missing, recorded = list(missing), list(recorded)

    def slots(some: Iterable[Interval]) -> int:
        return sum(one.slots(timeframe) for one in some)

    both = slots(piece.interval for piece in cut(missing, merge(recorded), lambda one: one) if piece.spans)
    return Tiling(slots(missing) - both, slots(recorded) - both)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a window is there.

    Attributes:
        expected: Slots of the window.
        present: Slots that hold a candle, idle ones among them: a minute without trades is a minute.
        missing: Slots without a candle, by cause; ``expected = present + sum(missing)``.
        permanent: Of the missing slots without an explanation, those that were missing whenever they were asked for,
            times enough.
    """

    expected: int
    present: int
    missing: Mapping[Cause, int]
    permanent: int = 0

    @property
    def share(self) -> float:
        """Present ÷ expected; 1 for an empty window."""
        return self.present / self.expected if self.expected else 1.0

    @property
    def unexplained(self) -> int:
        """How many missing slots nobody can tell the cause of, permanent or not."""
        return sum(slots for cause, slots in self.missing.items() if not cause.is_explained)

    @property
    def is_explained(self) -> bool:
        """Tell whether every slot is stored or known not to exist."""
        return not self.unexplained

    @property
    def is_complete(self) -> bool:
        """Tell whether every slot is stored, explained or permanent: nothing is left to ask for."""
        return self.unexplained <= self.permanent


def _to_us(moment: datetime) -> int:
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _from_us(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=int(microseconds))
