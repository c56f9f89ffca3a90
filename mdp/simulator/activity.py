"""How much is traded: Binance's real monthly amounts of BTC, and invented shares of them for all else.

Not here: what is traded in one minute (``generator``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from mdp.domain.market import Exchange
from mdp.simulator.candles import DAY_MS
from mdp.simulator.recorded_days import CARRIED

_MONTHS = CARRIED / "binance" / "BTCUSDT" / "levels" / "months.csv"
_FIRST_TRADE_MS = 1_502_942_400_000
"""Binance's first candle: the first month is not a whole one."""

EXCHANGE_SHARE: Mapping[Exchange, float] = {Exchange.BINANCE: 1.0, Exchange.BYBIT: 0.35, Exchange.OKX: 0.3}
"""Amounts traded at each exchange for every 1 at Binance. Invented."""

COIN_SHARE: Mapping[str, float] = {"BTC": 1.0, "ETH": 0.55, "SOL": 0.2}
"""Amounts traded (USDT) in each coin for every 1 in BTC. Invented."""


@dataclass(frozen=True, slots=True)
class Usual:
    """What a usual minute trades.

    Attributes:
        quote_volume: USDT.
        trades: Number of trades.
    """

    quote_volume: float
    trades: float


class Activity:
    """The usual minute of each market on each day."""

    def __init__(self) -> None:
        months = pl.read_csv(_MONTHS)
        starts = months["month_ms"].to_numpy()
        last_end = starts[-1] + 31 * DAY_MS
        lengths = np.diff(np.maximum(np.r_[starts, last_end], _FIRST_TRADE_MS))
        minutes = lengths / 60_000
        self._starts = starts
        self._quote = months["quote_volume"].to_numpy() / minutes
        self._trades = months["trades"].to_numpy() / minutes

    def usual(self, exchange: Exchange, base: str, day: int) -> Usual:
        """Return a market's usual minute on a day; the last known month goes on for ever."""
        month = max(0, int(np.searchsorted(self._starts, day * DAY_MS, side="right")) - 1)
        share = EXCHANGE_SHARE[exchange] * COIN_SHARE[base]
        return Usual(float(self._quote[month]) * share, float(self._trades[month]) * share)
