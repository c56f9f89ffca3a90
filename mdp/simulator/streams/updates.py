"""What a stream has to say at an instant: a minute as it stands or as it closed, a tick of a volatility index.

The same values that REST answers show at the same simulated moment. Not here: when it is said (``pump``), in which
words (``binance``, ``bybit``, ``okx``, ``deribit``).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from mdp.domain.timeframe import Timeframe
from mdp.simulator.candles import DAY_MS, MINUTE_MS, Candles
from mdp.simulator.markets import SimulatedIndex, SimulatedMarket
from mdp.simulator.simulation import Simulation
from mdp.simulator.volatility import SECOND_MS


class Update(NamedTuple):
    """One thing to say. Prices and amounts in units of ``1e-8``; of an index only ``close``, in hundredths.

    Attributes:
        open_ms: Open time of the minute; of a tick, its time.
        open: First price.
        high: Highest so far.
        low: Lowest so far.
        close: Last so far.
        volume: In base coin.
        quote_volume: In quote coin.
        trades: Their number.
        taker_volume: Bought by takers, in base coin.
        taker_quote_volume: The same in quote coin.
        is_closed: Whether the minute is over.
    """

    open_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    quote_volume: int = 0
    trades: int = 0
    taker_volume: int = 0
    taker_quote_volume: int = 0
    is_closed: bool = False


class Teller(Protocol):
    """Knows what there is to say about one market."""

    def forming(self, now_ms: int) -> Update | None:
        """Return what stands at a time; None: nothing."""
        ...

    def closed(self, end_ms: int) -> Update | None:
        """Return the minute that ends at a time; None: there is none, or the exchange never says so."""
        ...


class MinuteTeller:
    """The minutes of a spot market."""

    def __init__(self, simulation: Simulation, market: SimulatedMarket) -> None:
        self._simulation = simulation
        self._market = market

    def forming(self, now_ms: int) -> Update | None:
        """Return the minute that is open at a time; None inside an outage, or before listing."""
        return self._told(self._simulation.history.open_candle(self._market, Timeframe.M1, now_ms), now_ms)

    def closed(self, end_ms: int) -> Update | None:
        """Return the minute that ends at a time, as it is told in that instant; None inside an outage."""
        day = (end_ms - MINUTE_MS) // DAY_MS
        minutes = self._simulation.history.days(self._market, Timeframe.M1, day, day)[0].candles
        ending = minutes.opened_between(end_ms - MINUTE_MS, end_ms - 1)
        return self._told(ending, end_ms, is_closed=True)

    def _told(self, candles: Candles, now_ms: int, *, is_closed: bool = False) -> Update | None:
        if len(candles) and self._simulation.faults.has_changes:
            candles = self._simulation.alterations.apply(
                candles, self._market, Timeframe.M1, channel="stream", now_ms=now_ms
            )
        if not len(candles):
            return None
        open_ms, _, *values = candles.values[:, -1].tolist()
        return Update._make((open_ms, *values, is_closed))


class TickTeller:
    """The values of a volatility index, one a second: the last one of that second."""

    def __init__(self, simulation: Simulation, index: SimulatedIndex) -> None:
        self._simulation = simulation
        self._index = index
        self._minute_ms = -1
        self._seconds = np.empty((5, 0), dtype=np.int64)

    def forming(self, now_ms: int) -> Update | None:
        """Return the value of the second of a time; None inside an outage."""
        minute_ms = now_ms - now_ms % MINUTE_MS
        if minute_ms != self._minute_ms:
            last_ms = minute_ms + MINUTE_MS - 1
            self._seconds = self._simulation.volatility.candles(self._index, SECOND_MS, minute_ms, last_ms, last_ms)
            self._minute_ms = minute_ms
        place = now_ms % MINUTE_MS // SECOND_MS
        second = self._seconds[:, place : place + 1]
        if self._simulation.faults.has_changes:
            second = self._simulation.alterations.apply_to_index(
                second, self._index, SECOND_MS, now_ms, channel="stream"
            )
        if not second.shape[1]:
            return None
        return Update(*second[:, 0].tolist())

    def closed(self, end_ms: int) -> Update | None:  # noqa: ARG002 every teller is asked the same way
        """Return nothing: this exchange does not say that a minute is over."""
        return None
