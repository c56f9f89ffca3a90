"""The edge where candles come in: one folder for each exchange, and the machinery they share.

A folder holds ``client`` (one request, its outcome turned into one of our errors), ``parse`` (a body into a table,
pure), ``pager`` (which pages tile a window, pure), ``quota`` (what requests cost, pure) and ``source`` (all of it put
together). Shared: ``tiling``, ``frames``, ``verdicts``, ``circuit`` and ``quotas`` (pure), ``asking``, ``refusals``,
``ccxt_transport``, ``paging``, ``clocks``, ``symbols``.
Not here: judging a row (``domain.rules``), keeping it (``storage``), counting requests for all processes (``bus``).
"""

from __future__ import annotations

from mdp.config.sections import ExchangeSettings
from mdp.domain.market import Exchange
from mdp.errors import ConfigError
from mdp.exchanges.asking import RetryWaits
from mdp.exchanges.means import Means
from mdp.exchanges.quotas import quotas_of
from mdp.ports import Budget, CandleSource, Clock, PageSpool

__all__ = ["RetryWaits", "open_source", "quotas_of"]


def open_source(
    exchange: Exchange,
    settings: ExchangeSettings,
    *,
    clock: Clock,
    budget: Budget,
    spool: PageSpool | None = None,
    waits: RetryWaits | None = None,
) -> CandleSource:
    """Return an exchange as a source of candles; use it inside ``async with``. Nothing is asked yet.

    Args:
        exchange: Which one.
        settings: Where it is and how hard we may ask; ``rest_url`` must be set.
        clock: Tells our own UTC time; the exchange's is asked for and their difference is taken into account.
        budget: Gives leave to ask, of the quotas of :func:`quotas_of`; closed with the source.
        spool: Keeps answered pages until their slice is stored; None: a fetch that is broken off starts again.
        waits: How long to wait between attempts; None for the usual.

    Raises:
        ConfigError: ``rest_url`` is not set.
    """
    if settings.rest_url is None:
        setting = f"MDP_EXCHANGES__{exchange.name}__REST_URL"
        raise ConfigError(setting, got=None, expected="the address of the exchange or of its simulator")
    means = Means(clock, budget, spool, waits or RetryWaits())
    # Imported when needed: CCXT takes a second, which whoever only loads definitions should not pay.
    match exchange:
        case Exchange.BINANCE:
            from mdp.exchanges.binance.source import BinanceSource

            return BinanceSource(settings, means)
        case Exchange.BYBIT:
            from mdp.exchanges.bybit.source import BybitSource

            return BybitSource(settings, means)
        case Exchange.OKX:
            from mdp.exchanges.okx.source import OkxSource

            return OkxSource(settings, means)
        case Exchange.DERIBIT:
            from mdp.exchanges.deribit.source import DeribitSource

            return DeribitSource(settings, means)
