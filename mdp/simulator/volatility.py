"""Deribit's volatility index (DVOL): hours, invented inside a day, exact at its end where the real close is known.

Percent, counted in hundredths. Not here: how the exchange answers (``deribit``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import lru_cache

import numpy as np
import polars as pl

from mdp.simulator.candles import DAY_MS, Ints
from mdp.simulator.levels import END_DAY, FIRST_DAY, Knots, through
from mdp.simulator.markets import SimulatedIndex
from mdp.simulator.noise import Floats, key_of, normals, smooth
from mdp.simulator.recorded_days import CARRIED, read_checked

HOUR_MS = 3_600_000
_HOURS = 24

_FOLDER = CARRIED / "deribit" / "BTC-DVOL"

CHOSEN_LEVELS: tuple[tuple[date, float], ...] = (
    (date(2021, 3, 24), 85.0),
    (date(2021, 5, 20), 130.0),
    (date(2021, 10, 1), 85.0),
    (date(2022, 6, 18), 100.0),
    (date(2022, 12, 31), 50.0),
    (date(2030, 1, 1), 50.0),
    (date(2040, 1, 1), 45.0),
)
"""Invented levels of the BTC index before and after the recorded days."""

_DAILY_MOVE = 0.03
_HOURLY_MOVE = 0.008
_ETH_ABOVE_BTC = 0.15


class Recorded:
    """The real days of the BTC index: close, and the bounds between which the day stayed, in hundredths."""

    def __init__(self) -> None:
        metadata = json.loads((_FOLDER / "metadata.json").read_text())
        name = "BTC-DVOL-1d.csv.gz"
        frame = pl.read_csv(read_checked(_FOLDER / name, metadata["files"][name]["sha256"]), try_parse_dates=True)
        days = frame["timestamp"].dt.epoch("d").to_list()
        bounds = {
            column: np.rint(frame[f"dvol{suffix}"].to_numpy() * 100).astype(np.int64).tolist()
            for column, suffix in (("close", ""), ("low", "_low"), ("high", "_high"))
        }
        self.closes: Mapping[int, int] = dict(zip(days, bounds["close"], strict=True))
        self.bounds: Mapping[int, tuple[int, int]] = dict(
            zip(days, zip(bounds["low"], bounds["high"], strict=True), strict=True)
        )


class VolatilityHistory:
    """The hours of both indices, for one seed.

    Hours are ``(5, n)``: open time in ms, then open, high, low, close in hundredths of a percent.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.recorded = Recorded()
        days = np.arange(FIRST_DAY, END_DAY + 1, dtype=np.float64)
        walk = np.cumsum(_DAILY_MOVE * normals(key_of(seed, "DVOL", "daily"), FIRST_DAY, len(days)))
        btc = through(walk, days, self._known_levels())
        above = _ETH_ABOVE_BTC + 0.05 * smooth(key_of(seed, "DVOL", "ETH"), FIRST_DAY, len(days), 10)
        self._levels: dict[str, Floats] = {"BTC": btc, "ETH": btc + above}
        self._day = lru_cache(maxsize=2_048)(self._make_day)

    def hours(self, index: SimulatedIndex, first_ms: int, last_ms: int, now_ms: int) -> Ints:
        """Return every hour that opens from ``first_ms`` to ``last_ms``, both included, as of ``now_ms``.

        The hour that is still open is the last one when it opens in that range.
        """
        first_ms, last_ms = max(first_ms, index.first_hour_ms), min(last_ms, now_ms)
        if first_ms > last_ms:
            return np.empty((5, 0), dtype=np.int64)
        days = [self._day(index.currency, day) for day in range(first_ms // DAY_MS, last_ms // DAY_MS + 1)]
        hours = np.concatenate(days, axis=1)
        start, stop = hours[0].searchsorted((first_ms, last_ms + 1))
        hours = hours[:, start:stop]
        if hours.shape[1] and now_ms < hours[0, -1] + HOUR_MS:
            hours[:, -1] = _part_of(hours[:, -1], now_ms)
        return hours

    def _known_levels(self) -> Knots:
        points = {
            datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() / 86_400: level
            for day, level in CHOSEN_LEVELS
        }
        points.update({day + 1.0: close / 100 for day, close in self.recorded.closes.items()})
        at = np.array(sorted(points))
        return Knots(at, np.log([points[moment] for moment in at.tolist()]))

    def _make_day(self, currency: str, day: int) -> Ints:
        if not FIRST_DAY <= day < END_DAY:
            return np.empty((5, 0), dtype=np.int64)
        levels = self._levels[currency][day - FIRST_DAY : day - FIRST_DAY + 2]
        key, first = (self._seed, "DVOL", currency), day * _HOURS
        walk = np.concatenate([[0.0], np.cumsum(_HOURLY_MOVE * normals(key_of(*key, "hours"), first, _HOURS))])
        path = through(walk, np.arange(_HOURS + 1.0), Knots(np.array([0.0, _HOURS]), levels))
        bounds = np.rint(np.exp(path) * 100).astype(np.int64)
        reach = _HOURLY_MOVE * bounds[:-1]
        up, down = (
            np.rint(reach * np.abs(normals(key_of(*key, side), first, _HOURS))).astype(np.int64)
            for side in ("up", "down")
        )
        if currency == "BTC" and day in self.recorded.bounds:
            low, high = self.recorded.bounds[day]
            # the day's first value is the close of the day before, which may lie outside this day's bounds
            bounds[1:] = _fold(bounds[1:], low, high)
            up = np.minimum(up, np.maximum(high - np.maximum(bounds[:-1], bounds[1:]), 0))
            down = np.minimum(down, np.maximum(np.minimum(bounds[:-1], bounds[1:]) - low, 0))
        open_, close = bounds[:-1], bounds[1:]
        open_ms = day * DAY_MS + np.arange(_HOURS) * HOUR_MS
        return np.stack([open_ms, open_, np.maximum(open_, close) + up, np.minimum(open_, close) - down, close])


def _fold(values: Ints, low: int, high: int) -> Ints:
    """Mirror at the bounds what lies outside them; what lies inside stays."""
    width = max(high - low, 1)
    return np.asarray(np.clip(low + width - np.abs((values - low) % (2 * width) - width), low, high))


def _part_of(hour: Ints, now_ms: int) -> Ints:
    """What of one hour has been seen by now: over the two extremes, in straight lines, to its close."""
    open_ms, open_, high, low, close = hour.tolist()
    times = (0.0, 0.3, 0.7, 1.0)
    route = (open_, low, high, close) if close >= open_ else (open_, high, low, close)
    share = (now_ms - open_ms) / HOUR_MS
    value = round(float(np.interp(share, times, route)))
    seen = [value, *(step for time, step in zip(times, route, strict=True) if time <= share)]
    return np.array([open_ms, open_, max(seen), min(seen), value], dtype=np.int64)


def lengthen(hours: Ints, length_ms: int) -> Ints:
    """Join hours to longer candles: first open, highest high, lowest low, last close of each.

    Args:
        hours: Ascending; may be incomplete at either end.
        length_ms: A multiple of an hour; candles begin at its multiples since the epoch.
    """
    if not hours.shape[1]:
        return hours
    buckets = hours[0] // length_ms
    starts = np.flatnonzero(np.r_[True, buckets[1:] != buckets[:-1]])
    ends = np.r_[starts[1:], hours.shape[1]] - 1
    return np.stack(
        [
            buckets[starts] * length_ms,
            hours[1, starts],
            np.maximum.reduceat(hours[2], starts),
            np.minimum.reduceat(hours[3], starts),
            hours[4, ends],
        ]
    )
