"""A source that is opened when it is first asked: where files tell all, CCXT is not loaded, which takes a second.

Not here: when REST is asked (``archive_first``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.ports import Budget, CandleSource, Fetched


class DeferredSource:
    """Stands for a source until it is needed.

    Args:
        exchange: Which one.
        open_source: Gives the source; called once, at the first fetch.
        budget: The one the source will close; closed here where the source was never opened. None: nobody's.
    """

    def __init__(
        self, exchange: Exchange, open_source: Callable[[], CandleSource], budget: Budget | None = None
    ) -> None:
        self.exchange = exchange
        self._open = open_source
        self._budget = budget
        self._source: CandleSource | None = None
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        source, self._source = self._source, None
        if source is not None:
            await source.__aexit__(kind, error, trace)
        elif self._budget is not None:
            await self._budget.close()

    async def fetch(self, market: Market, timeframe: Timeframe, window: Interval) -> Fetched:
        """Open the source if it is not open yet, and ask it; see ``ports.CandleSource.fetch``."""
        async with self._lock:
            if self._source is None:
                source = self._open()
                self._source = await source.__aenter__()
        return await self._source.fetch(market, timeframe, window)
