"""Requests to Binance spot, and what its answers mean.

Not here: which requests (``pager``), what a candle looks like (``parse``).
"""

from __future__ import annotations

import re

import msgspec
from ccxt.async_support.binance import binance

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.market import Exchange
from mdp.errors import ExchangeError, PayloadError, RateLimited
from mdp.exchanges.ccxt_transport import CcxtTransport, RecordingMixin
from mdp.exchanges.verdicts import Answer, Reach, judge_status, judge_transient, quote, region_refused, wait_s
from mdp.ports import Clock

TIME = "publicGetTime"

_LIMITED_WAIT_S = 60.0  # the quota is counted by the minute
_BANNED_WAIT_S = 120.0  # the shortest ban
_BANNED, _RESTRICTED = 418, 451
_TOO_MANY, _BAD_SYMBOL = "-1003", "-1121"
# Unknown, disconnected, busy, bad answer of the bus, time-out, overloaded, shutting down. Source: errors.md, 2026-07.
_TRANSIENT = frozenset({"-1000", "-1001", "-1004", "-1006", "-1007", "-1008", "-1016"})
_BANNED_UNTIL = re.compile(r"banned until (\d{13})")


class _Complaint(msgspec.Struct):
    code: int | str
    msg: str = ""


class RecordedBinance(RecordingMixin, binance):
    """CCXT's Binance, whose answers are noted."""


def open_client(settings: ExchangeSettings, clock: Clock) -> CcxtTransport:
    """Return Binance, reached at ``settings.rest_url``."""
    urls = {"public": f"{settings.rest_url}/api/v3"}
    return CcxtTransport(Exchange.BINANCE, RecordedBinance, urls, judge, reach_of, settings=settings, clock=clock)


def judge(answer: Answer, _cause: Exception | None = None) -> ExchangeError | None:
    """Turn status, headers and code into an error; None for an answer whose body may be read.

    Source: rest-api.md "HTTP Return Codes", errors.md, 2026-07; 451: github.com/ccxt/ccxt/issues/16044.
    """
    name = Exchange.BINANCE.value
    if answer.status == _BANNED:
        said = quote(answer)
        return RateLimited(name, f"this address is banned for asking too often ({said})", retry_after_s=_ban_s(answer))
    if answer.status == _RESTRICTED:
        return region_refused(Exchange.BINANCE, quote(answer))
    complaint = _read_complaint(answer.body)
    if complaint is None:
        return judge_status(Exchange.BINANCE, answer, limited_wait_s=_LIMITED_WAIT_S)
    code, said = str(complaint.code), quote(answer, complaint.code, complaint.msg)
    if code == _TOO_MANY:
        wait = _ban_s(answer) if _BANNED_UNTIL.search(answer.body) else wait_s(answer, _LIMITED_WAIT_S)
        return RateLimited(name, f"asked too often ({said})", retry_after_s=wait)
    if code in _TRANSIENT:
        return judge_transient(Exchange.BINANCE, answer, said, limited_wait_s=_LIMITED_WAIT_S)
    if answer.status == 200:
        what = "expected an array of candles, got an object"
        return PayloadError(name, f"{what} ({said})", body=answer.body, is_transient=True)
    return judge_status(Exchange.BINANCE, answer, limited_wait_s=_LIMITED_WAIT_S)


def reach_of(answer: Answer) -> Reach:
    """Say how far a refusal goes."""
    if answer.status == _RESTRICTED:
        return Reach.EXCHANGE
    complaint = _read_complaint(answer.body)
    return Reach.MARKET if complaint is not None and str(complaint.code) == _BAD_SYMBOL else Reach.REQUEST


def _read_complaint(body: str) -> _Complaint | None:
    try:
        return msgspec.json.decode(body, type=_Complaint)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _ban_s(answer: Answer) -> float:
    until = _BANNED_UNTIL.search(answer.body)
    otherwise_s = _BANNED_WAIT_S
    if until is not None:
        otherwise_s = max(otherwise_s, int(until[1]) / 1_000 - answer.received_at.timestamp())
    return wait_s(answer, otherwise_s)
