"""The candles of a range in the order in which they closed, over all markets.

Not here: what may be seen at all (``backtest_past``), the buffers at each close (``backtest_buffers``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from mdp.domain.interval import Interval
from mdp.domain.live import LiveCandle
from mdp.domain.market import Market
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.reading.backtest_past import Past
from mdp.reading.candle_buffer import CandleBuffer, stored_candles

_ROWS_AT_ONCE = 16_384
"""Turned into candles at once: what is held of a month stays a frame until its turn comes."""

BufferAt = Callable[[Market, Timeframe, int, int], CandleBuffer]
"""Gives the buffer of a market and timeframe at an instant (microseconds), so many slots long."""


@dataclass(slots=True)
class Closed:
    """One candle has closed.

    Attributes:
        time_us: When: the end of its slot, microseconds since the epoch.
        market: Whose.
        timeframe: Of the candle.
        candle: As it is stored.
    """

    time_us: int
    market: Market
    timeframe: Timeframe
    candle: LiveCandle
    _buffer_at: BufferAt

    @property
    def time(self) -> datetime:
        """When it closed, UTC."""
        return EPOCH + timedelta(microseconds=self.time_us)

    def buffer(
        self, timeframe: Timeframe | str | None = None, *, market: Market | str | None = None, size: int = 100
    ) -> CandleBuffer:
        """Return a buffer as it was at this instant: candles that had closed by then, this one among them.

        Args:
            timeframe: None: that of the candle.
            market: Another one; None: that of the candle.
            size: How many slots.
        """
        whose = self.market if market is None else market if isinstance(market, Market) else Market.parse(market)
        length = self.timeframe if timeframe is None else Timeframe(timeframe)
        return self._buffer_at(whose, length, self.time_us, size)


def replay(past: Past, markets: Sequence[Market], timeframe: Timeframe, buffer_at: BufferAt) -> Iterator[Closed]:
    """Yield every candle that opens and closes inside the range, month by month.

    Args:
        past: What may be seen, and the range.
        markets: Candles that close in one instant come in this order.
        timeframe: Of the candles.
        buffer_at: Where an event finds its buffers.
    """
    length = timeframe.microseconds
    for month in past.window.months():
        # sorted as a whole and cut afterwards; an open time is a number here, and so is a market
        rows = _month(past, markets, timeframe, month)
        for part in rows.iter_slices(_ROWS_AT_ONCE):
            whose = [markets[number] for number in part["number"].to_list()]
            for market, candle in zip(whose, stored_candles(part), strict=True):
                yield Closed(candle.open_us + length, market, timeframe, candle, buffer_at)


def _month(past: Past, markets: Sequence[Market], timeframe: Timeframe, month: Interval) -> pl.DataFrame:
    found = [
        past.closed(market, timeframe, month).with_columns(pl.lit(number, pl.Int32).alias("number"))
        for number, market in enumerate(markets)
    ]
    return pl.concat(found).sort("open_time", "number") if found else pl.DataFrame()
