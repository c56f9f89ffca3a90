"""What can go wrong between a program and the service, each with whether asking again can help.

::

    ApiError                 .status .type .detail .errors .retryable
    ├── WrongParameter       400, 406, 413, 422: the question is wrong            no
    ├── Unauthorized         401: no key, or a wrong one                          no
    ├── Forbidden            403: the key may not do this                         no
    ├── NotFound             404: nothing has that name                           no
    ├── TooManyRequests      429; .retry_after_s                                  a retry can help
    ├── Unavailable          502, 503, 504; .retry_after_s                        a retry can help
    │   └── Unreachable      no answer at all: refused, reset, cut off, too slow  a retry can help
    └── BadAnswer            an answer that is not what the service says: a page of a proxy, another schema  no

A wrong argument that needs no question to be seen is :class:`mdp.errors.InputError`. No message holds a key. Not here:
who asks again (``retrying``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from mdp.errors import MdpError

SHOWN = 200
"""So many characters of an answer that cannot be read are repeated."""

PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ParameterError:
    """One parameter the service found wrong.

    Attributes:
        parameter: Its name.
        got: What came; None: nothing.
        expected: In words.
        allowed: All values there are, where they can be listed.
    """

    parameter: str
    got: str | None
    expected: str
    allowed: tuple[str, ...] | None = None


class ApiError(MdpError):
    """The service did not give what was asked.

    Attributes:
        asked: Method and path of the question.
        status: Of HTTP; None where no answer came.
        type: Kind of the problem, such as ``urn:mdp:problem:wrong-parameter``; empty where none was told.
        detail: Of this one, with what to do.
        errors: Each parameter that is wrong.
        retry_after_s: Seconds to wait before asking again; None where nobody said.
    """

    def __init__(
        self,
        asked: str,
        detail: str,
        *,
        status: int | None = None,
        type: str = "",
        errors: Sequence[ParameterError] = (),
        retryable: bool | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        answered = "" if status is None else f" answered {status}"
        super().__init__(f"{asked}{answered}: {detail}")
        self.asked = asked
        self.status = status
        self.type = type
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s
        if retryable is not None:
            self.retryable = retryable


class WrongParameter(ApiError):
    """The question is wrong; ``errors`` names the parameters."""


class Unauthorized(ApiError):
    """The service wants a key, or does not know this one."""


class Forbidden(ApiError):
    """The key may not do this."""


class NotFound(ApiError):
    """Nothing there has that name; ``errors`` lists the names there are."""


class TooManyRequests(ApiError):
    """The limit of the key is used up for now."""

    retryable = True


class Unavailable(ApiError):
    """The service, or something it needs, does not answer now."""

    retryable = True


class Unreachable(Unavailable):
    """No answer came, or only part of one."""


class BadAnswer(ApiError):
    """What answered is not this service, or not of this version."""


_CLASSES: dict[int, type[ApiError]] = {
    400: WrongParameter, 401: Unauthorized, 403: Forbidden, 404: NotFound, 406: WrongParameter, 413: WrongParameter,
    422: WrongParameter, 429: TooManyRequests, 502: Unavailable, 503: Unavailable, 504: Unavailable,
}  # fmt: skip


def error_of(asked: str, status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """Return what an answer that is none means.

    Args:
        asked: Method and path of the question.
        status: Of the answer, 300 or more.
        headers: Of the answer, by names in lower case.
        body: Of the answer; a problem of RFC 9457, or whatever a proxy wrote.
    """
    told = _problem(headers.get("content-type", ""), body)
    if told is None:
        detail = f"expected a problem as {PROBLEM}, got {describe(headers, body)}"
        where = headers.get("location")
        if 300 <= status < 400:
            return BadAnswer(asked, f"redirects are not followed, this one leads to {where!r}", status=status)
        return _CLASSES.get(status, BadAnswer)(asked, detail, status=status, retry_after_s=retry_after_s(headers))
    retryable = told.get("retryable")
    return _CLASSES.get(status, ApiError)(
        asked,
        str(told.get("detail") or told.get("title") or "no detail"),
        status=status,
        type=str(told.get("type", "")),
        errors=_errors(told.get("errors")),
        retryable=retryable if isinstance(retryable, bool) and retryable else None,
        retry_after_s=retry_after_s(headers),
    )


def describe(headers: Mapping[str, str], body: bytes) -> str:
    """Return an answer in words, cut short."""
    began = body[: 4 * SHOWN].decode("utf-8", "replace")[:SHOWN]
    return f"{headers.get('content-type') or 'no content type'} of {len(body)} bytes that began {began!r}"


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return what ``Retry-After`` says in seconds from now; None where it says nothing that can be read.

    Source:
        RFC 9110, section 10.2.3: seconds, or a date.
    """
    told = headers.get("retry-after", "").strip()
    if told.isascii() and told.isdigit():
        return float(told)
    try:
        moment = parsedate_to_datetime(told)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _problem(content_type: str, body: bytes) -> dict[str, object] | None:
    if content_type.partition(";")[0].strip().lower() != PROBLEM:
        return None
    try:
        told = json.loads(body)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def _errors(told: object) -> list[ParameterError]:
    found = []
    for one in told if isinstance(told, list) else ():
        if isinstance(one, dict):
            got, allowed = one.get("got"), one.get("allowed")
            found.append(
                ParameterError(
                    str(one.get("parameter", "")),
                    None if got is None else str(got),
                    str(one.get("expected", "")),
                    tuple(map(str, allowed)) if isinstance(allowed, list) else None,
                )
            )
    return found
