"""The simulated clock: it starts where it is told and advances with real time.

Not here: the clock that drives quotas, which is always the real one (``quotas``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

ClockMs = Callable[[], int]
"""Tells the simulated time in milliseconds since the epoch."""


class SimulatedClock:
    """A clock that shows what it was set to and the real time that has passed since.

    Args:
        start: What it shows now; None: it is the wall clock, until it is set.
    """

    def __init__(self, start: datetime | None = None) -> None:
        # one value, so that a thread that reads while another sets sees the old time or the new one
        self._started: tuple[int, int] | None = None
        if start is not None:
            self.set(start)

    def __call__(self) -> int:
        """Tell the simulated time in milliseconds since the epoch."""
        if self._started is None:
            return time.time_ns() // 1_000_000
        shown_ms, at_ns = self._started
        return shown_ms + (time.monotonic_ns() - at_ns) // 1_000_000

    def set(self, moment: datetime) -> None:
        """Show ``moment`` now and go on from there."""
        self._started = (to_ms(moment), time.monotonic_ns())


def to_ms(moment: datetime) -> int:
    """Return a UTC time in milliseconds since the epoch."""
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000)


def from_ms(moment_ms: int) -> datetime:
    """Return the UTC time of milliseconds since the epoch."""
    return datetime.fromtimestamp(moment_ms / 1_000, tz=UTC)
