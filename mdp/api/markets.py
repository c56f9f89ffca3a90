"""``/markets``: what there is, since when it is traded, and from when to when it is stored.

Not here: how completely it is stored (``coverage``).
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from mdp.api.knowledge import once
from mdp.api.parameters import now_utc, only_known_parameters
from mdp.api.row_answers import answer_json, documented_json
from mdp.api.surroundings import Around, Surroundings
from mdp.config.reference import load_reference
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.reading.stored_range import stored_range

router = APIRouter(tags=["History"], dependencies=[Depends(only_known_parameters)])


class StoredRange(BaseModel):
    """`[start, end)` from the first stored minute to the last; what is missing between is told by `…/gaps`."""

    start: str
    end: str


class MarketEntry(BaseModel):
    """One market."""

    market: Annotated[str, Field(examples=["binance:BTC-USDT"])]
    exchange: str
    symbol: str
    is_volatility_index: bool
    timeframes: Annotated[list[str], Field(description="At which it is stored.")]
    buffers: Annotated[list[str], Field(description="Timeframes of which a live buffer is there.")]
    listed_at: Annotated[str | None, Field(description="First candle it ever had; null: not established.")]
    stored: Annotated[StoredRange | None, Field(description="null: nothing yet.")]
    links: Annotated[dict[str, str], Field(description="Where more is told of it.")]


class MarketList(BaseModel):
    """All markets of this service."""

    markets: list[MarketEntry]


@router.head("/api/v1/markets", include_in_schema=False)
@router.get("/api/v1/markets", summary="What there is", response_class=Response, responses=documented_json(MarketList))
async def list_markets(request: Request, around: Around) -> Response:
    """List all markets with their listing dates and stored ranges, which may be ten seconds old."""
    ranges = await once(request, "ranges", around, partial(_ranges, around))
    entries = [_entry(around, Market.parse(text), ranges[text]) for text in around.settings.markets]
    return answer_json(request, msgspec.json.encode({"markets": entries}))


def _ranges(around: Surroundings) -> dict[str, Interval | None]:
    now = now_utc()
    return {text: stored_range(around.store, Market.parse(text), now) for text in around.settings.markets}


def _entry(around: Surroundings, market: Market, stored: Interval | None) -> dict[str, Any]:
    path = f"/api/v1/market-data/{market.exchange.value}/{market.symbol_key}"
    is_index = market.is_volatility_index
    return {
        "market": str(market),
        "exchange": market.exchange.value,
        "symbol": market.symbol_key,
        "is_volatility_index": is_index,
        "timeframes": [Timeframe.M1] if is_index else [*Timeframe],
        "buffers": [one for one in Timeframe if around.mirror.find(market, one) is not None],
        "listed_at": _text(load_reference().listed_at(market)),
        "stored": None if stored is None else {"start": _text(stored.start), "end": _text(stored.end)},
        "links": {name: f"{path}/{name}" for name in ("history", "gaps", "coverage", "revisions")},
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)
