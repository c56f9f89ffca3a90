"""How much of Binance's request weight each client has used in this minute.

Not here: the service's own limits of keys (``gate``), what a request weighs (``binance``).
"""

from __future__ import annotations

import time
from collections.abc import Callable

LIMIT = 6_000
"""Weight a minute, as ``exchangeInfo`` tells it."""

_MOST_CLIENTS = 10_000


class Weights:
    """Counts, of this process.

    Args:
        clock: Seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._minute = 0
        self._used: dict[str, int] = {}

    def take(self, client: str, weight: int) -> int:
        """Add what a request weighs; return what its client has used in this minute, the request included."""
        minute = int(self._clock() // 60)
        if minute != self._minute:
            self._minute = minute
            self._used = {}
        if client not in self._used and len(self._used) >= _MOST_CLIENTS:
            client = ""  # those of a minute that come after so many others share one count
        used = self._used.get(client, 0) + weight
        self._used[client] = used
        return used

    def until_next_s(self) -> int:
        """Return in how many seconds the next minute begins."""
        return 60 - int(self._clock() % 60)
