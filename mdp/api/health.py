"""How the service is, and what it knows of feeds and budgets: for load balancers, monitoring and people.

Not here: judging feeds (``reading.live_status``), counting (``measures``).
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field
from starlette.responses import Response

from mdp.api.metrics import exposition
from mdp.api.parameters import only_known_parameters
from mdp.api.problems import documented
from mdp.api.surroundings import Around, Surroundings
from mdp.bus.report import read_report
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import MdpError
from mdp.ports import OHLCV, Slice
from mdp.reading.live_status import as_document, ask, judge, problems_of
from mdp.reading.metrics import find, platform_exposition

router = APIRouter(tags=["Service"], dependencies=[Depends(only_known_parameters)])

_CHECK_S = 5.0


class Alive(BaseModel):
    """The process answers."""

    status: Annotated[str, Field(examples=["alive"])]


class Ready(BaseModel):
    """Whether requests can be answered."""

    status: Annotated[str, Field(examples=["ready"])]
    reasons: Annotated[list[str], Field(description="Why not; empty when it is ready.", examples=[[]])]


class LiveDocument(BaseModel):
    """Feeds, the live run, each market's lag, what waits for storage."""

    healthy: bool
    problems: list[str]
    live_run: Annotated[str | None, Field(description="Who stores what closes; null: nobody.")]
    backlog: dict[str, Any]
    feeds: list[dict[str, Any]]
    markets: list[dict[str, Any]]


_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Ready, "description": "Not ready, and why."}}


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Whether the process is alive", responses=documented())
async def healthz() -> Alive:
    """Always 200 while the process answers at all; asks nobody."""
    return Alive(status="alive")


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz", summary="Whether requests can be answered", response_model=Ready, responses=documented() | _NOT_READY
)
async def readyz(around: Around) -> Response:
    """200 once storage can be read and, in mode `live`, buffers are there; stale ones count: they are marked."""
    reasons = await _reasons(around)
    body = Ready(status="not ready" if reasons else "ready", reasons=reasons).model_dump_json()
    headers = {"cache-control": "no-store"} | ({"retry-after": "1"} if reasons else {})
    return Response(body, 503 if reasons else 200, headers, media_type="application/json")


async def _reasons(around: Surroundings) -> list[str]:
    reasons = []
    if around.settings.mode == "live" and len(around.mirror.missing) == len(around.mirror.wanted):
        reasons.append("no buffer was read yet: is the bus there, does any feed run?")
    trouble = await around.trouble.get("storage", lambda: _trouble_of_storage(around))
    return [*reasons, trouble] if trouble else reasons


async def _trouble_of_storage(around: Surroundings) -> str:
    """Read a minute of a market, beside the readers: that these are busy is no trouble."""
    now = datetime.now(UTC)
    part = Slice(Market.parse(around.settings.markets[0]), (Timeframe.M1,), Interval(now - timedelta(minutes=1), now))
    try:
        async with asyncio.timeout(_CHECK_S):
            await asyncio.to_thread(lambda: around.store.read(OHLCV, part, columns=["open_time"]))
    except TimeoutError:
        return f"storage did not answer within {_CHECK_S:g} s"
    except (MdpError, OSError) as error:
        return f"storage cannot be read: {type(error).__name__}"
    return ""


@router.get(
    "/metrics",
    summary="What is counted, for Prometheus",
    response_class=Response,
    responses={200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}, **documented()},
)
async def metrics(around: Around) -> Response:
    """The platform, the same whoever answers; then this worker since it began, `mdp_service_info` says which one it is.

    A bus that is away is said by `mdp_bus_up 0`, and is no error.
    """
    platform = await around.platform.get("metrics", lambda: _platform(around))
    body = platform.encode() + exposition(around.registry)
    return Response(body, media_type=None, headers={"content-type": CONTENT_TYPE_LATEST})


async def _platform(around: Surroundings) -> str:
    return platform_exposition(await find(around.settings, around.bus))


@router.get("/api/v1/live", summary="How live trading is", responses=documented())
async def live(around: Around) -> LiveDocument:
    """Feeds and their health, who stores what closes, how late each market is, what waits for storage."""
    if around.settings.mode != "live":
        return LiveDocument(healthy=True, problems=[], live_run=None, backlog={}, feeds=[], markets=[])
    facts = await ask(around.bus, around.settings)
    markets = judge(around.settings.markets, facts)
    return LiveDocument(**as_document(markets, facts, problems_of(around.settings, markets, facts)))


@router.get("/api/v1/budgets", summary="How much of each exchange's quota is used", responses=documented())
async def budgets(around: Around) -> dict[str, Any]:
    """By all processes that share the bus: requests in the window, who waits, which exchange is cooling down."""
    found = await around.in_thread(lambda: read_report(around.settings))
    said: dict[str, Any] = msgspec.to_builtins(found)
    return said
