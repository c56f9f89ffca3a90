"""Which candles and history-candles requests tile a window of OKX's. Pure.

Not here: sending them (``client``), running them side by side (``exchanges.paging``).
"""

from __future__ import annotations

from datetime import datetime

from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.exchanges.symbols import to_market_id
from mdp.exchanges.tiling import Page, tile, to_milliseconds

CANDLES = "publicGetMarketCandles"
HISTORY_CANDLES = "publicGetMarketHistoryCandles"

MAX_ROWS = 300
"""Source: OKX API guide "Get candlesticks", "Get candlesticks history", 2026-07."""

NEWEST_SLOTS = 1_380
"""Asked of ``candles``, which reaches back 1440 candles; an hour of 1m less, for a fetch that takes its time."""

TIMEFRAMES: dict[Timeframe, str] = {
    Timeframe.M1: "1m",
    Timeframe.M5: "5m",
    Timeframe.M15: "15m",
    Timeframe.H1: "1H",
    Timeframe.H4: "4H",
    Timeframe.D1: "1Dutc",  # plain 1D is a day of UTC+8
}
"""Our timeframes in OKX's words."""


def pages(window: Interval, timeframe: Timeframe, now: datetime) -> list[Page]:
    """Return the pages that tile ``window``, each no longer than one answer.

    The newest candles are asked of ``candles``, which has the one that is still open and twice the quota; the past of
    ``history-candles``, which has all of it but lags by a minute or so.

    Args:
        window: What is wanted.
        timeframe: Length of the candles.
        now: The exchange's time.
    """
    border = timeframe.floor(now) - NEWEST_SLOTS * timeframe.duration
    border = min(max(border, window.start), window.end)
    past, newest = Interval(window.start, border), Interval(border, window.end)
    return [
        Page(part, endpoint, MAX_ROWS)
        for endpoint, span in ((HISTORY_CANDLES, past), (CANDLES, newest))
        for part in tile(span, timeframe, MAX_ROWS)
    ]


def parameters(market: Market, timeframe: Timeframe, page: Page) -> dict[str, str | int]:
    """Return the parameters of one request.

    Both bounds are exclusive, and named from the reader's side: ``before`` is the older one.
    """
    return {
        "instId": to_market_id(market),
        "bar": TIMEFRAMES[timeframe],
        "before": to_milliseconds(page.window.start) - 1,
        "after": to_milliseconds(page.window.end),
        "limit": MAX_ROWS,
    }
