"""The simulated clock: it starts where it is told and advances with real time.

Not here: the clock that drives quotas, which is always the real one (``quotas``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

ClockMs = Callable[[], int]
"""Tells the simulated time in milliseconds since the epoch."""


def clock_from(start: datetime | None) -> ClockMs:
    """Return a clock that shows ``start`` now; None: the wall clock."""
    if start is None:
        return lambda: time.time_ns() // 1_000_000
    start_ms = to_ms(start)
    begun = time.monotonic_ns()
    return lambda: start_ms + (time.monotonic_ns() - begun) // 1_000_000


def to_ms(moment: datetime) -> int:
    """Return a UTC time in milliseconds since the epoch."""
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000)


def from_ms(moment_ms: int) -> datetime:
    """Return the UTC time of milliseconds since the epoch."""
    return datetime.fromtimestamp(moment_ms / 1_000, tz=UTC)
