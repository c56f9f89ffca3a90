"""What was found on one day of one market, with the first rows that show it.

Not here: looking (``pipeline.integrity``), telling Dagster (``defs.evaluations``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import NamedTuple

SAMPLED = 20
"""Rows that a verdict shows of each finding: enough to see what is wrong, few enough for an event log."""


class Example(NamedTuple):
    """A row, a candle or a stretch that shows a finding: when it opens, what is there, what should be."""

    open_time: datetime
    timeframe: str
    found: str
    expected: str


class Sample(NamedTuple):
    """An example and the promise or doubt that it shows."""

    what: str
    example: Example


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found on one day of one market.

    Attributes:
        rows: Rows looked at.
        broken: Promise that does not hold and the number of rows or slots that break it. The store is wrong.
        doubts: What a person should know although no promise is broken: gaps nobody has explained, rejected rows,
            prices or volumes that no market makes.
        samples: The first examples of each, at most ``SAMPLED``.
    """

    rows: int
    broken: dict[str, int]
    doubts: dict[str, int]
    samples: tuple[Sample, ...] = ()

    @property
    def holds(self) -> bool:
        """Tell whether every promise holds."""
        return not self.broken


@dataclass(slots=True)
class Findings:
    """Collects what is found on one day; what was looked for and not found (0) leaves no trace."""

    broken: dict[str, int] = field(default_factory=dict)
    doubts: dict[str, int] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    def add_broken(self, promise: str, count: int, examples: Iterable[Example] = ()) -> None:
        """Remember that so many rows or slots break a promise. ``examples`` is only drawn from when there are any."""
        self._add(self.broken, promise, count, examples)

    def add_doubt(self, what: str, count: int, examples: Iterable[Example] = ()) -> None:
        """Remember that so many rows or slots are doubtful."""
        self._add(self.doubts, what, count, examples)

    def verdict(self, rows: int) -> Verdict:
        """Return what was found among so many rows."""
        return Verdict(rows, self.broken, self.doubts, tuple(self.samples))

    def _add(self, counts: dict[str, int], what: str, count: int, examples: Iterable[Example]) -> None:
        if count:
            counts[what] = count
            self.samples += [Sample(what, example) for example in islice(examples, SAMPLED)]


def total_findings(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Add up what is broken or doubtful over many days, by name."""
    summed: dict[str, int] = {}
    for verdict in verdicts:
        for name, count in {**verdict.broken, **verdict.doubts}.items():
            summed[name] = summed.get(name, 0) + count
    return summed
