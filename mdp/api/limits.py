"""How much a key may ask, and how often an address may come with a wrong one: counted exactly, second by second.

Each process counts for itself. Not here: who is limited (``doorkeeper``).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

WINDOW_S = 60


class Use(NamedTuple):
    """What a request was told of its limit.

    Attributes:
        is_within: Whether it may go on.
        remaining: Requests that may follow now.
        reset_s: Seconds until at least one more may come, counted from the oldest request of the window.
    """

    is_within: bool
    remaining: int
    reset_s: int


class Window:
    """Requests of the last minute, one number for each second of it. What was refused is not counted."""

    __slots__ = ("_at", "_counts", "total")

    def __init__(self, now_s: int) -> None:
        self._counts = [0] * WINDOW_S
        self._at = now_s
        self.total = 0

    def take(self, now_s: int, limit: int) -> Use:
        """Count one request unless the minute that ends now holds as many as the limit already."""
        self._forget(now_s)
        is_within = self.total < limit
        if is_within:
            self._counts[now_s % WINDOW_S] += 1
            self.total += 1
        return Use(is_within, max(0, limit - self.total), self._oldest_leaves_in_s())

    def _forget(self, now_s: int) -> None:
        passed = now_s - self._at
        if passed <= 0:
            return
        if passed >= WINDOW_S or not self.total:
            self._counts = [0] * WINDOW_S
            self.total = 0
        else:
            for second in range(self._at + 1, now_s + 1):
                self.total -= self._counts[second % WINDOW_S]
                self._counts[second % WINDOW_S] = 0
        self._at = now_s

    def _oldest_leaves_in_s(self) -> int:
        if not self.total:
            return 0
        oldest = next(age for age in range(WINDOW_S - 1, -1, -1) if self._counts[(self._at - age) % WINDOW_S])
        return WINDOW_S - oldest


class Limits:
    """Windows by name; those that were not asked for longest go first when there are too many.

    Args:
        most: Names that are remembered.
        clock: Seconds, monotonic.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._windows: OrderedDict[str, Window] = OrderedDict()

    def __len__(self) -> int:
        """Return how many names are remembered."""
        return len(self._windows)

    def take(self, name: str, limit: int) -> Use:
        """Count a request of a name unless its minute is full."""
        now_s = int(self._clock())
        window = self._windows.get(name)
        if window is None:
            window = self._windows[name] = Window(now_s)
            if len(self._windows) > self._most:
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end(name)
        return window.take(now_s, limit)
