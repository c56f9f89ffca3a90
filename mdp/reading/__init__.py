"""Reading for people: what ``mdp.read``, ``mdp.read_aligned``, ``mdp.explain`` and the commands beside them give.

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
from mdp.reading.explained import explain
from mdp.reading.single import read

__all__ = [
    "FIRST_DAY",
    "Moment",
    "explain",
    "parse_days",
    "parse_market",
    "parse_markets",
    "parse_moment",
    "parse_timeframe",
    "parse_window",
    "read",
    "read_aligned",
]
