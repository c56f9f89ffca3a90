"""The simulated markets: their names on the wire, price and amount steps, first candles.

Not here: prices (``levels``, ``generator``), quotas (``quotas``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mdp.domain.market import SPOT_EXCHANGES, Exchange, Market

Known = Literal["observed", "chosen"]


@dataclass(frozen=True, slots=True)
class SimulatedMarket:
    """One spot market.

    Attributes:
        market: Exchange and symbol.
        market_id: The exchange's own spelling of the symbol.
        first_candle_ms: Open time of its first minute.
        first_candle_is: ``observed`` on the real exchange, or ``chosen`` because nobody published it.
        price_decimals: Decimals of the price step.
        amount_decimals: Decimals of the amount step.
    """

    market: Market
    market_id: str
    first_candle_ms: int
    first_candle_is: Known
    price_decimals: int
    amount_decimals: int

    @property
    def exchange(self) -> Exchange:
        """Where it trades."""
        return self.market.exchange

    @property
    def base(self) -> str:
        """Coin that is traded."""
        return self.market.base

    @property
    def price_step(self) -> str:
        """Smallest change of a price, as the exchanges print it."""
        return f"{10.0**-self.price_decimals:.{self.price_decimals}f}"

    @property
    def amount_step(self) -> str:
        """Smallest change of an amount, as the exchanges print it."""
        return f"{10.0**-self.amount_decimals:.{self.amount_decimals}f}"


def _spot(exchange: Exchange, base: str, *, first: int, known: Known, price: int, amount: int) -> SimulatedMarket:
    market_id = f"{base}-USDT" if exchange is Exchange.OKX else f"{base}USDT"
    return SimulatedMarket(Market(exchange, base, "USDT"), market_id, first, known, price, amount)


SIMULATED_MARKETS: tuple[SimulatedMarket, ...] = (
    _spot(Exchange.BINANCE, "BTC", first=1_502_942_400_000, known="observed", price=2, amount=5),
    _spot(Exchange.BINANCE, "ETH", first=1_502_942_400_000, known="observed", price=2, amount=4),
    _spot(Exchange.BINANCE, "SOL", first=1_597_125_600_000, known="observed", price=2, amount=3),
    _spot(Exchange.BYBIT, "BTC", first=1_625_486_400_000, known="observed", price=2, amount=6),
    _spot(Exchange.BYBIT, "ETH", first=1_625_486_400_000, known="observed", price=2, amount=5),
    _spot(Exchange.BYBIT, "SOL", first=1_634_256_000_000, known="chosen", price=2, amount=3),  # 2021-10-15 00:00
    _spot(Exchange.OKX, "BTC", first=1_515_669_120_000, known="observed", price=1, amount=8),
    _spot(Exchange.OKX, "ETH", first=1_515_670_320_000, known="chosen", price=2, amount=6),  # 2018-01-11 11:32
    _spot(Exchange.OKX, "SOL", first=1_611_910_800_000, known="chosen", price=2, amount=6),  # 2021-01-29 09:00
)
"""Steps are those of the exchanges' own instrument lists; SOL keeps two price decimals through all of its history."""

MARKETS_BY_ID: Mapping[Exchange, Mapping[str, SimulatedMarket]] = {
    exchange: {entry.market_id: entry for entry in SIMULATED_MARKETS if entry.exchange is exchange}
    for exchange in SPOT_EXCHANGES
}


@dataclass(frozen=True, slots=True)
class SimulatedIndex:
    """One volatility index: its currency and the open time of its first hour."""

    currency: str
    first_hour_ms: int
    first_hour_is: Known

    @property
    def market(self) -> Market:
        """The index as the rest of the project names it."""
        return Market(Exchange.DERIBIT, self.currency, "DVOL")


SIMULATED_INDICES: Mapping[str, SimulatedIndex] = {
    currency: SimulatedIndex(currency, 1_616_544_000_000, "chosen")  # 2021-03-24 00:00
    for currency in ("BTC", "ETH")
}


def find_market(market: Market) -> SimulatedMarket:
    """Return the simulated form of a market.

    Raises:
        KeyError: not simulated.
    """
    for entry in SIMULATED_MARKETS:
        if entry.market == market:
            return entry
    raise KeyError(str(market))
