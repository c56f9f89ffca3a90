"""Live candles: what a market's buffers hold, and what is handed on for storage.

Plain values on the hot path, for a frame costs more than the work. Times are whole microseconds since the epoch, UTC.
Not here: how minutes become longer candles and what a late or repeated one does (``buffers``), where buffers are kept
(``bus``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe


class CandleState(StrEnum):
    """How sure a live candle is, least first.

    ``FORMING``: its time is not over. ``CLOSED``: the exchange said in its stream that it is finished. ``CONFIRMED``:
    REST gave it after the exchange's settling time. ``CORRECTED``: a later answer gave other values than a closed or
    confirmed one had. A longer candle is as sure as the least sure of its minutes, and corrected when one of them is.
    """

    FORMING = "forming"
    CLOSED = "closed"
    CONFIRMED = "confirmed"
    CORRECTED = "corrected"


class LiveCandle(NamedTuple):
    """One candle of a known market and timeframe.

    Attributes:
        open_us: Open time.
        open: First price.
        high: Highest price.
        low: Lowest price.
        close: Last price, so far.
        volume: In base coin, so far; None of a volatility index.
        quote_volume: In quote coin; None where the exchange does not give it.
        trades: Their number; None where the exchange does not give it.
        minutes: How many minutes it holds, an unfinished one included.
        state: How sure it is.
        source: ``stream``, ``rest`` or ``archive`` at 1m; ``resampled`` above, unless the exchange's own longer candle
            was taken (``rest``), because its minutes are not kept.
        received_us: When the values came, by the market's clock (``ports.MarketClock``).
    """

    open_us: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    quote_volume: float | None
    trades: int | None
    minutes: int
    state: CandleState
    source: str
    received_us: int

    def says_same(self, other: LiveCandle) -> bool:
        """Tell whether both are the same slot with the same values, whatever their state and source."""
        return self[:9] == other[:9]


@dataclass(frozen=True, slots=True)
class Change:
    """One candle of a buffer is new or says something else."""

    timeframe: Timeframe
    candle: LiveCandle


@dataclass(frozen=True, slots=True)
class Entry:
    """What a feed hands on for storage, in the order in which it learnt it. Handing on twice changes nothing.

    Attributes:
        market: Whose.
        candle: A minute that is closed, confirmed or corrected; None where a slot is told to be empty.
        absent_us: Open times of slots for which the exchange was asked, after its settling time, and gave nothing.
        requests: That were answered for this.
        told_us: When the feed learnt it, by the market's clock.
        detail: In words, for people; such as why it is a correction.
    """

    market: Market
    candle: LiveCandle | None = None
    absent_us: tuple[int, ...] = ()
    requests: int = 0
    told_us: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Buffer:
    """The last candles of one market and timeframe, as one consistent view.

    Attributes:
        market: Whose.
        timeframe: Their length.
        size: How many closed candles it is meant to hold: the slots before the newest one.
        candles: Ascending by ``open_us``, unique, all within the last ``size`` + 1 slots; a slot the exchange left out
            is not there. The last one is the newest known, usually forming.
        seq: Grows by one with each change of the buffer.
        written_us: When it was written last, by the market's clock.
        is_stale: True where nobody keeps it now: no feed holds the lease of its exchange, or the reader lost the bus.
    """

    market: Market
    timeframe: Timeframe
    size: int
    candles: tuple[LiveCandle, ...]
    seq: int
    written_us: int
    is_stale: bool = False

    @property
    def closed(self) -> tuple[LiveCandle, ...]:
        """The candles whose time is over."""
        return tuple(candle for candle in self.candles if candle.state is not CandleState.FORMING)

    @property
    def missing_us(self) -> tuple[int, ...]:
        """Open times of slots between the first and the last candle that hold none."""
        if not self.candles:
            return ()
        there = {candle.open_us for candle in self.candles}
        slots = range(self.candles[0].open_us, self.candles[-1].open_us, self.timeframe.microseconds)
        return tuple(slot for slot in slots if slot not in there)
