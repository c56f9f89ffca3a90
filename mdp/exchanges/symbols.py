"""The exchanges' own spellings of our markets, both ways.

Nothing outside ``exchanges`` and ``simulator`` knows a ``market_id``.
"""

from __future__ import annotations

import re

from mdp.domain.market import CURRENCIES, Exchange, Market
from mdp.errors import InputError

QUOTES: tuple[str, ...] = ("USDT", "USDC", "BTC", "ETH", "EUR")
"""Quote coins we can tell from a base they are glued to; none may be the ending of another."""

_COIN = re.compile(r"[A-Z0-9]+")


def to_market_id(market: Market) -> str:
    """Return an exchange's own spelling of a market: ``BTCUSDT``, ``BTC-USDT``, and Deribit's currency ``BTC``.

    Raises:
        InputError: the exchange has no such market, or its spelling could not be read back.
    """
    if market.exchange is Exchange.DERIBIT:
        if not market.is_volatility_index or market.base not in CURRENCIES:
            raise InputError("market", got=str(market), expected=f"a volatility index of {' or '.join(CURRENCIES)}")
        return market.base
    if market.is_volatility_index:
        raise InputError("market", got=str(market), expected=f"something traded on {market.exchange.value}")
    if market.exchange is Exchange.OKX:
        return f"{market.base}-{market.quote}"
    if market.quote not in QUOTES:
        raise InputError("market", got=str(market), expected=f"a quote coin among {', '.join(QUOTES)}")
    return f"{market.base}{market.quote}"


def from_market_id(exchange: Exchange, market_id: str) -> Market:
    """Return the market that an exchange spells ``market_id``; the inverse of :func:`to_market_id`.

    Raises:
        InputError: not a spelling of a market we can collect there.
    """
    base, quote = _split(exchange, market_id)
    if not (_COIN.fullmatch(base) and _COIN.fullmatch(quote)):
        raise InputError("market_id", got=market_id, expected=f"a market of {exchange.value}")
    market = Market(exchange, base, quote)
    to_market_id(market)
    return market


def _split(exchange: Exchange, market_id: str) -> tuple[str, str]:
    if exchange is Exchange.DERIBIT:
        return market_id, "DVOL"
    if exchange is Exchange.OKX:
        base, _, quote = market_id.partition("-")
        return base, quote
    quote = next((known for known in QUOTES if market_id.endswith(known)), "")
    return market_id.removesuffix(quote), quote
