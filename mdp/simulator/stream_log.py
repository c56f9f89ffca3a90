"""Who is connected to the streams, and who was.

Not here: the connections (``streams.connection``), how this is shown (``control``).
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

_KEPT = 500


class Described(Protocol):
    """A connection that can say what it is."""

    number: int

    def describe(self) -> dict[str, object]:
        """Return it as ``/control/streams`` shows it."""
        ...


class StreamLog:
    """The open connections, and the last that ended."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._open: dict[int, Described] = {}
        self._ended: deque[dict[str, object]] = deque(maxlen=kept)
        self._last = 0

    def add(self, connection: Described) -> int:
        """Note a connection; return its number."""
        self._last += 1
        self._open[self._last] = connection
        return self._last

    def remove(self, connection: Described) -> None:
        """Note that a connection ended; one that was never open changes nothing."""
        if self._open.pop(connection.number, None) is not None:
            self._ended.append(connection.describe())

    def describe(self) -> dict[str, object]:
        """Return the open connections and the last that ended, oldest first."""
        return {"open": [one.describe() for one in list(self._open.values())], "ended": list(self._ended)}
