"""How assets hand data over: batches are kept by the store of the environment, inputs are read from it.

A thin shell over ``CandleStore``. Not here: any store (``storage``), any batch (``pipeline``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION

from mdp.defs.failures import StepRetries, as_failure
from mdp.defs.metadata import day_metadata
from mdp.defs.partitions import key_of, slices_of
from mdp.pipeline.batches import Batch, keep
from mdp.ports import CandleStore, Slice


@dataclass(frozen=True, slots=True)
class Batches:
    """What an asset returns: batches still to be made, one by one, as they are stored."""

    batches: Iterable[Batch]


@dataclass(frozen=True, slots=True)
class Stored:
    """What an asset is given of its upstream: the store, and the slices it shall read there."""

    store: CandleStore
    parts: list[Slice]


def streamed(batches: Iterable[Batch]) -> dg.Output[Batches]:
    """Return batches so that each partition is reported when it is durable, and only then, and once.

    Left to itself Dagster reports every partition of a run at the end of the step: a run that dies half-way would
    leave durable days unreported, and reporting them ourselves as well would double every event (23 ms each on
    SQLite). The metadata key is Dagster's own switch for steps that report their events themselves; a test counts
    the events, and the pin on Dagster's minor version stays until the switch is public.
    """
    return dg.Output(Batches(batches), metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})


class CandleIOManager(dg.IOManager):
    """Keeps batches in a ``CandleStore`` and reports each partition as its rows become durable."""

    def __init__(self, store: CandleStore, retries: StepRetries) -> None:
        self._store = store
        self._retries = retries

    def handle_output(self, context: dg.OutputContext, obj: Batches) -> Iterator[None]:  # type: ignore[override]
        """Store batch after batch; after each, log the materialization of its partitions."""
        with as_failure(self._retries):
            for batch in obj.batches:
                keep(self._store, batch)
                context.log.info(f"stored {batch.part}: {sum(day.rows for day in batch.days.values())} rows")
                for day, report in batch.days.items():
                    context.log_event(
                        dg.AssetMaterialization(
                            context.asset_key,
                            partition=key_of(batch.part.market, day),
                            metadata=day_metadata(report),
                            tags={"dagster/data_version": report.digest[:16]},
                        )
                    )
                yield from context.consume_events()  # type: ignore[misc]

    def load_input(self, context: dg.InputContext) -> Stored:
        """Give the store and the slices of the run's partitions; nothing is read yet."""
        return Stored(self._store, slices_of(context.asset_partition_keys))
