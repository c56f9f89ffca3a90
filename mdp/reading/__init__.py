"""Reading for people and strategies: what ``mdp.read``, ``mdp.backtest``, ``mdp.buffer`` and the commands give.

Not here: how rows are found (``storage``), how they are printed (``cli``).
"""

from __future__ import annotations

from mdp.reading.aligned import read_aligned
from mdp.reading.arguments import (
    FIRST_DAY,
    Moment,
    parse_days,
    parse_market,
    parse_markets,
    parse_moment,
    parse_timeframe,
    parse_window,
)
from mdp.reading.backtest_coverage import Missing, require_whole
from mdp.reading.backtest_range import Backtest, WhenMissing, backtest
from mdp.reading.backtest_replay import Closed
from mdp.reading.candle_buffer import CandleBuffer
from mdp.reading.explained import explain
from mdp.reading.single import read

__all__ = [
    "FIRST_DAY",
    "Backtest",
    "CandleBuffer",
    "Closed",
    "Missing",
    "Moment",
    "WhenMissing",
    "backtest",
    "explain",
    "parse_days",
    "parse_market",
    "parse_markets",
    "parse_moment",
    "parse_timeframe",
    "parse_window",
    "read",
    "read_aligned",
    "require_whole",
]
