"""A simulated exchange's archive over real HTTP, with hands on its clock and on what it sends, and REST beside it.

Not here: what is scripted inside the simulator (``mdp.simulator.faults``).
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

import httpx
import polars as pl
import uvicorn

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.interval import Interval, parse_time
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.exchanges.archive_first import with_archive
from mdp.exchanges.asking import RetryWaits
from mdp.exchanges.frames import ANSWER_SCHEMA
from mdp.ports import Fetched
from mdp.simulator.app import create_app
from mdp.simulator.candles import to_domain
from mdp.simulator.clock import from_ms, to_ms
from mdp.simulator.markets import find_market
from mdp.simulator.simulation import Quotas, Simulation, build_simulation

QUICK = RetryWaits(initial_s=0.001, longest_s=0.002, jitter_s=0.001)

Spoil = bytes | int | Callable[[bytes], bytes]
"""What is sent in the place of an answer: another body, a status, or what is made of the body that would be sent."""


@dataclass
class ArchiveWorld:
    """The service and what it was asked.

    Attributes:
        simulation: The world behind it.
        url: Where it listens.
        asked: Paths and queries, in order.
        spoils: End of a path to what is done to its answers, first come first served; the last one stays.
        now_ms: The simulated time.
    """

    url: str = ""
    asked: list[str] = field(default_factory=list)
    spoils: dict[str, list[Spoil]] = field(default_factory=dict)
    now_ms: int = 0

    def __post_init__(self) -> None:
        self.simulation: Simulation = build_simulation(
            seed=7, clock=lambda: self.now_ms, quotas=Quotas.real(lambda: 0.0)
        )
        self._app = create_app(self.simulation)
        self.at("2025-02-10T12:00Z")

    def at(self, text: str) -> Self:
        self.now_ms = to_ms(datetime.fromisoformat(text))
        return self

    def reset(self) -> Self:
        self.asked.clear()
        self.spoils.clear()
        self.simulation.faults.clear()
        for quota in self.simulation.quotas.okx.values():
            quota._asked.clear()
        return self.at("2025-02-10T12:00Z")

    def spoil(self, ending: str, *spoils: Spoil) -> None:
        self.spoils[ending] = list(spoils)

    def clock(self) -> datetime:
        return from_ms(self.now_ms)

    def settings(self, exchange: str, **changes: Any) -> ExchangeSettings:
        addresses = {"rest_url": f"{self.url}/{exchange}", "archive_url": f"{self.url}/{exchange}-archive"}
        return ExchangeSettings(**{**addresses, "rate_share": 1, **changes})

    def ask_file(self, path: str) -> bytes:
        """Return a file of Binance's as it is published, whatever is spoiled."""
        transport = httpx.ASGITransport(self._app)

        async def ask() -> bytes:
            async with httpx.AsyncClient(transport=transport, base_url="http://world") as client:
                return (await client.get(f"/binance-archive/{path}")).content

        return asyncio.run(ask())

    def fetch(self, market: str, start: str, end: str, rest: Rest | None = None, **changes: Any) -> Fetched:
        return self.fetch_all(market, [(start, end)], rest, **changes)[0]

    def fetch_all(
        self, market: str, windows: list[tuple[str, str]], rest: Rest | None = None, **changes: Any
    ) -> list[Fetched]:
        """Fetch one window after the other from one source."""
        one, timeframe = Market.parse(market), Timeframe(changes.pop("timeframe", "1m"))
        budget = changes.pop("budget", None)
        settings = self.settings(one.exchange.value, **changes)
        beneath = rest or Rest(self, one.exchange)

        async def work() -> list[Fetched]:
            source = with_archive(beneath, one.exchange, settings, clock=self.clock, waits=QUICK, budget=budget)
            async with source:
                return [
                    await source.fetch(one, timeframe, Interval(parse_time(start), parse_time(end)))
                    for start, end in windows
                ]

        return asyncio.run(work())

    def truth(self, market: str, start: str, end: str) -> pl.DataFrame:
        """Return what REST tells of a window, without where and when it was told."""
        one = Market.parse(market)
        return values(Rest(self, one.exchange).rows(one, Interval(parse_time(start), parse_time(end))))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        query = scope["query_string"].decode()
        self.asked.append(scope["path"] + (f"?{query}" if query else ""))
        spoils = next((found for ending, found in self.spoils.items() if scope["path"].endswith(ending)), None)
        if spoils is None:
            await self._app(scope, receive, send)
            return
        spoil = spoils.pop(0) if len(spoils) > 1 else spoils[0]
        sent: list[Any] = []

        async def keep(message: Any) -> None:
            sent.append(message)

        status, body = (spoil, b"") if isinstance(spoil, int) else (200, spoil)
        if callable(body):
            await self._app(scope, receive, keep)
            body = body(b"".join(message.get("body", b"") for message in sent))
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@dataclass
class Rest:
    """REST, straight from the simulated history; remembers the windows it was asked for.

    ``knows_nothing``: it has no candle, for a test that only looks at what it is asked.
    """

    world: ArchiveWorld
    exchange: Exchange
    asked: list[Interval] = field(default_factory=list)
    error: Exception | None = None
    knows_nothing: bool = False
    entered: int = 0
    left: int = 0

    async def __aenter__(self) -> Self:
        self.entered += 1
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.left += 1

    async def fetch(self, market: Market, timeframe: Timeframe, window: Interval) -> Fetched:
        self.asked.append(window)
        if self.error is not None:
            raise self.error
        rows = pl.DataFrame(schema=ANSWER_SCHEMA) if self.knows_nothing else self.rows(market, window)
        return Fetched(rows, requests=1, retried={"RateLimited": 1}, waited_s=0.5)

    def rows(self, market: Market, window: Interval) -> pl.DataFrame:
        known = find_market(market)
        first_ms, last_ms = to_ms(window.start), to_ms(window.end) - 1
        found = self.world.simulation.history.candles(known, Timeframe.M1, first_ms, last_ms, self.world.now_ms)
        rows = to_domain(found, market, Timeframe.M1)
        trades = pl.col("trades") if market.exchange is Exchange.BINANCE else pl.lit(None, dtype=pl.Int64)
        return rows.with_columns(
            trades.alias("trades"),
            closed=pl.lit(value=True),
            fetched_at=pl.lit(self.world.clock(), dtype=pl.Datetime("us", "UTC")),
        ).select(ANSWER_SCHEMA.names())


def values(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.drop("source", "fetched_at")


def checksum_of(content: bytes, name: str) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()


@contextmanager
def served_world() -> Iterator[ArchiveWorld]:
    """Serve a world from a thread of its own."""
    world = ArchiveWorld()
    config = uvicorn.Config(world, port=0, log_level="critical", lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.005)
    world.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield world
    finally:
        server.should_exit = True
        thread.join(5)
