"""Deribit's volatility index DVOL as a ``CandleSource``.

Not here: what the exchanges share (``exchanges.paging``), minutes from hours (``domain.dvol``).
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.exchanges.deribit import client, pager, quota
from mdp.exchanges.deribit.parse import Part, parse_time, parse_volatility_index
from mdp.exchanges.frames import Asked
from mdp.exchanges.means import Means
from mdp.exchanges.paging import PagedSource, Run
from mdp.exchanges.tiling import Page, join_answers


class DeribitSource(PagedSource):
    """Deribit's volatility index."""

    exchange = Exchange.DERIBIT
    timeframes = frozenset(pager.TIMEFRAMES)
    time_endpoint = client.TIME

    def __init__(self, settings: ExchangeSettings, means: Means) -> None:
        super().__init__(client.DeribitClient(settings, means.clock), quota, settings, means)

    def pages(self, window: Interval, timeframe: Timeframe, now: datetime) -> list[Page]:  # noqa: ARG002 one endpoint
        """Tile the window with requests."""
        return pager.pages(window, timeframe)

    def parameters(self, market: Market, timeframe: Timeframe, page: Page) -> dict[str, str | int]:
        """Spell a page as Deribit wants it."""
        return pager.parameters(market, timeframe, page)

    def parse(self, body: str, asked: Asked) -> pl.DataFrame:
        """Read the candles of one answer."""
        return parse_volatility_index(body, asked).rows

    def parse_time(self, body: str) -> datetime:
        """Read Deribit's clock."""
        return parse_time(body)

    async def read_page(self, page: Page, run: Run) -> pl.DataFrame:
        """Ask for a page, following ``continuation`` while an answer says that there is more.

        The candle at the seam of two answers comes twice; said twice the same, it counts once.
        """
        asked = self.parameters(run.market, run.timeframe, page)
        part = await self._read_part(page, asked, run)
        rows = part.rows
        while (end := pager.next_end(part.continuation, asked, run.timeframe)) is not None:
            asked = {**asked, "end_timestamp": end}
            part = await self._read_part(page, asked, run)
            rows = join_answers(rows, [part.rows])
        return rows

    async def _read_part(self, page: Page, parameters: dict[str, str | int], run: Run) -> Part:
        return await self._asker.ask(
            self.question(page.endpoint, parameters, run.market),
            lambda answer: parse_volatility_index(answer.body, run.asked(answer)),
            run.tally,
        )
