"""Leave that was given: what the caller holds of it, and the process's own memory of the last windows.

The memory is what a process writes into the shared count when it comes back to it, and what it goes on with alone.
Not here: whether leave is given (``local``, ``shared``).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mdp.bus.messages import UNTOLD, Answered, Recalled, Told, Want
from mdp.bus.terms import Terms
from mdp.domain.quota import Usage


@dataclass(slots=True)
class Lease:
    """Leave to send one request, as :class:`mdp.ports.Leave`.

    Attributes:
        want: What was asked for.
        given_at: When, on the monotonic clock.
        leaves_at: When it may be sent: leave may be given a little ahead.
        minutes: The exchange's windows at that time, by quota.
        on_answer: Told of the end of the request.
        waited_s: Seconds it was waited for.
        answered_at: When the request came to its end; None while it has not.
        usages: What its answer reported.
    """

    want: Want
    given_at: float
    leaves_at: float
    minutes: list[int]
    on_answer: Callable[[Lease], None]
    waited_s: float = 0.0
    answered_at: float | None = None
    usages: list[Usage] = field(default_factory=list)

    def answered(self, usage: Usage | None = None) -> None:
        """Say that the request came to its end; a second call changes nothing."""
        if self.answered_at is not None:
            return
        self.answered_at = time.monotonic()
        if usage is not None:
            self.usages.append(usage)
        self.on_answer(self)

    def settlement(self, terms: Terms, now: float) -> Answered:
        """Return its end as the script reads it."""
        told = [
            Told(
                terms.number_of(usage.quota),
                UNTOLD if usage.used is None else usage.used,
                UNTOLD if usage.left is None else usage.left,
                UNTOLD if usage.resets_in_s is None else usage.resets_in_s,
            )
            for usage in self.usages
        ]
        age = max(0.0, now - (self.answered_at or now))
        return Answered(self.want.id, self.want.symbol, self.want.costs, age, self.minutes, told)

    def frees_at(self, window_s: float, timeout_s: float) -> float:
        """Return when its room is free in a quota with this window."""
        return (self.given_at + timeout_s if self.answered_at is None else self.answered_at) + window_s


class Memory:
    """The leases of one process that still count in any quota."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._open: dict[str, Lease] = {}
        self._ended: deque[Lease] = deque()

    def keep(self, lease: Lease) -> None:
        """Remember a lease that was given."""
        self._open[lease.want.id] = lease

    def end(self, lease: Lease) -> None:
        """Remember that its request came to its end, just now."""
        self._open.pop(lease.want.id, None)
        self._ended.append(lease)
        self.prune(lease.answered_at or lease.given_at)

    def forget(self, lease: Lease) -> None:
        """Forget a lease whose request was never sent."""
        self._open.pop(lease.want.id, None)

    def prune(self, now: float) -> None:
        """Forget what counts no more."""
        longest = self._terms.longest_window_s
        while self._ended and self._ended[0].frees_at(longest, 0) <= now:
            self._ended.popleft()

    def leases(self) -> Iterator[Lease]:
        """Return all that may still count."""
        yield from self._ended
        yield from self._open.values()

    def recalled(self, now: float) -> list[Recalled]:
        """Return them as the script reads them."""
        terms = self._terms
        return [
            Recalled(
                lease.want.id,
                lease.want.symbol,
                lease.want.costs,
                [max(0.0, lease.frees_at(quota.window_s, terms.timeout_s) - now) for quota in terms.quotas],
            )
            for lease in self.leases()
        ]
