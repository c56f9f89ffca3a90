"""A source of candles behind the port that gives what it is told, and remembers what it was asked.

Not here: the wire of an exchange (``scripted_exchange``, ``mdp.simulator``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

import polars as pl

from mdp.domain.candles import RAW_SCHEMA
from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.ports import Fetched
from mdp_tests.support.builders import NOW

Asked = tuple[Market, Timeframe, Interval]


def like_a_market() -> ScriptedExchanges:
    """Return exchanges whose prices and volumes vary from minute to minute, so that no check doubts them."""
    return ScriptedExchanges(
        price=lambda market, moment: 100.0 + moment.minute * 17 % 60,
        volume=lambda market, moment: 1.0 + (moment.hour * 60 + moment.minute) / 1440,
    )


@dataclass
class ScriptedExchanges:
    """Opens sources whose every candle is made by ``price``; ``edit`` may change an answer, or raise.

    ``volume`` makes the traded amounts; without it each candle has 1.0 for 100.0, which no market has.
    ``answer`` makes what ``fetch`` returns of the rows; without it, two requests. ``while_asked`` is awaited first.
    ``listed_at`` is when the first candle of every market opens.
    """

    price: Callable[[Market, datetime], float] = lambda market, moment: 100.0 + moment.minute
    volume: Callable[[Market, datetime], float] | None = None
    edit: Callable[[Asked, pl.DataFrame], pl.DataFrame] = lambda asked, rows: rows
    answer: Callable[[Asked, pl.DataFrame], Fetched] = lambda asked, rows: Fetched(rows, requests=2)
    while_asked: Callable[[Asked], Awaitable[None]] | None = None
    listed_at: datetime | None = None
    asked: list[Asked] = field(default_factory=list)
    opened: list[Exchange] = field(default_factory=list)
    closed: list[Exchange] = field(default_factory=list)

    def __call__(self, exchange: Exchange) -> ScriptedSource:
        self.opened.append(exchange)
        return ScriptedSource(exchange, self)


@dataclass
class ScriptedSource:
    exchange: Exchange
    script: ScriptedExchanges

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.script.closed.append(self.exchange)

    async def fetch(self, market: Market, timeframe: Timeframe, window: Interval) -> Fetched:
        self.script.asked.append((market, timeframe, window))
        if self.script.while_asked is not None:
            await self.script.while_asked((market, timeframe, window))
        asked = (market, timeframe, window)
        return self.script.answer(asked, self.script.edit(asked, self._rows(market, timeframe, window)))

    def _rows(self, market: Market, timeframe: Timeframe, window: Interval) -> pl.DataFrame:
        start = max(window.start, self.script.listed_at or window.start)
        times = [part.start for part in Interval(min(start, window.end), window.end).split(timeframe.duration)]
        prices = [self.script.price(market, moment) for moment in times]
        volumes = [self.script.volume(market, moment) for moment in times] if self.script.volume else 1.0
        quotes = [one * price for one, price in zip(volumes, prices, strict=True)] if self.script.volume else 100.0
        amounts = (None, None, None) if market.is_volatility_index else (volumes, quotes, 7)
        made = {
            "exchange": market.exchange.value, "symbol": market.symbol_key, "timeframe": timeframe.value,
            "open_time": times, "open": prices, "high": [price + 1 for price in prices],
            "low": [price - 1 for price in prices], "close": prices, "volume": amounts[0],
            "quote_volume": amounts[1], "trades": amounts[2], "closed": True, "source": "rest", "fetched_at": NOW,
        }  # fmt: skip
        schema = {name: dtype for name, dtype in RAW_SCHEMA.items() if name != "window_start"}
        columns = {name: made[name] if isinstance(made[name], list) else [made[name]] * len(times) for name in schema}
        return pl.DataFrame(columns, schema=schema)
