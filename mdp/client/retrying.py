"""When a question is asked again, and after how long: only where that can help and changes nothing.

Streams connect again by the same pauses, without an end. Not here: what went wrong (``errors``), asking
(``transport``).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from mdp.client.errors import ApiError


@dataclass(frozen=True, slots=True)
class Retrying:
    """How patient a client is.

    Attributes:
        attempts: Times a question is asked at most; 1: never again.
        first_pause_s: Before the second time; twice as long before each further one.
        longest_pause_s: Never longer. A service that asks for more patience than this gets its error raised at once.
    """

    attempts: int = 4
    first_pause_s: float = 0.2
    longest_pause_s: float = 30.0

    def after(self, error: ApiError, failures: int) -> float | None:
        """Return seconds to wait before asking again; None: do not.

        Args:
            error: What went wrong.
            failures: How often it did, this time included.
        """
        if not error.retryable or failures >= self.attempts:
            return None
        pause_s = self.pause_s(failures)
        if error.retry_after_s is None:
            return pause_s
        if error.retry_after_s > self.longest_pause_s:
            return None
        # a little later than asked, each client by another amount, so that not all of them come back at once
        return error.retry_after_s + pause_s * 0.5

    def pause_s(self, failures: int) -> float:
        """Return seconds to wait after so many failures: between half and all of the doubled pause."""
        longest = min(self.longest_pause_s, self.first_pause_s * 2.0 ** min(failures - 1, 30))
        return longest * random.uniform(0.5, 1.0)
