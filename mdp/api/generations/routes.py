"""``…/generate`` and ``/generations``: beginning a collection of missing days, watching it, ending it.

Not here: what is launched (``beginning``), how one is (``seeing``).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from mdp.api.callers import Scope, require
from mdp.api.generations.backfills import ORIGIN, ORIGIN_TAG, Backfill, cancel, find, find_active
from mdp.api.generations.beginning import answer_generation, begin
from mdp.api.generations.graphql import asking_dagster
from mdp.api.generations.resource import EXAMPLE, Generation
from mdp.api.generations.seeing import latest_of, look_at, without_dagster_503
from mdp.api.parameters import (
    TIME_FORMS,
    TIME_SCHEMA,
    ExchangeText,
    SymbolText,
    limit_of,
    moment_of,
    now_utc,
    only_known_parameters,
)
from mdp.api.problems import documented
from mdp.api.surroundings import Around
from mdp.reading.arguments import parse_days

router = APIRouter(tags=["Generations"], dependencies=[Depends(only_known_parameters)])

_MOST_LISTED = 50

DayText = WithJsonSchema(TIME_SCHEMA)
FirstDay = Annotated[str, Query(description=f"First day, UTC. {TIME_FORMS}", examples=["2024-12-30"]), DayText]
EndDay = Annotated[
    str,
    Query(description=f"Day after the last one; today at most. {TIME_FORMS}", examples=["2025-01-02"]),
    DayText,
]
IdText = Annotated[str, Path(alias="id", description="Of the generation.", examples=["3f9a0c2b71d4e865"])]
LimitText = Annotated[
    str | None,
    Query(description=f"How many at most, {_MOST_LISTED} at most.", examples=["10"]),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": _MOST_LISTED, "default": 20}),
]


class Generations(BaseModel):
    """Generations, the latest first."""

    generations: Annotated[list[Generation], Field(description="Each by its latest attempt.")]


def _generation(description: str, *headers: str) -> dict[str, Any]:
    told = {
        "Location": {"description": "Where to ask how it is.", "schema": {"type": "string"}},
        "Retry-After": {"description": "Seconds after which to ask again.", "schema": {"type": "integer"}},
    }
    return {
        "model": Generation,
        "description": description,
        "content": {"application/json": {"example": EXAMPLE}},
        "headers": {name: told[name] for name in headers},
    }


@router.post(
    "/api/v1/market-data/{exchange}/{symbol}/generate",
    summary="Collect the days that are missing",
    response_class=Response,
    status_code=202,
    responses={
        **documented(404, 409, 500),
        200: _generation("Nothing is missing; Dagster was not asked."),
        202: _generation("Dagster collects them.", "Location", "Retry-After"),
    },
)
async def generate(
    request: Request, around: Around, exchange: ExchangeText, symbol: SymbolText, start: FirstDay, end: EndDay
) -> Response:
    """Launch one Dagster backfill of exactly the days of `[start, end)` that are not complete.

    Asked for again while it is at work, it is the same generation and nothing else is launched; after its end, what is
    then missing is tried again as its next attempt. Days that another generation of the market collects already are
    left to it; where it has all of them, it is the answer. It needs the scope `generate`.
    """
    require(request.scope.get("mdp.caller"), Scope.GENERATE)
    market = around.market(exchange, symbol)
    window = parse_days(moment_of("start", start), moment_of("end", end), now_utc())
    return await begin(around, market, window)


@router.head("/api/v1/generations", include_in_schema=False)
@router.get(
    "/api/v1/generations",
    summary="The latest generations",
    response_class=Response,
    responses={**documented(500), 200: {"model": Generations, "description": "The latest first."}},
)
async def generations(around: Around, limit: LimitText = None) -> Response:
    """List generations by their latest attempt; those that ended are judged by what is stored now."""
    most = limit_of(limit, _MOST_LISTED) if limit is not None else 20
    with without_dagster_503():
        async with asking_dagster(around.settings) as dagster:
            found = await find(dagster, {ORIGIN_TAG: ORIGIN}, 4 * most)
            active = await find_active(dagster)
            latest: dict[str, Backfill] = {}
            for one in found:  # newest first
                latest.setdefault(one.generation, one)
            shown = list(latest.values())[:most]
            # one after another: each reads storage, and others read too
            told = [await look_at(around, dagster, one, active) for one in shown]
    body = Generations(generations=told).model_dump_json()
    return Response(body, headers={"cache-control": "no-store"}, media_type="application/json")


@router.head("/api/v1/generations/{id}", include_in_schema=False)
@router.get(
    "/api/v1/generations/{id}",
    summary="How a generation is",
    response_class=Response,
    responses={
        **documented(404, 500),
        200: _generation("It ended."),
        202: _generation("It is at work.", "Location", "Retry-After"),
    },
)
async def generation(around: Around, id_: IdText) -> Response:
    """Tell how far it is; at its end it is complete, or says what is missing and why.

    The end is judged by what is stored when it is asked for, not by Dagster's word.
    """
    with without_dagster_503():
        async with asking_dagster(around.settings) as dagster:
            found = await latest_of(dagster, id_)
            return answer_generation(await look_at(around, dagster, found))


@router.delete(
    "/api/v1/generations/{id}",
    summary="Cancel a generation",
    response_class=Response,
    status_code=202,
    responses={
        **documented(404, 500),
        200: _generation("It had ended; nothing was done."),
        202: _generation("Dagster ends it.", "Location", "Retry-After"),
    },
)
async def cancel_generation(request: Request, around: Around, id_: IdText) -> Response:
    """End its runs; days that are done stay. It needs the scope `generate`."""
    require(request.scope.get("mdp.caller"), Scope.GENERATE)
    with without_dagster_503():
        async with asking_dagster(around.settings) as dagster:
            found = await latest_of(dagster, id_)
            if found.status == "REQUESTED":
                await cancel(dagster, found)
                found = await latest_of(dagster, id_)
            return answer_generation(await look_at(around, dagster, found))
