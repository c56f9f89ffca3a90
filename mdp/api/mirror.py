"""All buffers in this process's memory, as the bus tells of them; they stay, marked stale, while the bus is away.

Not here: hearing the bus (``reading.following``), what is sent to whom (``streams``), how a buffer is spelled
(``buffer_bodies``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from mdp.config.settings import Settings
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.reading.candle_buffer import CandleBuffer
from mdp.reading.following import Bus, Key, Update, updates

Listener = Callable[[Update], None]
"""Is told each update inside the event loop, after the mirror has it; must not raise or block."""

_PAUSE_S = 1.0

log = logging.getLogger(__name__)


class Place:
    """Where one buffer is found; the place stays, the buffer is another one with each change.

    Attributes:
        buffer: None: no feed ever wrote it.
    """

    __slots__ = ("buffer",)

    def __init__(self) -> None:
        self.buffer: CandleBuffer | None = None


class Mirror:
    """The buffers of all markets of the settings.

    Args:
        settings: Whose markets.
        bus: Opened and closed by whoever made it.

    Attributes:
        is_connected: Whether the bus is there and every buffer that is on it was read.
        has_looked: Set once it is known whether the bus is there.
        updates: How many were told so far.
        failures: How often mirroring broke off for a reason that is a fault of ours.
    """

    def __init__(self, settings: Settings, bus: Bus) -> None:
        self._bus = bus
        self._wanted = [(Market.parse(text), timeframe) for text in settings.markets for timeframe in Timeframe]
        self._places = {key: Place() for key in self._wanted}
        self._listeners: list[Listener] = []
        self._heard_at: float | None = None
        self.is_connected = False
        self.has_looked = asyncio.Event()
        self.updates = 0
        self.failures = 0

    @property
    def wanted(self) -> tuple[Key, ...]:
        """Whose buffers it holds once feeds have written them."""
        return tuple(self._wanted)

    @property
    def missing(self) -> tuple[Key, ...]:
        """Which of them nobody has written so far."""
        return tuple(key for key, place in self._places.items() if place.buffer is None)

    @property
    def stale(self) -> tuple[Key, ...]:
        """Which of them nobody keeps now, as far as is known."""
        return tuple(key for key, place in self._places.items() if place.buffer is not None and place.buffer.is_stale)

    def heard_s(self) -> float | None:
        """Return how long ago anything changed; None before the first change."""
        return None if self._heard_at is None else time.monotonic() - self._heard_at

    def find(self, market: Market, timeframe: Timeframe) -> CandleBuffer | None:
        """Return a buffer; None where no feed ever wrote one."""
        place = self._places.get((market, timeframe))
        return None if place is None else place.buffer

    @property
    def places(self) -> Mapping[Key, Place]:
        """Where all of them are found, for who looks often."""
        return MappingProxyType(self._places)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have each update told from now on; the answer ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def run(self) -> None:
        """Mirror until cancelled.

        Whatever breaks, it begins again, and until it has read everything anew all buffers are stale: a mirror that
        stands still and looks fresh would be the worst fault of all.
        """
        while True:
            try:
                await self._follow()
            except Exception:
                log.exception("mirroring buffers broke off; it begins again in %g s", _PAUSE_S)
            self.failures += 1
            self._connected(is_connected=False)
            for key, place in self._places.items():
                if place.buffer is not None and not place.buffer.is_stale:
                    self._take(Update(*key, None, replace(place.buffer, is_stale=True), "stale"))
            await asyncio.sleep(_PAUSE_S)

    async def _follow(self) -> None:
        async for update in updates(self._bus, self._wanted, lambda there: self._connected(is_connected=there)):
            self._take(update)

    def _connected(self, *, is_connected: bool) -> None:
        self.is_connected = is_connected
        self.has_looked.set()

    def _take(self, update: Update) -> None:
        if update.reason == "missed":  # nothing of that is in the buffer; what is comes next
            return
        self._places[update.market, update.timeframe].buffer = update.buffer
        self._heard_at = time.monotonic()
        self.updates += 1
        for listener in tuple(self._listeners):
            try:
                listener(update)
            except Exception:
                log.exception("whoever listens to %s %s broke off", update.market, update.timeframe)
