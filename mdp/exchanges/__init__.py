"""The edge where candles come in: one folder for each exchange, and the machinery they share.

A folder holds ``client`` (one request, its outcome turned into one of our errors), ``parse`` (a body into a table,
pure), ``pager`` (which pages tile a window, pure) and ``source`` (the three put together). Shared: ``tiling`` and
``frames`` (pure), ``verdicts`` (pure), ``pace``, ``asking``, ``ccxt_transport``, ``paging``, ``symbols``.
Not here: judging a row (``domain.rules``), keeping it (``storage``).
"""

from __future__ import annotations

from mdp.config.sections import ExchangeSettings
from mdp.domain.market import Exchange
from mdp.errors import ConfigError
from mdp.exchanges.asking import RetryWaits
from mdp.exchanges.pace import Pace
from mdp.ports import CandleSource, Clock


def open_source(
    exchange: Exchange,
    settings: ExchangeSettings,
    *,
    clock: Clock,
    pace: Pace | None = None,
    waits: RetryWaits | None = None,
) -> CandleSource:
    """Return an exchange as a source of candles; use it inside ``async with``. Nothing is asked yet.

    Args:
        exchange: Which one.
        settings: Where it is and how hard we may ask; ``rest_url`` must be set.
        clock: Tells our own UTC time; the exchange's is asked for and their difference is taken into account.
        pace: Gives leave to ask, in place of this process's own share of the exchange's quota.
        waits: How long to wait between attempts; None for the usual.

    Raises:
        ConfigError: ``rest_url`` is not set.
    """
    if settings.rest_url is None:
        setting = f"MDP_EXCHANGES__{exchange.name}__REST_URL"
        raise ConfigError(setting, got=None, expected="the address of the exchange or of its simulator")
    waits = waits or RetryWaits()
    # Imported when needed: CCXT takes a second, which whoever only loads definitions should not pay.
    match exchange:
        case Exchange.BINANCE:
            from mdp.exchanges.binance.source import BinanceSource

            return BinanceSource(settings, clock, pace, waits)
        case Exchange.BYBIT:
            from mdp.exchanges.bybit.source import BybitSource

            return BybitSource(settings, clock, pace, waits)
        case Exchange.OKX:
            from mdp.exchanges.okx.source import OkxSource

            return OkxSource(settings, clock, pace, waits)
        case Exchange.DERIBIT:
            from mdp.exchanges.deribit.source import DeribitSource

            return DeribitSource(settings, clock, pace, waits)
