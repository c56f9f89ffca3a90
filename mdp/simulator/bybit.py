"""Bybit v5 spot on the wire: ``/v5/market`` and the system status.

Source: bybit-exchange/docs v5 (2026-07), market/kline, market/instrument, rate-limit. Only spot exists here: other
categories list nothing. Texts of refusals other than "Not supported symbols" are chosen; the code 10001 is not. Not
here: which candles there are (``history``), how much one may ask (``quotas``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mdp.domain.market import Exchange
from mdp.domain.timeframe import Timeframe
from mdp.simulator import pages
from mdp.simulator.answers import NEVER_MS, answer, client_of, shortest_decimal
from mdp.simulator.candles import Candles
from mdp.simulator.markets import MARKETS_BY_ID, SimulatedMarket
from mdp.simulator.page_answers import Body, Layout, answer_page
from mdp.simulator.simulation import Simulation

MARKETS = MARKETS_BY_ID[Exchange.BYBIT]

INTERVALS: Mapping[str, Timeframe] = {
    "1": Timeframe.M1,
    "5": Timeframe.M5,
    "15": Timeframe.M15,
    "60": Timeframe.H1,
    "240": Timeframe.H4,
    "D": Timeframe.D1,
}
"""The other intervals of the exchange (3, 30, 120, 360, 720, W, M) are not simulated: 10001."""

_CATEGORIES = ("spot", "linear", "inverse", "option")
_DEFAULT_LIMIT, _MAX_LIMIT = 200, 1_000


class _Refused(Exception):
    pass


_Handler = Callable[[Simulation, Request, int], Response]


def routes(simulation: Simulation) -> list[Route]:
    """Return the exchange's endpoints, to be mounted under its prefix."""
    endpoints: dict[str, _Handler] = {
        "/v5/market/time": _time,
        "/v5/market/instruments-info": _instruments,
        "/v5/market/kline": _kline,
        "/v5/system/status": lambda _simulation, _request, now_ms: _ok('{"list":[]}', now_ms),
    }
    return [_route(simulation, path, handler) for path, handler in endpoints.items()]


def _route(simulation: Simulation, path: str, handler: _Handler) -> Route:
    async def endpoint(request: Request) -> Response:
        now_ms = simulation.clock()
        quota = simulation.quotas.bybit
        verdict = quota.take(client_of(request))
        request.scope["quota_left"] = verdict.left
        if not verdict.is_allowed:
            response: Response = PlainTextResponse("403, access too frequent", status_code=403)
        else:
            try:
                response = handler(simulation, request, now_ms)
            except _Refused as refused:
                response = _reply(10_001, str(refused), "{}", now_ms)
        response.headers["X-Bapi-Limit"] = str(quota.limit)
        response.headers["X-Bapi-Limit-Status"] = str(verdict.left)
        # of the exchange's own clock, as every time it tells; now, unless the limit is exceeded [docs/v5/rate-limit]
        response.headers["X-Bapi-Limit-Reset-Timestamp"] = str(now_ms + round(verdict.reset_s * 1_000))
        return response

    return Route(path, endpoint, methods=["GET"])


def _reply(code: int, message: str, result: str, now_ms: int) -> Response:
    return answer(f'{{"retCode":{code},"retMsg":"{message}","result":{result},"retExtInfo":{{}},"time":{now_ms}}}')


def _ok(result: str, now_ms: int) -> Response:
    return _reply(0, "OK", result, now_ms)


def _time(_simulation: Simulation, _request: Request, now_ms: int) -> Response:
    return _ok(f'{{"timeSecond":"{now_ms // 1_000}","timeNano":"{now_ms * 1_000_000}"}}', now_ms)


def _kline(simulation: Simulation, request: Request, now_ms: int) -> Response:
    params = request.query_params
    market = _market(params)
    timeframe = INTERVALS.get(params.get("interval", ""))
    if timeframe is None:
        raise _Refused("Invalid period!")
    start_ms, end_ms = _number(params, "start"), _number(params, "end")
    limit = _number(params, "limit")
    if limit == 0:
        raise _Refused("params error: limit invalid")
    wanted = pages.Request(
        market=market,
        timeframe=timeframe,
        # undocumented: an unaligned start is not floored, and a start before listing gives the first candles
        first_ms=0 if start_ms is None else start_ms,
        last_ms=NEVER_MS if end_ms is None else end_ms,
        # undocumented: a limit above the maximum counts as the maximum
        limit=min(limit or _DEFAULT_LIMIT, _MAX_LIMIT),
        keep=pages.Keep.OLDEST if start_ms is not None and end_ms is None else pages.Keep.NEWEST,
    )
    result = f'{{"category":"spot","symbol":"{market.market_id}","list":['
    body = Body(f'{{"retCode":0,"retMsg":"OK","result":{result}', f']}},"retExtInfo":{{}},"time":{now_ms}}}')
    return answer_page(simulation, request, wanted, now_ms, layout=_LAYOUT, body=body)


def print_candles(candles: Candles) -> list[str]:
    """Print candles as ``[start, open, high, low, close, volume, turnover]``, all text."""
    prices = (shortest_decimal(name) for name in ("open", "high", "low", "close", "volume", "quote_volume"))
    row = pl.format('["{}","{}","{}","{}","{}","{}","{}"]', "open_ms", *prices)
    return candles.to_frame().select(row).to_series().to_list()


_LAYOUT = Layout(print_candles, newest_first=True)


def _category(params: QueryParams) -> str:
    category = params.get("category", "linear")
    if category not in _CATEGORIES:
        raise _Refused("params error: Category is invalid")
    return category


def _market(params: QueryParams) -> SimulatedMarket:
    """The market of a kline request; without a category it is a contract, which is not simulated."""
    market = MARKETS.get(params.get("symbol", ""))
    if _category(params) != "spot" or market is None:
        raise _Refused("Not supported symbols")
    return market


def _instruments(_simulation: Simulation, request: Request, now_ms: int) -> Response:
    params = request.query_params
    category = _category(params)
    listed = [
        _describe(market)
        for market in (MARKETS.values() if category == "spot" else ())
        if params.get("symbol", market.market_id) == market.market_id
    ]
    if category == "spot":  # spot answers in one page, without a cursor
        return answer(_envelope({"category": category, "list": listed}, now_ms))
    return answer(_envelope({"category": category, "list": listed, "nextPageCursor": ""}, now_ms))


def _envelope(result: object, now_ms: int) -> dict[str, object]:
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": now_ms}


def _describe(market: SimulatedMarket) -> dict[str, object]:
    return {
        "symbol": market.market_id,
        "baseCoin": market.base,
        "quoteCoin": market.market.quote,
        "innovation": "0",
        "status": "Trading",
        "marginTrading": "utaOnly",
        "lotSizeFilter": {
            "basePrecision": market.amount_step,
            "quotePrecision": "0.00000001",
            "minOrderQty": market.amount_step,
            "maxOrderQty": "10000",
            "minOrderAmt": "1",
            "maxOrderAmt": "4000000",
        },
        "priceFilter": {"tickSize": market.price_step},
    }


def _number(params: QueryParams, name: str) -> int | None:
    value = params.get(name)
    if value is None or value == "":
        return None
    if not (value.isascii() and value.isdigit()):
        raise _Refused(f"params error: {name} invalid")
    return int(value)
