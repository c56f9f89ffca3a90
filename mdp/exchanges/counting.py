"""What is counted of each request to an exchange or its archive.

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
        COUNTS.add("mdp_fetch_requests", 1, self._exchange, _outcome(kind))
        COUNTS.add("mdp_fetch_seconds", time.monotonic() - self._began, self._exchange)
        if self._waited_s:
            COUNTS.add("mdp_fetch_budget_waited_seconds", self._waited_s, self._exchange)
        if self._again_for is not None:
            COUNTS.add("mdp_fetch_retries", 1, self._exchange, self._again_for)


class CountedFile:
    """Counts one file of an archive, from asking for it to having received it. Use it inside ``with``.

    Args:
        exchange: Whose archive.
    """

    __slots__ = ("_began", "_exchange", "_is_absent")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._began, self._is_absent = exchange.value, 0.0, False

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        return self

    def came(self, size: int) -> None:
        """Count bytes that came."""
        COUNTS.add("mdp_archive_bytes", size, self._exchange)

    def is_absent(self) -> None:
        """Note that there is no such file."""
        self._is_absent = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome = "absent" if self._is_absent and kind is None else _outcome(kind)
        COUNTS.add("mdp_archive_requests", 1, self._exchange, outcome)
        COUNTS.add("mdp_archive_seconds", time.monotonic() - self._began, self._exchange)


def _outcome(error: type[BaseException] | None) -> str:
    if error is None:
        return "answered"
    return error.__name__ if issubclass(error, ExchangeError) else "cancelled"
