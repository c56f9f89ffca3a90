"""Requests to Bybit v5, and what its answers mean.

Not here: which requests (``pager``), what a candle looks like (``parse``).
"""

from __future__ import annotations

import msgspec
from ccxt.async_support.bybit import bybit

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.market import Exchange
from mdp.errors import ExchangeError, RateLimited, RequestRejected
from mdp.exchanges.ccxt_transport import CcxtTransport, RecordingMixin, judge_exception
from mdp.exchanges.verdicts import (
    Answer,
    Reach,
    bounded_s,
    judge_status,
    judge_transient,
    moment_s,
    quote,
    region_refused,
    wait_s,
)
from mdp.ports import Clock

TIME = "publicGetV5MarketTime"

ADDRESS_WAIT_S = 600.0
"""After "access too frequent" an address stays shut for at least ten minutes. Source: docs/v5/rate-limit, 2026-07."""

_LIMITED_WAIT_S = 10.0
_RESET_WAIT_S = 5.0  # the window over which requests are counted
_FORBIDDEN, _RESTRICTED = 403, 451
_TOO_FREQUENT = "access too frequent"
_RESET_HEADER = "x-bapi-limit-reset-timestamp"
_TOO_MANY_VISITS, _ADDRESS_LIMIT = 10006, 10018
_REGION = frozenset({10009, 10024})
_PARAMETERS, _BAD_SYMBOL = 10001, 10029  # of the first, the text says which
# What a good answer begins with: no need to read all of it for a code that is there already.
_FINE = '{"retCode":0,'
# Server time-out, internal error, system-level protection. Source: docs/v5/error, 2026-07.
_TRANSIENT = frozenset({10000, 10016, 10429})
# Parameters, path, permissions, symbol not allowed.
_REFUSED = frozenset({10001, 10003, 10004, 10005, 10010, 10014, 10017, 10027, 10029})


class _Envelope(msgspec.Struct):
    retCode: int  # noqa: N815 Bybit's words
    retMsg: str = ""  # noqa: N815
    time: int | None = None


class RecordedBybit(RecordingMixin, bybit):
    """CCXT's Bybit, whose answers are noted."""


def open_client(settings: ExchangeSettings, clock: Clock) -> CcxtTransport:
    """Return Bybit, reached at ``settings.rest_url``."""
    urls = {"public": str(settings.rest_url)}
    return CcxtTransport(Exchange.BYBIT, RecordedBybit, urls, judge, reach_of, settings=settings, clock=clock)


def judge(answer: Answer, cause: Exception | None = None) -> ExchangeError | None:
    """Turn status, headers and code into an error; None for an answer whose body may be read.

    A 403 is two things that CCXT's class does not tell apart: too many requests from this address, in words, and a
    region that is not served, as a page of HTML.

    Source: docs/v5/error, docs/v5/rate-limit, docs/v5/guide, 2026-07.
    """
    name = Exchange.BYBIT.value
    if answer.status == _FORBIDDEN:
        if _TOO_FREQUENT in answer.body.lower():
            wait = max(ADDRESS_WAIT_S, wait_s(answer, ADDRESS_WAIT_S))
            return RateLimited(name, f"this address asked too often ({quote(answer)})", retry_after_s=wait)
        return region_refused(Exchange.BYBIT, quote(answer))
    envelope = None if answer.body.startswith(_FINE) else _read_envelope(answer.body)
    if envelope is not None and envelope.retCode != 0:
        return _judge_code(envelope, answer, cause)
    return judge_status(Exchange.BYBIT, answer, limited_wait_s=_LIMITED_WAIT_S)


def reach_of(answer: Answer) -> Reach:
    """Say how far a refusal goes."""
    envelope = _read_envelope(answer.body)
    if answer.status in (_FORBIDDEN, _RESTRICTED) or (envelope is not None and envelope.retCode in _REGION):
        return Reach.EXCHANGE
    if envelope is None:
        return Reach.REQUEST
    is_about_symbol = envelope.retCode == _PARAMETERS and "symbol" in envelope.retMsg.lower()
    return Reach.MARKET if is_about_symbol or envelope.retCode == _BAD_SYMBOL else Reach.REQUEST


def _judge_code(envelope: _Envelope, answer: Answer, cause: Exception | None) -> ExchangeError:
    name, code, said = Exchange.BYBIT.value, envelope.retCode, quote(answer, envelope.retCode, envelope.retMsg)
    if code == _TOO_MANY_VISITS:
        return RateLimited(name, f"asked too often ({said})", retry_after_s=_reset_s(envelope, answer))
    if code == _ADDRESS_LIMIT:
        return RateLimited(name, f"this address asked too often ({said})", retry_after_s=ADDRESS_WAIT_S)
    if code in _TRANSIENT:
        return judge_transient(Exchange.BYBIT, answer, said, limited_wait_s=_LIMITED_WAIT_S)
    if code in _REGION:
        return region_refused(Exchange.BYBIT, said)
    if code in _REFUSED:
        return RequestRejected(name, f"the request was refused ({said})")
    # A code we do not know: the status if it says something, else CCXT's class.
    error = judge_status(Exchange.BYBIT, answer, limited_wait_s=_LIMITED_WAIT_S)
    return error or judge_exception(Exchange.BYBIT, cause, said)


def _reset_s(envelope: _Envelope, answer: Answer) -> float:
    """Return the seconds until the quota is reset, by the exchange's own clock where it told it."""
    reset = answer.headers.get(_RESET_HEADER, "")
    if not reset.isdecimal():
        return wait_s(answer, _RESET_WAIT_S)
    now_s = answer.received_at.timestamp() if envelope.time is None else envelope.time / 1_000
    return bounded_s(moment_s(float(reset)) - now_s)


def _read_envelope(body: str) -> _Envelope | None:
    try:
        return msgspec.json.decode(body, type=_Envelope, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
