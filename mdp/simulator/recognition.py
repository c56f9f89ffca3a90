"""Which symbol a request is about, whatever the exchange calls it and wherever it says so.

Not here: what is done with it (``script``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mdp.domain.market import Exchange
from mdp.simulator.markets import MARKETS_BY_ID, SIMULATED_INDICES

_PARAMETER = re.compile(rb"(?:^|&)(?:symbol|instId|instIdList|currency)=([^&]+)")
_IN_FILE_NAME = re.compile(r"/([A-Z]+(?:-[A-Z]+)?)-(?:1[mhd]|5m|15m|4h|candlesticks)-[^/]*$")

SYMBOLS_BY_ID: Mapping[Exchange, Mapping[str, str]] = {
    **{
        exchange: {market_id: market.market.symbol_key for market_id, market in markets.items()}
        for exchange, markets in MARKETS_BY_ID.items()
    },
    Exchange.DERIBIT: {currency: index.market.symbol_key for currency, index in SIMULATED_INDICES.items()},
}
"""Our form of the exchange's own spellings."""


def symbol_of(exchange: Exchange, path: str, query: bytes) -> str | None:
    """Return the symbol, ``BTC-USDT``; None where the request names none, or one that is not simulated.

    Args:
        exchange: Who is asked.
        path: Below the exchange's prefix.
        query: As sent.
    """
    named = _PARAMETER.search(query)
    if named is not None:
        return SYMBOLS_BY_ID[exchange].get(named[1].decode("latin-1"))
    in_file = _IN_FILE_NAME.search(path)
    return SYMBOLS_BY_ID[exchange].get(in_file[1]) if in_file else None
