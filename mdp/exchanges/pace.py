"""Leave to ask: the one place where every request to an exchange waits for its turn.

A budget shared by all processes of a machine takes the place of a :class:`Pace` behind the same two methods; it is what
``open_source`` is given as ``pace``.
Not here: what a quota is (each exchange's ``client``), when an answer means "too often" (``verdicts``).
"""

from __future__ import annotations

import asyncio
import math
import time


class Pace:
    """Spaces the requests of one process to one exchange evenly, and holds all of them during a cool-down.

    Args:
        requests_per_s: No more than this; infinite where something else spaces them (CCXT's throttler).
    """

    def __init__(self, requests_per_s: float = math.inf) -> None:
        self._spacing_s = 1 / requests_per_s
        self._next = 0.0
        self._held_until = 0.0

    async def acquire(self) -> None:
        """Return when a request may be sent."""
        now = time.monotonic()
        turn = max(now, self._next)
        self._next = turn + self._spacing_s
        # Looked at again after each sleep: somebody else's 429 may have come meanwhile.
        while (wait_s := max(turn, self._held_until) - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)

    def cool_down(self, seconds: float) -> None:
        """Let nobody ask for so many seconds."""
        self._held_until = max(self._held_until, time.monotonic() + seconds)
