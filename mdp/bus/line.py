"""Requests of one process that wait for leave, in lines of those that need the same.

Not here: who may go (``local``, ``shared``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from mdp.bus.leases import Lease
from mdp.bus.messages import Want

MOST_AT_ONCE = 32


@dataclass(slots=True, eq=False)
class Waiting:
    """A request that waits, since when, and whoever is told."""

    want: Want
    since: float
    number: int
    told: asyncio.Future[Lease]


@dataclass(slots=True)
class _Line:
    waiting: deque[Waiting] = field(default_factory=deque)
    held_until: float = 0.0


class Lines:
    """First come, first served, among requests that need the same; a line that is held does not hold the others."""

    def __init__(self) -> None:
        self._lines: dict[tuple[object, ...], _Line] = {}
        self._count = 0
        self.most_at_once = 2

    def __len__(self) -> int:
        return sum(len(line.waiting) for line in self._lines.values())

    def join(self, want: Want, now: float, told: asyncio.Future[Lease]) -> Waiting:
        """Put a request at the end of its line."""
        self._count += 1
        waiting = Waiting(want, now, self._count, told)
        self._line_of(want).waiting.append(waiting)
        return waiting

    def return_to(self, waiting: Waiting) -> None:
        """Put a request back at the head of its line."""
        self._line_of(waiting.want).waiting.appendleft(waiting)

    def due(self, now: float) -> list[Waiting]:
        """Return the first of the lines that are not held, oldest first."""
        found: list[Waiting] = []
        for line in self._lines.values():
            while line.waiting and line.waiting[0].told.done():
                line.waiting.popleft()  # given up
            if line.held_until <= now:
                found.extend(islice(line.waiting, self.most_at_once))
        found.sort(key=lambda waiting: waiting.number)
        return found[: self.most_at_once]

    def hold(self, want: Want, until: float) -> None:
        """Do not ask for those who need the same before then."""
        self._line_of(want).held_until = until

    def release(self) -> None:
        """Hold nobody any more: another count decides now."""
        for line in self._lines.values():
            line.held_until = 0.0

    def leave(self, waiting: Waiting) -> None:
        """Take a request out of its line."""
        line = self._line_of(waiting.want)
        if line.waiting and line.waiting[0] is waiting:
            line.waiting.popleft()
        elif waiting in line.waiting:
            line.waiting.remove(waiting)

    def next_due(self) -> float | None:
        """Return when the first line may be asked for; None: nobody waits."""
        return min((line.held_until for line in self._lines.values() if line.waiting), default=None)

    def everybody(self) -> Iterator[Waiting]:
        """Return all who wait."""
        for line in self._lines.values():
            yield from list(line.waiting)

    def _line_of(self, want: Want) -> _Line:
        return self._lines.setdefault((want.symbol, *want.costs), _Line())
