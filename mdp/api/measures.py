"""What is counted of requests, by route: how many, how they ended, how long they took. Plain numbers, added up.

Not here: who counts (``access_log``), how it is told (``metrics``).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the classes of durations, in seconds; one more class is for what took longer."""

Key = tuple[str, str, int]
"""Method, template of the route, status."""


@dataclass(slots=True)
class Tally:
    """Requests of one kind."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    seconds: float = 0.0


@dataclass(slots=True)
class Measures:
    """What one process counted since it began.

    Attributes:
        requests: By method, route and status.
        streams_open: Subscribers that are connected now.
        streams_opened: Since the beginning.
        streams_cut: Of them, those that were cut off because they did not read.
        messages_sent: To all of them.
        messages_conflated: That a later one of the same candle replaced before they were sent.
    """

    requests: dict[Key, Tally] = field(default_factory=dict)
    streams_open: int = 0
    streams_opened: int = 0
    streams_cut: int = 0
    messages_sent: int = 0
    messages_conflated: int = 0

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Add one request."""
        key = (method, route, status)
        tally = self.requests.get(key)
        if tally is None:
            tally = self.requests[key] = Tally()
        tally.counts[bisect_left(BOUNDS_S, seconds)] += 1
        tally.seconds += seconds
