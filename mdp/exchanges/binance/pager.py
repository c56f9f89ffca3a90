"""Which klines requests tile a window of Binance's. Pure.

Not here: sending them (``client``), running them side by side (``exchanges.paging``).
"""

from __future__ import annotations

from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.exchanges.symbols import to_market_id
from mdp.exchanges.tiling import Page, tile, to_milliseconds

KLINES = "publicGetKlines"

MAX_ROWS = 1_000
"""Source: rest-api.md "Kline/Candlestick data", 2026-07."""

TIMEFRAMES: dict[Timeframe, str] = {timeframe: timeframe.value for timeframe in Timeframe}
"""Our timeframes in Binance's words: the same."""


def pages(window: Interval, timeframe: Timeframe) -> list[Page]:
    """Return the pages that tile ``window``, each no longer than one answer."""
    return [Page(part, KLINES, MAX_ROWS) for part in tile(window, timeframe, MAX_ROWS)]


def parameters(market: Market, timeframe: Timeframe, page: Page) -> dict[str, str | int]:
    """Return the parameters of one request.

    Both bounds are always sent: with the first alone, a page before the listing is answered with the first candles
    that exist, years later.
    """
    return {
        "symbol": to_market_id(market),
        "interval": TIMEFRAMES[timeframe],
        "startTime": to_milliseconds(page.window.start),
        # Inclusive. One millisecond before the end rather than the last slot, for candles that open off the grid.
        "endTime": to_milliseconds(page.window.end) - 1,
        "limit": MAX_ROWS,
    }
