"""What a feed works with: the edges and settings it was given.

Not here: opening them (``cli``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from mdp.config.sections import LiveSettings
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import EPOCH
from mdp.ports import CandleSource, CandleStore, CandleStream, LiveBus, MarketClock

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Means:
    """Everything one feed needs, opened and ready for its event loop.

    Attributes:
        exchange: Which one.
        markets: Its markets that are collected.
        live: Settings of live trading.
        settle_s: The exchange's settling time, seconds of the market.
        clock: The market's time.
        source: REST, asked before any backfill.
        stream: The stream.
        bus: Where buffers and entries go.
        store: Where history comes from; used in threads.
    """

    exchange: Exchange
    markets: tuple[Market, ...]
    live: LiveSettings
    settle_s: float
    clock: MarketClock
    source: CandleSource
    stream: CandleStream
    bus: LiveBus
    store: CandleStore

    @property
    def settle_us(self) -> int:
        """The settling time in microseconds."""
        return round(self.settle_s * 1e6)

    def now_us(self) -> int:
        """Return the market's time by the clock we were given."""
        return (self.clock() - EPOCH) // _MICROSECOND


def moment(time_us: int) -> datetime:
    """Return a time that is told in microseconds."""
    return EPOCH + time_us * _MICROSECOND
