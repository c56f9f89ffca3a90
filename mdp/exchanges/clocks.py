"""How far an exchange's clock is from ours.

Not here: what is decided by its time (``paging``, each exchange's ``pager`` and ``parse``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from mdp.exchanges.asking import Asker, Question, Tally
from mdp.exchanges.verdicts import Answer, Outcome
from mdp.ports import Clock

_KEPT = timedelta(minutes=10)
"""How long the difference between the two clocks is trusted: ours may be set in the meantime."""


class ExchangeClock:
    """The exchange's clock: asked once in ten minutes, by whoever needs it first.

    Args:
        asker: Sends the request.
        clock: Our own time.
        question: The request.
        read: Reads the exchange's time off the body of an answer.
    """

    def __init__(self, asker: Asker, clock: Clock, question: Question, read: Callable[[str], datetime]) -> None:
        self._asker = asker
        self._clock = clock
        self._question = question
        self._read = read
        self._offset = timedelta()
        self._measured_at: datetime | None = None
        self._lock = asyncio.Lock()

    async def offset(self, tally: Tally) -> timedelta:
        """Return the exchange's time, less ours.

        Args:
            tally: Where waits and repeats are counted if it has to be asked. The request itself is not: what is
                learnt serves other fetches too.

        Raises:
            ExchangeError: its clock could not be read.
        """
        async with self._lock:
            now = self._clock()
            if self._measured_at is None or abs(now - self._measured_at) > _KEPT:
                self._offset = await self._measure(tally)
                self._measured_at = now
            return self._offset

    async def _measure(self, tally: Tally) -> timedelta:
        sent_at = self._clock()

        async def send() -> Outcome:
            nonlocal sent_at
            sent_at = self._clock()
            return await self._question.send()

        def read(answer: Answer) -> timedelta:
            # The exchange read its clock somewhere between our two readings: in the middle, as far as we can tell.
            return self._read(answer.body) - (sent_at + (answer.received_at - sent_at) / 2)

        own = Tally()
        try:
            return await self._asker.ask(replace(self._question, send=send), read, own)
        finally:
            tally.failed += own.failed
            tally.waited_s += own.waited_s
