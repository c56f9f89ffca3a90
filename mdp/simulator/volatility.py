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
SECOND_MS = 1_000
_HOURS = 24
_PARTS = 60

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
        return self.candles(index, HOUR_MS, first_ms, last_ms, now_ms)

    def candles(self, index: SimulatedIndex, length_ms: int, first_ms: int, last_ms: int, now_ms: int) -> Ints:
        """Return every candle of an hour, a minute or a second that opens in a range, as ``hours`` does.

        Minutes and seconds are invented inside the hour: together they are exactly it, at any moment of it.

        Args:
            index: Whose.
            length_ms: An hour, a minute, or a second.
            first_ms: Earliest open time, inclusive.
            last_ms: Latest open time, inclusive.
            now_ms: As of when: nothing that opens later exists.
        """
        first_ms, last_ms = max(first_ms, index.first_hour_ms), min(last_ms, now_ms)
        whole = self._whole(index.currency, length_ms, first_ms, last_ms)
        if whole.shape[1] and length_ms > SECOND_MS and now_ms < whole[0, -1] + length_ms:
            seconds = self._whole(index.currency, SECOND_MS, int(whole[0, -1]), now_ms)
            whole = np.concatenate([whole[:, :-1], lengthen(seconds, length_ms)], axis=1)
        return whole

    def _whole(self, currency: str, length_ms: int, first_ms: int, last_ms: int) -> Ints:
        """Candles that open from one time to another, as they are once they are over."""
        if first_ms > last_ms:
            return np.empty((5, 0), dtype=np.int64)
        if length_ms == HOUR_MS:
            days = [self._day(currency, day) for day in range(first_ms // DAY_MS, last_ms // DAY_MS + 1)]
            candles = np.concatenate(days, axis=1)
        else:
            longer_ms = 60 * length_ms
            longer = self._whole(currency, longer_ms, first_ms // longer_ms * longer_ms, last_ms)
            candles = split_candles(longer, length_ms, key_of(self._seed, "DVOL", currency, length_ms))
        start, stop = candles[0].searchsorted((first_ms, last_ms + 1))
        return np.asarray(candles[:, start:stop])

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


def split_candles(candles: Ints, part_ms: int, key: np.uint64) -> Ints:
    """Invent the sixty parts of each candle; joined again they are exactly it.

    Args:
        candles: ``(5, n)``, adjacent, each sixty parts long.
        part_ms: Length of a part.
        key: Of the noise; a part's place in time decides the rest.
    """
    count = candles.shape[1]
    if not count:
        return candles
    first = int(candles[0, 0]) // part_ms
    open_, high, low, close = (row[:, None] for row in candles[1:])
    steps = normals(key, first, count * _PARTS).reshape(count, _PARTS)
    along = np.arange(_PARTS + 1) / _PARTS
    walk = np.concatenate([np.zeros((count, 1)), np.cumsum(steps, axis=1)], axis=1)
    walk = (walk - walk[:, -1:] * along) * (high - low) / (2 * _PARTS**0.5)
    bounds = np.clip(np.rint(open_ + (close - open_) * along + walk).astype(np.int64), low, high)
    opens, closes = bounds[:, :-1], bounds[:, 1:]
    highs, lows = np.maximum(opens, closes), np.minimum(opens, closes)
    rows = np.arange(count)
    # the part that comes nearest to an extreme reaches it
    highs[rows, highs.argmax(axis=1)] = high[:, 0]
    lows[rows, lows.argmin(axis=1)] = low[:, 0]
    times = first * part_ms + np.arange(count * _PARTS) * part_ms
    return np.stack([times, *(part.reshape(-1) for part in (opens, highs, lows, closes))])


def lengthen(hours: Ints, length_ms: int) -> Ints:
    """Join candles to longer ones: first open, highest high, lowest low, last close of each.

    Args:
        hours: Hours or shorter candles, ascending; may be incomplete at either end.
        length_ms: A multiple of their length; candles begin at its multiples since the epoch.
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
