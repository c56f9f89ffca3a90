"""The four forms in which rows are given, and which of them a request wants.

Not here: how rows are spelled in each (``row_bodies``).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated

from fastapi import Query
from pydantic import WithJsonSchema
from starlette.requests import Request

from mdp.api.problems import Problem, wrong_parameter
from mdp.api.quality_values import weights


class Format(StrEnum):
    """How rows are spelled; the first is what who asks for nothing gets."""

    JSON = "json"
    CSV = "csv"
    ARROW = "arrow"
    PARQUET = "parquet"


MEDIA_TYPES: Mapping[Format, str] = MappingProxyType(
    {
        Format.JSON: "application/json",
        Format.CSV: "text/csv",
        Format.ARROW: "application/vnd.apache.arrow.stream",
        Format.PARQUET: "application/vnd.apache.parquet",
    }
)

FormatText = Annotated[
    str | None,
    Query(alias="format", description="How rows are spelled. It wins over `Accept`.", examples=["csv"]),
    WithJsonSchema({"type": "string", "enum": [*Format]}),
]
"""A route's argument ``format_`` of this type is what :func:`choose_format` takes."""


def choose_format(request: Request, given: str | None) -> Format:
    """Return the form that a request wants.

    Args:
        request: Whose ``Accept`` counts where nothing is given.
        given: The parameter ``format``.

    Raises:
        Problem: 400, there is no such form; 406, ``Accept`` takes none of the four: lists them.
    """
    if given is not None:
        if given not in list(Format):
            raise wrong_parameter("format", given, f"one of {', '.join(Format)}", list(Format))
        return Format(given)
    accepted = request.headers.get("accept", "").strip()
    return accepted_format(accepted) if accepted else Format.JSON


def accepted_format(accepted: str) -> Format:
    """Return the form that an ``Accept`` likes best; of forms that it likes as well, the first of :class:`Format`.

    Raises:
        Problem: 406, it takes none of the four: lists them.
    """
    liked = weights(accepted)
    best = max(Format, key=lambda format_: _liking(MEDIA_TYPES[format_], liked))
    if not _liking(MEDIA_TYPES[best], liked):
        types = ", ".join(MEDIA_TYPES.values())
        raise Problem(
            HTTPStatus.NOT_ACCEPTABLE,
            "not-acceptable",
            "None of the forms there are is accepted",
            f"Accept: expected one of {types}, got {accepted[:200]!r}; or say format={'|'.join(Format)}",
        )
    return best


def _liking(media_type: str, liked: Mapping[str, float]) -> float:
    """By the most specific of what is said: the type itself, its family, anything."""
    family = media_type.partition("/")[0]
    for name in (media_type, f"{family}/*", "*/*", "*"):
        if name in liked:
            return liked[name]
    return 0.0
