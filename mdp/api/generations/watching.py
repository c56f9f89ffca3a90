"""Telling on the bus how generations are getting on, as long as any is at work.

Not here: how one is (``seeing``), who hears it (``bus.subscription``, streams).
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import suppress

from mdp.api.generations.backfills import GENERATION_TAG, Backfill, find, find_active
from mdp.api.generations.graphql import asking_dagster
from mdp.api.generations.resource import Generation, message_of
from mdp.api.generations.seeing import look_at
from mdp.api.problems import Problem
from mdp.api.surroundings import Surroundings
from mdp.errors import BusUnavailable, DagsterUnavailable, MdpError

_log = logging.getLogger(__name__)

_EVERY_S = 2.0
_IDLE_S = 60.0
"""So often it is looked whether another service, which may be gone by now, began one."""

_LEASE = "generations/tell"


async def watch(around: Surroundings) -> None:
    """Announce each change of each generation as ``generation.<id>``, until canceled; absences are waited out."""
    watcher = Watcher(around)
    while True:
        try:
            await watcher.look()
        except (DagsterUnavailable, Problem) as error:
            _log.info("generations are not watched now: %s", error)
        except MdpError:
            _log.exception("a generation cannot be judged")
        with suppress(TimeoutError):
            async with asyncio.timeout(_EVERY_S if watcher.has_work else _IDLE_S):
                await around.launched.wait()
                around.launched.clear()


class Watcher:
    """What was told of the generations that are at work.

    Args:
        around: Of the service.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._holder = uuid.uuid4().hex
        self._told: dict[str, str] = {}
        self._untold: dict[str, bytes] = {}
        self._ended: set[str] = set()

    @property
    def has_work(self) -> bool:
        """Tell whether a generation is at work, or its end could not be told yet."""
        return bool(self._told or self._untold)

    async def look(self) -> None:
        """Look once at all that are at work, and at those that were; tell what changed.

        Raises:
            DagsterUnavailable: it does not answer; what was known is kept.
            Problem: storage does not answer in time.
            MdpError: storage cannot be read.
        """
        async with asking_dagster(self._around.settings) as dagster:
            active = await find_active(dagster)
            latest: dict[str, Backfill] = {}
            for one in active:
                latest.setdefault(one.generation, one)
            for name in self._told.keys() - latest.keys():
                latest |= {one.generation: one for one in await find(dagster, {GENERATION_TAG: name}, 1)}
            for name in self._told.keys() - latest.keys():
                del self._told[name]  # somebody removed it from Dagster
            self._ended &= {one.id for one in active}
            for one in latest.values():
                if one.id not in self._ended:
                    self._note(one, await look_at(self._around, dagster, one, active))
        await self._tell()

    def _note(self, backfill: Backfill, seen: Generation) -> None:
        told = seen.model_dump_json()
        if self._told.get(seen.id) != told:
            self._untold[seen.id] = message_of(seen)
        if seen.is_over:
            self._told.pop(seen.id, None)
            self._ended.add(backfill.id)  # Dagster itself may need half a minute more to see it
        else:
            self._told[seen.id] = told

    async def _tell(self) -> None:
        """Say what is new; of several services that share a bus one does, and the others see that it did."""
        if not self._untold:
            return
        bus = self._around.bus
        try:
            if await bus.lease(_LEASE, self._holder, for_s=5 * _EVERY_S) is not None:
                for name in list(self._untold):
                    await bus.announce(f"generation.{name}", self._untold[name])
                    del self._untold[name]
            self._untold.clear()
        except BusUnavailable as error:
            _log.info("the progress of generations is told later: %s", error)
