"""What OpenAPI says of the drop-in klines: their parameters, their answers, their refusals.

Not here: what is really answered (``binance``, ``bybit``, ``okx``).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from mdp.api.compat.wording import CONTENT_TYPES, shape
from mdp.domain.market import SPOT_MARKETS, Exchange

Schema = dict[str, Any]

WHOLE: Schema = {"type": "integer", "minimum": 0, "maximum": 99_999_999_999_999_999_999}
TEXT: Schema = {"type": "string"}


def spellings(exchange: Exchange) -> Schema:
    """Return the exchange's names of the markets that are collected unless the settings say otherwise."""
    between = "-" if exchange is Exchange.OKX else ""
    return choice([f"{one.base}{between}{one.quote}" for one in SPOT_MARKETS if one.exchange is exchange])


def parameter(name: str, schema: Schema, description: str, *, required: bool = False, example: Any = None) -> Schema:
    """Return one parameter of a query."""
    found: Schema = {"name": name, "in": "query", "required": required, "description": description, "schema": schema}
    return found if example is None else {**found, "example": example}


def choice(values: list[str]) -> Schema:
    """Return a text that is one of some."""
    return {"type": "string", "enum": values}


def answers(
    exchange: Exchange, example: object, *, schema: Schema | None = None, may_refuse: bool = True
) -> dict[int | str, Schema]:
    """Return what a route answers: 200, and refusals in the exchange's shape.

    Args:
        exchange: Whose shape.
        example: Of a good answer.
        schema: Of a good answer; None: any object.
        may_refuse: Whether a parameter may be wrong.
    """
    media = CONTENT_TYPES[exchange].replace("; charset=utf-8", "")
    good = {"schema": schema or {"type": "object"}, "example": example}
    found: dict[int | str, Schema] = {200: {"description": "As the exchange answers.", "content": {media: good}}}
    statuses = (400, 401, 403, 429, 500, 503) if may_refuse else (401, 403, 429, 500, 503)
    for status in statuses:
        told = {"schema": _refusal_schema(exchange), "example": shape(exchange, 0, "…") | _timeless(exchange)}
        found[status] = {"description": HTTPStatus(status).phrase, "content": {media: told}}
    return found


def _timeless(exchange: Exchange) -> Schema:
    return {"time": 1_735_516_800_000} if exchange is Exchange.BYBIT else {}


def _refusal_schema(exchange: Exchange) -> Schema:
    kinds = {int: "integer", str: "string", list: "array", dict: "object"}
    told = shape(exchange, 0, "")
    properties: Schema = {name: {"type": kinds[type(value)]} for name, value in told.items()}
    for each in properties.values():
        if each["type"] == "array":
            each["items"] = {}
    return {"type": "object", "required": list(told), "properties": properties}
