"""The HTTP service: every exchange under its own prefix, ``/healthz``, ``/control``.

Not here: the process around it (``server``), what a world consists of (``simulation``).
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from mdp.domain.interval import format_time
from mdp.simulator import binance, binance_archive, bybit, control, deribit, okx, okx_archive
from mdp.simulator.answers import answer
from mdp.simulator.candles import DAY_MS
from mdp.simulator.clock import from_ms
from mdp.simulator.history import ranges_of
from mdp.simulator.levels import END_DAY
from mdp.simulator.markets import SIMULATED_INDICES, SIMULATED_MARKETS, SimulatedIndex, SimulatedMarket
from mdp.simulator.simulation import Simulation
from mdp.simulator.wire import Door


def create_app(simulation: Simulation) -> Door:
    """Return the service for one simulated world.

    Args:
        simulation: From ``build_simulation``.
    """

    async def healthz(_request: Request) -> Response:
        return answer(_describe(simulation))

    exchanges: list[BaseRoute] = [
        Mount(f"/{module.__name__.rpartition('.')[2]}", routes=module.routes(simulation))
        for module in (binance, bybit, okx, deribit)
    ]
    exchanges += [
        Mount("/binance-archive", routes=binance_archive.routes(simulation)),
        Mount("/okx-archive", routes=okx_archive.routes(simulation)),
    ]
    own = [Route("/healthz", healthz, methods=["GET"]), Mount("/control", routes=control.routes(simulation))]
    return Door(Starlette(routes=[*own, *exchanges]), simulation)


def _describe(simulation: Simulation) -> dict[str, object]:
    now_ms = simulation.clock()
    spot = [_describe_market(simulation, market, now_ms) for market in SIMULATED_MARKETS]
    indices = [_describe_index(simulation, index, now_ms) for index in SIMULATED_INDICES.values()]
    return {"status": "ok", "now": format_time(from_ms(now_ms)), "seed": simulation.seed, "markets": spot + indices}


def _describe_market(simulation: Simulation, market: SimulatedMarket, now_ms: int) -> dict[str, object]:
    recorded = simulation.history.recorded_days(market)
    first, today = market.first_candle_ms // DAY_MS, min(now_ms // DAY_MS, END_DAY - 1)
    generated = sorted(set(range(first, today + 1)) - set(recorded))
    return {
        "market": str(market.market),
        "market_id": market.market_id,
        "first_candle": format_time(from_ms(market.first_candle_ms)),
        "first_candle_is": market.first_candle_is,
        "recorded": _days(recorded),
        "generated": _days(generated),
    }


def _describe_index(simulation: Simulation, index: SimulatedIndex, now_ms: int) -> dict[str, object]:
    closes = sorted(simulation.volatility.recorded.closes) if index.currency == "BTC" else []
    today = min(now_ms // DAY_MS, END_DAY - 1)
    return {
        "market": str(index.market),
        "market_id": index.currency,
        "first_candle": format_time(from_ms(index.first_hour_ms)),
        "first_candle_is": index.first_hour_is,
        "recorded": [],
        "recorded_daily_closes": _days(closes),
        "generated": _days(list(range(index.first_hour_ms // DAY_MS, today + 1))),
    }


def _days(days: list[int]) -> list[dict[str, str]]:
    """Half-open ranges of UTC days, as dates."""
    return [
        {"start": f"{from_ms(start * DAY_MS):%Y-%m-%d}", "end": f"{from_ms(end * DAY_MS):%Y-%m-%d}"}
        for start, end in ranges_of(days)
    ]
