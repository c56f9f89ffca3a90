"""Answers that take long and that many ask for at once: worked out once, kept for a moment.

Not here: what is worked out.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class SingleFlight(Generic[Answer]):
    """Answers by question. For one event loop.

    Args:
        keep_s: Seconds for which an answer is given again.
        most: So many answers are kept; the oldest goes first.
    """

    def __init__(self, keep_s: float, most: int = 16) -> None:
        self._keep_s, self._most = keep_s, most
        self._asked: OrderedDict[Hashable, tuple[float, asyncio.Task[Answer]]] = OrderedDict()

    async def get(self, question: Hashable, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the answer to a question; who asks while it is being worked out waits for the same one.

        Whoever began the work and goes away does not take it away from others. An error is told to all that wait, and
        kept for nobody after them.
        """
        known = self._asked.get(question)
        if known is not None and not self._is_over(*known):
            return await asyncio.shield(known[1])
        task = asyncio.ensure_future(self._done(question, work))
        self._asked[question] = (time.monotonic(), task)
        self._asked.move_to_end(question)
        while len(self._asked) > self._most:
            self._asked.popitem(last=False)
        return await asyncio.shield(task)

    async def _done(self, question: Hashable, work: Callable[[], Awaitable[Answer]]) -> Answer:
        found = await work()
        known = self._asked.get(question)
        if known is not None and known[1] is asyncio.current_task():
            self._asked[question] = (time.monotonic(), known[1])  # kept from when it is known
        return found

    def _is_over(self, since: float, task: asyncio.Task[Answer]) -> bool:
        if not task.done():
            return False
        is_broken = task.cancelled() or task.exception() is not None
        return is_broken or time.monotonic() - since > self._keep_s
