"""What every market's candles are: at any time, of any timeframe, as of any simulated now.

Recorded days where there are any, generated ones elsewhere; the open candle; nothing before listing. This is the truth
that the exchanges' pages are cut from. Not here: how a page is cut (``pages``) or printed (``binance``, ``bybit``,
``okx``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from mdp.domain.timeframe import Timeframe
from mdp.simulator.candles import DAY_MS, MINUTE_MS, NO_CANDLES, UNITS, Candles, join, to_timeframe
from mdp.simulator.forming import Steps, grow
from mdp.simulator.generator import Generator
from mdp.simulator.levels import END_DAY
from mdp.simulator.markets import SimulatedMarket
from mdp.simulator.paths import Paths
from mdp.simulator.recorded_days import RecordedDays

Encoder = Callable[[Candles], list[str]]
"""Prints candles as an exchange does, one text each."""

_KEPT_CANDLES = 250_000
"""Candles kept in memory, about 320 bytes each with their text: 80 MB."""

_DAYS_AT_ONCE = 64
"""Days resampled together at most, so that a page of daily candles takes a bounded amount of memory."""


@dataclass(slots=True)
class DayOfCandles:
    """All candles of one market, timeframe and UTC day, as they are once the day is over.

    Attributes:
        candles: They.
        is_recorded: Whether they were recorded rather than generated.
        texts: They as exchanges print them, where they have been printed already.
    """

    candles: Candles
    is_recorded: bool
    texts: dict[Encoder, list[str]] = field(default_factory=dict)


def print_days(days: Sequence[DayOfCandles], encode: Encoder) -> None:
    """Print what has not been printed yet, all at once: a call costs as much as a hundred candles."""
    unprinted = [day for day in days if encode not in day.texts]
    if unprinted:
        texts = iter(encode(join([day.candles for day in unprinted])))
        for day in unprinted:
            day.texts[encode] = list(islice(texts, len(day.candles)))


_Key = tuple[SimulatedMarket, Timeframe, int]


class _Kept:
    """The days used last, up to a number of candles."""

    def __init__(self, most: int) -> None:
        self._days: OrderedDict[_Key, DayOfCandles] = OrderedDict()
        self._size = 0
        self._most = most

    def get(self, key: _Key) -> DayOfCandles | None:
        day = self._days.get(key)
        if day is not None:
            self._days.move_to_end(key)
        return day

    def put(self, key: _Key, day: DayOfCandles) -> None:
        self._days[key] = day
        self._size += max(len(day.candles), 1)
        while self._size > self._most and len(self._days) > 1:
            _, oldest = self._days.popitem(last=False)
            self._size -= max(len(oldest.candles), 1)


class History:
    """The candles of all spot markets."""

    def __init__(self, seed: int, recorded: RecordedDays, *, kept_candles: int = _KEPT_CANDLES) -> None:
        self._recorded = recorded
        self._generator = Generator(seed, Paths(seed, recorded))
        self._kept = _Kept(kept_candles)

    def recorded_days(self, market: SimulatedMarket) -> list[int]:
        """Return the recorded days of a market, ascending, in days since the epoch."""
        return sorted(self._recorded.of(market.exchange, market.market_id))

    def is_recorded(self, market: SimulatedMarket, day: int) -> bool:
        """Tell whether a day (since the epoch) of a market was recorded."""
        return day in self._recorded.of(market.exchange, market.market_id)

    def days(self, market: SimulatedMarket, timeframe: Timeframe, first: int, last: int) -> list[DayOfCandles]:
        """Return days ``first`` to ``last``, both included, as they are once they are over."""
        found = {day: self._kept.get((market, timeframe, day)) for day in range(first, last + 1)}
        missing = [day for day, kept in found.items() if kept is None]
        for start in range(0, len(missing), _DAYS_AT_ONCE):
            batch = missing[start : start + _DAYS_AT_ONCE]
            for day, made in zip(batch, self._make(market, timeframe, batch), strict=True):
                self._kept.put((market, timeframe, day), made)
                found[day] = made
        return [day for day in found.values() if day is not None]

    def open_candle(self, market: SimulatedMarket, timeframe: Timeframe, now_ms: int) -> Candles:
        """Return the candle that is open at ``now_ms``; none when nothing has happened in it, or before listing."""
        is_minute = timeframe is Timeframe.M1
        # a recorded minute may open off the grid, so an open minute is one that began less than a minute ago
        first_ms = now_ms - MINUTE_MS + 1 if is_minute else now_ms - now_ms % timeframe.milliseconds
        minutes = self.days(market, Timeframe.M1, now_ms // DAY_MS, now_ms // DAY_MS)[0].candles
        begun = minutes.opened_between(first_ms, now_ms)
        if not len(begun):
            return NO_CANDLES
        newest = begun.slice(len(begun) - 1, len(begun))
        if now_ms < int(newest.open_ms[0]) + MINUTE_MS:
            newest = grow(newest, MINUTE_MS, now_ms, _steps(market))
        begun = join([begun.slice(0, len(begun) - 1), newest])
        return begun if is_minute else to_timeframe(begun, market.market, timeframe)

    def candles(
        self, market: SimulatedMarket, timeframe: Timeframe, first_ms: int, last_ms: int, now_ms: int
    ) -> Candles:
        """Return every candle that opens from ``first_ms`` to ``last_ms``, both included, as of ``now_ms``.

        The open candle is the last one when it opens in that range.
        """
        first_ms = max(first_ms, market.first_candle_ms // DAY_MS * DAY_MS)
        closed_ms = min(last_ms, now_ms - timeframe.milliseconds)
        parts: list[Candles] = []
        if first_ms <= closed_ms:
            whole = self.days(market, timeframe, first_ms // DAY_MS, closed_ms // DAY_MS)
            parts = [day.candles.opened_between(first_ms, closed_ms) for day in whole]
        parts.append(self.open_candle(market, timeframe, now_ms).opened_between(max(first_ms, closed_ms + 1), last_ms))
        return join([part for part in parts if len(part)])

    def _make(self, market: SimulatedMarket, timeframe: Timeframe, days: Sequence[int]) -> list[DayOfCandles]:
        recorded = self._recorded.of(market.exchange, market.market_id)
        if timeframe is Timeframe.M1:
            return [DayOfCandles(self._minutes(market, day), day in recorded) for day in days]
        minutes = []
        for day in days:
            kept = self._kept.get((market, Timeframe.M1, day))
            minutes.append(kept.candles if kept is not None else self._minutes(market, day))
        made = to_timeframe(join(minutes), market.market, timeframe)
        return [
            DayOfCandles(made.opened_between(day * DAY_MS, (day + 1) * DAY_MS - 1), day in recorded) for day in days
        ]

    def _minutes(self, market: SimulatedMarket, day: int) -> Candles:
        recorded = self._recorded.of(market.exchange, market.market_id).get(day)
        if recorded is not None:
            return recorded
        first_day = market.first_candle_ms // DAY_MS
        if not first_day <= day < END_DAY:
            return NO_CANDLES
        minutes = self._generator.minutes(market, day)
        if day == first_day:
            return minutes.opened_between(market.first_candle_ms, (day + 1) * DAY_MS)
        return minutes


def _steps(market: SimulatedMarket) -> Steps:
    return Steps(UNITS // 10**market.price_decimals, UNITS // 10**market.amount_decimals)


def ranges_of(days: Sequence[int]) -> list[tuple[int, int]]:
    """Group ascending days into half-open ranges of adjacent ones.

    Examples:
        >>> ranges_of([3, 4, 5, 9])
        [(3, 6), (9, 10)]
    """
    if not days:
        return []
    array = np.asarray(days)
    breaks = np.flatnonzero(np.diff(array) > 1)
    starts, ends = np.r_[array[0], array[breaks + 1]], np.r_[array[breaks], array[-1]] + 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
