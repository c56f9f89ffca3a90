"""How a generation is: Dagster's word while it works, and what is stored once it does not.

Not here: what it tells of itself (``resource``), beginning one (``beginning``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from mdp.api.generations.backfills import GENERATION_TAG, Backfill, find, find_active
from mdp.api.generations.graphql import Dagster
from mdp.api.generations.judging import missing_days
from mdp.api.generations.resource import Generation, at_work, is_id, over
from mdp.api.problems import not_found, unavailable
from mdp.api.surroundings import Surroundings
from mdp.errors import DagsterUnavailable

RETRY_AFTER_S = 15


@contextmanager
def without_dagster_503() -> Iterator[None]:
    """Answer 503, with what to start, where Dagster does not do what it was asked.

    Raises:
        Problem: instead of ``DagsterUnavailable``.
    """
    try:
        yield
    except DagsterUnavailable as error:
        raise unavailable(str(error), retry_after_s=RETRY_AFTER_S) from error


async def latest_of(dagster: Dagster, name: str) -> Backfill:
    """Return the latest backfill of a generation.

    Raises:
        Problem: 404, Dagster knows none.
        DagsterUnavailable: it does not answer.
    """
    found = await find(dagster, {GENERATION_TAG: name}, 1) if is_id(name) else []
    if not found:
        raise not_found("id", name, "the id of a generation, as `POST …/generate` gives it")
    return found[0]


async def look_at(
    around: Surroundings, dagster: Dagster, backfill: Backfill, active: Sequence[Backfill] | None = None
) -> Generation:
    """Return how the generation of its latest backfill is.

    Where all runs of it ended it is over as soon as nothing is missing, though Dagster itself has not looked yet.

    Args:
        around: To read what is stored.
        dagster: To ask.
        backfill: The latest of its generation.
        active: All that are not over; None: they are asked for where they matter.

    Raises:
        DagsterUnavailable: it does not answer.
        Problem: 503, storage does not answer in time.
    """
    if backfill.is_active and not backfill.are_runs_over:
        return at_work(backfill, dagster.page)
    missing = await around.in_thread(partial(missing_days, around.store, backfill.market, backfill.window))
    if missing and backfill.is_active:
        return at_work(backfill, dagster.page, "its runs ended, and something is missing: Dagster looks once more")
    if missing and backfill.status != "CANCELED":
        others = await find_active(dagster) if active is None else active
        days = {one.day for one in missing}
        for other in others:
            if other.market == backfill.market and days.intersection(other.days):
                return at_work(backfill, dagster.page, f"waits for generation {other.generation}")
    return over(backfill, missing, dagster.page)
