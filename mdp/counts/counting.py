"""The count of one process, until somebody takes it where all counts come together.

Not here: the names (``catalogue``), taking it anywhere (``bus.counted``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from mdp.counts.catalogue import COUNTERS, LEVELS

Key = tuple[str, ...]
"""A name and the values of its labels, in the order of the catalogue."""

MOST_SERIES = 4_096
"""More than all labels of the catalogue make; a mistake must not fill the memory of a process that nobody empties."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What was counted since it was last taken."""

    counters: dict[Key, float] = field(default_factory=dict)
    levels: dict[Key, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.counters or self.levels)


class Counts:
    """Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[Key, float] = {}
        self._levels: dict[Key, float] = {}
        self.on_change: Callable[[], None] | None = None

    def add(self, name: str, amount: float, *labels: str) -> None:
        """Count.

        Args:
            name: Of ``COUNTERS``.
            amount: Not below 0.
            labels: Values, in the order of the catalogue.

        Raises:
            KeyError: there is no such counter.
            ValueError: an amount below 0, or another number of labels.
        """
        if not amount >= 0 or len(labels) != len(COUNTERS[name].labels):
            raise ValueError(
                f"{name}: expected an amount of 0 or more and {COUNTERS[name].labels}, got {amount, *labels}"
            )
        key = (name, *labels)
        with self._lock:
            if key in self._counters or len(self._counters) < MOST_SERIES:
                self._counters[key] = self._counters.get(key, 0.0) + amount
        if self.on_change is not None:
            self.on_change()

    def set(self, name: str, value: float, *labels: str) -> None:
        """Say how something is now; the arguments are those of :meth:`add`, for a name of ``LEVELS``."""
        if len(labels) != len(LEVELS[name].labels):
            raise ValueError(f"{name}: expected values of {LEVELS[name].labels}, got {labels}")
        with self._lock:
            self._levels[name, *labels] = value
        if self.on_change is not None:
            self.on_change()

    def take(self) -> Taken:
        """Return what was counted, and begin anew."""
        with self._lock:
            taken = Taken(self._counters, self._levels)
            self._counters, self._levels = {}, {}
        return taken

    def give_back(self, taken: Taken) -> None:
        """Count again what could not be brought away; a level that was set meanwhile stays."""
        with self._lock:
            for key, amount in taken.counters.items():
                self._counters[key] = self._counters.get(key, 0.0) + amount
            self._levels = {**taken.levels, **self._levels}


COUNTS = Counts()
"""Of this process."""
