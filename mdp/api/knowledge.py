"""What is known about stored markets, worked out once for all who ask at the same time.

Not here: counting (``reading.reports``), how it is answered (``reports``, ``coverage``, ``markets``).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any, cast

from starlette.requests import Request

from mdp.api.parameters import now_utc
from mdp.api.single_flight import Answer, SingleFlight
from mdp.api.surroundings import Surroundings
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.pipeline.coverage_report import MarketReport
from mdp.reading.reports import report

KEPT_S = 10.0
"""So old may be what is told of coverage. It is of days that are over, and changes by backfills and healing."""


async def once(request: Request, question: Hashable, around: Surroundings, work: partial[Answer]) -> Answer:
    """Return what blocking work gives; who asks the same meanwhile, or soon after, gets the same.

    Raises:
        Problem: 503, it took longer than the settings allow.
    """
    state = request.app.state
    if not hasattr(state, "knowledge"):
        state.knowledge = SingleFlight[Any](KEPT_S)
    flight = cast("SingleFlight[Answer]", state.knowledge)
    return await flight.get(question, lambda: around.in_thread(work))


async def reports_of(
    request: Request, around: Surroundings, markets: Sequence[Market], days: Interval | None
) -> list[MarketReport]:
    """Report some markets over whole days; None: over all days of which anything is known."""

    def work() -> list[MarketReport]:
        now = now_utc()
        return [report(around.store, market, days, now) for market in markets]

    return await once(request, ("reports", tuple(markets), days), around, partial(work))
