"""What is told to whoever asked in vain: RFC 9457, naming the parameter, what came and what is allowed.

No message holds a secret, a path of this machine or a whole payload. Not here: who raises what (``errors``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, Field
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
TYPES = "urn:mdp:problem:"
"""What the type of a problem begins with: a name, not a place that could be asked."""

SHOWN = 200
"""So many characters of what came are repeated."""


class WrongParameter(BaseModel):
    """One parameter that is wrong."""

    parameter: Annotated[str, Field(examples=["timeframe"])]
    got: Annotated[str | None, Field(description="What came, cut to 200 characters; null: nothing.", examples=["2m"])]
    expected: Annotated[str, Field(examples=["one of 1m, 5m, 15m, 1h, 4h, 1d"])]
    allowed: Annotated[list[str] | None, Field(description="All values there are, where they can be listed.")] = None


class ProblemDocument(BaseModel):
    """A problem, as RFC 9457 spells it."""

    type: Annotated[str, Field(examples=[TYPES + "wrong-parameter"])]
    title: Annotated[str, Field(examples=["A parameter is wrong"])]
    status: Annotated[int, Field(examples=[400])]
    detail: Annotated[str, Field(examples=["timeframe: expected one of 1m, 5m, 15m, 1h, 4h, 1d, got '2m'"])]
    retryable: Annotated[bool, Field(description="Whether the same request may succeed a little later.")] = False
    errors: Annotated[list[WrongParameter], Field(description="Each parameter that is wrong.")] = []


class Problem(Exception):
    """An answer that is none; raised anywhere below a route.

    Args:
        status: Of HTTP.
        kind: Last part of its type, such as ``wrong-parameter``.
        title: The same for every problem of this kind.
        detail: Of this one, with what to do.
        errors: Parameters that are wrong.
        headers: Beside the usual ones.
        retryable: Whether the same request may succeed a little later.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        *,
        errors: Sequence[WrongParameter] = (),
        headers: Mapping[str, str] | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})
        self.document = ProblemDocument(
            type=TYPES + kind, title=title, status=status, detail=detail, retryable=retryable, errors=list(errors)
        )

    def response(self) -> Response:
        """Return it as an answer."""
        body = msgspec.json.encode(self.document.model_dump())
        headers = {"cache-control": "no-store", **self.headers}
        return Response(body, self.status, headers, media_type=MEDIA_TYPE)


def wrong_parameter(name: str, got: object, expected: str, allowed: Sequence[str] | None = None) -> Problem:
    """Return the problem of one parameter that is wrong: 400."""
    came = None if got is None else str(got)[:SHOWN]
    one = WrongParameter(parameter=name, got=came, expected=expected, allowed=None if allowed is None else [*allowed])
    detail = f"{name}: expected {expected}, got {came!r}"
    return Problem(HTTPStatus.BAD_REQUEST, "wrong-parameter", "A parameter is wrong", detail, errors=[one])


def not_found(name: str, got: object, expected: str, allowed: Sequence[str] | None = None) -> Problem:
    """Return the problem of a part of the path that names nothing we have: 404."""
    came = str(got)[:SHOWN]
    one = WrongParameter(parameter=name, got=came, expected=expected, allowed=None if allowed is None else [*allowed])
    detail = f"{name}: expected {expected}, got {came!r}"
    return Problem(HTTPStatus.NOT_FOUND, "not-found", "There is no such thing", detail, errors=[one])


def unavailable(detail: str, *, retry_after_s: int = 5) -> Problem:
    """Return the problem of something that does not answer now: 503, with what to do."""
    headers = {"retry-after": str(retry_after_s)}
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "Not available now", detail, headers=headers, retryable=True
    )


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of the problems with which a route may answer, beside those of every route.

    Every route may answer 400, 401, 403, 429 and 503.
    """
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
        for status in sorted({400, 401, 403, 429, 503, *statuses})
    }
