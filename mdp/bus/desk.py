"""The desk of one process for one exchange: who wants to ask waits here, and one task asks for all of them.

Requests that wait together ask together and settle on the way, so that a request costs less than one call. Not here:
who may go (``shared`` and its script; ``local``), coming back to a lost bus (``counting``).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress

from mdp.bus.counting import Counting, Verdicts
from mdp.bus.leases import Lease
from mdp.bus.line import MOST_AT_ONCE, Lines, Waiting
from mdp.bus.outage import CoolDown, CoolDowns
from mdp.bus.terms import Terms
from mdp.errors import RateLimited

LONGEST_WAIT_S = 60.0
"""A longer cool-down is left to whoever asked: it would hold a worker, and a person may want to know."""

FLUSH_S = 0.05
"""Requests that ended are settled so soon when nobody else asks."""

CLOSE_S = 1.0
"""How long a call that is on its way may delay the end."""

LONGEST_PAUSE_S = 0.25
"""Who waits asks again after so long at the latest: others may have given back, the bus may have come or gone."""


class Desk:
    """Leave to ask one exchange, as :class:`mdp.ports.Budget`. Belongs to the event loop of the first ``acquire``.

    Args:
        terms: Quotas and shares.
        counting: Who counts.
        cool_downs: Of this process.
    """

    def __init__(self, terms: Terms, counting: Counting, cool_downs: CoolDowns) -> None:
        self._terms = terms
        self._counting = counting
        self._cool_downs = cool_downs
        self._lines = Lines()
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._serving: asyncio.Task[None] | None = None
        self._name = secrets.token_hex(4)
        self._number = 0
        self._is_closing = False

    async def acquire(self, costs: Mapping[str, float], symbol: str | None = None) -> Lease:
        """Return when a request may be sent.

        Args:
            costs: Name of the quota to an amount of it.
            symbol: For the symbol's own share, ``BTC-USDT``; None: about none.

        Raises:
            RateLimited: a cool-down lasts longer than a request should wait.
            InputError: an unknown quota, or more than the whole of it.
            ConfigError: our share is less than one request costs.
        """
        since = time.monotonic()
        loop = self._open()
        while True:
            self._number += 1
            want = self._terms.want(f"{self._name}.{self._number}", costs, symbol)
            self._refuse_if_long(self._cool_downs.of(self._terms.name))
            waiting = self._lines.join(want, since, loop.create_future())
            self._wake.set()
            lease = await self._wait_for(waiting)
            # A process that was stopped meanwhile (laptop, debugger) must not send what has been forgotten elsewhere.
            if time.monotonic() - lease.given_at <= self._terms.timeout_s / 2:
                lease.waited_s = time.monotonic() - since
                return lease
            lease.answered()

    def cool_down(self, seconds: float, reason: str) -> None:
        """Let nobody at this address ask for so many seconds; the longest of all calls counts."""
        self._counting.cool(seconds, reason)
        self._cool_downs.lasts(self._terms.name, seconds, reason)
        self._wake_soon()

    async def close(self) -> None:
        """Settle what ended, and leave the bus."""
        self._cool_downs.forget(self._terms.name, self._wake_soon)
        serving, self._serving, self._loop = self._serving, None, None
        self._is_closing = True
        self._wake.set()
        if serving is not None:
            # A call that is on its way is better answered than cut off; besides, the client library sometimes takes a
            # cancellation for a broken connection, and the task would go on.
            _, late = await asyncio.wait({serving}, timeout=CLOSE_S)
            for task in late:
                task.cancel()
                await asyncio.wait({task})
        for waiting in self._lines.everybody():
            waiting.told.cancel()
        await self._counting.close()

    def _open(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or self._serving is None or self._serving.done():
            self._is_closing = False
            self._loop = asyncio.get_running_loop()
            self._cool_downs.forget(self._terms.name, self._wake_soon)
            self._cool_downs.listen(self._terms.name, self._wake_soon)
            self._counting.on_change = self._changed
            self._counting.on_answer = self._wake.set
            self._serving = self._loop.create_task(self._serve(), name=f"budget of {self._terms.exchange.value}")
        return self._loop

    async def _wait_for(self, waiting: Waiting) -> Lease:
        try:
            return await waiting.told
        except asyncio.CancelledError:
            if waiting.told.done() and not waiting.told.cancelled() and waiting.told.exception() is None:
                waiting.told.result().answered()
            self._lines.leave(waiting)
            raise

    async def _serve(self) -> None:
        try:
            await self._counting.open()
            while not self._is_closing:
                self._wake.clear()
                pause = await self._turn()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
        except Exception as error:  # nobody may wait for a desk at which nobody serves
            for waiting in self._lines.everybody():
                if not waiting.told.done():
                    waiting.told.set_exception(error)
            raise

    async def _turn(self) -> float | None:
        """Ask once for all who may be asked for, and return after how many seconds to do so again."""
        now = time.monotonic()
        cool_down = self._cool_downs.of(self._terms.name)
        if cool_down is not None and cool_down.until - now > LONGEST_WAIT_S:
            self._refuse_everybody(cool_down)
        due = [] if cool_down is not None else self._lines.due(now)
        if due or self._counting.is_due(now, FLUSH_S):
            waits = await self._counting.ask([waiting.want for waiting in due], len(self._lines))
            self._tell(due, waits)
        return self._pause()

    def _tell(self, asked: list[Waiting], waits: Verdicts) -> None:
        now = time.monotonic()
        given = 0
        for waiting, verdict in zip(asked, waits, strict=True):
            if isinstance(verdict, Lease):
                given += 1
                self._lines.leave(waiting)
                self._give(waiting, verdict, verdict.leaves_at - now)
            else:
                self._lines.hold(waiting.want, now + min(verdict, LONGEST_PAUSE_S))
        self._lines.most_at_once = max(2, min(MOST_AT_ONCE, 2 * given))

    def _give(self, waiting: Waiting, lease: Lease, delay: float) -> None:
        if delay > 0.001 and self._loop is not None:
            self._loop.call_later(delay, self._give, waiting, lease, 0.0)
        elif waiting.told.done():
            lease.answered()  # whoever waited is gone
        elif self._cool_downs.of(self._terms.name) is not None:
            lease.answered()
            self._number += 1
            waiting.want.id = f"{self._name}.{self._number}"
            self._lines.return_to(waiting)
            self._wake.set()
        else:
            waiting.told.set_result(lease)

    def _pause(self) -> float | None:
        now = time.monotonic()
        pauses = [] if (left := self._counting.next_flush_s(now, FLUSH_S)) is None else [left]
        cool_down = self._cool_downs.of(self._terms.name)
        if (due := self._lines.next_due()) is not None:
            pauses.append((cool_down.until if cool_down else due) - now)
        return max(0.0005, min(pauses)) if pauses else None

    def _refuse_everybody(self, cool_down: CoolDown) -> None:
        for waiting in self._lines.everybody():
            self._lines.leave(waiting)
            if not waiting.told.done():
                waiting.told.set_exception(self._refusal(cool_down))

    def _refuse_if_long(self, cool_down: CoolDown | None) -> None:
        if cool_down is not None and cool_down.until - time.monotonic() > LONGEST_WAIT_S:
            raise self._refusal(cool_down)

    def _refusal(self, cool_down: CoolDown) -> RateLimited:
        message = f"nobody at this address asks it for a while, because: {cool_down.reason}"
        left = max(0.0, cool_down.until - time.monotonic())
        return RateLimited(self._terms.exchange.value, message, retry_after_s=left)

    def _changed(self) -> None:
        self._lines.release()
        self._wake.set()

    def _wake_soon(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)
