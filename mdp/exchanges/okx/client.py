"""Requests to OKX v5, and what its answers mean.

Not here: which requests (``pager``), what a candle looks like (``parse``).
"""

from __future__ import annotations

import msgspec
from ccxt.async_support.okx import okx

from mdp.config.sections import ExchangeSettings
from mdp.domain.market import Exchange
from mdp.errors import ExchangeError, ExchangeUnavailable, RateLimited, RequestRejected
from mdp.exchanges.ccxt_transport import CcxtTransport, RecordingMixin, judge_exception, throttle_config
from mdp.exchanges.pace import Pace
from mdp.exchanges.verdicts import Answer, judge_status, quote, region_refused, wait_s
from mdp.ports import Clock

TIME = "publicGetPublicTime"

HISTORY_REQUESTS_PER_S = 10.0
"""20 requests in 2 seconds and address; ``candles`` allows twice as many, at half CCXT's weight.

Source: OKX API guide "Get candlesticks history", "Get candlesticks", 2026-07.
"""

HISTORY_COST = 1.0
"""CCXT's own weight of a history-candles request."""

LEAST_WAIT_S = 2.0
"""The window over which requests are counted."""

_LIMITED_WAIT_S = 10.0
_TOO_FREQUENT = "50011"
_REGION = frozenset({"50051", "50121"})
# Maintenance, time-out, offline, busy, system error, not for now. Source: OKX API guide "Error codes", 2026-07.
_TRANSIENT = frozenset({"50001", "50004", "50005", "50013", "50026", "50040"})


class _Envelope(msgspec.Struct):
    code: int | str
    msg: str = ""


class RecordedOkx(RecordingMixin, okx):
    """CCXT's OKX, whose answers are noted."""


def open_client(settings: ExchangeSettings, clock: Clock, pace: Pace | None) -> CcxtTransport:
    """Return OKX, reached at ``settings.rest_url``."""
    config = {
        **throttle_config(HISTORY_REQUESTS_PER_S, HISTORY_COST, settings.rate_share),
        "urls": {"api": {"rest": str(settings.rest_url)}},
        "options": {"defaultType": "spot"},
    }
    return CcxtTransport(Exchange.OKX, RecordedOkx, config, judge, settings=settings, clock=clock, pace=pace)


def judge(answer: Answer, cause: Exception | None = None) -> ExchangeError | None:
    """Turn status, headers and code into an error; None for an answer whose body may be read.

    Source: OKX API guide "Error codes", "Rate limits", 2026-07.
    """
    envelope = _read_envelope(answer.body)
    if envelope is None or str(envelope.code) == "0":
        return judge_status(Exchange.OKX, answer, limited_wait_s=_LIMITED_WAIT_S)
    name, code, said = Exchange.OKX.value, str(envelope.code), quote(answer, envelope.code, envelope.msg)
    if code == _TOO_FREQUENT:
        wait = max(LEAST_WAIT_S, wait_s(answer, LEAST_WAIT_S))
        return RateLimited(name, f"asked too often ({said})", retry_after_s=wait)
    if code in _TRANSIENT:
        return ExchangeUnavailable(name, f"no usable answer now ({said})")
    if code in _REGION:
        return region_refused(Exchange.OKX, said)
    if code.startswith("51"):
        return RequestRejected(name, f"the request was refused ({said})")
    # A code we do not know: the status if it says something, else CCXT's class.
    error = judge_status(Exchange.OKX, answer, limited_wait_s=_LIMITED_WAIT_S)
    return error or judge_exception(Exchange.OKX, cause, said)


def _read_envelope(body: str) -> _Envelope | None:
    try:
        return msgspec.json.decode(body, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
