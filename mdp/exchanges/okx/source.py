"""OKX spot as a ``CandleSource``.

Not here: what the exchanges share (``exchanges.paging``).
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.exchanges.frames import Asked
from mdp.exchanges.means import Means
from mdp.exchanges.okx import client, pager, quota
from mdp.exchanges.okx.parse import parse_candles, parse_time
from mdp.exchanges.paging import PagedSource
from mdp.exchanges.tiling import Page


class OkxSource(PagedSource):
    """OKX spot."""

    exchange = Exchange.OKX
    timeframes = frozenset(pager.TIMEFRAMES)
    time_endpoint = client.TIME

    def __init__(self, settings: ExchangeSettings, means: Means) -> None:
        super().__init__(client.open_client(settings, means.clock), quota, settings, means)

    def pages(self, window: Interval, timeframe: Timeframe, now: datetime) -> list[Page]:
        """Tile the window with requests to its two endpoints."""
        return pager.pages(window, timeframe, now)

    def parameters(self, market: Market, timeframe: Timeframe, page: Page) -> dict[str, str | int]:
        """Spell a page as OKX wants it."""
        return pager.parameters(market, timeframe, page)

    def parse(self, body: str, asked: Asked) -> pl.DataFrame:
        """Read an answer of either endpoint."""
        return parse_candles(body, asked)

    def parse_time(self, body: str) -> datetime:
        """Read OKX's clock."""
        return parse_time(body)
