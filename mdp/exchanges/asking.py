"""Asking until there is an answer that can be read, or until asking again cannot help.

The only retries between us and an exchange: few and short. Minutes are for the orchestration, so a wait that an
exchange asks for is honoured here only up to :data:`LONGEST_WAIT_S`.
Not here: what is asked (``paging``), what an answer means (each exchange's ``client`` and ``parse``).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import stamina
import stamina.instrumentation as retries

from mdp.errors import ExchangeError, RateLimited
from mdp.exchanges.pace import Pace
from mdp.exchanges.verdicts import Answer, Outcome

LONGEST_WAIT_S = 60.0
"""A longer wait is left to whoever asked: it would hold a worker, and a person may want to know."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


def _log_retry(details: retries.RetryDetails) -> None:
    _log.warning("%s; attempt %d in %.1f s", details.caused_by, details.retry_num + 1, details.wait_for)


# In place of the library's own report, which goes to standard output, where a command's result belongs.
retries.set_on_retry_hooks((_log_retry,))


@dataclass(frozen=True, slots=True)
class RetryWaits:
    """How long to wait before an attempt is repeated, where the exchange does not say.

    Attributes:
        initial_s: Before the second attempt; doubled each time.
        longest_s: At most.
        jitter_s: Up to so much more, at random, so that pages that failed together do not come back together.
    """

    initial_s: float = 0.25
    longest_s: float = 5.0
    jitter_s: float = 0.5


@dataclass(slots=True)
class Tally:
    """Counts the requests that were answered, with whatever status."""

    answered: int = 0


class Asker:
    """Sends requests, reads their answers, and repeats what failed for a passing reason.

    Args:
        pace: Told to hold everybody when the exchange says "too often".
        attempts: How often a request is sent before its failure is reported.
        waits: How long to wait in between.
    """

    def __init__(self, pace: Pace, attempts: int, waits: RetryWaits) -> None:
        self._pace = pace
        self._jitter_s = waits.jitter_s
        self._call = stamina.AsyncRetryingCaller(
            attempts=attempts,
            timeout=None,
            wait_initial=waits.initial_s,
            wait_max=waits.longest_s,
            wait_jitter=waits.jitter_s,
        )

    async def ask(
        self, send: Callable[[], Awaitable[Outcome]], read: Callable[[Answer], T], tally: Tally | None = None
    ) -> T:
        """Send until an answer can be read.

        Args:
            send: One request; raises ``ExchangeUnavailable`` where nothing came back.
            read: Turns a good answer into what is wanted; raises ``PayloadError``.
            tally: Where answered requests are counted.

        Raises:
            ExchangeError: the last attempt's failure, or the first that a retry cannot help.
        """
        return await self._call(self._wait_before_retry, self._ask_once, send, read, tally or Tally())

    async def _ask_once(self, send: Callable[[], Awaitable[Outcome]], read: Callable[[Answer], T], tally: Tally) -> T:
        outcome = await send()
        tally.answered += 1
        if isinstance(outcome.error, RateLimited):
            self._pace.cool_down(outcome.error.retry_after_s)
        if outcome.error is not None:
            raise outcome.error from outcome.cause
        return read(outcome.answer)

    def _wait_before_retry(self, error: Exception) -> bool | float:
        if not isinstance(error, ExchangeError) or not error.retryable:
            return False
        if not isinstance(error, RateLimited):
            return True
        if error.retry_after_s > LONGEST_WAIT_S:
            return False
        return error.retry_after_s + random.uniform(0, self._jitter_s)
