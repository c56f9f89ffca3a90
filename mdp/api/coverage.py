"""``…/coverage`` of one market by day, and ``/coverage`` of all: how much is stored, and why the rest is not.

Not here: counting (``reading.reports``), the stretches themselves (``reports``), the map drawn of it (``page``).
"""

from __future__ import annotations

from datetime import date
from functools import partial
from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from mdp.api.formats import FormatText, choose_format
from mdp.api.knowledge import reports_of
from mdp.api.parameters import EndText, ExchangeText, StartText, SymbolText, days_of, now_utc, only_known_parameters
from mdp.api.problems import wrong_parameter
from mdp.api.reports import RowsOfMarket, head_of, known_window
from mdp.api.row_answers import Rows, answer_rows, documented_rows
from mdp.api.surroundings import Around
from mdp.domain.interval import DAY, Interval, format_time
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.coverage_report import CAUSES, DAY_SCHEMA, MarketReport
from mdp.reading.reports import failed_json

router = APIRouter(tags=["Quality"], dependencies=[Depends(only_known_parameters)])

UNITS = {"day": "1d", "week": "1w", "month": "1mo"}
SHOWN = 366 * DAY
"""What a map shows unless it is asked for more."""

UnitText = Annotated[
    str | None,
    Query(description="What a row is about; a week begins on Monday. Years of days are joined to what fits a page."),
    WithJsonSchema({"type": "string", "enum": [*UNITS], "default": "day"}),
]

_COUNTED = tuple(name for name in DAY_SCHEMA if name not in ("market", "day"))


class CoverageSummary(BaseModel):
    """All days together, in minutes."""

    days: int
    expected: int
    present: int
    coverage: Annotated[float | None, Field(description="Present ÷ expected, in the window; null without any day.")]
    idle: Annotated[int | None, Field(description="Present minutes without volume; null of an index.")]
    missing: Annotated[dict[str, int], Field(description="By cause; causes without a minute are left out.")]
    permanent: int


class CoverageOfMarket(RowsOfMarket):
    """A market by day, in minutes."""

    summary: CoverageSummary
    failed: Annotated[list[dict[str, Any]], Field(description="Days whose latest attempt failed, and why.")]


class CoverageOfAll(BaseModel):
    """All markets by day, week or month, in minutes."""

    start: str | None
    end: str | None
    unit: str
    columns: list[str]
    rows: Annotated[list[list[Any]], Field(description="By market, then time, in the order of `columns`.")]


EXAMPLE = {
    "market": "binance:BTC-USDT", "start": "2024-12-30T00:00:00Z", "end": "2024-12-31T00:00:00Z",
    "summary": {"days": 1, "expected": 1440, "present": 1439, "coverage": 1439 / 1440, "idle": 0,
                "missing": {"unknown": 1}, "permanent": 0},
    "failed": [],
    "columns": ["day", *_COUNTED],
    "rows": [["2024-12-30", *({"expected": 1440, "present": 1439, "unknown": 1, "revised": 1}.get(name, 0)
                              for name in _COUNTED)]],
}  # fmt: skip

EXAMPLE_OF_ALL = {
    "start": "2024-12-30T00:00:00Z", "end": "2024-12-31T00:00:00Z", "unit": "day",
    "columns": ["market", "day", *_COUNTED],
    "rows": [["binance:BTC-USDT", *EXAMPLE["rows"][0]]],  # type: ignore[index]
}  # fmt: skip


@router.head("/api/v1/market-data/{exchange}/{symbol}/coverage", include_in_schema=False)
@router.get(
    "/api/v1/market-data/{exchange}/{symbol}/coverage",
    summary="How much of a market is stored, by day",
    response_class=Response,
    responses=documented_rows(CoverageOfMarket, EXAMPLE),
)
async def coverage(
    request: Request,
    around: Around,
    exchange: ExchangeText,
    symbol: SymbolText,
    start: StartText = None,
    end: EndText = None,
    format_: FormatText = None,
) -> Response:
    """Count the minutes of whole UTC days that are over: expected, present, and missing by cause.

    By default all days of which anything is known. `expected` is `present` and the missing ones together.
    """
    market, wanted = around.market(exchange, symbol), choose_format(request, format_)
    days = days_of(start, end, now_utc())
    (found,) = await reports_of(request, around, [market], days)
    head = {
        **head_of(market, days or known_window(found.days)),
        "summary": _summary(found),
        "failed": [failed_json(one) for one in found.failed],
    }
    answer = Rows(found.days.drop("market"), head)
    return await around.in_thread(partial(answer_rows, request, wanted, answer))


@router.head("/api/v1/coverage", include_in_schema=False)
@router.get(
    "/api/v1/coverage",
    summary="How much of every market is stored",
    response_class=Response,
    responses=documented_rows(CoverageOfAll, EXAMPLE_OF_ALL),
)
async def coverage_of_all(
    request: Request,
    around: Around,
    start: StartText = None,
    end: EndText = None,
    unit: UnitText = None,
    format_: FormatText = None,
) -> Response:
    """Count the minutes of all markets, in whole UTC days that are over; by default of the last 366.

    `day` is the first day of a row's day, week or month; what lies outside the window does not count. What is told may
    be ten seconds old.
    """
    wanted = choose_format(request, format_)
    if unit is not None and unit not in UNITS:
        raise wrong_parameter("unit", unit, f"one of {', '.join(UNITS)}", list(UNITS))
    today = Timeframe.D1.floor(now_utc())
    days = days_of(start, end, now_utc()) or Interval(today - SHOWN, today)
    markets = [Market.parse(text) for text in around.settings.markets]
    found = await reports_of(request, around, markets, days)
    rows = _joined(found, unit or "day", days.start.date())
    head = {"start": format_time(days.start), "end": format_time(days.end), "unit": unit or "day"}
    return await around.in_thread(partial(answer_rows, request, wanted, Rows(rows, head)))


def _joined(found: list[MarketReport], unit: str, first: date) -> pl.DataFrame:
    rows = pl.concat([DAY_SCHEMA.to_frame(), *(report.days for report in found)])
    if unit == "day":
        return rows
    begins = pl.max_horizontal(pl.col("day").dt.truncate(UNITS[unit]), pl.lit(first))
    sums = [pl.col(name).sum() for name in _COUNTED if name != "idle"]
    # an index has no idle minutes, which is not the same as none of them
    idle = pl.when(pl.col("idle").is_not_null().any()).then(pl.col("idle").sum()).alias("idle")
    return rows.group_by("market", begins.alias("day"), maintain_order=True).agg(*sums, idle).select(rows.columns)


def _summary(report: MarketReport) -> dict[str, Any]:
    missing = {cause: report.total(cause) for cause in CAUSES}
    return {
        "days": len(report.days),
        "expected": report.total("expected"),
        "present": report.total("present"),
        "coverage": report.share,
        "idle": None if report.market.is_volatility_index else report.total("idle"),
        "missing": {cause: minutes for cause, minutes in missing.items() if minutes},
        "permanent": report.total("permanent"),
    }
