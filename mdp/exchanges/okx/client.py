"""Requests to OKX v5, and what its answers mean.

Not here: which requests (``pager``), what a candle looks like (``parse``).
"""

from __future__ import annotations

import msgspec
from ccxt.async_support.okx import okx

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.market import Exchange
from mdp.errors import ExchangeError, RateLimited, RequestRejected
from mdp.exchanges.ccxt_transport import CcxtTransport, RecordingMixin, judge_exception
from mdp.exchanges.verdicts import Answer, Reach, judge_status, judge_transient, quote, region_refused, wait_s
from mdp.ports import Clock

TIME = "publicGetPublicTime"

LEAST_WAIT_S = 2.0
"""The window over which requests are counted."""

DEMO_HEADERS = {"x-simulated-trading": "1"}
"""Of a request to demo trading, at the real market's host. Source: OKX API guide "Demo Trading Services", 2026-07."""

_LIMITED_WAIT_S = 10.0
_TOO_FREQUENT, _BAD_SYMBOL = "50011", "51001"
_RESTRICTED = 451
# What a good answer begins with: no need to read all of it for a code that is there already.
_FINE = '{"code":"0",'
_REGION = frozenset({"50051", "50121"})
# Maintenance, time-out, offline, busy, system error, not for now. Source: OKX API guide "Error codes", 2026-07.
_TRANSIENT = frozenset({"50001", "50004", "50005", "50013", "50026", "50040"})


class _Envelope(msgspec.Struct):
    code: int | str
    msg: str = ""


class RecordedOkx(RecordingMixin, okx):
    """CCXT's OKX, whose answers are noted."""


def open_client(settings: ExchangeSettings, clock: Clock) -> CcxtTransport:
    """Return OKX, reached at ``settings.rest_url``."""
    urls = {"rest": str(settings.rest_url)}
    headers = DEMO_HEADERS if settings.demo else None
    return CcxtTransport(
        Exchange.OKX, RecordedOkx, urls, judge, reach_of, settings=settings, clock=clock, headers=headers
    )


def judge(answer: Answer, cause: Exception | None = None) -> ExchangeError | None:
    """Turn status, headers and code into an error; None for an answer whose body may be read.

    Source: OKX API guide "Error codes", "Rate limits", 2026-07.
    """
    envelope = None if answer.body.startswith(_FINE) else _read_envelope(answer.body)
    if envelope is None or str(envelope.code) == "0":
        return judge_status(Exchange.OKX, answer, limited_wait_s=_LIMITED_WAIT_S)
    code, said = str(envelope.code), quote(answer, envelope.code, envelope.msg)
    if code == _TOO_FREQUENT:
        wait = max(LEAST_WAIT_S, wait_s(answer, LEAST_WAIT_S))
        return RateLimited(Exchange.OKX.value, f"asked too often ({said})", retry_after_s=wait)
    if code in _TRANSIENT:
        return judge_transient(Exchange.OKX, answer, said, limited_wait_s=_LIMITED_WAIT_S)
    if code in _REGION:
        return region_refused(Exchange.OKX, said)
    if code.startswith("51"):
        return RequestRejected(Exchange.OKX.value, f"the request was refused ({said})")
    # A code we do not know: the status if it says something, else CCXT's class.
    error = judge_status(Exchange.OKX, answer, limited_wait_s=_LIMITED_WAIT_S)
    return error or judge_exception(Exchange.OKX, cause, said)


def reach_of(answer: Answer) -> Reach:
    """Say how far a refusal goes."""
    envelope = _read_envelope(answer.body)
    code = "" if envelope is None else str(envelope.code)
    if answer.status == _RESTRICTED or code in _REGION:
        return Reach.EXCHANGE
    return Reach.MARKET if code == _BAD_SYMBOL else Reach.REQUEST


def _read_envelope(body: str) -> _Envelope | None:
    try:
        return msgspec.json.decode(body, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
