"""The way of one market's changes and entries to the bus: in order, at once, and nothing lost while the bus is away.

Not here: what changes (``domain.buffers``), how it is written (``bus``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from itertools import islice
from math import inf

from mdp.domain.buffers import MarketBuffers
from mdp.domain.live import CandleState, Change, Entry
from mdp.domain.timeframe import Timeframe
from mdp.errors import BusUnavailable
from mdp.live.backoff import Backoff
from mdp.live.tenure import Tenure
from mdp.ports import LiveBus

_log = logging.getLogger(__name__)

MOST_PENDING = 10_000
"""Entries that wait for the bus at most: a week of one market's minutes, about 10 MB. Then the oldest are given up."""

KEPT_S, KEPT_US = 60.0, 3_600_000_000
"""Published entries are kept for so long, in our time and in the market's, whichever is longer: a server that dies may
have forgotten the last second of what it acknowledged."""

_AT_ONCE = 500
"""Entries in one step, so that no step takes long."""


class Publisher:
    """Publishes what changes in the buffers of one market, one step at a time.

    What changes while a step is under way goes with the next one; of a candle that is still forming only the latest
    values do. Nothing is published before :meth:`open`.

    Args:
        bus: Where to.
        buffers: Whose changes these are; written anew, whole, after the bus was lost.
        tenure: Without it nothing is published.

    Attributes:
        lost_entries: Given up because the bus was away for too long.
        bus_losses: How often the bus was found to be away, or to be another one.
    """

    def __init__(self, bus: LiveBus, buffers: MarketBuffers, tenure: Tenure) -> None:
        self._bus = bus
        self._buffers = buffers
        self._tenure = tenure
        self._changes: list[Change] = []
        self._forming: dict[tuple[Timeframe, int], int] = {}
        self._entries: deque[Entry] = deque()
        self._published: deque[tuple[float, Entry]] = deque()
        self._rewritten: frozenset[Timeframe] = frozenset()
        self._epoch = ""
        self._is_open = False
        self._work = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._backoff = Backoff(0.02, 0.5, inf)
        self.lost_entries = 0
        self.bus_losses = 0

    @property
    def pending_entries(self) -> int:
        """Entries that the bus does not have yet."""
        return len(self._entries)

    def open(self) -> None:
        """Write the buffers whole, and from now on each change."""
        self._is_open = True
        self.rewrite(frozenset(Timeframe))

    @property
    def is_open(self) -> bool:
        """Whether anything is published yet."""
        return self._is_open

    def rewrite(self, timeframes: frozenset[Timeframe]) -> None:
        """Write some buffers whole, instead of single changes."""
        self._rewritten |= timeframes
        self._wake()

    def push(self, changes: Sequence[Change], entries: Sequence[Entry] = ()) -> None:
        """Publish changes and entries, in this order, as soon as can be."""
        for change in changes:
            self._push_change(change)
        if entries:
            self._entries.extend(entries)
            while len(self._entries) > MOST_PENDING:
                self._entries.popleft()
                self.lost_entries += 1
        self._wake()

    def _push_change(self, change: Change) -> None:
        key = (change.timeframe, change.candle.open_us)
        held = self._forming.get(key)
        is_forming = change.candle.state is CandleState.FORMING
        if held is not None:
            self._changes[held] = change
            if not is_forming:
                del self._forming[key]
            return
        if is_forming:
            self._forming[key] = len(self._changes)
        self._changes.append(change)

    def _wake(self) -> None:
        if self._is_open and (self._changes or self._entries or self._rewritten):
            self._is_idle.clear()
            self._work.set()

    async def flushed(self) -> None:
        """Wait until all that was pushed is published."""
        await self._is_idle.wait()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._work.wait()
            try:
                if not self._tenure.is_valid():
                    await self._tenure.wait_valid()
                await self._step()
                self._backoff.reset()
            except BusUnavailable as error:
                self._lose_bus(str(error))
                await asyncio.sleep(self._backoff.failed(0.0))

    async def _step(self) -> None:
        if self._epoch != (epoch := self._bus.epoch):
            if self._epoch:
                self._lose_bus("another server, or another start of it")
            self._epoch = epoch
        entries = list(islice(self._entries, _AT_ONCE))
        # entries first: whoever takes over believes what the rings say to be handed on
        if len(self._entries) > len(entries):
            await self._publish([], entries)
            return
        if self._rewritten:
            await self._publish([], entries)
            if self._entries:
                return
            entries = []
            await self._rewrite()
        changes, self._changes, self._forming = self._changes, [], {}
        await self._publish(changes, entries)
        if self._bus.epoch != self._epoch:
            return  # the server was another one meanwhile: the next step writes all anew
        if not (self._changes or self._entries or self._rewritten):
            self._work.clear()
            self._is_idle.set()

    async def _publish(self, changes: Sequence[Change], entries: Sequence[Entry]) -> None:
        if changes or entries:
            await self._bus.publish(self._buffers.market, changes, entries)
            self._mark_published(entries)

    async def _rewrite(self) -> None:
        """The buffers as they are now hold all changes that wait; a closed candle is told by the rewritten buffer."""
        rewritten, self._rewritten = self._rewritten, frozenset()
        kept = [change for change in self._changes if change.timeframe not in rewritten]
        self._changes, self._forming = [], {}
        for change in kept:
            self._push_change(change)
        buffers = self._buffers.buffers()
        try:
            await self._bus.rewrite(self._buffers.market, {one: buffers[one] for one in rewritten})
        except BaseException:
            self._rewritten |= rewritten
            raise

    def _mark_published(self, entries: Sequence[Entry]) -> None:
        now = time.monotonic()
        for entry in entries:
            # the oldest may have been given up while this step was under way
            if self._entries and self._entries[0] is entry:
                self._entries.popleft()
            self._published.append((now, entry))
        newest_us = self._published[-1][1].told_us if self._published else 0
        while self._published:
            at_s, entry = self._published[0]
            if now - at_s < KEPT_S or newest_us - entry.told_us < KEPT_US:
                break
            self._published.popleft()

    def _lose_bus(self, why: str) -> None:
        """What was written last may be gone: all buffers are written anew, and the last entries handed on again."""
        if self._rewritten != frozenset(Timeframe):
            self.bus_losses += 1
            _log.warning("%s: the bus was lost (%s); buffers and entries are written again", self._buffers.market, why)
        again = [entry for _, entry in self._published]
        self._published.clear()
        self._entries.extendleft(reversed(again))
        self.rewrite(frozenset(Timeframe))
