"""How long to wait before something that failed is tried again. Pure.

Not here: what failed (``market_feed``).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Waits that double, with jitter, until it went well for a while.

    Attributes:
        first_s: The first wait.
        longest_s: No wait is longer.
        good_after_s: So long it must have worked for the next wait to be the first one again.
        chance: Where the jitter comes from.
    """

    first_s: float = 0.1
    longest_s: float = 10.0
    good_after_s: float = 60.0
    chance: random.Random = field(default_factory=random.Random)
    _next_s: float = 0.0

    def failed(self, after_s: float) -> float:
        """Return how many seconds to wait now.

        Args:
            after_s: How long it had worked before it failed.
        """
        if after_s >= self.good_after_s or not self._next_s:
            self._next_s = self.first_s
        wait_s, self._next_s = self._next_s, min(self._next_s * 2, self.longest_s)
        # from half of it up: those who failed together do not come back together
        return wait_s * self.chance.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin with the first wait again."""
        self._next_s = 0.0
