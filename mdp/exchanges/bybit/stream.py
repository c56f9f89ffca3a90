"""Bybit's stream of minutes.

Not here: what the exchanges share (``exchanges.stream_ccxt``), what a message means (``stream_parse``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccxt.pro.bybit import bybit

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.market import Exchange
from mdp.errors import ExchangeError, RateLimited
from mdp.exchanges.bybit.client import ADDRESS_WAIT_S, judge
from mdp.exchanges.bybit.stream_parse import TOPIC, parse_message
from mdp.exchanges.stream_ccxt import CcxtStream, Dialect, WiredMixin
from mdp.exchanges.verdicts import Answer
from mdp.ports import MarketClock

_FORBIDDEN = 403


class WiredBybit(WiredMixin, bybit):
    """CCXT's Bybit on connections of ours."""


def open_stream(settings: ExchangeSettings, clock: MarketClock) -> CcxtStream:
    """Return Bybit's stream, reached at ``settings.ws_url``."""
    urls = {"public": {"spot": f"{settings.ws_url}/v5/public/spot"}}
    return CcxtStream(
        Dialect(Exchange.BYBIT, WiredBybit, urls, parse_message, judge_handshake, _spell), settings, clock
    )


def judge_handshake(answer: Answer) -> ExchangeError | None:
    """Turn the status of a refused handshake into an error.

    A 403 is two things here too, and the body that tells them apart is not read: a region that is not served answers
    with a page of HTML, an address that connected too often does not. Source: docs/v5/ws/connect, 2026-07.
    """
    if answer.status == _FORBIDDEN and "html" not in answer.headers.get("content-type", ""):
        what = "this address connected too often, or the exchange does not serve its region (status 403)"
        return RateLimited(Exchange.BYBIT.value, what, retry_after_s=ADDRESS_WAIT_S)
    return judge(answer)


def _spell(message: Mapping[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    if message.get("op") != "subscribe":
        return None
    return str(message["req_id"]), tuple(name.removeprefix(TOPIC) for name in message["args"])
