"""Beginning a generation: exactly the days that are missing and that no other one collects, once, whoever asks.

Not here: what is missing (``judging``), how Dagster is told (``backfills``), one at a time (``exclusive``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from functools import partial
from http import HTTPStatus

from starlette.responses import Response

from mdp.api.generations.backfills import (
    GENERATION_TAG,
    Backfill,
    Order,
    find,
    find_active_or_refuse,
    launch,
)
from mdp.api.generations.exclusive import alone
from mdp.api.generations.graphql import asking_dagster
from mdp.api.generations.judging import missing_days
from mdp.api.generations.resource import Generation, generation_id, not_needed
from mdp.api.generations.seeing import latest_of, look_at, without_dagster_503
from mdp.api.parameters import now_utc
from mdp.api.problems import Problem, wrong_parameter
from mdp.api.surroundings import Surroundings
from mdp.domain.interval import DAY, Interval, format_time
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.reading.arguments import parse_days

_POLL_S = 5


async def begin(around: Surroundings, market: Market, window: Interval) -> Response:
    """Collect what is missing in a window, and answer how it is: 202, or 200 where nothing is missing.

    Who asks must have been found to have the scope ``generate`` before.

    Args:
        around: Of the service.
        market: A spot market or a volatility index.
        window: Any; all its days that are over are meant as wholes.

    Raises:
        Problem: 400, no day of it is over, or it is too long; 409 and 429, other generations stand in the way; 503,
            Dagster or its daemon is not there.
        InputError: it begins before anything was traded.
    """
    days = whole_days(window, now_utc())
    most = around.settings.api.max_generate_days
    if days.duration > most * DAY:
        expected = f"at most {most} days before end, {format_time(days.end - most * DAY)} or later: ask several times"
        raise wrong_parameter("start", format_time(days.start), expected)
    return answer_generation(await _begun(around, market, days))


def whole_days(window: Interval, now: datetime) -> Interval:
    """Return the whole days that a window touches and that are over.

    Raises:
        Problem: 400, there is none.
        InputError: it begins before anything was traded.
    """
    today = Timeframe.D1.floor(now)
    start, last = Timeframe.D1.floor(window.start), Timeframe.D1.floor(window.end)
    end = min(today, last if last == window.end else last + DAY)
    if start >= end:
        raise wrong_parameter("start", format_time(window.start), f"a day that is over: before {today.date()}")
    return parse_days(start, end, now)


def answer_generation(told: Generation) -> Response:
    """Return a generation as an answer: 202 with its place while something happens, 200 when not."""
    headers = {"cache-control": "no-store"}
    status = HTTPStatus.OK
    if told.attempt:
        headers["location"] = f"/api/v1/generations/{told.id}"
    if not told.is_over:
        headers["retry-after"] = str(_POLL_S)
        status = HTTPStatus.ACCEPTED
    return Response(told.model_dump_json(), status, headers, media_type="application/json")


async def _begun(around: Surroundings, market: Market, window: Interval) -> Generation:
    env = around.settings.env
    async with alone(around, market):
        found = await around.in_thread(partial(missing_days, around.store, market, window))
        if not found:
            return not_needed(env, market, window)
        name, missing = generation_id(env, market, window), [one.day for one in found]
        with without_dagster_503():
            async with asking_dagster(around.settings) as dagster:
                active = await find_active_or_refuse(dagster)
                there = _already(name, market, missing, active)
                if there is None:
                    _require_room(active, around.settings.api.max_generations)
                    days = _not_taken(market, missing, active)
                    earlier = await find(dagster, {GENERATION_TAG: name}, 1)
                    attempt = earlier[0].attempt + 1 if earlier else 1
                    await launch(dagster, Order(name, market, window, days, len(missing), attempt))
                    there = await latest_of(dagster, name)
                    around.launched.set()
                return await look_at(around, dagster, there)


def _already(name: str, market: Market, missing: Sequence[date], active: Sequence[Backfill]) -> Backfill | None:
    """Return what does all that is asked for: the same generation, or another one that has all the days.

    Raises:
        Problem: 409, it is ending, or another one is that has some of the days and may or may not finish them.
    """
    for one in active:
        if one.generation == name and one.status == "REQUESTED":
            return one
        if one.market == market and one.status != "REQUESTED" and not set(missing).isdisjoint(one.days):
            how = "is being canceled" if one.status == "CANCELING" else "has failed and is ending its runs"
            raise _in_the_way(f"generation {one.generation} {how}: ask again when it has ended")
    for one in active:
        if one.market == market and one.status == "REQUESTED" and set(missing) <= set(one.days):
            return one
    return None


def _not_taken(market: Market, missing: Sequence[date], active: Sequence[Backfill]) -> list[date]:
    """Return the missing days that no other generation collects now: two would ask the exchange twice.

    The generation then ends when those others have ended too: it is judged by all its days.

    Raises:
        Problem: 409, several others have all of them between them, and none alone, so there is nothing to launch that
            would stand for what was asked.
    """
    others = [one for one in active if one.market == market and one.status == "REQUESTED"]
    taken = {day for one in others for day in one.days}
    left = [day for day in missing if day not in taken]
    if not left:
        names = ", ".join(one.generation for one in others)
        raise _in_the_way(f"its days are being collected by the generations {names}: ask again when they have ended")
    return left


def _in_the_way(detail: str) -> Problem:
    headers = {"retry-after": str(_POLL_S)}
    title = "Another generation stands in the way"
    return Problem(HTTPStatus.CONFLICT, "generation-in-the-way", title, detail, headers=headers, retryable=True)


def _require_room(active: Sequence[Backfill], most: int) -> None:
    at_work = {one.generation for one in active}
    if len(at_work) >= most:
        names = ", ".join(sorted(at_work))
        detail = f"at most {most} generations at a time, and so many are at work: {names}. Wait for one, or cancel it"
        headers = {"retry-after": "30"}
        title = "Too many generations at a time"
        raise Problem(
            HTTPStatus.TOO_MANY_REQUESTS, "too-many-generations", title, detail, headers=headers, retryable=True
        )
