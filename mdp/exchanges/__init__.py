"""The edge where candles come in: one folder for each exchange, and the machinery they share.

A folder holds ``client`` (one request, its outcome turned into one of our errors), ``parse`` (a body into a table,
pure), ``pager`` (which pages tile a window, pure), ``quota`` (what requests cost, pure) and ``source`` (all of it put
together); for streams ``stream_parse`` (a message into our words, pure) and ``stream``. Shared: ``tiling``, ``frames``,
``verdicts``, ``circuit`` and ``quotas`` (pure), ``asking``, ``refusals``, ``ccxt_transport``, ``paging``, ``clocks``,
``symbols``; for streams ``stream_messages`` (pure), ``stream_watching``, ``stream_wire``, ``stream_failures``,
``stream``, ``stream_ccxt``.
Not here: judging a row (``domain.rules``), keeping it (``storage``), counting requests for all processes (``bus``).
"""

from __future__ import annotations

import math

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.market import Exchange
from mdp.errors import ConfigError
from mdp.exchanges.asking import RetryWaits
from mdp.exchanges.means import Means
from mdp.exchanges.quotas import quotas_of
from mdp.ports import Bandwidth, Budget, CandleSource, CandleStream, Clock, MarketClock, PageSpool

__all__ = ["RetryWaits", "open_source", "open_stream", "quotas_of"]


def open_source(
    exchange: Exchange,
    settings: ExchangeSettings,
    *,
    clock: Clock,
    budget: Budget,
    spool: PageSpool | None = None,
    waits: RetryWaits | None = None,
    refusals_last_s: float = math.inf,
    bandwidth: Bandwidth | None = None,
) -> CandleSource:
    """Return an exchange as a source of candles; use it inside ``async with``. Nothing is asked yet.

    Args:
        exchange: Which one.
        settings: Where it is and how hard we may ask; ``rest_url`` must be set.
        clock: Tells our own UTC time; the exchange's is asked for and their difference is taken into account.
        budget: Gives leave to ask, of the quotas of :func:`quotas_of`; closed with the source.
        spool: Keeps answered pages until their slice is stored; None: a fetch that is broken off starts again.
        waits: How long to wait between attempts; None for the usual.
        refusals_last_s: So long a market or exchange that was refused for good is not asked again.
        bandwidth: What may be received; None: no limit.

    Raises:
        ConfigError: ``rest_url`` is not set.
    """
    if settings.rest_url is None:
        setting = f"MDP_EXCHANGES__{exchange.name}__REST_URL"
        raise ConfigError(setting, got=None, expected="the address of the exchange or of its simulator")
    means = Means(clock, budget, spool, waits or RetryWaits(), refusals_last_s, bandwidth)
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


def open_stream(exchange: Exchange, settings: ExchangeSettings, *, clock: MarketClock) -> CandleStream:
    """Return an exchange's stream of minutes; use it inside ``async with``. Nothing is connected yet.

    Args:
        exchange: Which one.
        settings: Where it is and how long an answer may take; ``ws_url`` must be set.
        clock: The market's time.

    Raises:
        ConfigError: ``ws_url`` is not set.
    """
    if settings.ws_url is None:
        setting = f"MDP_EXCHANGES__{exchange.name}__WS_URL"
        raise ConfigError(setting, got=None, expected="the WebSocket address of the exchange or of its simulator")
    match exchange:
        case Exchange.BINANCE:
            from mdp.exchanges.binance import stream as binance

            return binance.open_stream(settings, clock)
        case Exchange.BYBIT:
            from mdp.exchanges.bybit import stream as bybit

            return bybit.open_stream(settings, clock)
        case Exchange.OKX:
            from mdp.exchanges.okx import stream as okx

            return okx.open_stream(settings, clock)
        case Exchange.DERIBIT:
            from mdp.exchanges.deribit.stream import DeribitStream

            return DeribitStream(settings, clock)
