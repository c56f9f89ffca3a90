"""OKX's stream of minutes.

Not here: what the exchanges share (``exchanges.stream_ccxt``), what a message means (``stream_parse``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccxt.pro.okx import okx

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.market import Exchange
from mdp.exchanges.okx.client import judge
from mdp.exchanges.okx.stream_parse import parse_message
from mdp.exchanges.stream_ccxt import CcxtStream, Dialect, WiredMixin
from mdp.ports import MarketClock


class WiredOkx(WiredMixin, okx):
    """CCXT's OKX on connections of ours."""


def open_stream(settings: ExchangeSettings, clock: MarketClock) -> CcxtStream:
    """Return OKX's stream, reached at ``settings.ws_url``; CCXT appends ``/business``, where candles are.

    In demo trading it appends the broker too that OKX's demo streams are asked with.
    """
    urls = f"{settings.ws_url}/ws/v5"
    dialect = Dialect(Exchange.OKX, WiredOkx, urls, parse_message, judge, _spell, is_sandbox=settings.demo)
    return CcxtStream(dialect, settings, clock)


def _spell(message: Mapping[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    if message.get("op") != "subscribe":
        return None
    market_ids = tuple(str(argument["instId"]) for argument in message["args"])
    return ",".join(market_ids), market_ids  # OKX names the market, never the request
