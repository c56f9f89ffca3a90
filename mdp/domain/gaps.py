"""Which slots hold no candle, and why.

Not here: filling them (nothing here ever does), asking an exchange again (``pipeline``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import polars as pl

from mdp.domain.interval import Interval, subtract
from mdp.domain.timeframe import EPOCH, Timeframe


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
class Gap:
    """A maximal run of slots without a candle that have one cause."""

    interval: Interval
    cause: Cause


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


def explain(missing: Iterable[Interval], *, listed_at: datetime | None, outages: Iterable[Interval]) -> list[Gap]:
    """Split missing stretches by cause.

    Args:
        missing: Stretches that were asked for and for which the exchange gave nothing.
        listed_at: First candle the exchange ever had; None when that is not known.
        outages: Stretches in which the exchange is known to have been down.

    Returns:
        Gaps in ascending order that cover the same slots. What neither listing nor an outage explains is ``unknown``.
    """
    known = list(outages)
    gaps: list[Gap] = []
    for stretch in missing:
        rest = [stretch]
        if listed_at is not None and stretch.start < listed_at:
            before = Interval(stretch.start, min(listed_at, stretch.end))
            gaps.append(Gap(before, Cause.BEFORE_LISTING))
            rest = subtract(stretch, [before])
        for part in rest:
            unknown = subtract(part, known)
            gaps += [Gap(interval, Cause.UNKNOWN) for interval in unknown]
            gaps += [Gap(interval, Cause.EXCHANGE_OUTAGE) for interval in subtract(part, unknown)]
    return sorted(gaps, key=lambda gap: gap.interval)


class Tiling(NamedTuple):
    """How recorded gaps fit what is missing, in slots: missing but not recorded; recorded where a candle is."""

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

    def slots_without(wholes: list[Interval], parts: list[Interval]) -> int:
        return sum(rest.slots(timeframe) for whole in wholes for rest in subtract(whole, parts))

    return Tiling(slots_without(missing, recorded), slots_without(recorded, missing))


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a window is there.

    Attributes:
        expected: Slots of the window.
        present: Slots that hold a candle.
        missing: Slots without a candle, by cause; ``expected = present + sum(missing)``.
    """

    expected: int
    present: int
    missing: Mapping[Cause, int]

    @property
    def share(self) -> float:
        """Present ÷ expected; 1 for an empty window."""
        return self.present / self.expected if self.expected else 1.0

    @property
    def is_explained(self) -> bool:
        """Tell whether every slot is stored or known not to exist."""
        return all(cause.is_explained for cause, slots in self.missing.items() if slots)


def _to_us(moment: datetime) -> int:
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _from_us(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=int(microseconds))
