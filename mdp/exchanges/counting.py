"""What is counted of each request to an exchange.

Not here: the names (``counts``), the tally of one fetch (``asking``).
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from mdp.counts import COUNTS
from mdp.domain.market import Exchange
from mdp.errors import ExchangeError


class Counted:
    """Counts one request, from its sending to its answer having been read. Use it inside ``with``.

    Args:
        exchange: Who is asked.
        waited_s: Seconds it waited for the budget.
        again_for: The error for which it is sent again; None: it is the first time.
    """

    __slots__ = ("_again_for", "_began", "_exchange", "_waited_s")

    def __init__(self, exchange: Exchange, waited_s: float, again_for: str | None) -> None:
        self._exchange, self._waited_s, self._again_for, self._began = exchange.value, waited_s, again_for, 0.0

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        return self

    def came(self, body: str) -> None:
        """Count the bytes of an answer; its characters are as many, where it is ASCII."""
        COUNTS.add("mdp_fetch_bytes", len(body), self._exchange)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome = "answered" if kind is None else kind.__name__ if issubclass(kind, ExchangeError) else "cancelled"
        COUNTS.add("mdp_fetch_requests", 1, self._exchange, outcome)
        COUNTS.add("mdp_fetch_seconds", time.monotonic() - self._began, self._exchange)
        if self._waited_s:
            COUNTS.add("mdp_fetch_budget_waited_seconds", self._waited_s, self._exchange)
        if self._again_for is not None:
            COUNTS.add("mdp_fetch_retries", 1, self._exchange, self._again_for)
