"""Runs an exchange's stream against the simulator, or a scripted server, and hands back what a test looks at."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.live import CandleState, LiveCandle
from mdp.domain.market import Exchange, Market
from mdp.exchanges import open_stream
from mdp.ports import CandleStream, Streamed

_OKX_APART_S = 1.1
"""Between two tests: OKX refuses a fourth connection within a second."""


@dataclass(frozen=True, slots=True)
class SteadyClock:
    """The market's time of a test that does not look at it."""

    speed: float = 1.0

    def __call__(self) -> datetime:
        return datetime.now(UTC)


@dataclass(slots=True)
class Watched:
    """What a stream gave.

    Attributes:
        stream: The stream.
        tasks: The task that watches each market.
        updates: All updates, in order.
    """

    stream: CandleStream
    tasks: dict[Market, asyncio.Task[None]] = field(default_factory=dict)
    updates: list[Streamed] = field(default_factory=list)

    def watch(self, *names: str) -> None:
        """Watch markets by symbols such as ``BTC-USDT``."""
        for name in names:
            market = Market.parse(f"{self.stream.exchange.value}:{name}")
            self.tasks[market] = asyncio.create_task(self.stream.watch(market, self.updates.append))

    def task(self, name: str) -> asyncio.Task[None]:
        return self.tasks[Market.parse(f"{self.stream.exchange.value}:{name}")]

    def of(self, name: str) -> list[LiveCandle]:
        return [update.candle for update in self.updates if update.market.symbol_key == name]

    def closed(self, name: str) -> list[LiveCandle]:
        return [candle for candle in self.of(name) if candle.state is CandleState.CLOSED]

    async def until(self, is_so: Callable[[], object], within_s: float = 15.0) -> None:
        """Wait until something holds; a test fails when it does not in time."""
        end = time.monotonic() + within_s
        while not is_so():
            ended = {str(market): task for market, task in self.tasks.items() if task.done()}
            assert time.monotonic() < end, f"{len(self.updates)} updates came; ended: {ended}"
            await asyncio.sleep(0.01)

    async def failure(self, name: str, within_s: float = 15.0) -> BaseException | None:
        """Wait until the watch of a market ends, and return why."""
        task = self.task(name)
        await asyncio.wait({task}, timeout=within_s)
        assert task.done(), f"{name} is still watched after {within_s} s"
        return task.exception()


@asynccontextmanager
async def watching(
    exchange: str, ws_url: str, timeout_s: float = 5.0, *, is_alone: bool = True
) -> AsyncIterator[Watched]:
    """Open a stream; at the end nothing of it may be left, which can only be seen while no other one is open."""
    settings = ExchangeSettings(ws_url=ws_url, timeout_s=timeout_s)
    others = asyncio.all_tasks()
    if exchange == "okx":
        await asyncio.sleep(_OKX_APART_S)
    async with open_stream(Exchange(exchange), settings, clock=SteadyClock()) as stream:
        assert stream.heard_s() == math.inf
        watched = Watched(stream)
        yield watched
    await asyncio.gather(*watched.tasks.values(), return_exceptions=True)
    await asyncio.sleep(0)
    # the tasks of a server in this process are its own affair
    left = {task for task in asyncio.all_tasks() - others if "RequestHandler" not in repr(task.get_coro())}
    assert not (is_alone and left), f"tasks are left behind: {left}"


def address(url: str, exchange: str) -> str:
    """Where an exchange's stream is in a simulator."""
    return url.replace("http", "ws", 1) + f"/{exchange}" + ("/stream" if exchange == "binance" else "")
