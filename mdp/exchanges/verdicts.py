"""What an answer's status and headers mean on any exchange. Pure.

Not here: an exchange's own codes (each exchange's ``client``), what is done about an error (``asking``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus

from mdp.domain.market import Exchange
from mdp.errors import ExchangeError, ExchangeUnavailable, RateLimited, RequestRejected

LONG_WAIT_S = 300.0
"""After a firewall's 403: it does not say how long, and asking on makes it longer."""

LONGEST_BAN_S = 3 * 86_400.0
"""No exchange shuts an address out for longer, so that whatever asks for more is misread or wrong.

Source: Binance rest-api.md "IP Limits", 2026-07: repeated bans grow "from 2 minutes to 3 days".
"""

_EPOCH_S, _EPOCH_MS = 1e9, 1e12  # what is above is a time, not a wait: of the year 2001 in seconds, in milliseconds

_TRANSIENT_4XX = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY})


class Reach(StrEnum):
    """How far a refusal goes: what else would be refused in the same way."""

    REQUEST = "request"
    """Nothing else, as far as we know."""
    MARKET = "market"
    """Whatever is asked about the same market: the exchange does not know it."""
    EXCHANGE = "exchange"
    """Whatever is asked: the exchange does not serve this address."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, whatever its status.

    Attributes:
        status: HTTP status.
        headers: By lower-case name.
        body: As text.
        received_at: Our time when it was there.
    """

    status: int
    headers: Mapping[str, str]
    body: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request that was answered.

    Attributes:
        answer: The answer.
        error: What is wrong with it by its status, headers and codes; None where its body may be read.
        cause: The library's own exception, if it raised one.
        reach: How far it goes if it is a refusal.
    """

    answer: Answer
    error: ExchangeError | None = None
    cause: Exception | None = None
    reach: Reach = Reach.REQUEST


def judge_status(exchange: Exchange, answer: Answer, *, limited_wait_s: float) -> ExchangeError | None:
    """Turn a status into an error, where the body said nothing more precise.

    Args:
        exchange: Who answered.
        answer: What.
        limited_wait_s: Seconds to wait after a 429 that does not say how long.

    Returns:
        None for 200.
    """
    status = answer.status
    if status == HTTPStatus.OK:
        return None
    said = quote(answer)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(exchange.value, f"asked too often ({said})", retry_after_s=wait_s(answer, limited_wait_s))
    if status == HTTPStatus.FORBIDDEN:
        return RateLimited(
            exchange.value, f"held off by a firewall ({said})", retry_after_s=wait_s(answer, LONG_WAIT_S)
        )
    if status == HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS:
        return region_refused(exchange, said)
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _TRANSIENT_4XX:
        return RequestRejected(exchange.value, f"the request was refused ({said})")
    # 5xx, and what only something between us and the exchange would answer, such as a redirect that leads nowhere.
    return ExchangeUnavailable(exchange.value, f"no usable answer now ({said})")


def judge_transient(exchange: Exchange, answer: Answer, said: str, *, limited_wait_s: float) -> ExchangeError:
    """Turn a code that says "not now" into an error: one that holds everybody where the answer asks for a wait.

    Args:
        exchange: Who answered.
        answer: With status 429, or with ``Retry-After``, the exchange wants to be left alone.
        said: For the message.
        limited_wait_s: Seconds to wait after a 429 that does not say how long.
    """
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS or _asked_wait_s(answer) is not None:
        wait = wait_s(answer, limited_wait_s)
        return RateLimited(exchange.value, f"asked to wait ({said})", retry_after_s=wait)
    return ExchangeUnavailable(exchange.value, f"no usable answer now ({said})")


def region_refused(exchange: Exchange, said: str) -> RequestRejected:
    """Say that the exchange does not serve our address, and what a person can do."""
    setting = f"MDP_EXCHANGES__{exchange.name}__REST_URL"
    advice = (
        "the exchange does not serve the region of this address and repeating will not help; "
        f"run from another region, or set {setting} to a host of the exchange that serves this one"
    )
    return RequestRejected(exchange.value, f"{advice} ({said})")


def wait_s(answer: Answer, otherwise_s: float) -> float:
    """Return the seconds that ``Retry-After`` asks for, in either of its two forms, or as a time since 1970.

    Args:
        answer: May lack the header, or hold one that cannot be read.
        otherwise_s: What to return then.

    Returns:
        From 0 to :data:`LONGEST_BAN_S`.
    """
    asked_s = _asked_wait_s(answer)
    return bounded_s(otherwise_s if asked_s is None else asked_s)


def bounded_s(seconds: float) -> float:
    """Return a wait that an exchange may ask for: at least 0, at most :data:`LONGEST_BAN_S`."""
    return min(max(0.0, seconds), LONGEST_BAN_S)


def moment_s(number: float) -> float:
    """Return a time since 1970 in seconds, whether it is told in seconds or in milliseconds."""
    return number / 1_000 if number > _EPOCH_MS else number


def read_count(answer: Answer, header: str) -> int | None:
    """Return a header that holds a whole number; None where it is missing or holds something else.

    Args:
        answer: Whose.
        header: Its name in lower case.
    """
    said = answer.headers.get(header, "").strip()
    return int(said) if said.isascii() and said.isdigit() else None


def _asked_wait_s(answer: Answer) -> float | None:
    """Return what ``Retry-After`` says, as it says it; None where it is missing or cannot be read."""
    said = answer.headers.get("retry-after", "").strip()
    try:
        seconds = float(said)
    except ValueError:
        return _seconds_until(said, answer.received_at)
    if not math.isfinite(seconds):
        return None
    return moment_s(seconds) - answer.received_at.timestamp() if seconds > _EPOCH_S else seconds


def _seconds_until(date: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - now).total_seconds()


def quote(answer: Answer, code: object = None, text: str = "") -> str:
    """Name status and code for a message, with at most 200 characters of what the exchange said."""
    parts = [f"status {answer.status}"]
    if code is not None:
        parts.append(f"code {code}")
    said = " ".join((text or answer.body[:1_000]).split())[:200]
    return ", ".join(parts) + (f": {said}" if said else "")
