"""When to stop asking an exchange that does not answer, and who may try whether it is back. Pure.

::

    CLOSED ── failures_to_open failures in a row ──▶ OPEN ── probe_after_s later ──▶ HALF_OPEN
      ▲                                               ▲                                 │
      │                                               └────────── the probe failed ─────┤
      └────────────────────────────────── the probe was answered ───────────────────────┘

Not here: waiting, and what counts as a failure (``asking``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Whether an exchange is asked."""

    CLOSED = "closed"
    """By everybody."""
    OPEN = "open"
    """By nobody."""
    HALF_OPEN = "half-open"
    """By one, the probe, whose answer is waited for."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave of a circuit to send one request; give it back with what became of it, exactly once.

    Attributes:
        opening: How often the circuit had opened when it was given.
        is_probe: Whether the request is the one that tries.
    """

    opening: int
    is_probe: bool


class Circuit:
    """Counts failures of one exchange. Times are seconds on any clock that never goes back.

    What becomes of a request that was sent before the circuit opened says nothing of the exchange since, so that only
    the probe closes an open circuit, and a straggler's failure does not put the next probe off.

    Args:
        failures_to_open: Failures in a row after which nobody asks.
        probe_after_s: Seconds until one may try.
    """

    def __init__(self, failures_to_open: int, probe_after_s: float) -> None:
        self._failures_to_open = failures_to_open
        self._probe_after_s = probe_after_s
        self._failures = 0
        self._opening = 0
        self._probe_at = 0.0
        self.state = State.CLOSED

    @property
    def failures(self) -> int:
        """How many requests in a row have failed."""
        return self._failures

    def enter(self, now: float) -> Permit | None:
        """Return leave to send one request, or None where it must not be sent now."""
        if self.state is State.OPEN and now >= self._probe_at:
            self.state = State.HALF_OPEN
            return Permit(self._opening, is_probe=True)
        return Permit(self._opening, is_probe=False) if self.state is State.CLOSED else None

    def retry_after_s(self, now: float) -> float:
        """Return the seconds until asking again makes sense: 0 where it does now.

        While a probe is on its way nobody knows; it is the wait that follows if the probe fails.
        """
        if self.state is State.OPEN:
            return max(0.0, self._probe_at - now)
        return self._probe_after_s if self.state is State.HALF_OPEN else 0.0

    def succeeded(self, permit: Permit) -> None:
        """The request was answered, whatever with."""
        if self._is_current(permit):
            self._failures = 0
            self.state = State.CLOSED

    def failed(self, permit: Permit, now: float) -> None:
        """Nothing usable came back."""
        if not self._is_current(permit):
            return
        self._failures += 1
        if permit.is_probe or self._failures >= self._failures_to_open:
            self._opening += 1
            self._probe_at = now + self._probe_after_s
            self.state = State.OPEN

    def abandoned(self, permit: Permit) -> None:
        """Nobody waited for the answer; if it was the probe, another may try at once."""
        if permit.is_probe and self._is_current(permit):
            self.state = State.OPEN

    def _is_current(self, permit: Permit) -> bool:
        return permit.opening == self._opening and permit.is_probe is (self.state is State.HALF_OPEN)
