"""Where feeds, the live run and readers meet: ``ports.LiveBus`` over Valkey or Redis.

Not here: the steps on the server (``live_script``), entries that wait (``waiting``), reading without an event loop
(``buffer_reading``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from redis.exceptions import ResponseError

from mdp.bus.address import bus_address
from mdp.bus.connections import Connections
from mdp.bus.entries import MOST_ENTRIES, pack_entry
from mdp.bus.keeping import Share
from mdp.bus.live_keys import LiveKeys, feed_lease
from mdp.bus.live_leases import LiveLease, as_milliseconds
from mdp.bus.live_script import FREE, PUBLISH, REWRITE, TELL, TOLD
from mdp.bus.rings import pack_row, pack_rows, unpack_ring
from mdp.bus.subscription import Subscription
from mdp.bus.topics import buffer_rest, change_rests
from mdp.bus.waiting import Waiting
from mdp.config.settings import Settings
from mdp.domain.live import Buffer, Change, Entry, LiveCandle
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import LeaseHeld
from mdp.ports.live import Backlog, Taken

NOBODY = "; nobody keeps it now: `mdp feed` starts it, and so does `live_sensor` in Dagster"


class ValkeyLiveBus:
    """See ``ports.LiveBus``.

    Args:
        settings: Where the bus is, the environment, the size of buffers.
        keeps: Whether this process keeps the embedded server running; one that only looks does not.
        most_entries: How many entries may wait for storage.
    """

    def __init__(self, settings: Settings, *, keeps: bool, most_entries: int = MOST_ENTRIES) -> None:
        address = bus_address(settings)
        is_embedded = address.keeps is not None
        self._keys = LiveKeys(settings.env)
        self._connections = Connections(address, self._keys.mark, NOBODY if is_embedded and not keeps else "")
        self._kept_dir = address.keeps if keeps else None
        self._share: Share | None = None
        self._size = settings.live.buffer_size
        self._most = most_entries
        self._waiting = Waiting(self._connections, self._keys)
        self._leases: dict[str, LiveLease] = {}
        self._written: set[bytes] = set()

    async def __aenter__(self) -> Self:
        if self._kept_dir is not None:
            share = self._share = Share(self._kept_dir)
            await asyncio.to_thread(share.wait_until_ready)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connections.close()
        share, self._share = self._share, None
        if share is not None:
            await asyncio.to_thread(share.close)

    @property
    def epoch(self) -> str:
        """Which server answered last and which start of it; empty before the first answer."""
        return self._connections.epoch

    async def publish(self, market: Market, changes: Sequence[Change], entries: Sequence[Entry] = ()) -> None:
        """Write changed candles, hand on entries and tell subscribers, in one atomic step.

        A candle of a slot that the ring does not cover any more, or that is there already just so, changes nothing.

        Raises:
            BusUnavailable: it may have happened.
            LeaseHeld: this bus took the lease of the market's feed, and somebody else has it now.
            InputError: a candle with figures that are none.
        """
        if not changes and not entries:
            return
        keys = self._keys
        rings, words = [], []
        for change in changes:
            place, candle = keys.place(market, change.timeframe), change.candle
            rest, told = change_rests(place, candle)
            rings.append(place.ring)
            words += [candle.open_us, place.slot_us, pack_row(candle), place.candles, rest, place.buffers, told]
        written_us = max((change.candle.received_us for change in changes), default=0)
        name = feed_lease(market.exchange)
        made = await self._write(
            name,
            PUBLISH,
            (keys.lease(name), keys.mark, keys.entries, keys.said("entries/lost"), keys.names, *rings),
            (self._most, self._size, written_us, len(changes), *words, *map(pack_entry, entries)),
        )
        if made > len(set(rings) - self._written):
            self._connections.lost_something()
        self._written.update(rings)

    async def rewrite(self, market: Market, buffers: Mapping[Timeframe, Sequence[LiveCandle]]) -> None:
        """Replace the whole content of some buffers, in one atomic step.

        Raises:
            BusUnavailable: it may have happened.
            LeaseHeld: this bus took the lease of the market's feed, and somebody else has it now.
            InputError: a candle with figures that are none.
        """
        if not buffers:
            return
        rings, words = [], []
        for timeframe, candles in buffers.items():
            place = self._keys.place(market, timeframe)
            rows, newest_us = pack_rows(candles, self._size, place.slot_us)
            rings.append(place.ring)
            words += [newest_us, rows, place.buffers, buffer_rest(place, "rewritten", newest_us)]
        told = (candle.received_us for candles in buffers.values() for candle in candles)
        name = feed_lease(market.exchange)
        written_us = max(told, default=0)
        await self._write(
            name, REWRITE, (self._keys.lease(name), self._keys.mark, *rings), (self._size, written_us, *words)
        )
        self._written.update(rings)

    async def buffer(self, market: Market, timeframe: Timeframe) -> Buffer | None:
        """Return a buffer; None where no feed ever wrote one."""
        ring = await self._connections.call("GET", self._keys.place(market, timeframe).ring)
        return unpack_ring(ring, market, timeframe)

    def subscribe(self, *patterns: str) -> Subscription:
        """Hear messages whose topic fits a pattern; see ``Subscription``. Close it, or leave ``async with``."""
        return Subscription(self._connections, self._keys, patterns)

    async def announce(self, topic: str, body: bytes) -> None:
        """Say something to whoever subscribes to a topic now; nobody else will ever hear it.

        Raises:
            BusUnavailable: it may have been said.
        """
        await self._connections.call("PUBLISH", self._keys.channel(topic), body)

    async def take(self, consumer: str, *, at_most: int, wait_s: float) -> Sequence[Taken]:
        """Take entries for storage: one's own unfinished ones, those of who is gone, then new ones.

        What was taken and is not acknowledged is taken again by the next call of the same consumer, at once.
        """
        return await self._waiting.take(consumer, at_most=at_most, wait_s=wait_s)

    async def acknowledge(self, taken: Sequence[Taken]) -> None:
        """Say that entries are stored; again changes nothing."""
        await self._waiting.acknowledge(taken)

    async def backlog(self) -> Backlog:
        """Tell what waits for storage."""
        return await self._waiting.backlog()

    async def lease(self, name: str, holder: str, *, for_s: float) -> LiveLease | None:
        """Take a lease; None: somebody else holds it.

        With ``feed/<exchange>`` this bus writes buffers of the exchange only as long as nobody else holds it.
        """
        lease = LiveLease(self._connections, self._keys.lease(name), name, holder, for_s)
        if not await lease.take():
            return None
        self._leases[name] = lease
        return lease

    async def holder_of(self, name: str) -> str | None:
        """Tell who holds a lease; None: nobody."""
        found = await self._connections.call("GET", self._keys.lease(name))
        return None if found is None else str(found.decode())

    async def revoke(self, name: str, holder: str) -> None:
        """Free a lease of a holder that is known to be dead."""
        await self._connections.run(FREE, (self._keys.lease(name),), holder)

    async def tell(self, name: str, said: bytes, *, for_s: float) -> None:
        """Say something about oneself; it is forgotten after ``for_s``."""
        keys = (self._keys.names, self._keys.said(name))
        await self._connections.run(TELL, keys, name, said, as_milliseconds(for_s))

    async def told(self, prefix: str) -> Mapping[str, bytes]:
        """Return what is said under names with a prefix; ``entries/lost`` counts entries that were dropped."""
        found = await self._connections.run(TOLD, (self._keys.names,), self._keys.said(""), prefix)
        return {name.decode(): said for name, said in zip(found[::2], found[1::2], strict=True)}

    async def _write(self, name: str, script: Any, keys: tuple[bytes, ...], words: tuple[Any, ...]) -> Any:
        """Run a script that writes, as the holder of a lease where this bus took it."""
        lease = self._leases.get(name)
        try:
            return await self._connections.run(script, keys, lease.holder if lease else "", *words)
        except ResponseError as error:
            raise LeaseHeld(name, str(error).removeprefix("HELD ")) from error


def open_live_bus(settings: Settings) -> ValkeyLiveBus:
    """Return the live bus of these settings, for whoever writes; nothing is started before ``async with``.

    Where the bus is that comes with the package, this process keeps its server running from then on, together with all
    others that do.

    Raises:
        ConfigError: the folder for the bus's socket belongs to somebody else.
    """
    return ValkeyLiveBus(settings, keeps=True)


def open_live_reader(settings: Settings) -> ValkeyLiveBus:
    """Return the live bus for whoever only looks: it starts no server and keeps none.

    Raises:
        ConfigError: the folder for the bus's socket belongs to somebody else.
    """
    return ValkeyLiveBus(settings, keeps=False)
