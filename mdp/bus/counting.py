"""Who counts for a desk: the bus while it is there, otherwise this process alone, and the way from one to the other.

Not here: waiting (``desk``), the rules of either count (``script``, ``local``).
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from mdp.bus.leases import Lease, Memory
from mdp.bus.local import LocalCount
from mdp.bus.messages import About, Cooling, Reply, Want
from mdp.bus.outage import CoolDowns, Outage
from mdp.bus.shared import BusLost, SharedCount
from mdp.bus.terms import Terms
from mdp.domain.quota import BURST

GUARD_S = 3.0
"""After a return, for so long nobody takes more than alone: others may still be on their way back."""

ABOUT_S = 1.0
"""How often a process says of itself that it is there."""


def _nothing() -> None:
    pass


Verdicts = list[float | Lease]
"""For each request: leave, or after how many seconds to ask again."""


class Counting:
    """Counts for one desk.

    Args:
        terms: Quotas and shares.
        shared: The count of all processes; None: this process is alone.
        outage: Told when the bus goes and comes.
        cool_downs: Of this process.
        part: Part of our share that this process takes alone.
        retry_s: How often a lost bus is tried.
        ready: Waits until the bus may be tried for the first time.
    """

    def __init__(
        self,
        terms: Terms,
        shared: SharedCount | None,
        *,
        outage: Outage,
        cool_downs: CoolDowns,
        part: float,
        retry_s: float = 1.0,
        ready: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._terms = terms
        self._shared = shared
        self._outage = outage
        self._cool_downs = cool_downs
        self._part = part
        self._retry_s = retry_s
        self._ready = ready
        self._memory = Memory(terms)
        self._local: LocalCount | None = None
        self._is_joined = False
        self._guard_until = 0.0
        self._answered: list[Lease] = []
        self._cooling: list[tuple[float, str]] = []
        self._waited: list[float] = []
        self._about_at = 0.0
        self._is_closing = False
        self._returning: asyncio.Task[None] | None = None
        self.on_change: Callable[[], None] = _nothing
        self.on_answer: Callable[[], None] = _nothing

    async def open(self) -> None:
        """Go to the bus for the first time, or begin alone."""
        self._is_closing = False
        if self._shared is None:
            self._begin_alone(None)
            return
        if self._ready is not None:
            await self._ready()
        try:
            await self._join(self._shared)
        except BusLost as error:
            self._lose(self._shared, error)

    async def close(self) -> None:
        """Settle what ended and leave the bus."""
        self._is_closing = True
        if self._returning is not None:
            self._returning.cancel()
            await asyncio.wait({self._returning})
        if self._shared is not None:
            if self._is_joined and (self._answered or self._cooling):
                with suppress(BusLost):
                    await self._ask_shared(self._shared, [], 0)
            self._is_joined = False
            await self._shared.leave()

    def cool(self, seconds: float, reason: str) -> None:
        """Tell everybody that an exchange must be left alone."""
        self._cooling.append((time.monotonic() + seconds, reason))

    def is_due(self, now: float, flush_s: float) -> bool:
        """Tell whether there is something to say to the bus, whoever waits."""
        left = self.next_flush_s(now, flush_s)
        return left is not None and left <= 0

    def next_flush_s(self, now: float, flush_s: float) -> float | None:
        """Return in how many seconds what ended must be said; None: there is nothing to say."""
        if not self._is_joined:
            return None
        if self._cooling:
            return 0.0
        return (self._answered[0].answered_at or now) + flush_s - now if self._answered else None

    async def ask(self, wants: list[Want], waiting: int) -> Verdicts:
        """Ask leave for requests, in this order."""
        if self._is_joined and self._shared is not None:
            try:
                return await self._ask_guarded(self._shared, wants, waiting)
            except BusLost as error:
                self._lose(self._shared, error)
        return self._ask_local(wants)

    async def _ask_guarded(self, shared: SharedCount, wants: list[Want], waiting: int) -> Verdicts:
        local = self._local
        if local is not None and time.monotonic() >= self._guard_until:
            local = self._local = None
        if local is None:
            return await self._ask_shared(shared, wants, waiting)
        now = time.monotonic()
        alone: dict[str, float] = {}
        for want in wants:
            alone[want.id] = local.wait_s(now, want)
            if alone[want.id] <= 0:
                local.take(now, want)
        allowed = [want for want in wants if alone[want.id] <= 0]
        given = dict(zip([want.id for want in allowed], await self._ask_shared(shared, allowed, waiting), strict=True))
        for want in allowed:
            if not isinstance(given[want.id], Lease):
                local.give_back(want)
        return [given.get(want.id, alone[want.id]) for want in wants]

    async def _ask_shared(self, shared: SharedCount, wants: list[Want], waiting: int) -> Verdicts:
        answered, cooling, waited = self._answered, self._cooling, self._waited
        self._answered, self._cooling, self._waited = [], [], []
        now = time.monotonic()
        try:
            reply = await shared.ask(
                wants,
                [lease.settlement(self._terms, now) for lease in answered],
                [Cooling(until - now, reason, is_counted=True) for until, reason in cooling],
                waited=waited,
                about=self._about(now, waiting),
            )
        except BusLost:
            self._cooling = cooling + self._cooling
            raise
        self._heed(reply)
        return [
            self._lease(want, now, wait, reply.minutes) if wait >= 0 else -wait
            for want, wait in zip(wants, reply.waits, strict=True)
        ]

    def _ask_local(self, wants: list[Want]) -> Verdicts:
        local = self._local or self._begin_alone(None)
        now = time.monotonic()
        verdicts: Verdicts = []
        for want in wants:
            pause = local.wait_s(now, want)
            if pause <= 0:
                local.take(now, want)
                verdicts.append(self._lease(want, now, 0.0, [0] * len(self._terms.quotas)))
            else:
                verdicts.append(pause)
        return verdicts

    def _lease(self, want: Want, now: float, delay: float, minutes: list[int]) -> Lease:
        lease = Lease(want, now, now + delay, minutes, self._end)
        self._memory.keep(lease)
        return lease

    def _end(self, lease: Lease) -> None:
        self._memory.end(lease)
        self._waited.append(lease.waited_s)
        if self._local is not None:
            self._local.answered(lease)
        if self._is_joined:
            self._answered.append(lease)
            if len(self._answered) == 1:
                self.on_answer()

    def _heed(self, reply: Reply) -> None:
        if reply.cool > 0:
            self._cool_downs.lasts(self._terms.name, reply.cool, reply.reason)
        if reply.young > 0:
            self._guard(reply.young)

    def _guard(self, seconds: float) -> None:
        """For a while take no more than alone: the count may not know of everybody yet."""
        if self._local is None:
            self._begin_alone(time.monotonic())
        self._guard_until = max(self._guard_until, time.monotonic() + seconds)

    def _begin_alone(self, lost_at: float | None, room: list[float] | None = None) -> LocalCount:
        left = room or [0.0] * len(self._terms.quotas)
        self._local = LocalCount(self._terms, self._part, self._memory, lost_at=lost_at, room=left)
        return self._local

    def _lose(self, shared: SharedCount, error: BusLost) -> None:
        self._is_joined = False
        self._outage.begins(str(error), time.monotonic() if shared.seen_at else 0.0)
        if self._local is None:
            self._begin_alone(time.monotonic() if shared.seen_at else None, self._room_left(shared))
        self._answered.clear()  # the memory holds them, and writes them into the count on return
        self.on_change()
        if self._returning is None or self._returning.done():
            self._returning = asyncio.get_running_loop().create_task(self._return(shared))

    def _room_left(self, shared: SharedCount) -> list[float]:
        """Return what is certainly left of the room last seen: others took what they could since then."""
        idle_s = time.monotonic() - shared.seen_at
        return [
            max(0.0, room - quota.amount * (idle_s / quota.window_s + BURST))
            for room, quota in zip(shared.room, self._terms.quotas, strict=True)
        ]

    async def _return(self, shared: SharedCount) -> None:
        while not self._is_closing:
            await asyncio.sleep(self._retry_s)
            self._outage.goes_on()
            with suppress(BusLost):
                await self._join(shared)
                self._guard(GUARD_S)
                self._outage.ends()
                self.on_change()
                return

    async def _join(self, shared: SharedCount) -> None:
        now = time.monotonic()
        self._memory.prune(now)
        known = self._cool_downs.of(self._terms.name)
        cooling = [Cooling(known.until - now, known.reason, is_counted=False)] if known else []
        reply = await shared.join(self._memory.recalled(now), cooling)
        self._is_joined = True
        # whatever ended while the call was on its way is still open in the count
        self._answered = [lease for lease in self._memory.leases() if (lease.answered_at or 0.0) >= now]
        self._heed(reply)

    def _about(self, now: float, waiting: int) -> str:
        if now - self._about_at < ABOUT_S:
            return ""
        self._about_at = now
        about = About(socket.gethostname(), os.getpid(), self._terms.env, self._terms.priority.value, waiting)
        return msgspec.json.encode(about).decode()
