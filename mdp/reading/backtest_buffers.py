"""The buffers of a backtest: the last closed candles at any instant of its range, read ahead and kept a while.

Not here: what may be seen at all (``backtest_past``), what a buffer looks like (``candle_buffer``).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import timedelta

from mdp.domain.interval import Interval
from mdp.domain.live import LiveCandle
from mdp.domain.market import Market
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.reading.backtest_past import Past
from mdp.reading.candle_buffer import CandleBuffer, stored_candles

_AHEAD_SLOTS = 2_880
"""Read at once, two days of 1m: a read costs some milliseconds, a candle half a kilobyte as long as it is kept."""

_AHEAD_DAYS_AS_OF = 30
"""Read at once where every longer candle is made of its minutes."""


@dataclass(slots=True)
class Shelf:
    """The buffers of one market and timeframe, at whatever instant is asked for; quick where instants ascend.

    Attributes:
        past: What may be seen.
        market: Whose.
        timeframe: Of the candles.
        last_us: The last instant at which there is a buffer: the end of the range.
    """

    past: Past
    market: Market
    timeframe: Timeframe
    last_us: int = field(init=False)
    _opened: list[int] = field(default_factory=list)
    _candles: list[LiveCandle] = field(default_factory=list)
    _first_us: int = 0
    _end_us: int = 0

    def __post_init__(self) -> None:
        self.last_us = (self.past.window.end - EPOCH) // EPOCH.resolution

    def at(self, instant_us: int, size: int) -> CandleBuffer:
        """Return the last ``size`` slots that were over at an instant, as far as they hold candles.

        Args:
            instant_us: Microseconds since the epoch, at most the end of the range.
            size: Slots, at least one.
        """
        length = self.timeframe.microseconds
        end_us = instant_us // length * length
        start_us = end_us - size * length
        if start_us < self._first_us or end_us > self._end_us:
            self._read(start_us, end_us)
        first, last = bisect_left(self._opened, start_us), bisect_left(self._opened, end_us)
        # numbered by its newest slot: grows by one with each that closes, and is the same in every run
        return CandleBuffer(
            self.market, self.timeframe, size, tuple(self._candles[first:last]), end_us // length, end_us
        )

    def _read(self, start_us: int, end_us: int) -> None:
        """Read what is asked for, and on from there: most ask for the next instant next."""
        length = self.timeframe.microseconds
        ahead = _AHEAD_SLOTS
        if self.past.view.as_of is not None:
            ahead = min(ahead, _AHEAD_DAYS_AS_OF * 86_400_000_000 // length)
        self._first_us, self._end_us = start_us, end_us + ahead * length
        within = Interval(*(EPOCH + timedelta(microseconds=max(0, bound)) for bound in (start_us, self._end_us)))
        self._candles = stored_candles(self.past.closed(self.market, self.timeframe, within))
        self._opened = [candle.open_us for candle in self._candles]
