"""What a request finds around it: settings, storage, buffers; and the way to work that blocks.

Not here: who opens and closes it (``app``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends
from prometheus_client import CollectorRegistry
from starlette.requests import HTTPConnection

from mdp.api.buffer_bodies import SpelledBuffer
from mdp.api.measures import Measures
from mdp.api.metrics import registry_of
from mdp.api.mirror import Mirror
from mdp.api.problems import not_found, unavailable
from mdp.api.single_flight import SingleFlight
from mdp.api.streams.hub import Hub
from mdp.bus.live import ValkeyLiveBus
from mdp.config.settings import Settings
from mdp.domain.market import Market
from mdp.ports import CandleStore
from mdp.reading.following import Key
from mdp.storage import open_store

Answer = TypeVar("Answer")


@dataclass
class Surroundings:
    """What all requests of a process share.

    Attributes:
        settings: Of the environment.
        bus: To look at; nothing is written through it.
        mirror: All buffers.
        measures: What is counted.
        launched: Set when a backfill was launched, for who tells of it.
        trouble: What is wrong with storage, empty for nothing; looked at every other second at most.
        platform: What Prometheus is told of all processes; looked at every second at most.
        closing: Set when the service is told to end, while connections are still open.
    """

    settings: Settings
    bus: ValkeyLiveBus
    mirror: Mirror
    measures: Measures = field(default_factory=Measures)
    launched: asyncio.Event = field(default_factory=asyncio.Event)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    trouble: SingleFlight[str] = field(default_factory=lambda: SingleFlight(2.0))
    platform: SingleFlight[str] = field(default_factory=lambda: SingleFlight(1.0))
    _limit: asyncio.Semaphore | None = field(default=None, init=False)

    @cached_property
    def store(self) -> CandleStore:
        """Where candles are kept, one for all requests: it remembers which files it found whole. Safe for threads."""
        return open_store(self.settings)

    @cached_property
    def spelled(self) -> Mapping[Key, SpelledBuffer]:
        """All buffers in the forms in which they were asked for."""
        return {key: SpelledBuffer(place) for key, place in self.mirror.places.items()}

    @cached_property
    def hub(self) -> Hub:
        """Where streams come together."""
        return Hub(self.settings, self.bus, self.mirror, self.measures, self.closing)

    @cached_property
    def registry(self) -> CollectorRegistry:
        """What Prometheus is told of."""
        return registry_of(self.measures, self.mirror, version("mdp"))

    async def in_thread(self, work: Callable[[], Answer]) -> Answer:
        """Do what blocks, such as reading storage, beside the event loop; few at a time, so that memory is bounded.

        Raises:
            Problem: 503, it took longer than the settings allow. What was begun goes on, keeps its place until it is
                done, and its result is dropped.
        """
        limit = self._limit = self._limit or asyncio.Semaphore(self.settings.api.readers)
        patience_s = self.settings.api.timeout_s
        try:
            async with asyncio.timeout(patience_s):
                await limit.acquire()
                working = asyncio.get_running_loop().run_in_executor(self._threads, work)
                working.add_done_callback(lambda done: _give_up(done, limit))
                return await asyncio.shield(working)
        except TimeoutError as error:
            raise unavailable(f"storage did not answer within {patience_s:g} s: ask for less, or later") from error

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.settings.api.readers, "mdp-reader")

    def market(self, exchange: str, symbol: str) -> Market:
        """Return the market of a path.

        Raises:
            Problem: 404, listing those there are.
        """
        text = f"{exchange}:{symbol}"
        if text not in self.settings.markets:
            markets = self.settings.markets
            raise not_found("exchange and symbol", text, f"one of {', '.join(markets)}", markets)
        return Market.parse(text)


def _give_up(done: asyncio.Future[Any], place: asyncio.Semaphore) -> None:
    """Free the place of what is done; an error that nobody waits for any more was answered with 503 already."""
    place.release()
    if not done.cancelled():
        done.exception()


def _surroundings(connection: HTTPConnection) -> Surroundings:
    return cast("Surroundings", connection.app.state.surroundings)


Around = Annotated[Surroundings, Depends(_surroundings)]
"""A route's argument of this type is the surroundings."""
