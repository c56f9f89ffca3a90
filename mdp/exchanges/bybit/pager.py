"""Which kline requests tile a window of Bybit's. Pure.

Not here: sending them (``client``), running them side by side (``exchanges.paging``).
"""

from __future__ import annotations

from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.exchanges.bybit.parse import CATEGORY
from mdp.exchanges.symbols import to_market_id
from mdp.exchanges.tiling import Page, tile, to_milliseconds

KLINE = "publicGetV5MarketKline"

MAX_ROWS = 1_000
"""Source: docs/v5/market/kline, 2026-07."""

TIMEFRAMES: dict[Timeframe, str] = {
    Timeframe.M1: "1",
    Timeframe.M5: "5",
    Timeframe.M15: "15",
    Timeframe.H1: "60",
    Timeframe.H4: "240",
    Timeframe.D1: "D",
}
"""Our timeframes in Bybit's words."""


def pages(window: Interval, timeframe: Timeframe) -> list[Page]:
    """Return the pages that tile ``window``, each no longer than one answer.

    No longer: of a range with more candles than fit, Bybit gives the newest and says nothing of the others.
    """
    return [Page(part, KLINE, MAX_ROWS) for part in tile(window, timeframe, MAX_ROWS)]


def parameters(market: Market, timeframe: Timeframe, page: Page) -> dict[str, str | int]:
    """Return the parameters of one request."""
    return {
        "category": CATEGORY,  # without it, Bybit answers with the linear contract of the same name
        "symbol": to_market_id(market),
        "interval": TIMEFRAMES[timeframe],
        "start": to_milliseconds(page.window.start),
        # Inclusive. One millisecond before the end rather than the last slot, for candles that open off the grid.
        "end": to_milliseconds(page.window.end) - 1,
        "limit": MAX_ROWS,
    }
