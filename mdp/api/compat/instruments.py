"""What bots ask about a market before they ask for candles: its spelling, its steps.

Not here: the shape of the answers (``binance_info``, ``bybit``, ``okx``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mdp.config.settings import Settings
from mdp.domain.market import Exchange, Market

KNOWN_AS_OF = "2026-07"
"""When the steps below stood in the exchanges' own lists of instruments; they are not read anew."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Smallest changes, as the exchange prints them.

    Attributes:
        price: Of a price.
        amount: Of an amount.
        least: The smallest amount of an order.
    """

    price: str
    amount: str
    least: str


_STEPS: Mapping[str, Steps] = {
    "binance:BTC-USDT": Steps("0.01", "0.00001", "0.00001"),
    "binance:ETH-USDT": Steps("0.01", "0.0001", "0.0001"),
    "binance:SOL-USDT": Steps("0.01", "0.001", "0.001"),
    "bybit:BTC-USDT": Steps("0.01", "0.000001", "0.000048"),
    "bybit:ETH-USDT": Steps("0.01", "0.00001", "0.00001"),
    "bybit:SOL-USDT": Steps("0.01", "0.001", "0.001"),
    "okx:BTC-USDT": Steps("0.1", "0.00000001", "0.00001"),
    "okx:ETH-USDT": Steps("0.01", "0.000001", "0.0001"),
    "okx:SOL-USDT": Steps("0.01", "0.000001", "0.001"),
}

UNKNOWN_STEPS = Steps("0.00000001", "0.00000001", "0.00000001")
"""Of a market whose steps nobody noted: the finest that amounts of ours may have."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """A market as an exchange speaks of it.

    Attributes:
        market: Exchange and symbol.
        market_id: The exchange's own spelling.
        steps: Smallest changes.
    """

    market: Market
    market_id: str
    steps: Steps


def instruments(settings: Settings, exchange: Exchange) -> dict[str, Instrument]:
    """Return what is collected of an exchange, by the exchange's own spelling."""
    found: dict[str, Instrument] = {}
    for text in settings.markets:
        market = Market.parse(text)
        if market.exchange is exchange and not market.is_volatility_index:
            between = "-" if exchange is Exchange.OKX else ""
            market_id = f"{market.base}{between}{market.quote}"
            found[market_id] = Instrument(market, market_id, _STEPS.get(text, UNKNOWN_STEPS))
    return found
