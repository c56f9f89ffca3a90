"""The live run: it holds the lease, keeps feeds running, and stores what they hand on until it is told to end.

Not here: keeping feeds running (``live.supervising``), judging and storing (``pipeline.live``), the op and its signals
(``live_job``), what people see of a flush (``live_metadata``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from mdp.config.sections import LiveSettings
from mdp.domain.market import Exchange
from mdp.errors import BusUnavailable, LeaseHeld, MdpError
from mdp.live.supervising import Log, Supervisor
from mdp.pipeline.live_report import Kept, NotKept
from mdp.ports.live import Lease, LiveBus, Taken

LEASE = "live"
ALIVE = "live-run"
"""Under this name the run says its id, and is remembered for three lengths of its lease."""

SEEN = "live-run/seen"
"""Under this name its id is remembered for a day: that it came so far as to hold the lease."""

AT_MOST = 4_000
"""Entries of one batch: seven hours of nine markets."""

DISMISS_S = 3.0
"""How long feeds are waited for that were told to end."""

LAST_FLUSH_S = 3.5
"""After so long no further batch is begun by a run that ends; what is left is the next one's."""

LEASE_PATIENCE_S = 20.0
_TRIES = 3
"""Of what an ending run asks of a bus that may be away for a moment."""


class Ending(StrEnum):
    """Why a live run ends."""

    OVER = "its time is over; the next one follows"
    UNWANTED = "the sensor was turned off"
    INTERRUPTED = "it was terminated"
    REPLACED = "another run holds its lease"


@dataclass(slots=True)
class Flush:
    """What one flush came to.

    Attributes:
        taken: Entries that were taken.
        stored: Those that are stored and acknowledged.
        kept: The report of each batch.
        problem: Why the others are not stored; empty when all are.
    """

    taken: int = 0
    stored: int = 0
    kept: list[Kept] = field(default_factory=list)
    problem: str = ""


Keep = Callable[[Sequence[Taken]], Awaitable[Kept]]
"""Judges and stores a batch."""


class Surroundings(Protocol):
    """What the run asks and tells outside of the bus."""

    async def sensor_is_off(self) -> bool:
        """Tell whether the sensor that rules this run was turned off."""
        ...

    async def is_over(self, run_id: str) -> bool:
        """Tell whether a run is known to have ended."""
        ...

    async def flushed(self, flush: Flush) -> None:
        """Report a flush in which something was taken."""
        ...


class LiveRun:
    """One live run, over a bus that is open."""

    def __init__(
        self,
        bus: LiveBus,
        run_id: str,
        supervisor: Supervisor,
        keep: Keep,
        around: Surroundings,
        settings: LiveSettings,
        log: Log,
    ) -> None:
        self._bus, self._run_id, self._supervisor, self._keep = bus, run_id, supervisor, keep
        self._around, self._settings, self._log = around, settings, log
        self._ending: Ending | None = None
        self._told_to_end = asyncio.Event()
        self._problem = ""
        self._stuck = 0  # entries that cannot be stored now, and come first with each take
        self._flushing: asyncio.Task[None] | None = None

    def end(self, why: Ending) -> None:
        """Tell the run to end; of several reasons the first counts."""
        self._ending = self._ending or why
        self._told_to_end.set()

    async def work(self) -> Ending:
        """Work until told to end, or until its time is over; all that was handed on by then is stored.

        Raises:
            LeaseHeld: another live run is alive.
            BusUnavailable: the bus does not answer at the beginning; later it is waited for.
        """
        lease = await self._acquire()
        if lease is None:
            return self._ending or Ending.OVER
        try:
            tasks = [
                asyncio.create_task(one)
                for one in (self._hold(lease), self._supervisor.run(), self._watch_sensor(), self._flush_regularly())
            ]
            try:
                await self._wait(tasks)
            finally:
                await _cancelled(tasks)
            ending = self._ending or Ending.OVER
            if ending is not Ending.REPLACED:
                await self._finish(lease, ending)
            return ending
        finally:
            await self._flush_ended()
            await self._release(lease)

    async def _release(self, lease: Lease) -> None:
        """Give the lease up; where the bus does not answer, it lapses."""
        for _ in range(_TRIES):
            with suppress(BusUnavailable):
                await lease.release()
                await self._bus.tell(ALIVE, b"", for_s=0.001)
                return
            await asyncio.sleep(0.1)

    async def _wait(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Wait for the end that was told or the time that is over; a task that fails is an error of the run."""
        told = asyncio.create_task(self._told_to_end.wait())
        try:
            done, _ = await asyncio.wait(
                [told, *tasks], timeout=self._settings.run_minutes * 60, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            told.cancel()
        for task in done:
            if task is not told:
                task.result()

    async def _finish(self, lease: Lease, ending: Ending) -> None:
        """Store all that was handed on; before that, where feeds are not wanted any more, wait for their last words."""
        holding = asyncio.create_task(self._hold(lease))
        try:
            self._log.info(f"this run ends: {ending.value}")
            if ending is Ending.UNWANTED:
                self._say_left(await self._supervisor.dismiss(within_s=DISMISS_S))
            await self._flush_all()
            if ending is not Ending.UNWANTED and await self._around.sensor_is_off():
                # turned off while this run ended by itself: no other run comes that would see it
                self._say_left(await self._supervisor.dismiss(within_s=DISMISS_S))
                await self._flush_all()
        finally:
            await _cancelled([holding])

    async def _flush_all(self) -> None:
        """Store all that waits; a feed that ends may take the server of the bus along, which is back in a moment."""
        await self._flush_ended()
        deadline = time.monotonic() + LAST_FLUSH_S
        while True:
            await self._flush(until_empty=True)
            if not self._problem or time.monotonic() > deadline:
                return
            await asyncio.sleep(0.1)

    def _say_left(self, left: Sequence[Exchange]) -> None:
        if left:
            names = ", ".join(exchange.value for exchange in left)
            self._log.warning(f"feeds that did not end in {DISMISS_S:g} s: {names}; what they still hand on, waits")
        elif self._supervisor.starts_feeds:
            self._log.info("all feeds ended; buffers keep their last state")
        else:
            self._log.info("feeds are services of their own and go on; what they hand on, waits for the next live run")

    async def _acquire(self) -> Lease | None:
        """Take the lease; of a run that ended without giving it up it is taken away. None: this run is to end."""
        deadline = time.monotonic() + LEASE_PATIENCE_S
        while not self._told_to_end.is_set():
            is_last = time.monotonic() > deadline
            try:
                lease = await self._bus.lease(LEASE, self._run_id, for_s=self._settings.lease_s)
                if lease is not None:
                    return lease
                holder = await self._bus.holder_of(LEASE)
                if holder is not None and await self._around.is_over(holder):
                    await self._bus.revoke(LEASE, holder)
                elif holder is not None and is_last:
                    raise LeaseHeld(LEASE, holder=f"the live run {holder}")
            except BusUnavailable:
                if is_last:
                    raise
            await asyncio.sleep(0.2)
        return None

    async def _hold(self, lease: Lease) -> None:
        """Renew the lease, and say that this run is alive, until it is lost to another."""
        while True:
            with suppress(BusUnavailable):
                if not await lease.renew():
                    # lapsed, or forgotten by a bus that was started again
                    again = await self._bus.lease(LEASE, self._run_id, for_s=self._settings.lease_s)
                    if again is None:
                        self._log.warning(f"another run holds the lease {LEASE}: this one ends")
                        self.end(Ending.REPLACED)
                        return
                await self._bus.tell(ALIVE, self._run_id.encode(), for_s=3 * self._settings.lease_s)
                await self._bus.tell(SEEN, self._run_id.encode(), for_s=86_400)
            await asyncio.sleep(self._settings.lease_s / 4)

    async def _watch_sensor(self) -> None:
        while not await self._around.sensor_is_off():
            await asyncio.sleep(1)
        self.end(Ending.UNWANTED)
        await asyncio.Event().wait()  # whoever waits for the tasks is told by the event

    async def _flush_regularly(self) -> None:
        while True:
            began = time.monotonic()
            self._flushing = asyncio.create_task(self._flush(until_empty=False))
            await asyncio.shield(self._flushing)  # what is being stored when this run is told to end, is waited for
            await asyncio.sleep(max(0.05, self._settings.persist_every_s - (time.monotonic() - began)))

    async def _flush_ended(self) -> None:
        if self._flushing is not None:
            await asyncio.wait([self._flushing])

    async def _flush(self, *, until_empty: bool) -> None:
        """Store what waits, batch by batch; report it. What cannot be stored is taken again at the next flush."""
        flush = Flush()
        deadline = time.monotonic() + (LAST_FLUSH_S if until_empty else self._settings.persist_every_s)
        try:
            while time.monotonic() < deadline:
                at_most = AT_MOST + self._stuck
                taken = await self._bus.take(self._run_id, at_most=at_most, wait_s=0)
                if not taken or not await self._store(taken, flush):
                    break
                if len(taken) < at_most and not until_empty:
                    break
        except BusUnavailable as error:
            flush.problem = str(error)
        self._say_problem(flush.problem)
        if flush.taken:
            await self._around.flushed(flush)

    async def _store(self, taken: Sequence[Taken], flush: Flush) -> bool:
        """Store one batch and acknowledge what is durable; tell whether that is all of it."""
        flush.taken += len(taken)
        durable, self._stuck = taken, len(taken)
        try:
            kept = await self._keep(taken)
        except NotKept as error:
            kept, flush.problem = error.kept, str(error)
            durable = [one for one in taken if one.entry.market not in error.failures]
        except (MdpError, OSError) as error:
            flush.problem = f"{type(error).__name__}: {error}"
            return False
        await self._bus.acknowledge(durable)
        self._stuck -= len(durable)
        flush.kept.append(kept)
        flush.stored += len(durable)
        return not flush.problem

    def _say_problem(self, problem: str) -> None:
        if problem and problem != self._problem:
            self._log.warning(f"not stored, and tried again at the next flush; nothing is lost: {problem}")
        elif self._problem and not problem:
            self._log.info("stored again, and what had waited too")
        self._problem = problem


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
