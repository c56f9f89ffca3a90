"""The queue of runs: how many may run at once, that those of one exchange do not take all places, a place for live.

Dagster's own queue, told by the settings instead of by numbers in ``dagster.yaml``, and knowing which exchange a run
asks. Not here: what a run does (the assets), how fast an exchange may be asked (``bus``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)
from dagster._serdes import ConfigurableClassData

from mdp.config.settings import load_settings

EXCHANGE_TAG = "mdp/exchange"
"""Names the one exchange that a run asks."""

PLACE_TAG = "mdp/place"
"""On every run: which places it may take, those of ``WORK`` or the one that is kept for ``LIVE``."""

WORK, LIVE = "work", "live"

_OF_A_CURRENCY = "deribit"


class ExchangeQueue(QueuedRunCoordinator):
    """Lets ``MDP_WORKERS`` runs be at work at once, and of those that ask one and the same exchange one less.

    Where workers on several hosts execute them, ``MDP_DAGSTER__RUNS_AT_ONCE`` says how many instead.

    The live run has a place of its own: backfills never keep it waiting, nor does it take one of theirs. Runs launched
    from the page, by a schedule or by a backfill get the tag ``mdp/exchange`` when they are queued; one of several
    exchanges gets none and is limited by the number of places alone.
    """

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        """Tag the run with the exchange it asks and the places it may take, and queue it."""
        self.tag(context.dagster_run)
        return super().submit_run(context)

    def tag(self, run: dg.DagsterRun) -> None:
        """Write what the queue goes by among the tags of a run, unless they say it already."""
        exchange = exchange_of(run.tags)
        told = {PLACE_TAG: WORK} | ({EXCHANGE_TAG: exchange} if exchange is not None else {})
        new = {name: value for name, value in told.items() if name not in run.tags}
        if new:
            self._instance.add_run_tags(run.run_id, new)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Make the queue with the limits of the settings."""
        settings = load_settings()
        places = settings.dagster.runs_at_once or settings.workers
        return cls(inst_data=inst_data, **{**config_value, **limits(places)})


def limits(workers: int) -> dict[str, Any]:
    """Return the limits of the queue in Dagster's words, for so many runs at once beside the live one.

    All by tags, and none on the number as a whole: Dagster counts every run that is at work, queued or not, before it
    looks at tags, and a backfill of the command line would then keep the live run waiting.
    """
    of_one_exchange = {"key": EXCHANGE_TAG, "value": {"applyLimitPerUniqueValue": True}, "limit": max(1, workers - 1)}
    places = [{"key": PLACE_TAG, "value": WORK, "limit": workers}, {"key": PLACE_TAG, "value": LIVE, "limit": 1}]
    return {"max_concurrent_runs": -1, "tag_concurrency_limits": [*places, of_one_exchange]}


def exchange_of(tags: Mapping[str, str]) -> str | None:
    """Return the exchange that a run with these tags asks; None where it asks several, or none by its partitions.

    The ends of a range name all its markets' exchanges: markets stand in the order of their exchanges.
    """
    ends = [
        tags[name]
        for name in (PARTITION_NAME_TAG, ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG)
        if name in tags
    ]
    exchanges = {_exchange_of_key(key) for key in ends}
    return exchanges.pop() if len(exchanges) == 1 else None


def _exchange_of_key(key: str) -> str:
    # Read here, not by ``partitions``: webserver and daemon make this queue and would import all that stands behind it.
    _, _, market = key.partition("|")
    return market.partition(":")[0] if ":" in market else _OF_A_CURRENCY
