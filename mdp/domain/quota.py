"""How often one address may ask an exchange, what an answer says about it, and the counting that keeps a limit. Pure.

Not here: which quotas an exchange has (each exchange's ``quota``), counting them for all processes (``bus``).
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

BURST = 0.015
"""Part of a window by which requests may come earlier than evenly spaced, so that a late wake-up loses nothing."""

TOLERATED = 1e-9
"""Sums of amounts such as 0.1 are not exact; a limit is met when it is missed by no more than this."""


class Priority(StrEnum):
    """Who goes first when not all may ask: what is live does, and a backfill waits."""

    LIVE = "live"
    BACKFILL = "backfill"


@dataclass(frozen=True, slots=True)
class Quota:
    """One limit of an exchange: so much in any window of so many seconds, by address.

    Attributes:
        name: What is counted, such as ``weight`` or ``market/history-candles``; unique within the exchange.
        amount: How much of it, in the exchange's own unit.
        window_s: Length of the window, whenever it starts.
        is_calendar: Whether the exchange counts by whole windows of its own clock (Binance: minutes), so that what an
            answer reports counts from the start of such a window.
    """

    name: str
    amount: float
    window_s: float
    is_calendar: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer reports of a quota.

    Attributes:
        quota: Its name.
        used: How much of it this address has used in the current window, whoever asked; None where not told.
        left: How much is left; None where not told.
        resets_in_s: Seconds until it is whole again; None where not told.
    """

    quota: str
    used: float | None = None
    left: float | None = None
    resets_in_s: float | None = None


def share_of(amount: float, *shares: float) -> float:
    """Return a share, or a share of a share, of an amount: in whole units and never more than it is.

    >>> share_of(100, 0.29)
    29.0
    >>> share_of(20, 0.8, 0.5)
    8.0
    """
    # in decimals, as the shares were written: in binary 0.29 of 100 is a little less than 29
    exact = math.prod((Decimal(repr(share)) for share in shares), start=Decimal(repr(amount)))
    return float(math.floor(exact))


def spacing_s(cost: float, limit: float, window_s: float) -> float:
    """Return the seconds between two requests of this cost that are spaced evenly over a window."""
    return cost * window_s / limit


def earliness_s(cost: float, limit: float, window_s: float) -> float:
    """Return how much earlier than evenly spaced a request may leave: one request, or a small part of the window."""
    return max(spacing_s(cost, limit, window_s), BURST * window_s)


class Window:
    """Counts what was asked in the last ``window_s`` seconds, so that the exchange never counts more than the limit.

    A request reached the exchange at a moment that we do not know, between our leave and its answer. It therefore
    takes room from the leave on, until a window has passed since the answer; whatever the network, the garbage
    collector or the scheduler do, no window of the exchange holds more than the limit. Besides that, requests are
    spaced evenly (generic cell rate algorithm), so that nobody has to wait for a whole window.

    Times are seconds on any clock that does not go backwards, the same in every call.

    Args:
        limit: How much may be used in a window; may be changed later, and below what is used then nothing leaves.
        window_s: Length of the window.
        timeout_s: After so long a request without an answer has reached the exchange, or never will.
    """

    def __init__(self, limit: float, window_s: float, timeout_s: float) -> None:
        self.limit = limit
        self.used = 0.0
        self._window_s = window_s
        self._timeout_s = timeout_s
        self._next_s = -math.inf
        self._costs: dict[str, tuple[float, float]] = {}
        self._ends: list[tuple[float, str]] = []

    def wait_s(self, now: float, cost: float) -> float:
        """Return after how many seconds to ask again; 0: there is room now.

        An answer that comes meanwhile does not make it shorter: its room is free a window later.
        """
        self._forget_what_ended(now)
        if self.limit <= 0:
            return self._window_s
        pause = 0.0
        if self.used + cost > self.limit + TOLERATED:
            pause = max(0.001, min(self._ends[0][0] - now, self._window_s) if self._ends else self._window_s)
        early = earliness_s(cost, self.limit, self._window_s)
        too_early_s = self._next_s - early - now
        return max(pause, too_early_s) if too_early_s > TOLERATED else pause

    def take(self, now: float, cost: float, request: str) -> None:
        """Count a request that was given leave."""
        self._put(request, cost, now + self._timeout_s + self._window_s)
        self._next_s = max(now, self._next_s) + spacing_s(cost, max(self.limit, cost), self._window_s)

    def answered(self, at: float, cost: float, request: str) -> None:
        """Count a request until a window after ``at``, when it came to its end; also one that was forgotten before."""
        self._put(request, cost, at + self._window_s)

    def recall(self, cost: float, request: str, ends: float) -> None:
        """Count a request of earlier, whose room is free at ``ends``."""
        self._put(request, cost, ends)

    def give_back(self, request: str) -> None:
        """Forget a request that was never sent."""
        cost, _ = self._costs.pop(request, (0.0, 0.0))
        self.used = max(0.0, self.used - cost)

    def _put(self, request: str, cost: float, ends: float) -> None:
        if request not in self._costs:
            self.used += cost
        self._costs[request] = (cost, ends)
        heapq.heappush(self._ends, (ends, request))

    def _forget_what_ended(self, now: float) -> None:
        while self._ends:
            ends, request = self._ends[0]
            is_current = request in self._costs and self._costs[request][1] == ends
            if is_current and ends > now:
                return
            heapq.heappop(self._ends)
            if is_current:
                self.give_back(request)
        self.used = 0.0
