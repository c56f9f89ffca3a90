"""Price levels at every midnight: real ones where they are known, a seeded walk between them.

Not here: what happens inside a day (``paths``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import polars as pl

from mdp.simulator.candles import DAY_MS
from mdp.simulator.noise import Floats, key_of, normals
from mdp.simulator.recorded_days import CARRIED

FIRST_DAY = 17_167
"""2017-01-01, in days since the epoch: nothing is simulated before."""

END_DAY = 25_567
"""2040-01-01: nothing is simulated from here on."""

_REAL_CLOSES = CARRIED / "binance" / "BTCUSDT" / "levels" / "closes.csv"

CHOSEN_LEVELS: Mapping[str, tuple[tuple[date, float], ...]] = {
    "BTC": ((date(2030, 1, 1), 95_000), (date(2035, 1, 1), 120_000), (date(2040, 1, 1), 150_000)),
    "ETH": (
        (date(2017, 8, 17), 300),
        (date(2018, 1, 14), 1_300),
        (date(2018, 4, 1), 400),
        (date(2018, 12, 15), 90),
        (date(2019, 6, 26), 320),
        (date(2020, 1, 1), 130),
        (date(2020, 7, 1), 230),
        (date(2021, 1, 1), 740),
        (date(2021, 5, 10), 3_900),
        (date(2021, 7, 20), 1_850),
        (date(2021, 11, 9), 4_700),
        (date(2022, 6, 18), 1_000),
        (date(2023, 1, 1), 1_200),
        (date(2024, 1, 1), 2_300),
        (date(2024, 12, 25), 3_480),
        (date(2025, 4, 8), 1_500),
        (date(2025, 8, 20), 4_300),
        (date(2026, 1, 1), 3_000),
        (date(2040, 1, 1), 6_000),
    ),
    "SOL": (
        (date(2020, 8, 11), 3),
        (date(2021, 1, 1), 2),
        (date(2021, 5, 17), 50),
        (date(2021, 7, 20), 25),
        (date(2021, 11, 6), 250),
        (date(2022, 6, 18), 32),
        (date(2022, 12, 29), 10),
        (date(2023, 10, 1), 22),
        (date(2024, 3, 18), 200),
        (date(2024, 12, 25), 195),
        (date(2025, 4, 8), 105),
        (date(2026, 1, 1), 130),
        (date(2040, 1, 1), 300),
    ),
}
"""Invented, rounded levels (USDT) of the generated coins, and of BTC where no real one is known yet."""

LEADER = "BTC"
"""The coin whose moves the others follow."""

FOLLOWS: Mapping[str, float] = {"BTC": 0.0, "ETH": 1.1, "SOL": 1.3}
"""How strongly a coin's log price follows the leader's. Invented."""

OWN_DAILY_MOVE: Mapping[str, float] = {"BTC": 0.025, "ETH": 0.018, "SOL": 0.03}
"""Standard deviation of a day's log move that is the coin's own. Invented, of the usual size."""


@dataclass(frozen=True, slots=True)
class Knots:
    """Known log prices of a coin.

    Attributes:
        at: Instants in days since the epoch, ascending, unique.
        log_price: Natural logarithm of the price there.
    """

    at: Floats
    log_price: Floats


def through(walk: Floats, at: Floats, knots: Knots) -> Floats:
    """Bend a walk so that it passes through known points: a bridge between each two, the walk itself outside.

    Args:
        walk: Log prices at ``at``.
        at: Ascending instants in days.
        knots: Where it must pass; instants between two of ``at`` count by the straight line between them.
    """
    if not len(knots.at):
        return walk
    return np.asarray(walk + np.interp(at, knots.at, knots.log_price - np.interp(knots.at, at, walk)))


def known_levels(base: str, recorded: Knots) -> Knots:
    """Join the levels known for a coin: recorded minutes, real closes, chosen ones; the first of these wins.

    Args:
        base: The coin.
        recorded: Log prices at the ends of recorded stretches.
    """
    points: dict[float, float] = {}
    for day, price in CHOSEN_LEVELS[base]:
        points[datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() / 86_400] = float(np.log(price))
    if base == LEADER:
        closes = pl.read_csv(_REAL_CLOSES)
        points.update(zip((closes["time_ms"] / DAY_MS).to_list(), np.log(closes["price"].to_numpy()), strict=True))
    points.update(zip(recorded.at.tolist(), recorded.log_price.tolist(), strict=True))
    at = np.array(sorted(points))
    return Knots(at, np.array([points[moment] for moment in at.tolist()]))


class Levels:
    """The log price of a coin at every midnight from ``FIRST_DAY`` to ``END_DAY``, both included."""

    def __init__(self, seed: int, base: str, knots: Knots, leader: Levels | None = None) -> None:
        days = np.arange(FIRST_DAY, END_DAY + 1, dtype=np.float64)
        moves = normals(key_of(seed, base, "daily"), FIRST_DAY, len(days)) * OWN_DAILY_MOVE[base]
        walk = np.cumsum(moves)
        if leader is not None:
            walk = walk + FOLLOWS[base] * leader.log_prices
        self.log_prices: Floats = through(walk, days, knots)

    def at(self, day: int) -> float:
        """Return the log price at the midnight that begins ``day``."""
        return float(self.log_prices[day - FIRST_DAY])
