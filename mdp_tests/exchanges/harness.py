"""Runs a source against a scripted exchange and hands back what a test looks at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.interval import Interval
from mdp.domain.quota import Usage
from mdp.errors import RateLimited
from mdp.exchanges import open_source
from mdp.exchanges.asking import RetryWaits
from mdp.ports import CandleSource, Fetched, PageSpool
from mdp_tests.exchanges.wires import NOW, Script, Scripted, Wire, row_at
from mdp_tests.support.scripted_exchange import Request, ScriptedExchange

QUICK = RetryWaits(initial_s=0.001, longest_s=0.002, jitter_s=0.001)
"""Waits of a test."""


@dataclass(slots=True)
class Given:
    """Leave that was given, and what was said of the request."""

    costs: Mapping[str, float]
    symbol: str | None
    waited_s: float
    ends: list[Usage | None] = field(default_factory=list)

    def answered(self, usage: Usage | None = None) -> None:
        self.ends.append(usage)


@dataclass(slots=True)
class EasyBudget:
    """A budget without a quota: gives leave to everybody, after the cool-down, and remembers whom.

    Attributes:
        given: All leaves, in order.
        cooled: What it was told to hold everybody for.
        closed: How often it was closed.
        wait_s: How long it says that each was waited for.
        longest_s: A longer cool-down is refused.
    """

    given: list[Given] = field(default_factory=list)
    cooled: list[tuple[float, str]] = field(default_factory=list)
    closed: int = 0
    wait_s: float = 0.0
    longest_s: float = 60.0
    _held_until: float = 0.0

    async def acquire(self, costs: Mapping[str, float], symbol: str | None = None) -> Given:
        while (left := self._held_until - time.monotonic()) > 0:
            if left > self.longest_s:
                raise RateLimited("the exchange", "cooling down", retry_after_s=left)
            await asyncio.sleep(left)
        leave = Given(costs, symbol, self.wait_s)
        self.given.append(leave)
        return leave

    def cool_down(self, seconds: float, reason: str) -> None:
        self.cooled.append((seconds, reason))
        self._held_until = max(self._held_until, time.monotonic() + seconds)

    async def close(self) -> None:
        self.closed += 1


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
    budget: EasyBudget | None = None,
    spool: PageSpool | None = None,
    **changes: Any,
) -> Seen:
    """Fetch a window of a wire's market, with the exchange's first answers as scripted."""

    async def work(source: CandleSource) -> Fetched:
        return await source.fetch(wire.market, wire.timeframe, window)

    return with_source(wire, work, script, clock=clock, budget=budget, spool=spool, **changes)


def with_source(
    wire: Wire,
    work: Callable[[CandleSource], Coroutine[Any, Any, Any]],
    script: Script | None = None,
    *,
    clock: Callable[[], datetime] = lambda: NOW,
    budget: EasyBudget | None = None,
    spool: PageSpool | None = None,
    **changes: Any,
) -> Seen:
    scripted = Scripted(wire, list(script or []))

    async def main() -> Seen:
        async with ScriptedExchange(scripted) as server:
            settings = settings_for(server.url, wire, **changes)
            given = budget or EasyBudget()
            source_ = open_source(wire.exchange, settings, clock=clock, budget=given, spool=spool, waits=QUICK)
            async with source_ as source:
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
