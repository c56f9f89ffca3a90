"""Binance's stream of minutes.

Not here: what the exchanges share (``exchanges.stream_ccxt``), what a message means (``stream_parse``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccxt.pro.binance import binance

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.market import Exchange
from mdp.exchanges.binance.client import judge
from mdp.exchanges.binance.stream_parse import parse_message
from mdp.exchanges.stream_ccxt import CcxtStream, Dialect, WiredMixin
from mdp.ports import MarketClock

_CHANNEL = "@kline_1m"

_PACE_S = 0.25
"""Five messages a second are allowed, pings and pongs included. Source: web-socket-streams.md, 2026-07."""


class WiredBinance(WiredMixin, binance):
    """CCXT's Binance on connections of ours."""


def open_stream(settings: ExchangeSettings, clock: MarketClock) -> CcxtStream:
    """Return Binance's stream, reached at ``settings.ws_url``."""
    urls = {"spot": f"{settings.ws_url}/ws"}
    return CcxtStream(
        Dialect(Exchange.BINANCE, WiredBinance, urls, parse_message, judge, _spell, _PACE_S), settings, clock
    )


def _spell(message: Mapping[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    if message.get("method") != "SUBSCRIBE":
        return None
    return str(message["id"]), tuple(name.removesuffix(_CHANNEL).upper() for name in message["params"])
