"""Requests to Deribit, and what its answers mean.

Not here: which requests (``pager``), what a candle looks like (``parse``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx
import msgspec

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.market import Exchange
from mdp.errors import ExchangeError, ExchangeUnavailable, RateLimited, RequestRejected
from mdp.exchanges.verdicts import Answer, Outcome, Reach, judge_status, judge_transient, quote, region_refused, wait_s
from mdp.ports import Clock

TIME = "/api/v2/public/get_time"

_LIMITED_WAIT_S = 5.0  # in which an empty bucket is full again: 50 000 credits
_TOO_MANY = frozenset({10028, 10047})
_COUNTRY_BANNED, _RESTRICTED = 12005, 451
_PARAMETERS = -32602
# Retry, settlement in progress, maintenance, internal error. Source: docs.deribit.com "RPC error codes", 2026-07.
_TRANSIENT = frozenset({10040, 10041, 11051, 11094, -32603})


class _Error(msgspec.Struct):
    code: int
    message: str = ""
    data: msgspec.Raw = msgspec.Raw()


class _Envelope(msgspec.Struct):
    error: _Error


class DeribitClient:
    """A keep-alive connection to Deribit, reached at ``settings.rest_url``; proxies of the environment are ignored."""

    def __init__(self, settings: ExchangeSettings, clock: Clock) -> None:
        is_encrypted = str(settings.rest_url).startswith("https")  # loading certificates takes longer than a request
        connections = httpx.Limits(max_connections=settings.pages_in_flight)
        self._http = httpx.AsyncClient(
            timeout=settings.timeout_s, trust_env=False, verify=is_encrypted, limits=connections
        )
        self._address = str(settings.rest_url)
        self._timeout_s = settings.timeout_s
        self._clock = clock

    async def send(self, endpoint: str, parameters: Mapping[str, str | int]) -> Outcome:
        """Send one request.

        Raises:
            ExchangeUnavailable: nothing came back: time-out, refused or broken connection.
        """
        try:
            # httpx counts its time-out anew for every piece of a body; this one is for the whole.
            async with asyncio.timeout(self._timeout_s):
                response = await self._http.get(self._address + endpoint, params=dict(parameters))
        except (httpx.TimeoutException, TimeoutError) as error:
            what = f"no answer in {self._timeout_s:g} s ({endpoint})"
            raise ExchangeUnavailable(Exchange.DERIBIT.value, what) from error
        except httpx.HTTPError as error:
            what = f"the connection failed ({type(error).__name__}: {error})"
            raise ExchangeUnavailable(Exchange.DERIBIT.value, what) from error
        headers = {name.lower(): value for name, value in response.headers.items()}
        answer = Answer(response.status_code, headers, response.text, self._clock())
        verdict = judge(answer)
        reach = reach_of(answer) if isinstance(verdict, RequestRejected) else Reach.REQUEST
        return Outcome(answer, verdict, reach=reach)

    async def close(self) -> None:
        """Close the connection."""
        await self._http.aclose()


def judge(answer: Answer) -> ExchangeError | None:
    """Turn status, headers and code into an error; None for an answer whose body may be read.

    Source: docs.deribit.com "RPC error codes", 2026-07.
    """
    envelope = _read_envelope(answer.body)
    if envelope is None:
        return judge_status(Exchange.DERIBIT, answer, limited_wait_s=_LIMITED_WAIT_S)
    name, error = Exchange.DERIBIT.value, envelope.error
    detail = bytes(error.data).decode(errors="replace")
    said = quote(answer, error.code, f"{error.message} {detail}".strip())
    if error.code in _TOO_MANY:
        return RateLimited(name, f"asked too often ({said})", retry_after_s=wait_s(answer, _LIMITED_WAIT_S))
    if error.code in _TRANSIENT:
        return judge_transient(Exchange.DERIBIT, answer, said, limited_wait_s=_LIMITED_WAIT_S)
    if error.code == _COUNTRY_BANNED:
        return region_refused(Exchange.DERIBIT, said)
    if answer.status == 200:
        return RequestRejected(name, f"the request was refused ({said})")
    return judge_status(Exchange.DERIBIT, answer, limited_wait_s=_LIMITED_WAIT_S)


def reach_of(answer: Answer) -> Reach:
    """Say how far a refusal goes."""
    envelope = _read_envelope(answer.body)
    if answer.status == _RESTRICTED or (envelope is not None and envelope.error.code == _COUNTRY_BANNED):
        return Reach.EXCHANGE
    if envelope is None or envelope.error.code != _PARAMETERS:
        return Reach.REQUEST
    # The only parameter that names the market; a wrong time or resolution says nothing about it.
    return Reach.MARKET if b'"currency"' in bytes(envelope.error.data) else Reach.REQUEST


def _read_envelope(body: str) -> _Envelope | None:
    try:
        return msgspec.json.decode(body, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
