"""Asking until there is an answer that can be read, or until asking again cannot help.

The only retries between us and an exchange: few and short. Minutes are for the orchestration, so a wait that an
exchange asks for is honoured here only up to :data:`LONGEST_WAIT_S`.
Not here: what is asked (``paging``), what an answer means (each exchange's ``client`` and ``parse``).
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import stamina
import stamina.instrumentation as retries

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.market import Exchange, Market
from mdp.domain.quota import Usage
from mdp.errors import CircuitOpen, ExchangeError, ExchangeUnavailable, RateLimited, RequestRejected
from mdp.exchanges.circuit import Circuit, Permit, State
from mdp.exchanges.counting import Counted
from mdp.exchanges.receiving import Receiving, size_of
from mdp.exchanges.refusals import Refusals
from mdp.exchanges.verdicts import Answer, Outcome
from mdp.logs import bound
from mdp.ports import Bandwidth, Budget, Leave

LONGEST_WAIT_S = 60.0
"""A longer wait is left to whoever asked: it would hold a worker, and a person may want to know."""

_USUAL_SIZE = 64 * 1024  # of an answer, before there was one
_PROBE_LOOKED_AT_S = 0.1  # how often those who wait for a probe look whether it is back

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
    """What a fetch took.

    Attributes:
        answered: Requests that were answered, with whatever status.
        failed: Requests that failed, and had to be sent again: name of the error, to a count.
        waited_s: Seconds that requests waited for the budget, added up.
    """

    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Question:
    """One request that may have to be sent more than once.

    Attributes:
        send: Sends it; raises ``ExchangeUnavailable`` where nothing came back.
        costs: What it costs each time: name of a quota to an amount of it.
        market: What it is about; None: no market.
    """

    send: Callable[[], Awaitable[Outcome]]
    costs: Mapping[str, float]
    market: Market | None = None

    @property
    def symbol(self) -> str | None:
        """The symbol it is about, as budgets spell it."""
        return None if self.market is None else self.market.symbol_key


class Asker:
    """Sends the requests of one source: each with leave of the budget, none to an exchange that is down or refuses.

    Args:
        exchange: Whom it asks.
        budget: Gives leave; told of every request's end, and to hold everybody when the exchange says "too often".
        read_usage: Reads what an answer reports of a quota.
        settings: How many requests at once, how many attempts, and when to stop asking.
        waits: How long to wait in between.
        refusals_last_s: So long what was refused for good is not asked again.
        bandwidth: Where the bytes of answers are counted; None: nowhere.
    """

    def __init__(
        self,
        exchange: Exchange,
        budget: Budget,
        read_usage: Callable[[Answer], Usage | None],
        settings: ExchangeSettings,
        waits: RetryWaits,
        refusals_last_s: float = math.inf,
        *,
        bandwidth: Bandwidth | None = None,
    ) -> None:
        self._exchange = exchange
        self._budget = budget
        self._read_usage = read_usage
        self._turnstile = asyncio.Semaphore(settings.pages_in_flight)
        self._circuit = Circuit(settings.failures_to_open, settings.probe_after_s)
        self._refusals = Refusals(refusals_last_s)
        self._bandwidth = bandwidth
        self._usual_size = _USUAL_SIZE
        self._jitter_s = waits.jitter_s
        self._call = stamina.AsyncRetryingCaller(
            attempts=settings.attempts,
            timeout=None,
            wait_initial=waits.initial_s,
            wait_max=waits.longest_s,
            wait_jitter=waits.jitter_s,
        )

    async def ask(self, question: Question, read: Callable[[Answer], T], tally: Tally | None = None) -> T:
        """Send until an answer can be read.

        Args:
            question: What is sent.
            read: Turns a good answer into what is wanted; raises ``PayloadError``.
            tally: Where it is counted.

        Raises:
            ExchangeError: the last attempt's failure, or the first that a retry cannot help.
        """
        failures: list[str] = []
        about = {"exchange": self._exchange.value} | ({"market": str(question.market)} if question.market else {})
        with bound(**about):
            return await self._call(self._wait_before_retry, self._attempt, question, read, tally or Tally(), failures)

    async def _attempt(self, question: Question, read: Callable[[Answer], T], tally: Tally, failures: list[str]) -> T:
        # Booked before leave is taken, which would otherwise hold its room of the quota meanwhile.
        async with self._turnstile, Receiving(self._bandwidth, self._usual_size) as receiving:
            leave, permit = await self._enter(question, tally)
            try:
                with Counted(self._exchange, leave.waited_s, failures[-1] if failures else None) as counted:
                    outcome = await self._send(question, leave, permit)
                    counted.came(outcome.answer.body)
                    self._count(receiving, outcome.answer)
                    tally.answered += 1
                    self._heed(outcome, question.market)
                    return read(outcome.answer)
            except ExchangeError as error:
                failures.append(type(error).__name__)
                tally.failed[failures[-1]] += 1
                if permit.is_probe and isinstance(error, ExchangeUnavailable):
                    raise self._circuit_open(str(error)) from error  # one probe at a time: it is not repeated here
                raise

    def _count(self, receiving: Receiving, answer: Answer) -> None:
        """Count what came; the next answer is expected to be as large."""
        if self._bandwidth is not None:
            size = size_of(answer)
            receiving.count(size)
            self._usual_size = size

    async def _enter(self, question: Question, tally: Tally) -> tuple[Leave, Permit]:
        """Wait until the request may be sent; what changes while the budget is waited for counts too."""
        waited_s = 0.0
        while True:
            self._refusals.check(question.market)
            if pause_s := await self._wait_for_circuit(waited_s):
                waited_s += pause_s
                continue  # the circuit is looked at again first: leave that is not used is used up all the same
            permit = self._circuit.enter(time.monotonic())
            if permit is None:
                continue
            try:
                leave = await self._take_leave(question, tally)
            except BaseException:
                self._circuit.abandoned(permit)
                raise
            # The probe is one's own from before the wait; all others may have come to an end of it meanwhile.
            current = permit if permit.is_probe else self._circuit.enter(time.monotonic())
            if current is not None:
                return leave, current
            leave.answered()

    async def _take_leave(self, question: Question, tally: Tally) -> Leave:
        """Wait for the budget; refuse what was refused meanwhile."""
        leave = await self._budget.acquire(question.costs, question.symbol)
        tally.waited_s += leave.waited_s
        try:
            self._refusals.check(question.market)
        except RequestRejected:
            leave.answered()
            raise
        return leave

    async def _wait_for_circuit(self, waited_s: float) -> float:
        """Wait a while if the exchange is not asked now, and return how long; refuse what would take too long."""
        retry_after_s = self._circuit.retry_after_s(time.monotonic())
        if not retry_after_s:
            return 0.0
        if waited_s + retry_after_s > LONGEST_WAIT_S:
            message = f"no usable answer {self._circuit.failures} times in a row, so it is not asked now"
            raise self._circuit_open(message)
        is_probed = self._circuit.state is State.HALF_OPEN
        wait_s = min(retry_after_s, _PROBE_LOOKED_AT_S) if is_probed else retry_after_s
        await asyncio.sleep(wait_s)
        return wait_s

    def _circuit_open(self, message: str) -> CircuitOpen:
        retry_after_s = self._circuit.retry_after_s(time.monotonic())
        return CircuitOpen(self._exchange.value, message, retry_after_s=retry_after_s)

    async def _send(self, question: Question, leave: Leave, permit: Permit) -> Outcome:
        """Send once; whatever happens, the budget and the circuit hear of it exactly once."""
        usage: Usage | None = None
        try:
            outcome = await question.send()
            usage = self._read_usage(outcome.answer)
        except ExchangeUnavailable:
            self._circuit.failed(permit, time.monotonic())
            raise
        except BaseException:
            self._circuit.abandoned(permit)
            raise
        finally:
            leave.answered(usage)
        if isinstance(outcome.error, ExchangeUnavailable):
            self._circuit.failed(permit, time.monotonic())
        else:
            self._circuit.succeeded(permit)
        return outcome

    def _heed(self, outcome: Outcome, market: Market | None) -> None:
        """Raise what is wrong with an answer, and let the next requests know of it."""
        error = outcome.error
        if error is None:
            return
        if isinstance(error, RateLimited):
            self._budget.cool_down(error.retry_after_s, str(error))
        if isinstance(error, RequestRejected):
            self._refusals.remember(error, outcome.reach, market)
        raise error from outcome.cause

    def _wait_before_retry(self, error: Exception) -> bool | float:
        if not isinstance(error, ExchangeError) or not error.retryable or isinstance(error, CircuitOpen):
            return False
        if not isinstance(error, RateLimited):
            return True
        if error.retry_after_s > LONGEST_WAIT_S:
            return False
        return error.retry_after_s + random.uniform(0, self._jitter_s)
