"""What is collected: exchanges, symbols, markets and volatility indices.

Not here: an exchange's own spelling of a symbol (``exchanges``), when a market was listed (``data/reference``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_KEY = re.compile(r"([a-z0-9]+):([A-Z0-9]+)[-/]([A-Z0-9]+)")


class Exchange(StrEnum):
    """Where trading happens and data comes from, spelled as CCXT spells it."""

    BINANCE = "binance"
    BYBIT = "bybit"
    OKX = "okx"
    DERIBIT = "deribit"


@dataclass(frozen=True, slots=True, order=True)
class Market:
    """An exchange and a symbol: what a partition, a buffer and a rate budget are about.

    A volatility index is a market too: ``deribit:BTC-DVOL``.

    Examples:
        >>> Market.parse("binance:BTC-USDT").symbol
        'BTC/USDT'
        >>> str(Market(Exchange.BINANCE, "BTC", "USDT"))
        'binance:BTC-USDT'
    """

    exchange: Exchange
    base: str
    quote: str

    @classmethod
    def parse(cls, text: str) -> Market:
        """Read ``exchange:BASE-QUOTE`` (or ``BASE/QUOTE``).

        Raises:
            ValueError: not of that form, or an exchange we do not collect.
        """
        match = _KEY.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"expected a market such as binance:BTC-USDT, got {text!r}")
        if match[1] not in list(Exchange):
            raise ValueError(f"expected one of the exchanges {', '.join(Exchange)}, got {match[1]!r}")
        return cls(Exchange(match[1]), match[2], match[3])

    @property
    def symbol(self) -> str:
        """CCXT's unified form, ``BTC/USDT``."""
        return f"{self.base}/{self.quote}"

    @property
    def symbol_key(self) -> str:
        """The form for tables, paths, URLs and keys, ``BTC-USDT``."""
        return f"{self.base}-{self.quote}"

    @property
    def is_volatility_index(self) -> bool:
        """Tell whether this is a volatility index rather than something traded."""
        return self.quote == "DVOL"

    def __str__(self) -> str:
        return f"{self.exchange.value}:{self.symbol_key}"


SPOT_EXCHANGES: tuple[Exchange, ...] = (Exchange.BINANCE, Exchange.BYBIT, Exchange.OKX)
BASES: tuple[str, ...] = ("BTC", "ETH", "SOL")
CURRENCIES: tuple[str, ...] = ("BTC", "ETH")
"""Currencies for which Deribit publishes DVOL."""

SPOT_MARKETS: tuple[Market, ...] = tuple(Market(e, b, "USDT") for e in SPOT_EXCHANGES for b in BASES)
VOLATILITY_MARKETS: tuple[Market, ...] = tuple(Market(Exchange.DERIBIT, c, "DVOL") for c in CURRENCIES)
MARKETS: tuple[Market, ...] = SPOT_MARKETS + VOLATILITY_MARKETS
