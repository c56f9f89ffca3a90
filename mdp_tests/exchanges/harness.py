"""Runs a source against a scripted exchange and hands back what a test looks at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mdp.config.sections import ExchangeSettings
from mdp.domain.interval import Interval
from mdp.exchanges import open_source
from mdp.exchanges.asking import RetryWaits
from mdp.exchanges.pace import Pace
from mdp.ports import CandleSource, Fetched
from mdp_tests.exchanges.wires import NOW, Script, Scripted, Wire, row_at
from mdp_tests.support.scripted_exchange import Request, ScriptedExchange

QUICK = RetryWaits(initial_s=0.001, longest_s=0.002, jitter_s=0.001)
"""Waits of a test."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a fetch.

    Attributes:
        fetched: What the source returned.
        asked: The requests for candles, in order.
        most_at_once: The most requests that waited at the same time.
    """

    fetched: Fetched
    asked: list[Request]
    most_at_once: int

    @property
    def open_times_ms(self) -> list[int]:
        return self.fetched.rows["open_time"].dt.epoch("ms").to_list()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def settings_for(url: str, wire: Wire, **changes: Any) -> ExchangeSettings:
    return ExchangeSettings(rest_url=f"{url}/{wire.exchange.value}", rate_share=1, **changes)


def fetch(
    wire: Wire,
    window: Interval,
    script: Script | None = None,
    *,
    clock: Callable[[], datetime] = lambda: NOW,
    **changes: Any,
) -> Seen:
    """Fetch a window of a wire's market, with the exchange's first answers as scripted."""

    async def work(source: CandleSource) -> Fetched:
        return await source.fetch(wire.market, wire.timeframe, window)

    return with_source(wire, work, script, clock=clock, **changes)


def with_source(
    wire: Wire,
    work: Callable[[CandleSource], Coroutine[Any, Any, Any]],
    script: Script | None = None,
    *,
    clock: Callable[[], datetime] = lambda: NOW,
    **changes: Any,
) -> Seen:
    scripted = Scripted(wire, list(script or []))

    async def main() -> Seen:
        async with ScriptedExchange(scripted) as server:
            settings = settings_for(server.url, wire, **changes)
            async with open_source(wire.exchange, settings, clock=clock, pace=Pace(), waits=QUICK) as source:
                result = await work(source)
            return Seen(result, scripted.asked, server.most_at_once)

    return run(main())


def slots_ending(wire: Wire, end: datetime, slots: int) -> Interval:
    """Return the window of so many slots that ends at ``end``."""
    return Interval(end - slots * wire.timeframe.duration, end)


def recent(wire: Wire, slots: int) -> Interval:
    """Return a window of closed slots, an hour or more before the exchange's time."""
    return slots_ending(wire, wire.timeframe.floor(NOW) - max(timedelta(hours=1), wire.timeframe.duration), slots)


def expected_ms(window: Interval, wire: Wire) -> list[int]:
    step = wire.timeframe.milliseconds
    return list(range(int(window.start.timestamp() * 1_000), int(window.end.timestamp() * 1_000), step))


def expected_prices(open_times_ms: list[int], wire: Wire) -> pl.DataFrame:
    """What the wire said, read by Python's own ``float``."""
    scale = 1_000 if wire.market.is_volatility_index else 1
    names = ("open", "high", "low", "close")
    return pl.DataFrame([{name: float(getattr(row_at(ms), name)) / scale for name in names} for ms in open_times_ms])
