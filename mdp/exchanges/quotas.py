"""The quotas of every exchange, for whoever counts them. Loads no HTTP library.

Not here: the quotas themselves (each exchange's ``quota``).
"""

from __future__ import annotations

from mdp.domain.market import Exchange
from mdp.domain.quota import Quota
from mdp.exchanges.binance import quota as binance
from mdp.exchanges.bybit import quota as bybit
from mdp.exchanges.deribit import quota as deribit
from mdp.exchanges.okx import quota as okx

_QUOTAS = {
    Exchange.BINANCE: binance.QUOTAS,
    Exchange.BYBIT: bybit.QUOTAS,
    Exchange.OKX: okx.QUOTAS,
    Exchange.DERIBIT: deribit.QUOTAS,
}


def quotas_of(exchange: Exchange) -> tuple[Quota, ...]:
    """Return every limit that an exchange sets to one address."""
    return _QUOTAS[exchange]
