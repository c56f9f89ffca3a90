"""Binance spot as a ``CandleSource``.

Not here: what the exchanges share (``exchanges.paging``).
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.exchanges.binance import client, pager, quota
from mdp.exchanges.binance.parse import parse_klines, parse_time
from mdp.exchanges.frames import Asked
from mdp.exchanges.means import Means
from mdp.exchanges.paging import PagedSource
from mdp.exchanges.tiling import Page


class BinanceSource(PagedSource):
    """Binance spot."""

    exchange = Exchange.BINANCE
    timeframes = frozenset(pager.TIMEFRAMES)
    time_endpoint = client.TIME

    def __init__(self, settings: ExchangeSettings, means: Means) -> None:
        super().__init__(client.open_client(settings, means.clock), quota, settings, means)

    def pages(self, window: Interval, timeframe: Timeframe, now: datetime) -> list[Page]:  # noqa: ARG002 one endpoint
        """Tile the window with klines requests."""
        return pager.pages(window, timeframe)

    def parameters(self, market: Market, timeframe: Timeframe, page: Page) -> dict[str, str | int]:
        """Spell a page as Binance wants it."""
        return pager.parameters(market, timeframe, page)

    def parse(self, body: str, asked: Asked) -> pl.DataFrame:
        """Read a klines answer."""
        return parse_klines(body, asked)

    def parse_time(self, body: str) -> datetime:
        """Read Binance's clock."""
        return parse_time(body)
