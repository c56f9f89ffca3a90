"""Binance spot on the wire: ``/api/v3`` and the system status.

Source: binance-spot-api-docs, rest-api.md and errors.md (2026-07). Where these are silent the choice is
said in the code. Not here: which candles there are (``history``), how much one may ask (``quotas``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mdp.domain.market import Exchange
from mdp.domain.timeframe import Timeframe
from mdp.simulator import pages
from mdp.simulator.answers import NEVER_MS, answer, client_of, eight_decimals
from mdp.simulator.candles import Candles
from mdp.simulator.markets import MARKETS_BY_ID, SimulatedMarket
from mdp.simulator.page_answers import Body, Layout, answer_page
from mdp.simulator.quotas import WeightVerdict
from mdp.simulator.simulation import Simulation

MARKETS = MARKETS_BY_ID[Exchange.BINANCE]

INTERVALS: Mapping[str, Timeframe] = {timeframe.value: timeframe for timeframe in Timeframe}
"""The other intervals of the exchange (1s, 3m, 30m, 2h, 6h, 8h, 12h, 3d, 1w, 1M) are not simulated: -1120."""

_SYMBOL_PATTERN = "^[A-Z0-9-_.]{1,20}$"
_NUMBER_PATTERN = "^[0-9]{1,20}$"
_FIRST_MICROSECONDS = 100_000_000_000_000
_DEFAULT_LIMIT, _MAX_LIMIT = 500, 1_000
_KLINES_PARAMETERS = ("symbol", "interval", "startTime", "endTime", "limit", "timeZone")


class _Refused(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.body = {"code": code, "msg": message}


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request: itself and its parameters, the simulated time, and whether it wants microseconds."""

    request: Request
    params: QueryParams
    now_ms: int
    in_microseconds: bool


_Handler = Callable[[Simulation, _Asked], Response]


def routes(simulation: Simulation) -> list[Route]:
    """Return the exchange's endpoints, to be mounted under its prefix."""
    weighted: list[tuple[str, int, _Handler]] = [
        ("/api/v3/ping", 1, lambda *_: answer("{}")),
        ("/api/v3/time", 1, _time),
        ("/api/v3/exchangeInfo", 20, _exchange_info),
        ("/api/v3/klines", 2, _klines),
    ]
    system = Route("/sapi/v1/system/status", _system_status, methods=["GET"])
    return [_route(simulation, *endpoint) for endpoint in weighted] + [system]


def _route(simulation: Simulation, path: str, weight: int, handler: _Handler) -> Route:
    async def endpoint(request: Request) -> Response:
        now_ms = simulation.clock()
        client, quotas = client_of(request), simulation.quotas
        raw, verdict = quotas.binance_raw.take(client, 1), quotas.binance.take(client, weight)
        request.scope["quota_left"] = max(quotas.binance.limit - verdict.used, 0)
        if verdict.status != 200:
            response = _too_much(verdict, f"{quotas.binance.limit} request weight per 1 MINUTE", now_ms)
        elif raw.status != 200:
            response = _too_much(raw, f"{quotas.binance_raw.limit} raw requests per 5 MINUTE", now_ms)
        else:
            in_microseconds = request.headers.get("X-MBX-TIME-UNIT", "").upper() == "MICROSECOND"
            try:
                response = handler(simulation, _Asked(request, request.query_params, now_ms, in_microseconds))
            except _Refused as refused:
                response = answer(refused.body, status=400)
        response.headers["X-MBX-USED-WEIGHT"] = response.headers["X-MBX-USED-WEIGHT-1M"] = str(verdict.used)
        return response

    return Route(path, endpoint, methods=["GET"])


def _too_much(verdict: WeightVerdict, limit: str, now_ms: int) -> Response:
    message = (
        f"Too much request weight used; current limit is {limit}. "
        "Please use WebSocket Streams for live updates to avoid polling the API."
    )
    if verdict.status == 418:
        message = (
            f"Way too much request weight used; IP banned until {now_ms + verdict.retry_after_s * 1_000}. "
            "Please use WebSocket Streams for live updates to avoid bans."
        )
    body = {"code": -1003, "msg": message}
    return answer(body, status=verdict.status, headers={"Retry-After": str(verdict.retry_after_s)})


async def _system_status(_request: Request) -> Response:
    return answer({"status": 0, "msg": "normal"}, headers={"X-SAPI-USED-IP-WEIGHT-1M": "1"})


def _time(simulation: Simulation, asked: _Asked) -> Response:  # noqa: ARG001 every handler is asked the same way
    return answer({"serverTime": asked.now_ms * (1_000 if asked.in_microseconds else 1)})


def _klines(simulation: Simulation, asked: _Asked) -> Response:
    market = _market(_mandatory(asked.params, "symbol", _SYMBOL_PATTERN))
    timeframe = INTERVALS.get(_mandatory(asked.params, "interval"))
    if timeframe is None:
        raise _Refused(-1120, "Invalid interval.")
    start_ms, end_ms = _moment(asked.params, "startTime"), _moment(asked.params, "endTime")
    limit = _number(asked.params, "limit")
    # a larger limit is clamped, as CCXT assumes; the answer to 0 is chosen
    if limit == 0:
        raise _Refused(-1130, "Data sent for parameter 'limit' is not valid.")
    _require_utc(asked.params)
    _refuse_unknown(asked.params)
    wanted = pages.Request(
        market=market,
        timeframe=timeframe,
        first_ms=0 if start_ms is None else start_ms,
        last_ms=NEVER_MS if end_ms is None else end_ms,
        limit=min(limit or _DEFAULT_LIMIT, _MAX_LIMIT),
        keep=pages.Keep.NEWEST if start_ms is None else pages.Keep.OLDEST,
    )
    layout = _IN_MICROSECONDS if asked.in_microseconds else _IN_MILLISECONDS
    return answer_page(simulation, asked.request, wanted, asked.now_ms, layout=layout, body=Body("[", "]"))


def print_candles(candles: Candles) -> list[str]:
    """Print candles as klines: arrays of 12, times in milliseconds."""
    return _print(candles, pl.col("open_ms"), pl.col("close_ms"))


def print_in_microseconds(candles: Candles) -> list[str]:
    """Print candles as klines with times in microseconds; a candle then ends in ``…999999``."""
    return _print(candles, pl.col("open_ms") * 1_000, pl.col("close_ms") * 1_000 + 999)


def _print(candles: Candles, open_time: pl.Expr, close_time: pl.Expr) -> list[str]:
    row = pl.format(
        '[{},"{}","{}","{}","{}","{}",{},"{}",{},"{}","{}","0"]',
        open_time,
        *(eight_decimals(name) for name in ("open", "high", "low", "close", "volume")),
        close_time,
        eight_decimals("quote_volume"),
        "trades",
        eight_decimals("taker_volume"),
        eight_decimals("taker_quote_volume"),
    )
    return candles.to_frame().select(row).to_series().to_list()


_IN_MILLISECONDS, _IN_MICROSECONDS = Layout(print_candles), Layout(print_in_microseconds)


def _exchange_info(simulation: Simulation, asked: _Asked) -> Response:  # noqa: ARG001
    _refuse_unknown(asked.params, ("symbol", "symbols", "permissions", "showPermissionSets", "symbolStatus"))
    markets = list(MARKETS.values())
    if "symbols" in asked.params:
        markets = [_market(name) for name in _listed(asked.params["symbols"])]
    elif "symbol" in asked.params:
        markets = [_market(_mandatory(asked.params, "symbol", _SYMBOL_PATTERN))]
    limits = (("REQUEST_WEIGHT", "MINUTE", 1, 6_000), ("RAW_REQUESTS", "MINUTE", 5, 300_000))
    return answer(
        {
            "timezone": "UTC",
            "serverTime": asked.now_ms * (1_000 if asked.in_microseconds else 1),
            "rateLimits": [
                {"rateLimitType": kind, "interval": unit, "intervalNum": count, "limit": limit}
                for kind, unit, count, limit in limits
            ],
            "exchangeFilters": [],
            "symbols": [_describe(market) for market in markets],
        }
    )


def _describe(market: SimulatedMarket) -> dict[str, object]:
    price, amount = f"{market.price_step:0<10}", f"{market.amount_step:0<10}"
    return {
        "symbol": market.market_id,
        "status": "TRADING",
        "baseAsset": market.base,
        "baseAssetPrecision": 8,
        "quoteAsset": market.market.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": True,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": price, "maxPrice": "1000000.00000000", "tickSize": price},
            {"filterType": "LOT_SIZE", "minQty": amount, "maxQty": "9000.00000000", "stepSize": amount},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
    }


def _listed(text: str) -> list[str]:
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise _Refused(
            -1100, "Illegal characters found in parameter 'symbols'; legal range is a JSON array of symbols."
        )
    return names


def _market(name: str) -> SimulatedMarket:
    if name not in MARKETS:
        raise _Refused(-1121, "Invalid symbol.")
    return MARKETS[name]


def _mandatory(params: QueryParams, name: str, pattern: str = ".*") -> str:
    value = params.get(name, "")
    if not value:
        raise _Refused(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    if not re.fullmatch(pattern, value):
        raise _Refused(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{pattern}'.")
    return value


def _number(params: QueryParams, name: str) -> int | None:
    if name not in params:
        return None
    if not params[name]:
        raise _Refused(-1105, f"Parameter '{name}' was empty.")
    if not re.fullmatch(_NUMBER_PATTERN, params[name]):
        raise _Refused(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{_NUMBER_PATTERN}'.")
    return int(params[name])


def _moment(params: QueryParams, name: str) -> int | None:
    """A time in milliseconds; sent in milliseconds or microseconds. A fraction rounds towards later."""
    value = _number(params, name)
    if value is None or value < _FIRST_MICROSECONDS:
        return value
    return -(-value // 1_000) if name == "startTime" else value // 1_000


def _require_utc(params: QueryParams) -> None:
    """Only UTC candles are simulated."""
    if not re.fullmatch(r"[+-]?0{1,2}(:00)?", params.get("timeZone", "0")):
        raise _Refused(-1130, "Data sent for parameter 'timeZone' is not valid.")


def _refuse_unknown(params: QueryParams, known: tuple[str, ...] = _KLINES_PARAMETERS) -> None:
    read = sum(name in known for name in params)
    if read < len(params):
        message = f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{len(params)}'."
        raise _Refused(-1104, message)
