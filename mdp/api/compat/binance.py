"""Binance spot, as a bot asks it: klines, and what bots ask before them.

Source: binance-spot-api-docs, rest-api.md and errors.md (2026-07). Where these are silent the choice is said in
``docs/drop-in.md``. Not here: which candles there are (``candles``), parameters (``binance_parameters``).
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

import polars as pl
from fastapi import APIRouter, Request
from starlette.responses import Response

from mdp.api.compat.binance_info import exchange_info
from mdp.api.compat.binance_parameters import INTERVALS, Parameters, in_microseconds
from mdp.api.compat.candles import market_now_us, read_candles
from mdp.api.compat.digits import eight_decimals
from mdp.api.compat.documents import TEXT, WHOLE, answers, choice, parameter, spellings
from mdp.api.compat.lengths import Length
from mdp.api.compat.refusals import not_offered, refusal
from mdp.api.compat.weights import LIMIT, Weights
from mdp.api.compat.wording import Refused, answer, worded
from mdp.api.surroundings import Around, Surroundings
from mdp.domain.market import Exchange

router = APIRouter(prefix="/binance")

NOT_KEPT = "taker_buy_base_volume,taker_buy_quote_volume"
"""Told in a header of every page of klines: these two are not stored, and zero stands in their place."""

_ROWS_A_WEIGHT = 5_000

_NUMBERS = ("open", "high", "low", "close", "volume", "quote_volume")
_ROW = [1735516800000, "93719.99000000", "93736.24000000", "93700.00000000", "93720.00000000", "10.55540000",
        1735516859999, "989292.40862560", 1931, "0.00000000", "0.00000000", "0"]  # fmt: skip
_KLINES = {
    "type": "array",
    "items": {"type": "array", "minItems": 12, "maxItems": 12, "items": {"type": ["integer", "string"]}},
}
_ZONE = {"type": "string", "pattern": "^[+-]?(0?[0-9]|1[01])(:(00|15|30|45))?$"}
_PARAMETERS = [
    parameter("symbol", spellings(Exchange.BINANCE), "A market.", required=True, example="BTCUSDT"),
    parameter("interval", choice(list(INTERVALS)), "Length of a candle.", required=True, example="1m"),
    parameter("startTime", WHOLE, "Earliest open time, inclusive: ms or µs.", example=1735516800000),
    parameter("endTime", WHOLE, "Latest open time, inclusive."),
    parameter("timeZone", _ZONE, "Where days begin: -12:00 to +14:00, by quarters of an hour.", example="0"),
    parameter("limit", {**WHOLE, "minimum": 1}, "Most candles: 500 unless said, never more than 1000."),
]  # fmt: skip


async def _weighed(request: Request, weight: int, work: Callable[[], Awaitable[Response]]) -> Response:
    weights = _weights(request)
    used = weights.take(_client(request), weight)
    if used > LIMIT:
        detail = (
            f"Too much request weight used; current limit is {LIMIT} request weight per 1 MINUTE. "
            "Please use WebSocket Streams for live updates to avoid polling the API."
        )
        response = refusal(request.url.path, 429, detail, weights.until_next_s()) or Response(status_code=429)
    else:
        response = await worded(Exchange.BINANCE, work)
    response.headers["x-mbx-uuid"] = str(uuid.uuid4())
    response.headers["x-mbx-used-weight"] = response.headers["x-mbx-used-weight-1m"] = str(used)
    return response


def _weights(request: Request) -> Weights:
    state = request.app.state
    if not hasattr(state, "binance_weights"):
        state.binance_weights = Weights()
    found: Weights = state.binance_weights
    return found


def _client(request: Request) -> str:
    caller = request.scope.get("mdp.caller")
    key_id = getattr(caller, "key_id", None)
    return key_id or str(request.scope.get("mdp.address", ""))


@router.get(
    "/api/v3/ping",
    summary="Binance: is it there?",
    description="Answers `{}`. Weighs 1.",
    responses=answers(Exchange.BINANCE, {}),
    response_class=Response,
)
async def ping(request: Request) -> Response:
    """Answer."""

    async def work() -> Response:
        return answer(Exchange.BINANCE, b"{}")

    return await _weighed(request, 1, work)


@router.get(
    "/api/v3/time",
    summary="Binance: what time is it?",
    description="The service's clock; of a simulated market, that of its simulator. Weighs 1.",
    responses=answers(Exchange.BINANCE, {"serverTime": 1735516800000}),
    response_class=Response,
)
async def server_time(request: Request, around: Around) -> Response:
    """Tell the time."""

    async def work() -> Response:
        return answer(Exchange.BINANCE, f'{{"serverTime":{_now(request, around)}}}')

    return await _weighed(request, 1, work)


@router.get(
    "/api/v3/exchangeInfo",
    summary="Binance: markets and their steps",
    description="The markets that are collected. Steps are those of July 2026; do not place orders by them. Weighs 20.",
    responses=answers(Exchange.BINANCE, {"timezone": "UTC", "serverTime": 1735516800000, "symbols": []}),
    response_class=Response,
    openapi_extra={"parameters": [
        parameter("symbol", spellings(Exchange.BINANCE), "One market; `symbols` instead takes a JSON array of them."),
        *(parameter(name, TEXT, "Read, and without effect: every market here is a spot market that trades.")
          for name in ("permissions", "showPermissionSets", "symbolStatus")),
    ]},
)  # fmt: skip
async def markets(request: Request, around: Around) -> Response:
    """List markets."""

    async def work() -> Response:
        return answer(Exchange.BINANCE, exchange_info(around.settings, Parameters(request), _now(request, around)))

    return await _weighed(request, 20, work)


@router.get(
    "/api/v3/klines",
    summary="Binance: klines",
    description="Stored candles and, past these, live ones, the forming one last. Two of the twelve columns are not "
    "stored and always zero; the header `x-mdp-not-kept` names them. Weighs 2, and more where a long candle is made of "
    "many short ones.",
    responses=answers(Exchange.BINANCE, [_ROW], schema=_KLINES),
    response_class=Response,
    openapi_extra={"parameters": _PARAMETERS},
)
async def klines(request: Request, around: Around) -> Response:
    """Return klines."""

    async def work() -> Response:
        asked = Parameters(request).klines(around.settings)
        rows = await read_candles(around, asked)
        body = encode(rows, asked.length, in_microseconds=in_microseconds(request))
        return answer(Exchange.BINANCE, body, headers={"x-mdp-not-kept": NOT_KEPT})

    return await _weighed(request, _weight(request, around), work)


@router.get(
    "/api/v3/uiKlines",
    summary="Binance: klines for charts",
    description="The same as `klines`: nothing is modified here. Weighs the same.",
    responses=answers(Exchange.BINANCE, [_ROW], schema=_KLINES),
    response_class=Response,
    openapi_extra={"parameters": _PARAMETERS},
)
async def ui_klines(request: Request, around: Around) -> Response:
    """Return klines."""
    return await klines(request, around)


@router.api_route("/{rest:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"], include_in_schema=False)
async def unknown(request: Request, rest: str) -> Response:
    """Refuse what is not offered, in the exchange's words."""
    return not_offered(Exchange.BINANCE, router.routes, request.method, rest)


def _weight(request: Request, around: Surroundings) -> int:
    """Return what klines weigh: the exchange's 2, and one more for every full ``_ROWS_A_WEIGHT`` rows to read."""
    try:
        asked = Parameters(request).klines(around.settings)
    except Refused:
        return 2
    return 2 + asked.limit * (asked.length.step_us // asked.length.made_of.microseconds) // _ROWS_A_WEIGHT


def _now(request: Request, around: Surroundings) -> int:
    now_us = market_now_us(around, Exchange.BINANCE)
    return now_us if in_microseconds(request) else now_us // 1_000


def encode(rows: pl.DataFrame, length: Length, *, in_microseconds: bool = False) -> bytes:
    """Print candles as klines: arrays of 12, oldest first.

    Args:
        rows: Of ``read_candles``.
        length: Of each.
        in_microseconds: Times in microseconds; a candle then ends in ``…999999``.
    """
    opens_us, unit = rows["open_time"].to_physical(), 1 if in_microseconds else 1_000
    ends_us = opens_us + length.step_us
    if length.is_month:
        ends_us = pl.Series([length.following(one) for one in opens_us.to_list()], dtype=pl.Int64)
    row = pl.format(
        '[{},"{}","{}","{}","{}","{}",{},"{}",{},"0.00000000","0.00000000","0"]',
        opens_us // unit, *_NUMBERS[:5], ends_us // unit - 1, "quote_volume", pl.col("trades").fill_null(0),
    )  # fmt: skip
    text: str | None = eight_decimals(rows, _NUMBERS).select(row.str.join(",")).item()
    return f"[{text or ''}]".encode()
