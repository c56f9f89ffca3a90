"""Counting in one process alone: while the bus cannot be reached, and where there is none.

What others do is not known then. Every process goes on with what it had when it last saw the shared count, and with
its part of the room that was left; when a window has passed it comes down to its part of our share, and only when
another has passed it may rise to that. So the sum of all never exceeds the share while there are no more processes
than parts. Not here: the shared count (``shared``).
"""

from __future__ import annotations

from collections.abc import Sequence

from mdp.bus.leases import Lease, Memory
from mdp.bus.messages import Want
from mdp.bus.terms import Terms
from mdp.domain.quota import Window, share_of


class LocalCount:
    """Counts the requests of one process.

    Args:
        terms: Quotas and shares.
        part: The part of our share that this process takes.
        memory: What it asked in the last windows.
        lost_at: When it lost the shared count; None: it never saw it.
        room: What was left in each quota at that time.
    """

    def __init__(
        self, terms: Terms, part: float, memory: Memory, *, lost_at: float | None, room: Sequence[float]
    ) -> None:
        self._terms = terms
        self._part = part
        self._lost_at = lost_at
        timeout_s = terms.timeout_s
        self._windows = [Window(0, quota.window_s, timeout_s) for quota in terms.quotas]
        self._symbols: dict[tuple[str, int], Window] = {}
        for lease in memory.leases():
            for window, cost, window_s in self._concerned(lease.want):
                if (free := lease.frees_at(window_s, timeout_s)) > (lost_at or free - 1):
                    window.recall(cost, lease.want.id, free)
        self._at_first = [window.used + part * left for window, left in zip(self._windows, room, strict=True)]

    def wait_s(self, now: float, want: Want) -> float:
        """Return after how many seconds to ask again; 0: it may be sent."""
        pause = 0.0
        for number, cost in want.costs:
            self._windows[number].limit = self._limit(number, now, cost)
        for window, cost, _ in self._concerned(want):
            pause = max(pause, window.wait_s(now, cost))
        return pause

    def take(self, now: float, want: Want) -> None:
        """Count a request that was given leave."""
        for window, cost, _ in self._concerned(want):
            window.take(now, cost, want.id)

    def answered(self, lease: Lease) -> None:
        """Count the end of a request."""
        for window, cost, _ in self._concerned(lease.want):
            window.answered(lease.answered_at or lease.given_at, cost, lease.want.id)

    def give_back(self, want: Want) -> None:
        """Forget a request that was not sent."""
        for window, _, _ in self._concerned(want):
            window.give_back(want.id)

    def _limit(self, number: int, now: float, cost: float) -> float:
        quota = self._terms.quotas[number]
        part = share_of(quota.amount, self._terms.rate_share, self._part)
        if self._lost_at is not None:
            windows = (now - self._lost_at) / (quota.window_s + self._terms.timeout_s)
            if windows < 1:
                return self._at_first[number]
            if windows < 2:
                return min(part, self._at_first[number])
        return max(part, cost)  # the last resort: one request at a time, rather than none for ever

    def _concerned(self, want: Want) -> list[tuple[Window, float, float]]:
        found = []
        for number, cost in want.costs:
            window_s = self._terms.quotas[number].window_s
            found.append((self._windows[number], cost, window_s))
            if want.symbol:
                limit = want.limits[number]
                key = (want.symbol, number)
                own = self._symbols.setdefault(key, Window(limit, window_s, self._terms.timeout_s))
                own.limit = max(share_of(limit, self._part), cost)
                found.append((own, cost, window_s))
        return found
