"""Which requests tile a window of Deribit's volatility index. Pure.

Not here: sending them (``client``), running them side by side (``exchanges.paging``).
"""

from __future__ import annotations

from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.exchanges.symbols import to_market_id
from mdp.exchanges.tiling import Page, tile, to_milliseconds

VOLATILITY_INDEX = "/api/v2/public/get_volatility_index_data"

MAX_ROWS = 1_000
"""Source: docs.deribit.com public/get_volatility_index_data, 2026-07."""

TIMEFRAMES: dict[Timeframe, str] = {Timeframe.M1: "60", Timeframe.H1: "3600", Timeframe.D1: "1D"}
"""Our timeframes in Deribit's words, seconds but for the day; it offers no others of ours."""


def pages(window: Interval, timeframe: Timeframe) -> list[Page]:
    """Return the pages that tile ``window``, each no longer than one answer, so that they need not wait in line."""
    return [Page(part, VOLATILITY_INDEX, MAX_ROWS) for part in tile(window, timeframe, MAX_ROWS)]


def parameters(market: Market, timeframe: Timeframe, page: Page) -> dict[str, str | int]:
    """Return the parameters of one request."""
    return {
        "currency": to_market_id(market),
        "resolution": TIMEFRAMES[timeframe],
        "start_timestamp": to_milliseconds(page.window.start),
        "end_timestamp": to_milliseconds(page.window.end) - 1,  # inclusive
    }


def next_end(continuation: int | None, asked: dict[str, str | int], timeframe: Timeframe) -> int | None:
    """Return the ``end_timestamp`` that asks for the older rest of a page; None when there is none to ask for.

    A continuation that does not lead to an older candle is not followed: it would be for ever. Whatever is then missing
    is asked for again as a hole.

    Args:
        continuation: As answered.
        asked: The parameters of the request it answers.
        timeframe: Length of the candles.
    """
    if continuation is None or continuation < int(asked["start_timestamp"]):
        return None
    length = timeframe.milliseconds
    return continuation if continuation // length < int(asked["end_timestamp"]) // length else None
