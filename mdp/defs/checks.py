"""The integrity check of each layer: one evaluation for each partition, in runs of one partition and of many.

Not here: what integrity means (``pipeline.integrity``).
"""

from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from mdp.defs.metadata import records_table
from mdp.defs.partitions import CURRENCY_DAYS, MARKET_DAYS, key_of, slices_of
from mdp.pipeline.integrity import (
    Inspect,
    Verdict,
    inspect_candles,
    inspect_dvol,
    inspect_raw_candles,
    inspect_raw_dvol,
    inspect_resampled,
    total_findings,
)
from mdp.ports import CandleStore, Slice

CHECK_NAME = "integrity"


def _severity(verdicts: Mapping[Any, Verdict]) -> dg.AssetCheckSeverity:
    """A broken promise is an error and blocks what lies downstream; a doubt only warns."""
    holds = all(verdict.holds for verdict in verdicts.values())
    return dg.AssetCheckSeverity.WARN if holds else dg.AssetCheckSeverity.ERROR


def _metadata(verdicts: Mapping[tuple[Slice, date], Verdict]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "partitions": len(verdicts),
        "rows": sum(verdict.rows for verdict in verdicts.values()),
    }
    found = [
        (str(part.market), day.isoformat(), "broken" if name in verdict.broken else "doubt", name, count)
        for (part, day), verdict in verdicts.items()
        for name, count in {**verdict.broken, **verdict.doubts}.items()
    ]
    if found:
        metadata["findings"] = records_table(("market", "day", "kind", "what", "count"), found[:200])
        metadata["totals"] = records_table(("what", "count"), sorted(total_findings(verdicts.values()).items()))
    return metadata


def _passed(verdicts: Mapping[Any, Verdict]) -> bool:
    return all(verdict.holds and not verdict.doubts for verdict in verdicts.values())


def _evaluate_each(
    run: dg.OpExecutionContext, asset: dg.AssetKey, verdicts: Mapping[tuple[Slice, date], Verdict]
) -> None:
    """Log one evaluation for each partition.

    Dagster evaluates a run of many partitions as one, without partition, and shows each of them as skipped. An
    evaluation counts only for the materialization it names, so each names the latest of its partition.
    """
    judged = _latest_materializations(run.instance, asset, {key_of(part.market, day) for part, day in verdicts})
    for (part, day), verdict in verdicts.items():
        partition = key_of(part.market, day)
        run.log_event(
            dg.AssetCheckEvaluation(  # type: ignore[arg-type]  # accepted and stored, though not in the signature
                asset_key=asset,
                check_name=CHECK_NAME,
                passed=_passed({day: verdict}),
                severity=_severity({day: verdict}),
                metadata=_metadata({(part, day): verdict}),
                target_materialization_data=judged.get(partition),
                blocking=True,
                partition=partition,
            )
        )


def _latest_materializations(
    instance: dg.DagsterInstance, asset: dg.AssetKey, partitions: set[str]
) -> dict[str, AssetCheckEvaluationTargetMaterializationData]:
    latest = instance.get_latest_storage_id_by_partition(
        asset, dg.DagsterEventType.ASSET_MATERIALIZATION, partitions=partitions
    )
    wanted = dg.AssetRecordsFilter(asset_key=asset, storage_ids=list(latest.values()))
    records = instance.fetch_materializations(wanted, limit=max(1, len(latest))).records
    return {
        str(record.partition_key): AssetCheckEvaluationTargetMaterializationData(
            storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
        )
        for record in records
    }


def integrity_check(
    asset: str, partitions: dg.MultiPartitionsDefinition, inspect: Inspect, description: str
) -> dg.AssetChecksDefinition:
    """Make the integrity check of one asset.

    Args:
        asset: Its name.
        partitions: Its partitions.
        inspect: Gives a verdict for each day of a slice.
        description: The promise, for people.
    """

    @dg.asset_check(asset=asset, name=CHECK_NAME, partitions_def=partitions, blocking=True, description=description)
    def check(context: dg.AssetCheckExecutionContext, store: dg.ResourceParam[CandleStore]) -> dg.AssetCheckResult:
        run = context.op_execution_context
        verdicts = {
            (part, day): verdict
            for part in slices_of(run.partition_keys)
            for day, verdict in inspect(store, part).items()
        }
        if not run.has_partition_key:
            _evaluate_each(run, dg.AssetKey(asset), verdicts)
        return dg.AssetCheckResult(passed=_passed(verdicts), severity=_severity(verdicts), metadata=_metadata(verdicts))

    return check


@dg.definitions
def checks() -> dg.Definitions:
    """One check for each layer."""
    return dg.Definitions(
        asset_checks=[
            integrity_check(
                "raw_ohlcv", MARKET_DAYS, inspect_raw_candles,
                "Each day was asked for and holds the rows that came; rows that cannot be candles are pointed out.",
            ),
            integrity_check(
                "ohlcv", MARKET_DAYS, inspect_candles,
                "Every row obeys every rule, keys are unique, minutes and gaps tile the day; gaps without a known "
                "cause are pointed out.",
            ),
            integrity_check(
                "ohlcv_resampled", MARKET_DAYS, inspect_resampled,
                "Every candle equals what its minutes make, and every bucket that holds a minute has its candle.",
            ),
            integrity_check(
                "raw_dvol", CURRENCY_DAYS, inspect_raw_dvol,
                "Each day was asked for and holds the hours that came.",
            ),
            integrity_check(
                "dvol", CURRENCY_DAYS, inspect_dvol,
                "Every minute carries the close of its hour and the right age; minutes and gaps tile the day.",
            ),
        ]
    )  # fmt: skip
