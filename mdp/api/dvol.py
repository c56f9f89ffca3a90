"""``/dvol/{currency}``: the volatility index by the minute, as ``…/history`` gives it of its market.

Not here: how a minute gets its value (``domain.dvol``).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from starlette.requests import Request
from starlette.responses import Response

from mdp.api.formats import FormatText, choose_format
from mdp.api.history import (
    PAGE_HEADERS,
    Asked,
    AsOfText,
    CursorText,
    HistoryPage,
    SnapshotText,
    answer,
)
from mdp.api.parameters import EndText, LimitText, RequiredStart, limit_of, moment_of, only_known_parameters
from mdp.api.problems import not_found
from mdp.api.row_answers import documented_rows
from mdp.api.surroundings import Around, Surroundings
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe

router = APIRouter(tags=["History"], dependencies=[Depends(only_known_parameters)])

EXAMPLE = {
    "exchange": "deribit", "symbol": "BTC-DVOL", "timeframe": "1m", "start": "2024-12-30T00:00:00Z",
    "end": "2024-12-30T00:01:00Z", "snapshot": None, "as_of": None, "unstored": 0, "next_cursor": None,
    "columns": ["open_time", "dvol", "hour_open_time", "age_minutes", "source", "ingested_at"],
    "rows": [["2024-12-30T00:00:00Z", 57.31, "2024-12-29T23:00:00Z", 0, "rest", "2026-01-02T03:04:05Z"]],
}  # fmt: skip


@router.head("/api/v1/dvol/{currency}", include_in_schema=False)
@router.get(
    "/api/v1/dvol/{currency}",
    summary="The volatility index by the minute",
    response_class=Response,
    responses=documented_rows(HistoryPage, EXAMPLE, headers=PAGE_HEADERS),
)
async def dvol(
    request: Request,
    around: Around,
    currency: Annotated[str, Path(description="Currency of the index.", examples=["BTC"])],
    start: RequiredStart,
    end: EndText = None,
    limit: LimitText = None,
    cursor: CursorText = None,
    snapshot: SnapshotText = None,
    as_of: AsOfText = None,
    format_: FormatText = None,
) -> Response:
    """Give the stored minutes of Deribit's DVOL, percent: the close of the last candle that was closed at `open_time`.

    `hour_open_time` is the open time of that candle and `age_minutes` how long before it had closed. A minute without
    a value is absent. Pages, times and forms are those of `…/history`.
    """
    asked = Asked(
        _index(around, currency), Timeframe.M1, start, end, limit_of(limit, around.settings.api.max_rows), cursor,
        snapshot, None if as_of is None else moment_of("as_of", as_of),
    )  # fmt: skip
    return await answer(request, around, asked, choose_format(request, format_))


def _index(around: Surroundings, currency: str) -> Market:
    indices = {
        market.base: market for market in map(Market.parse, around.settings.markets) if market.is_volatility_index
    }
    if currency not in indices:
        raise not_found("currency", currency, f"one of {', '.join(indices)}", list(indices))
    return indices[currency]
