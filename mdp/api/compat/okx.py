"""OKX v5 spot, as a bot asks it: candles, and what bots ask before them.

Source: OKX API guide (2026-07): "Get candlesticks", "Get candlesticks history", "Error codes". Not here: which candles
there are (``candles``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import polars as pl
from fastapi import APIRouter, Request
from starlette.responses import Response

from mdp.api.compat.candles import NEVER_US, Asked, Keep, market_now_us, read_candles
from mdp.api.compat.digits import shortest
from mdp.api.compat.documents import WHOLE, answers, choice, parameter, spellings
from mdp.api.compat.instruments import Instrument, instruments
from mdp.api.compat.lengths import HOUR_US, Length, minutes, months
from mdp.api.compat.numbers import us_of_ms, whole
from mdp.api.compat.refusals import not_offered
from mdp.api.compat.wording import Refused, answer, worded
from mdp.api.surroundings import Around, Surroundings
from mdp.config.settings import Settings
from mdp.domain.market import Exchange

router = APIRouter(prefix="/okx")

_CHINA_US = 8 * HOUR_US

BARS: dict[str, Length] = {
    **{f"{count}m": minutes(count) for count in (1, 3, 5, 15, 30)},
    **{f"{count}H": minutes(60 * count) for count in (1, 2, 4)},
    # from six hours on a bar opens by the clock of UTC+8, unless its name says otherwise
    **{f"{count}H": minutes(60 * count, zone_us=_CHINA_US) for count in (6, 12)},
    **{f"{count}Hutc": minutes(60 * count) for count in (6, 12)},
    "1D": minutes(1_440, zone_us=_CHINA_US),
    "1Dutc": minutes(1_440),
    "1M": months(zone_us=_CHINA_US),
    "1Mutc": months(),
}
"""All but ``1s`` and those whose grid nobody has written down: 2D, 3D, 5D, weeks, 3M."""

_TYPES = ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION")
_DEFAULT_LIMIT, _MAX_LIMIT = 100, 300

_DEPTH = 1_440
"""Candles that ``candles`` reaches back, the open one included."""

_ROW = ["1735516800000", "93719.9", "93736.2", "93700", "93720", "10.5554", "989292.4", "989292.4", "1"]
_PARAMETERS = [
    parameter("instId", spellings(Exchange.OKX), "A market.", required=True, example="BTC-USDT"),
    parameter("bar", choice(list(BARS)), "Length of a candle: 1m unless said.", example="1m"),
    parameter("after", WHOLE, "Candles that open before this: milliseconds."),
    parameter("before", WHOLE, "Candles that open after this: milliseconds."),
    parameter("limit", {**WHOLE, "minimum": 1}, "Most candles: 100 unless said, never more than 300."),
]
_EXAMPLE = {"code": "0", "msg": "", "data": [_ROW]}


@router.get(
    "/api/v5/public/time",
    summary="OKX: what time is it?",
    description="The service's clock; of a simulated market, that of its simulator.",
    responses=answers(Exchange.OKX, {"code": "0", "msg": "", "data": [{"ts": "1735516800000"}]}),
    response_class=Response,
)
async def server_time(around: Around) -> Response:
    """Tell the time."""
    return answer(Exchange.OKX, _ok(f'{{"ts":"{market_now_us(around, Exchange.OKX) // 1_000}"}}'))


@router.get(
    "/api/v5/market/candles",
    summary="OKX: newest candles",
    description="Newest first, the forming one with `confirm` 0. Reaches back 1,440 candles, as on the exchange.",
    responses=answers(Exchange.OKX, _EXAMPLE),
    response_class=Response,
    openapi_extra={"parameters": _PARAMETERS},
)
async def candles(request: Request, around: Around) -> Response:
    """Return the newest candles."""

    async def work() -> Response:
        asked = _asked(around.settings, request.query_params)
        length = asked.length
        newest_us = length.floor(market_now_us(around, Exchange.OKX))
        deepest_us = newest_us - (_DEPTH - 1) * length.step_us
        return await _answered(around, replace(asked, first_us=max(asked.first_us, deepest_us)))

    return await worded(Exchange.OKX, work)


@router.get(
    "/api/v5/market/history-candles",
    summary="OKX: all candles that are finished",
    description="Newest first, finished candles only, as far back as any are stored.",
    responses=answers(Exchange.OKX, _EXAMPLE),
    response_class=Response,
    openapi_extra={"parameters": _PARAMETERS},
)
async def history_candles(request: Request, around: Around) -> Response:
    """Return finished candles."""

    async def work() -> Response:
        return await _answered(around, replace(_asked(around.settings, request.query_params), with_open=False))

    return await worded(Exchange.OKX, work)


@router.get(
    "/api/v5/public/instruments",
    summary="OKX: markets and their steps",
    description="The markets that are collected. Steps are those of July 2026; do not place orders by them.",
    responses=answers(Exchange.OKX, {"code": "0", "msg": "", "data": []}),
    response_class=Response,
    openapi_extra={"parameters": [
        parameter("instType", choice(list(_TYPES)), "Only SPOT lists anything.", required=True, example="SPOT"),
        parameter("instId", spellings(Exchange.OKX), "One market."),
    ]},
)  # fmt: skip
async def markets(request: Request, around: Around) -> Response:
    """List markets."""

    async def work() -> Response:
        return _listed(request, around)

    return await worded(Exchange.OKX, work)


@router.api_route("/{rest:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"], include_in_schema=False)
async def unknown(request: Request, rest: str) -> Response:
    """Refuse what is not offered, in the exchange's words."""
    return not_offered(Exchange.OKX, router.routes, request.method, rest)


async def _answered(around: Surroundings, asked: Asked) -> Response:
    return answer(Exchange.OKX, _ok(encode(await read_candles(around, asked))))


def _ok(data: str) -> str:
    return f'{{"code":"0","msg":"","data":[{data}]}}'


def _asked(settings: Settings, sent: Any) -> Asked:
    market_id = sent.get("instId", "")
    if not market_id:
        raise Refused(400, 50_014, "Parameter instId can not be empty.")
    found = instruments(settings, Exchange.OKX).get(market_id)
    if found is None:
        raise Refused(400, 51_001, "Instrument ID doesn't exist.")
    length = BARS.get(sent.get("bar") or "1m")
    if length is None:
        raise Refused(400, 51_000, "Parameter bar error")
    after_ms, before_ms, limit = (_number(sent, name) for name in ("after", "before", "limit"))
    if limit == 0:
        raise Refused(400, 51_000, "Parameter limit error")
    return Asked(
        market=found.market,
        length=length,
        first_us=us_of_ms(before_ms, -1) + 1,
        last_us=us_of_ms(after_ms, NEVER_US) - 1,
        limit=min(limit or _DEFAULT_LIMIT, _MAX_LIMIT),
        keep=Keep.NEWEST,
        from_start=before_ms is not None,
    )


def _number(sent: Any, name: str) -> int | None:
    try:
        return whole(sent.get(name))
    except ValueError:
        raise Refused(400, 51_000, f"Parameter {name} error") from None


def encode(rows: pl.DataFrame) -> str:
    """Print candles as nine texts, newest first; the last of them tells whether the candle is finished."""
    names = ("open", "high", "low", "close", "volume", "quote_volume")
    opened, confirm = pl.col("open_time").to_physical() // 1_000, pl.col("is_closed").cast(pl.Int8)
    row = pl.format('["{}","{}","{}","{}","{}","{}","{}","{}","{}"]', opened, *names, "quote_volume", confirm)
    text: str | None = shortest(rows.reverse(), names).select(row.str.join(",")).item()
    return text or ""


def _listed(request: Request, around: Surroundings) -> Response:
    kind, wanted = request.query_params.get("instType", ""), request.query_params.get("instId")
    if not kind:
        raise Refused(400, 50_014, "Parameter instType can not be empty.")
    if kind not in _TYPES:
        raise Refused(400, 51_000, "Parameter instType error")
    found = instruments(around.settings, Exchange.OKX) if kind == "SPOT" else {}
    if wanted and kind == "SPOT" and wanted not in found:
        raise Refused(400, 51_001, "Instrument ID doesn't exist.")
    listed = [_describe(one) for one in found.values() if wanted in (None, "", one.market_id)]
    return answer(Exchange.OKX, msgspec.json.encode({"code": "0", "msg": "", "data": listed}))


def _describe(one: Instrument) -> dict[str, str]:
    empty = ("settleCcy", "uly", "instFamily", "ctMult", "ctType", "ctVal", "ctValCcy", "expTime", "optType", "stk")
    return {
        "instType": "SPOT",
        "instId": one.market_id,
        "baseCcy": one.market.base,
        "quoteCcy": one.market.quote,
        **dict.fromkeys((*empty, "alias", "listTime"), ""),
        "lever": "10",
        "lotSz": one.steps.amount,
        "minSz": one.steps.least,
        "tickSz": one.steps.price,
        "state": "live",
    }
