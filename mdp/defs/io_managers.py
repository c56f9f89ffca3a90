"""How assets hand data over: batches are kept by the store of the environment, inputs are read from it.

A thin shell over ``CandleStore``. Not here: any store (``storage``), any batch (``pipeline``).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION

from mdp.counts import COUNTS
from mdp.defs.evaluations import CHECK_NAME, evaluations, verdicts_of
from mdp.defs.failures import StepRetries, as_failure
from mdp.defs.metadata import day_metadata, failures_table
from mdp.defs.partitions import key_of, slices_of
from mdp.domain.timeframe import Timeframe
from mdp.logs import bound
from mdp.pipeline.batches import Batch, keep
from mdp.pipeline.failed_days import NotCollected
from mdp.ports import CandleStore, Slice

Summary = Callable[[], Mapping[str, Any]]
"""Tells, once all batches are stored, what the step as a whole came to."""


@dataclass(frozen=True, slots=True)
class Batches:
    """What an asset returns: batches still to be made, one by one, as they are stored."""

    batches: Iterable[Batch]
    summary: Summary = dict


@dataclass(frozen=True, slots=True)
class Stored:
    """What an asset is given of its upstream: the store, the slices it shall read there, and for which run."""

    store: CandleStore
    parts: list[Slice]
    run_id: str


def streamed(batches: Iterable[Batch], summary: Summary = dict) -> dg.Output[Batches]:
    """Return batches so that each partition is reported when it is durable, and only then, and once.

    Left to itself Dagster reports every partition of a run at the end of the step: a run that dies half-way would
    leave durable days unreported, and reporting them ourselves as well would double every event (23 ms each on
    SQLite). The metadata key is Dagster's own switch for steps that report their events themselves; a test counts
    the events, and the pin on Dagster's minor version stays until the switch is public.

    Args:
        batches: Made while they are stored.
        summary: Asked at the end for the metadata of the step, also when it fails.
    """
    return dg.Output(Batches(batches, summary), metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})


class CandleIOManager(dg.IOManager):
    """Keeps batches in a ``CandleStore`` and reports each partition as its rows become durable.

    Args:
        store: Where.
        retries: How often a step that failed is tried again.
        index_timeframe: Length of the candles from which a volatility index is made.
    """

    def __init__(self, store: CandleStore, retries: StepRetries, *, index_timeframe: Timeframe = Timeframe.H1) -> None:
        self._store = store
        self._retries = retries
        self._index_timeframe = index_timeframe

    def handle_output(self, context: dg.OutputContext, obj: Batches) -> Iterator[None]:  # type: ignore[override]
        """Store batch after batch; after each, log the materialization of its partitions.

        Days that could not be collected fail the step only where no later layer of the run would do so: the others
        shall pass through all layers first.
        """
        said: dict[str, Any] = {}
        stored = 0
        about = {"run_id": context.run_id, "asset": context.asset_key.to_user_string()}
        with bound(**about), as_failure(self._retries, said), _closed_after(obj.batches):
            try:
                for batch in obj.batches:
                    with bound(market=str(batch.part.market), partition=str(batch.part.window.start.date())):
                        keep(self._store, batch)
                    COUNTS.add("mdp_partitions_stored", len(batch.days), about["asset"])
                    stored += len(batch.days)
                    yield from self._reported(context, batch)  # type: ignore[misc]
            except NotCollected as error:
                said |= {"not collected": failures_table(error.failures), **obj.summary()}
                if not stored or not _has_later_layer(context):
                    yield from self._judge_before_failing(context)  # type: ignore[misc]
                    raise
                context.log.error(f"{error}\nThe later layers do what was collected; then this run fails.")
            else:
                said |= obj.summary()
        context.add_output_metadata(said)

    def _reported(self, context: dg.OutputContext, batch: Batch) -> Iterator[dg.DagsterEvent]:
        rows = sum(day.rows for day in batch.days.values())
        context.log.info(f"stored {batch.part}: {rows} rows" if batch.days else f"not collected: {batch.part}")
        for day, report in batch.days.items():
            # Not by `context.log_event`: the context keeps what it was told until the step ends, 25 kB a day.
            made = dg.AssetMaterialization(
                context.asset_key,
                partition=key_of(batch.part.market, day),
                metadata=day_metadata(report),
                tags={"dagster/data_version": report.digest[:16]},
            )
            yield dg.DagsterEvent.asset_materialization(context.step_context, made)

    def _judge_before_failing(self, context: dg.OutputContext) -> Iterator[dg.DagsterEvent]:
        """Say of the days that were stored what the check of this asset would: it does not run after a failed step."""
        step = context.step_context
        if dg.AssetCheckKey(context.asset_key, CHECK_NAME) not in _made_in(context)[1]:
            return
        asset = context.asset_key.to_user_string()
        verdicts = verdicts_of(asset, self._store, self._slices(context.asset_partition_keys), step.run_id)
        for evaluation in evaluations(step.instance, context.asset_key, verdicts):
            yield dg.DagsterEvent.asset_check_evaluation(step, evaluation)

    def load_input(self, context: dg.InputContext) -> Stored:
        """Give the store and the slices of the run's partitions; nothing is read yet."""
        return Stored(self._store, self._slices(context.asset_partition_keys), context.step_context.run_id)

    def _slices(self, keys: Iterable[str]) -> list[Slice]:
        return slices_of(keys, index_timeframe=self._index_timeframe)


@contextmanager
def _closed_after(batches: Iterable[Batch]) -> Iterator[None]:
    """End what makes the batches together with the step: its error would otherwise keep connections open with it."""
    try:
        yield
    finally:
        if isinstance(batches, Generator):
            batches.close()


def _has_later_layer(context: dg.OutputContext) -> bool:
    """Tell whether this run will make an asset of the same partitions from this one."""
    graph, (made, _) = context.step_context.job_def.asset_layer, _made_in(context)
    mine = graph.get(context.asset_key)
    return any(key in made and graph.get(key).partitions_def == mine.partitions_def for key in mine.child_keys)


def _made_in(context: dg.OutputContext) -> tuple[set[dg.AssetKey], set[dg.AssetCheckKey]]:
    """The assets that the steps of this run make, and the checks that they evaluate."""
    plan = context.step_context.execution_plan
    steps = [plan.get_step_by_key(key) for key in plan.step_keys_to_execute]
    outputs = [output.properties for step in steps for output in step.step_outputs]
    return (
        {output.asset_key for output in outputs if output.asset_key},
        {output.asset_check_key for output in outputs if output.asset_check_key},
    )
