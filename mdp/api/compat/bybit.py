"""Bybit v5 spot, as a bot asks it: klines, and what bots ask before them.

Source: bybit-exchange/docs v5 (2026-07): market/kline, market/instrument, error. Texts of refusals other than "Not
supported symbols" are chosen; the code 10001 is not. Not here: which candles there are (``candles``).
"""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl
from fastapi import APIRouter, Request
from starlette.responses import Response

from mdp.api.compat.candles import NEVER_US, Asked, Keep, market_now_us, read_candles
from mdp.api.compat.digits import shortest
from mdp.api.compat.documents import WHOLE, answers, choice, parameter, spellings
from mdp.api.compat.instruments import Instrument, instruments
from mdp.api.compat.lengths import Length, minutes, months, weeks
from mdp.api.compat.numbers import us_of_ms, whole
from mdp.api.compat.refusals import not_offered
from mdp.api.compat.wording import Refused, answer, worded
from mdp.api.surroundings import Around, Surroundings
from mdp.config.settings import Settings
from mdp.domain.market import Exchange

router = APIRouter(prefix="/bybit")

INTERVALS: dict[str, Length] = {
    **{str(count): minutes(count) for count in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)},
    "D": minutes(1_440),
    "W": weeks(),
    "M": months(),
}
_CATEGORIES = ("spot", "linear", "inverse", "option")
_DEFAULT_LIMIT, _MAX_LIMIT = 200, 1_000
_ROW = ["1735516800000", "93719.99", "93736.24", "93700", "93720", "10.5554", "989292.4086256"]


@router.get(
    "/v5/market/time",
    summary="Bybit: what time is it?",
    description="The service's clock; of a simulated market, that of its simulator.",
    responses=answers(Exchange.BYBIT, {"retCode": 0}),
    response_class=Response,
)
async def server_time(around: Around) -> Response:
    """Tell the time."""
    now_us = market_now_us(around, Exchange.BYBIT)
    result = f'{{"timeSecond":"{now_us // 1_000_000}","timeNano":"{now_us * 1_000}"}}'
    return answer(Exchange.BYBIT, _ok(result, now_us))


@router.get(
    "/v5/market/kline",
    summary="Bybit: klines",
    description="Spot only. Newest first. With `start` alone the oldest from there on, else the newest.",
    responses=answers(Exchange.BYBIT, {"retCode": 0, "result": {"list": [_ROW]}}),
    response_class=Response,
    openapi_extra={"parameters": [
        parameter("category", choice(["spot"]), "Contracts are not collected.", required=True, example="spot"),
        parameter("symbol", spellings(Exchange.BYBIT), "A market.", required=True, example="BTCUSDT"),
        parameter("interval", choice(list(INTERVALS)), "Length of a candle.", required=True, example="1"),
        parameter("start", WHOLE, "Earliest open time, inclusive: milliseconds."),
        parameter("end", WHOLE, "Latest open time, inclusive: milliseconds."),
        parameter("limit", {**WHOLE, "minimum": 1}, "Most candles: 200 unless said, never more than 1000."),
    ]},
)  # fmt: skip
async def kline(request: Request, around: Around) -> Response:
    """Return klines."""

    async def work() -> Response:
        asked, market_id = _asked(around.settings, request.query_params)
        rows = await read_candles(around, asked)
        result = f'{{"category":"spot","symbol":"{market_id}","list":[{encode(rows)}]}}'
        return answer(Exchange.BYBIT, _ok(result, market_now_us(around, Exchange.BYBIT)))

    return await worded(Exchange.BYBIT, work)


@router.get(
    "/v5/market/instruments-info",
    summary="Bybit: markets and their steps",
    description="The markets that are collected. Steps are those of July 2026; do not place orders by them.",
    responses=answers(Exchange.BYBIT, {"retCode": 0, "result": {"category": "spot", "list": []}}),
    response_class=Response,
    openapi_extra={"parameters": [
        parameter("category", choice(list(_CATEGORIES)), "Only spot lists anything.", required=True, example="spot"),
        parameter("symbol", spellings(Exchange.BYBIT), "One market."),
    ]},
)  # fmt: skip
async def markets(request: Request, around: Around) -> Response:
    """List markets."""

    async def work() -> Response:
        return _listed(request, around)

    return await worded(Exchange.BYBIT, work)


@router.api_route("/{rest:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"], include_in_schema=False)
async def unknown(request: Request, rest: str) -> Response:
    """Refuse what is not offered, in the exchange's words."""
    return not_offered(Exchange.BYBIT, router.routes, request.method, rest)


def _listed(request: Request, around: Surroundings) -> Response:
    category = _category(request.query_params)
    wanted = request.query_params.get("symbol")
    found = instruments(around.settings, Exchange.BYBIT).values() if category == "spot" else ()
    listed: dict[str, Any] = {
        "category": category,
        "list": [_describe(one) for one in found if wanted in (None, "", one.market_id)],
    }
    if category != "spot":  # spot answers in one page, without a cursor
        listed["nextPageCursor"] = ""
    result = msgspec.json.encode(listed).decode()
    return answer(Exchange.BYBIT, _ok(result, market_now_us(around, Exchange.BYBIT)))


def _ok(result: str, now_us: int) -> str:
    return f'{{"retCode":0,"retMsg":"OK","result":{result},"retExtInfo":{{}},"time":{now_us // 1_000}}}'


def _asked(settings: Settings, sent: Any) -> tuple[Asked, str]:
    found = instruments(settings, Exchange.BYBIT).get(sent.get("symbol", ""))
    if _category(sent) != "spot" or found is None:
        raise Refused(200, 10_001, "Not supported symbols")
    length = INTERVALS.get(sent.get("interval", ""))
    if length is None:
        raise Refused(200, 10_001, "Invalid period!")
    start_ms, end_ms, limit = (_number(sent, name) for name in ("start", "end", "limit"))
    if limit == 0:
        raise Refused(200, 10_001, "params error: limit invalid")
    asked = Asked(
        market=found.market,
        length=length,
        first_us=us_of_ms(start_ms, 0),
        last_us=us_of_ms(end_ms, NEVER_US),
        limit=min(limit or _DEFAULT_LIMIT, _MAX_LIMIT),
        keep=Keep.OLDEST if start_ms is not None and end_ms is None else Keep.NEWEST,
        from_start=start_ms is not None,
    )
    return asked, found.market_id


def _category(sent: Any) -> str:
    category: str = sent.get("category", "linear")
    if category not in _CATEGORIES:
        raise Refused(200, 10_001, "params error: Category is invalid")
    return category


def _number(sent: Any, name: str) -> int | None:
    try:
        return whole(sent.get(name))
    except ValueError:
        raise Refused(200, 10_001, f"params error: {name} invalid") from None


def encode(rows: pl.DataFrame) -> str:
    """Print candles as ``[start, open, high, low, close, volume, turnover]``, all text, newest first."""
    names = ("open", "high", "low", "close", "volume", "quote_volume")
    opened = pl.col("open_time").to_physical() // 1_000
    row = pl.format('["{}","{}","{}","{}","{}","{}","{}"]', opened, *names)
    text: str | None = shortest(rows.reverse(), names).select(row.str.join(",")).item()
    return text or ""


def _describe(one: Instrument) -> dict[str, Any]:
    return {
        "symbol": one.market_id,
        "baseCoin": one.market.base,
        "quoteCoin": one.market.quote,
        "innovation": "0",
        "status": "Trading",
        "marginTrading": "utaOnly",
        "lotSizeFilter": {
            "basePrecision": one.steps.amount,
            "quotePrecision": "0.00000001",
            "minOrderQty": one.steps.least,
            "maxOrderQty": "10000",
            "minOrderAmt": "1",
            "maxOrderAmt": "4000000",
        },
        "priceFilter": {"tickSize": one.steps.price},
    }
