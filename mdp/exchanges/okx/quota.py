"""How often one address may ask OKX, by endpoint. Pure.

Not here: counting (``ports.Budget``), what a refusal means (``client``).
"""

from __future__ import annotations

from collections.abc import Mapping

from mdp.domain.quota import Quota, Usage
from mdp.errors import InputError
from mdp.exchanges.verdicts import Answer

CANDLES = Quota("market/candles", amount=40, window_s=2)
HISTORY_CANDLES = Quota("market/history-candles", amount=20, window_s=2)
TIME = Quota("public/time", amount=10, window_s=2)
DATA_HISTORY = Quota("public/market-data-history", amount=5, window_s=2)

QUOTAS: tuple[Quota, ...] = (CANDLES, HISTORY_CANDLES, TIME, DATA_HISTORY)
"""Source: OKX API guide "Get candlesticks", "Get candlesticks history", "Get system time", "Get historical market
data", rate limit rule IP, 2026-07."""

# By CCXT's name of the method.
_COSTS: Mapping[str, Mapping[str, float]] = {
    "publicGetMarketCandles": {CANDLES.name: 1},
    "publicGetMarketHistoryCandles": {HISTORY_CANDLES.name: 1},
    "publicGetPublicTime": {TIME.name: 1},
    "publicGetPublicMarketDataHistory": {DATA_HISTORY.name: 1},
}


def costs(endpoint: str) -> Mapping[str, float]:
    """Return what a request to an endpoint costs: name of a quota to an amount of it.

    Raises:
        InputError: an endpoint whose quota we do not know.
    """
    if endpoint not in _COSTS:
        raise InputError("endpoint", got=endpoint, expected=f"one of {', '.join(_COSTS)}")
    return _COSTS[endpoint]


def read_usage(answer: Answer) -> Usage | None:  # noqa: ARG001 OKX reports nothing
    """Return None: no header of OKX tells what is used. Source: OKX API guide "Rate limits", 2026-07."""
    return None
