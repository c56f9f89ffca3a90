"""The feed of one exchange: holds the lease, runs its markets side by side, tells how it is, and ends in order.

Not here: one market (``market_feed``), opening what it works with (``cli``), starting and watching it
(``supervising``).
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import time
from collections.abc import Coroutine
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

from mdp.errors import BusUnavailable
from mdp.live.health import FeedHealth, told_under, write_health
from mdp.live.market_feed import MarketFeed
from mdp.live.market_health import health_of
from mdp.live.means import Means
from mdp.live.rereading import reread
from mdp.live.seeding import seed
from mdp.live.tenure import Tenure
from mdp.logs import bound

_log = logging.getLogger(__name__)

TOLD_EVERY_S = 1.0
FORGOTTEN_AFTER_S = 5.0
"""A feed that told nothing for so long is not heard of any more."""

FLUSH_S = 0.6
"""So long the end of a feed waits for the bus to take what is pending."""

DEAF_AFTER_S = 18.0
"""A connection that gave no sign of life for so long is half open."""

_BUS_PATIENCE_S = 10.0


class Feed:
    """One exchange's feed. Make and use it inside its event loop.

    Args:
        means: What it works with.
        holder: Of the lease: who it is.
        while_wanted: End when nobody says ``wanted/<exchange>`` any more, or somebody says ``unwanted/<exchange>``.
    """

    def __init__(self, means: Means, holder: str, *, while_wanted: bool) -> None:
        self._means = means
        self._while_wanted = while_wanted
        self._tenure = Tenure(means.bus, told_under(means.exchange.value), holder, means.live.lease_s)
        self._markets = [MarketFeed(market, means, self._tenure) for market in means.markets]
        self._stop = asyncio.Event()
        self._started_us = time.time_ns() // 1000

    def stop(self, why: str) -> None:
        """End within a second: what is pending is published, the lease released."""
        if not self._stop.is_set():
            _log.info("%s: the feed ends: %s", self._means.exchange.value, why)
            self._stop.set()

    async def run(self, *, waits: bool) -> None:
        """Run until stopped.

        Args:
            waits: Whether to wait until a feed that runs already is gone.

        Raises:
            LeaseHeld: another feed of this exchange runs, or took the lease over.
            BusUnavailable: the bus could not be reached at the beginning.
        """
        if not await self._take_lease(waits=waits):
            return
        _log.info(
            "%s: the feed begins as %s: %d markets", self._means.exchange.value, self._tenure.holder, len(self._markets)
        )
        keeping = [asyncio.create_task(one) for one in self._keeping()]
        feeding = [asyncio.create_task(one) for one in self._feeding()]
        stopped = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait([stopped, *keeping, *feeding], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancel(feeding)
            # nobody may hear of us any more when the next one begins: first the flush, then the lease
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S if self._tenure.is_valid() else 0):
                    await asyncio.gather(*(one.publisher.flushed() for one in self._markets if one.publisher.is_open))
            await _cancel([stopped, *keeping])
            await self._say_goodbye()
        for task in done - {stopped}:
            task.result()

    async def _take_lease(self, *, waits: bool) -> bool:
        """Take the lease; a bus that is just being started is waited for. False: stopped meanwhile."""
        until = time.monotonic() + _BUS_PATIENCE_S
        while True:
            taking = asyncio.create_task(self._tenure.take(waits=waits))
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait([taking, stopped], return_when=asyncio.FIRST_COMPLETED)
            await _cancel([stopped])
            if not taking.done():
                await _cancel([taking])
                return False
            try:
                taking.result()
                return True
            except BusUnavailable:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.2)

    def _keeping(self) -> list[Coroutine[Any, Any, None]]:
        """What runs to the very end."""
        return [self._tenure.hold(), self._tell(), *(one.publisher.run() for one in self._markets)]

    def _feeding(self) -> list[Coroutine[Any, Any, None]]:
        """What brings candles, and what decides how long."""
        listening = [_about(one, one.stream()) for one in self._markets]
        asking = [_about(one, _seed_and_ask(one)) for one in self._markets]
        heeding = [self._heed_wishes()] if self._while_wanted else []
        return [*listening, *asking, *heeding, self._watch_connection()]

    async def _watch_connection(self) -> None:
        while True:
            await asyncio.sleep(1)
            if DEAF_AFTER_S < (heard_s := self._means.stream.heard_s()) < inf:
                why = f"half open: not even a pong for {heard_s:.0f} s"
                _log.warning("%s: the connection is %s; it is opened anew", self._means.exchange.value, why)
                await self._means.stream.drop(why)

    async def _heed_wishes(self) -> None:
        """End when nobody wants this feed any more; while the bus is away nobody can say so."""
        name = self._means.exchange.value
        wanted_at = time.monotonic()
        while True:
            try:
                if f"unwanted/{name}" in await self._means.bus.told(f"unwanted/{name}"):
                    self.stop("it is not wanted any more")
                if f"wanted/{name}" in await self._means.bus.told(f"wanted/{name}"):
                    wanted_at = time.monotonic()
                elif time.monotonic() - wanted_at > FORGOTTEN_AFTER_S:
                    self.stop("nobody wants it any more")
            except BusUnavailable:
                wanted_at = time.monotonic()
            await asyncio.sleep(0.4)

    async def _tell(self) -> None:
        while True:
            with suppress(BusUnavailable):
                await self._means.bus.tell(self._tenure.name, self._health(), for_s=FORGOTTEN_AFTER_S)
            await asyncio.sleep(TOLD_EVERY_S)

    async def _say_goodbye(self) -> None:
        was_held = self._tenure.is_valid()
        with suppress(BusUnavailable, TimeoutError):
            async with asyncio.timeout(0.3):
                if was_held:
                    await self._means.bus.tell(self._tenure.name, self._health(), for_s=1)
                await self._tenure.release()

    def _health(self) -> bytes:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return write_health(
            FeedHealth(
                exchange=self._means.exchange.value,
                holder=self._tenure.holder,
                pid=os.getpid(),
                host=socket.gethostname(),
                started_us=self._started_us,
                market_us=self._means.now_us(),
                is_stopping=self._stop.is_set(),
                markets=tuple(health_of(one) for one in self._markets),
                rss_mb=round(_rss_bytes() / 1e6, 1),
                cpu_s=round(used.ru_utime + used.ru_stime, 3),
                bus_losses=max((one.publisher.bus_losses for one in self._markets), default=0),
            )
        )


async def _about(market: MarketFeed, work: Coroutine[Any, Any, None]) -> None:
    with bound(market=str(market.market)):
        await work


async def _seed_and_ask(market: MarketFeed) -> None:
    await seed(market)
    await asyncio.gather(market.ask(), reread(market))


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _rss_bytes() -> int:
    """Memory held now; where the system does not tell, the most that ever was."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
