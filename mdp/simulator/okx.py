"""OKX v5 spot on the wire: ``/api/v5/market``, ``/api/v5/public`` and the system status.

Source: OKX API guide (2026-07): "Get candlesticks", "Get candlesticks history", "Rate limits", "Error codes". Only spot
exists here: other instrument types list nothing. Not here: which candles there are (``history``), how much one may ask
(``quotas``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mdp.domain.market import Exchange
from mdp.domain.timeframe import Timeframe
from mdp.simulator import pages
from mdp.simulator.answers import NEVER_MS, answer, client_of, shortest_decimal
from mdp.simulator.candles import Candles
from mdp.simulator.markets import MARKETS_BY_ID, SimulatedMarket
from mdp.simulator.okx_archive import index_route
from mdp.simulator.page_answers import Body, Layout, answer_page, bounded
from mdp.simulator.simulation import Simulation

MARKETS = MARKETS_BY_ID[Exchange.OKX]

BARS: Mapping[str, Timeframe] = {
    "1m": Timeframe.M1,
    "5m": Timeframe.M5,
    "15m": Timeframe.M15,
    "1H": Timeframe.H1,
    "4H": Timeframe.H4,
    "1Dutc": Timeframe.D1,
}
"""The other bars of the exchange, among them ``1D``, a day of UTC+8, are not simulated: 51000."""

_TYPES = ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION")
_DEFAULT_LIMIT, _MAX_LIMIT = 100, 300

_DEPTH = 1_440
"""Candles that ``candles`` reaches back, the open one included."""


class _Refused(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


_Handler = Callable[[Simulation, Request, int], Response]


def routes(simulation: Simulation) -> list[Route]:
    """Return the exchange's endpoints, to be mounted under its prefix."""
    endpoints: dict[str, _Handler] = {
        "public/time": lambda _simulation, _request, now_ms: answer(_envelope([{"ts": str(now_ms)}])),
        "public/instruments": _instruments,
        "market/candles": _candles,
        "market/history-candles": _history_candles,
        "system/status": lambda *_: answer(_envelope([])),
    }
    return [*(_route(simulation, path, handler) for path, handler in endpoints.items()), index_route(simulation)]


def _route(simulation: Simulation, path: str, handler: _Handler) -> Route:
    async def endpoint(request: Request) -> Response:
        verdict = simulation.quotas.okx[path].take(client_of(request))
        request.scope["quota_left"] = verdict.left
        if not verdict.is_allowed:
            # the guide allows status 200 and 429 for this code; here it is always 429
            return answer(_envelope([], "50011", "Too Many Requests"), status=429)
        try:
            return handler(simulation, request, simulation.clock())
        except _Refused as refused:
            return answer(_envelope([], refused.code, str(refused)), status=400)

    return Route(f"/api/v5/{path}", endpoint, methods=["GET"])


def _envelope(data: object, code: str = "0", message: str = "") -> dict[str, object]:
    return {"code": code, "msg": message, "data": data}


def _candles(simulation: Simulation, request: Request, now_ms: int) -> Response:
    wanted = _wanted(request.query_params)
    length = wanted.timeframe.milliseconds
    deepest_ms = now_ms - now_ms % length - (_DEPTH - 1) * length
    return answer_page(simulation, request, bounded(wanted, deepest_ms), now_ms, layout=_LAYOUT, body=_BODY)


def _history_candles(simulation: Simulation, request: Request, now_ms: int) -> Response:
    """Finished candles only. The real endpoint has been seen to lag about a minute; this one does not."""
    wanted = _wanted(request.query_params)
    return answer_page(simulation, request, wanted, now_ms, layout=_LAYOUT, body=_BODY, with_open=False)


def _wanted(params: QueryParams) -> pages.Request:
    market = _market(params)
    timeframe = BARS.get(params.get("bar") or "1m")
    if timeframe is None:
        raise _Refused("51000", "Parameter bar error")
    after_ms, before_ms, limit = (_number(params, name) for name in ("after", "before", "limit"))
    if limit == 0:
        raise _Refused("51000", "Parameter limit error")
    return pages.Request(
        market=market,
        timeframe=timeframe,
        first_ms=0 if before_ms is None else before_ms + 1,
        last_ms=NEVER_MS if after_ms is None else after_ms - 1,
        # a limit above the maximum counts as the maximum: chosen
        limit=min(limit or _DEFAULT_LIMIT, _MAX_LIMIT),
        keep=pages.Keep.NEWEST,
    )


def print_closed(candles: Candles) -> list[str]:
    """Print finished candles: nine texts, the last of them ``1``."""
    return _print(candles, "1")


def print_open(candles: Candles) -> list[str]:
    """Print the candle that is still open: nine texts, the last of them ``0``."""
    return _print(candles, "0")


def _print(candles: Candles, confirm: str) -> list[str]:
    names = ("open", "high", "low", "close", "volume", "quote_volume", "quote_volume")
    row = pl.format(
        '["{}","{}","{}","{}","{}","{}","{}","{}","{}"]',
        "open_ms",
        *(shortest_decimal(name) for name in names),
        pl.lit(confirm),
    )
    return candles.to_frame().select(row).to_series().to_list()


_LAYOUT = Layout(print_closed, print_open, newest_first=True)
_BODY = Body('{"code":"0","msg":"","data":[', "]}")


def _market(params: QueryParams) -> SimulatedMarket:
    market_id = params.get("instId", "")
    if not market_id:
        raise _Refused("50014", "Parameter instId can not be empty.")
    if market_id not in MARKETS:
        raise _Refused("51001", "Instrument ID doesn't exist.")
    return MARKETS[market_id]


def _number(params: QueryParams, name: str) -> int | None:
    value = params.get(name)
    if value is None or value == "":
        return None
    if not (value.isascii() and value.isdigit()):
        raise _Refused("51000", f"Parameter {name} error")
    return int(value)


def _instruments(_simulation: Simulation, request: Request, _now_ms: int) -> Response:
    params = request.query_params
    kind = params.get("instType", "")
    if not kind:
        raise _Refused("50014", "Parameter instType can not be empty.")
    if kind not in _TYPES:
        raise _Refused("51000", "Parameter instType error")
    listed = MARKETS.values() if kind == "SPOT" else ()
    wanted = params.get("instId")
    if wanted and kind == "SPOT" and wanted not in MARKETS:
        raise _Refused("51001", "Instrument ID doesn't exist.")
    return answer(_envelope([_describe(market) for market in listed if wanted in (None, "", market.market_id)]))


def _describe(market: SimulatedMarket) -> dict[str, str]:
    empty = ("settleCcy", "uly", "instFamily", "ctMult", "ctType", "ctVal", "ctValCcy", "expTime", "optType", "stk")
    return {
        "instType": "SPOT",
        "instId": market.market_id,
        "baseCcy": market.base,
        "quoteCcy": market.market.quote,
        **dict.fromkeys((*empty, "alias"), ""),
        "lever": "10",
        # not the listing date, on the real exchange neither
        "listTime": {"BTC": "1548133413000", "ETH": "1548133413000", "SOL": "1611907686000"}[market.base],
        "lotSz": market.amount_step,
        "minSz": {"BTC": "0.00001", "ETH": "0.0001", "SOL": "0.001"}[market.base],
        "tickSz": market.price_step,
        "state": "live",
    }
