"""Deribit on the wire: the time and the volatility index, as JSON-RPC over HTTP GET.

Source: docs.deribit.com public/get_volatility_index_data, "RPC error codes" (2026-07). Not here: the index itself
(``volatility``), how much one may ask (``quotas``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import msgspec
import numpy as np
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mdp.simulator.answers import NEVER_MS, ORIGIN_HEADER, answer, client_of
from mdp.simulator.candles import Ints
from mdp.simulator.markets import SIMULATED_INDICES, SimulatedIndex
from mdp.simulator.page_answers import page_faults
from mdp.simulator.simulation import Simulation
from mdp.simulator.spoiled_pages import as_of, spoil_rows
from mdp.simulator.volatility import HOUR_MS, lengthen

RESOLUTIONS: Mapping[str, int] = {
    "1": 1_000,
    "60": 60_000,
    "3600": HOUR_MS,
    "43200": 12 * HOUR_MS,
    "1D": 24 * HOUR_MS,
}

CURRENCIES: tuple[str, ...] = ("BTC", "ETH", "USDC", "USDT", "EURR")
"""Accepted names; only BTC and ETH have an index, the others answer without rows."""

_PAGE = 1_000


class _Refused(Exception):
    def __init__(self, param: str, reason: str) -> None:
        super().__init__(reason)
        self.param = param


_Handler = Callable[[Simulation, Request, int], tuple[object, str]]


def routes(simulation: Simulation) -> list[Route]:
    """Return the exchange's endpoints, to be mounted under its prefix."""
    return [
        _route(simulation, "get_time", lambda _simulation, _request, now_ms: (now_ms, "none")),
        _route(simulation, "get_volatility_index_data", _volatility),
    ]


def _route(simulation: Simulation, method: str, handler: _Handler) -> Route:
    async def endpoint(request: Request) -> Response:
        begun, now_ms = time.perf_counter_ns(), simulation.clock()
        status, content, headers = 200, dict[str, object](), dict[str, str]()
        client, credits_ = client_of(request), simulation.quotas.deribit
        is_allowed = credits_.take(client)
        request.scope["quota_left"] = credits_.left(client)
        if not is_allowed:
            status, content["error"] = 429, {"code": 10_028, "message": "too_many_requests"}
        else:
            try:
                result, origin = handler(simulation, request, now_ms)
                content["result"], headers[ORIGIN_HEADER] = result, origin
            except _Refused as refused:
                data = {"reason": str(refused), "param": refused.param}
                status, content["error"] = 400, {"code": -32_602, "message": "Invalid params", "data": data}
        taken_us = (time.perf_counter_ns() - begun) // 1_000
        timing = {"usIn": now_ms * 1_000, "usOut": now_ms * 1_000 + taken_us, "usDiff": taken_us, "testnet": False}
        return answer({"jsonrpc": "2.0", **content, **timing}, status=status, headers=headers)

    return Route(f"/api/v2/public/{method}", endpoint, methods=["GET"])


def _volatility(simulation: Simulation, request: Request, now_ms: int) -> tuple[object, str]:
    params = request.query_params
    currency = _mandatory(params, "currency")
    if currency not in CURRENCIES:
        raise _Refused("currency", f"must be one of {', '.join(CURRENCIES)}")
    length_ms = RESOLUTIONS.get(_mandatory(params, "resolution"))
    if length_ms is None:
        raise _Refused("resolution", f"must be one of {', '.join(RESOLUTIONS)}")
    start_ms, end_ms = _moment(params, "start_timestamp"), _moment(params, "end_timestamp")
    if end_ms < start_ms:  # undocumented: refused, so that a wrong window does not pass for an empty one
        raise _Refused("end_timestamp", "must not be before start_timestamp")
    index = SIMULATED_INDICES.get(currency)
    if index is None or start_ms > now_ms:
        return {"data": [], "continuation": None}, "none"
    faults = page_faults(simulation, request, length_ms, now_ms)
    page, has_more = _newest(simulation, index, length_ms, (start_ms, end_ms), as_of(faults, now_ms, length_ms))
    # the oldest candle of this page is asked for again by the next: pages overlap in one row
    continuation = int(page[0, 0]) if has_more else None
    rows = ",".join(spoil_rows(_rows(page), faults))
    return {"data": msgspec.Raw(f"[{rows}]".encode()), "continuation": continuation}, "generated"


def _newest(
    simulation: Simulation, index: SimulatedIndex, length_ms: int, window: tuple[int, int], now_ms: int
) -> tuple[Ints, bool]:
    """The newest page of a window, and whether the window holds older candles. Whole candles, also at its ends."""
    start_ms = max(-(-window[0] // length_ms) * length_ms, index.first_hour_ms // length_ms * length_ms)
    last_ms = window[1] // length_ms * length_ms + length_ms - 1
    end_ms = min(last_ms, now_ms) // length_ms * length_ms + length_ms
    candles = np.empty((5, 0), dtype=np.int64)
    while candles.shape[1] <= _PAGE and end_ms > start_ms:
        begin_ms = max(start_ms, end_ms - (_PAGE + 1) * length_ms)
        candles = np.concatenate([_told(simulation, index, length_ms, (begin_ms, end_ms), now_ms), candles], axis=1)
        end_ms = begin_ms
    return candles[:, -_PAGE:], candles.shape[1] > _PAGE


def _told(simulation: Simulation, index: SimulatedIndex, length_ms: int, window: tuple[int, int], now_ms: int) -> Ints:
    """Candles as the exchange tells them: those of hours and less without scripted outages, the rest made of hours."""
    finest_ms = min(length_ms, HOUR_MS)
    candles = simulation.volatility.candles(index, finest_ms, window[0], window[1] - 1, now_ms)
    return lengthen(simulation.alterations.apply_to_index(candles, index, finest_ms, now_ms), length_ms)


def _rows(candles: Ints) -> list[str]:
    return [f"[{time_ms},{o / 100},{h / 100},{low / 100},{c / 100}]" for time_ms, o, h, low, c in candles.T.tolist()]


def _mandatory(params: QueryParams, name: str) -> str:
    value = params.get(name, "")
    if not value:
        raise _Refused(name, "value required")
    return value


def _moment(params: QueryParams, name: str) -> int:
    value = _mandatory(params, name)
    if not (value.isascii() and value.isdigit()):
        raise _Refused(name, "must be an integer")
    return min(int(value), NEVER_MS)
