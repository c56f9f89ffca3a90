"""``…/gaps`` and ``…/revisions``: what is missing of a market and why, and what the exchange changed afterwards.

Not here: finding either (``reading.reports``), how much is there (``coverage``).
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from mdp.api.formats import FormatText, choose_format
from mdp.api.knowledge import once, reports_of
from mdp.api.parameters import (
    EndText,
    ExchangeText,
    StartText,
    SymbolText,
    days_of,
    earliest_before,
    moment_of,
    now_utc,
    only_known_parameters,
    present_end,
    window_of,
)
from mdp.api.problems import wrong_parameter
from mdp.api.row_answers import Rows, answer_rows, documented_rows
from mdp.api.surroundings import Around
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
from mdp.pipeline.coverage_report import CAUSES
from mdp.reading.reports import revisions_of

router = APIRouter(tags=["Quality"], dependencies=[Depends(only_known_parameters)])

CauseText = Annotated[
    str | None,
    Query(description="Only gaps of this cause."),
    WithJsonSchema({"type": "string", "enum": [*CAUSES]}),
]


class RowsOfMarket(BaseModel):
    """Rows about one market, ascending in time."""

    market: Annotated[str, Field(examples=["binance:BTC-USDT"])]
    start: Annotated[str | None, Field(description="First instant that was looked at; null: nothing is known.")]
    end: Annotated[str | None, Field(description="Where looking ended, excluded.")]
    columns: list[str]
    rows: Annotated[list[list[Any]], Field(description="In the order of `columns`.")]


GAPS_EXAMPLE = {
    "market": "binance:BTC-USDT", "start": "2023-03-24T00:00:00Z", "end": "2023-03-25T00:00:00Z",
    "columns": ["start", "end", "slots", "cause", "sightings", "is_permanent", "first_seen_at", "seen_at", "source",
                "detail"],
    "rows": [["2023-03-24T12:40:00Z", "2023-03-24T14:00:00Z", 80, "exchange_outage", 2, False, "2026-01-02T03:04:05Z",
              "2026-01-03T03:04:05Z", "archive+rest", "spot trading suspended"]],
}  # fmt: skip

REVISIONS_EXAMPLE = {
    "market": "binance:BTC-USDT", "start": "2024-12-30T00:00:00Z", "end": "2024-12-31T00:00:00Z",
    "columns": ["timeframe", "open_time", "old_close", "new_close", "revised_at"],
    "rows": [["1m", "2024-12-30T10:00:00Z", 93500.0, 93501.5, "2026-01-04T00:00:00Z"]],
}  # fmt: skip


@router.head("/api/v1/market-data/{exchange}/{symbol}/gaps", include_in_schema=False)
@router.get(
    "/api/v1/market-data/{exchange}/{symbol}/gaps",
    summary="What is missing, and why",
    response_class=Response,
    responses=documented_rows(RowsOfMarket, GAPS_EXAMPLE),
)
async def gaps(
    request: Request,
    around: Around,
    exchange: ExchangeText,
    symbol: SymbolText,
    start: StartText = None,
    end: EndText = None,
    cause: CauseText = None,
    format_: FormatText = None,
) -> Response:
    """List stretches of missing minutes, `[start, end)`, in whole UTC days that are over; by default all known days.

    A stretch has one cause; `unfetched` are minutes that nobody asked for, or did not get. `is_permanent` ones were
    seen missing often enough, far enough apart, to stay so.
    """
    market, format_wanted = around.market(exchange, symbol), choose_format(request, format_)
    if cause is not None and cause not in CAUSES:
        raise wrong_parameter("cause", cause, f"one of {', '.join(CAUSES)}", CAUSES)
    days = days_of(start, end, now_utc())
    (found,) = await reports_of(request, around, [market], days)
    within = days or known_window(found.days)
    rows = found.gaps if cause is None else found.gaps.filter(pl.col("cause") == cause)
    answer = Rows(rows.drop("market"), head_of(market, within))
    return await around.in_thread(partial(answer_rows, request, format_wanted, answer))


@router.head("/api/v1/market-data/{exchange}/{symbol}/revisions", include_in_schema=False)
@router.get(
    "/api/v1/market-data/{exchange}/{symbol}/revisions",
    summary="What the exchange changed afterwards",
    response_class=Response,
    responses=documented_rows(RowsOfMarket, REVISIONS_EXAMPLE),
)
async def revisions(
    request: Request,
    around: Around,
    exchange: ExchangeText,
    symbol: SymbolText,
    start: StartText = None,
    end: EndText = None,
    format_: FormatText = None,
) -> Response:
    """List stored minutes for which the exchange later gave other values; all `new_` are null where it gives none.

    Without `start` those of the ten years before `end`, which is now unless it is given.
    """
    market, format_wanted = around.market(exchange, symbol), choose_format(request, format_)
    window = _window(start, end)
    work = partial(revisions_of, around.store, [market], window)
    question = ("revisions", market, start, end)
    found = await once(request, question, around, work)
    answer = Rows(found.drop("exchange", "symbol"), head_of(market, window if start or end else None))
    return await around.in_thread(partial(answer_rows, request, format_wanted, answer))


def _window(start: str | None, end: str | None) -> Interval:
    present = present_end()
    earliest = earliest_before(present if end is None else min(moment_of("end", end), present))
    return window_of(format_time(earliest) if start is None else start, end, present)


def head_of(market: Market, window: Interval | None) -> dict[str, Any]:
    """Return what stands before rows about a market."""
    return {
        "market": str(market),
        "start": None if window is None else format_time(window.start),
        "end": None if window is None else format_time(window.end),
    }


def known_window(days: pl.DataFrame) -> Interval | None:
    """Return the days of a report, of ``DAY_SCHEMA``; None without any."""
    if days.is_empty():
        return None
    return Interval.of_days(days["day"][0], days["day"][-1])
