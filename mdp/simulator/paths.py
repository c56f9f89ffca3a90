"""The price of a coin at every minute of a day: one path, which all exchanges share.

Where Binance's minutes of a coin were recorded, the path passes through their closes. Not here: the level at midnight
(``levels``), candles made from the path (``generator``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mdp.domain.market import BASES, Exchange
from mdp.simulator.candles import DAY_MS, MINUTE_MS, UNITS, Candles
from mdp.simulator.levels import FOLLOWS, LEADER, OWN_DAILY_MOVE, Knots, Levels, known_levels, through
from mdp.simulator.noise import Floats, key_of, normals, smooth
from mdp.simulator.recorded_days import RecordedDays

MINUTES = 1_440

_HOURS = np.arange(MINUTES) / 60
BUSYNESS: Floats = 1 + 0.35 * np.cos(2 * np.pi * (_HOURS - 15) / 24)
"""How lively each minute of a UTC day is; the busiest hour is 15:00. Invented, of the usual shape."""


@dataclass(frozen=True, slots=True)
class MinutePath:
    """A coin's price through one day.

    Attributes:
        log_price: ``(1441,)``: natural logarithm of the price at each minute's start, and at the end of the last.
        move: ``(1440,)``: usual size of a minute's log move.
    """

    log_price: Floats
    move: Floats


class Paths:
    """The paths of all coins, for one seed and one set of recorded days."""

    def __init__(self, seed: int, recorded: RecordedDays) -> None:
        self._seed = seed
        self._recorded: dict[str, Mapping[int, Candles]] = {
            base: recorded.of(Exchange.BINANCE, f"{base}USDT") for base in BASES
        }
        self._levels: dict[str, Levels] = {}
        for base in BASES:
            ends = _join_knots([_ends(_points(day, minutes)) for day, minutes in self._recorded[base].items()])
            self._levels[base] = Levels(seed, base, known_levels(base, ends), self._levels.get(LEADER))
        self.of_day = lru_cache(maxsize=256)(self._of_day)

    def recorded_minutes(self, base: str, day: int) -> Candles | None:
        """Return Binance's recorded minutes of a coin's day, None where there are none."""
        return self._recorded[base].get(day)

    def _of_day(self, base: str, day: int) -> MinutePath:
        """The path of one day; ``of_day`` keeps the latest ones."""
        first = day * MINUTES
        liveliness = np.exp(
            0.35 * normals(key_of(self._seed, base, "day"), day, 1)
            + 0.3 * smooth(key_of(self._seed, base, "hours"), first, MINUTES, 60)
        )
        move = OWN_DAILY_MOVE[base] / MINUTES**0.5 * BUSYNESS * liveliness
        moves = normals(key_of(self._seed, base, "minutes"), first, MINUTES) * move
        walk = np.concatenate([[0.0], np.cumsum(moves)])
        if base != LEADER:
            lead = self.of_day(LEADER, day)
            walk += FOLLOWS[base] * (lead.log_price - lead.log_price[0])
            move = np.hypot(move, FOLLOWS[base] * lead.move)
        at = day + np.arange(MINUTES + 1) / MINUTES
        return MinutePath(through(walk, at, self._knots(base, day)), move)

    def _knots(self, base: str, day: int) -> Knots:
        levels = self._levels[base]
        points = {float(day): levels.at(day), float(day + 1): levels.at(day + 1)}
        minutes = self._recorded[base].get(day)
        if minutes is not None:
            known = _points(day, minutes)
            # the level at a midnight already agrees with what was recorded on either side of it
            points = {**dict(zip(known.at.tolist(), known.log_price.tolist(), strict=True)), **points}
        at = np.array(sorted(points))
        return Knots(at, np.array([points[moment] for moment in at.tolist()]))


def _points(day: int, minutes: Candles) -> Knots:
    """Known log prices of a recorded day: where each minute closed, and where each stretch of minutes opened."""
    slots = (minutes.open_ms - day * DAY_MS) // MINUTE_MS
    points: dict[int, int] = dict(zip(slots.tolist(), minutes.column("open").tolist(), strict=True))
    points.update(zip((slots + 1).tolist(), minutes.column("close").tolist(), strict=True))
    slot = np.array(sorted(points), dtype=np.int64)
    prices = np.array([points[key] for key in slot.tolist()], dtype=np.float64)
    return Knots(day + slot / MINUTES, np.log(np.maximum(prices, 1) / UNITS))


def _ends(points: Knots) -> Knots:
    return Knots(points.at[[0, -1]], points.log_price[[0, -1]]) if len(points.at) else points


def _join_knots(parts: list[Knots]) -> Knots:
    """Join by day; where one day ends as the next begins, the close of the earlier one counts."""
    points: dict[float, float] = {}
    for part in parts:
        for at, log_price in zip(part.at.tolist(), part.log_price.tolist(), strict=True):
            points.setdefault(at, log_price)
    at = np.array(sorted(points))
    return Knots(at, np.array([points[moment] for moment in at.tolist()]))
