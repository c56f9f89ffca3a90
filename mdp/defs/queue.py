"""The queue of runs: how many may run at once, and that those of one exchange do not take all places.

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

_OF_A_CURRENCY = "deribit"


class ExchangeQueue(QueuedRunCoordinator):
    """Lets ``MDP_WORKERS`` runs be at work at once, and of those that ask one and the same exchange one less.

    Runs launched from the page, by a schedule or by a backfill get the tag ``mdp/exchange`` when they are queued; one
    of several exchanges gets none and is limited by the number of places alone.
    """

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        """Tag the run with the exchange it asks, and queue it."""
        self.tag(context.dagster_run)
        return super().submit_run(context)

    def tag(self, run: dg.DagsterRun) -> None:
        """Write the exchange that a run asks among its tags, unless it says one already."""
        exchange = exchange_of(run.tags)
        if exchange is not None and EXCHANGE_TAG not in run.tags:
            self._instance.add_run_tags(run.run_id, {EXCHANGE_TAG: exchange})

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Make the queue with the limits of the settings."""
        return cls(inst_data=inst_data, **{**config_value, **limits(load_settings().workers)})


def limits(workers: int) -> dict[str, Any]:
    """Return the limits of the queue in Dagster's words, for so many runs at once."""
    of_one_exchange = {"key": EXCHANGE_TAG, "value": {"applyLimitPerUniqueValue": True}, "limit": max(1, workers - 1)}
    return {"max_concurrent_runs": workers, "tag_concurrency_limits": [of_one_exchange]}


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
