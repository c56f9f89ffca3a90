"""What was asked of the simulator: the newest requests, and a count of all.

Not here: when something is written into it (``wire``), how it is shown (``control``).
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator

from msgspec import Struct

from mdp.domain.market import Exchange

KEPT = 50_000
"""Requests kept, about 400 bytes each."""


class LoggedRequest(Struct, frozen=True):
    """One request and its answer.

    Attributes:
        number: Counts all requests from 1.
        at_s: When it came, real seconds since the epoch.
        took_ms: Until the answer was sent.
        client: Address and port it came from.
        exchange: Who was asked.
        method: Such as ``GET``.
        path: With the exchange's prefix.
        query: As sent.
        status: Of the answer; None: there was none.
        size: Bytes of the body as sent.
        faults: What spoiled it: the number and the kind of each fault, ``3:status``.
        quota_left: What the address had left of the quota after it; None: not counted.
    """

    number: int
    at_s: float
    took_ms: float
    client: str
    exchange: Exchange
    method: str
    path: str
    query: str
    status: int | None
    size: int
    faults: tuple[str, ...]
    quota_left: float | None


class RequestLog:
    """The newest requests, and how many there were of each exchange and status."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept: deque[LoggedRequest] = deque(maxlen=kept)
        self._counts: Counter[tuple[Exchange, int | None]] = Counter()
        self._last = 0

    def add(self, *, at_s: float, exchange: Exchange, status: int | None, **rest: object) -> None:
        """Write down one request."""
        self._last += 1
        self._counts[exchange, status] += 1
        took_ms = round((time.time() - at_s) * 1_000, 3)
        entry = LoggedRequest(self._last, at_s, took_ms, exchange=exchange, status=status, **rest)  # type: ignore[arg-type] # the caller's names are the fields
        self._kept.append(entry)

    @property
    def last(self) -> int:
        """Number of the newest request; 0 before the first."""
        return self._last

    def clear(self) -> None:
        """Forget all requests and begin to count anew; numbers go on."""
        self._kept.clear()
        self._counts.clear()

    def since(self, number: int = 0, exchange: Exchange | None = None) -> list[LoggedRequest]:
        """Return the kept requests after a number, of one exchange or of all, oldest first."""
        newest = list(self._newer_than(number))[::-1]
        return [entry for entry in newest if exchange in (None, entry.exchange)]

    def counts(self, exchange: Exchange | None = None) -> dict[str, int]:
        """Return how many requests were answered with each status, ``none`` for no answer; those forgotten too."""
        counts: Counter[str] = Counter()
        for (asked, status), count in self._counts.items():
            if exchange in (None, asked):
                counts[str(status or "none")] += count
        return dict(counts)

    def _newer_than(self, number: int) -> Iterator[LoggedRequest]:
        for entry in list(self._kept)[::-1]:
            if entry.number <= number:
                return
            yield entry
