"""What the integrity checks say to Dagster: verdicts as evaluations, one for each partition.

Not here: what integrity means (``pipeline.integrity``), the checks themselves (``checks``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from functools import partial
from itertools import groupby, islice
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from mdp.defs.metadata import records_table
from mdp.defs.partitions import key_of
from mdp.domain.interval import format_time
from mdp.pipeline.checking.verdicts import SAMPLED, Verdict, total_findings
from mdp.pipeline.failed_days import LeftOut
from mdp.pipeline.integrity import (
    Inspect,
    inspect_candles,
    inspect_dvol,
    inspect_raw_candles,
    inspect_raw_dvol,
    inspect_resampled,
)
from mdp.ports import CandleStore, Slice

CHECK_NAME = "integrity"

_SAMPLE_COLUMNS = ("market", "what", "timeframe", "open_time", "found", "expected")

INSPECTIONS: dict[str, Inspect] = {
    "raw_ohlcv": inspect_raw_candles,
    "ohlcv": inspect_candles,
    "ohlcv_resampled": inspect_resampled,
    "raw_dvol": inspect_raw_dvol,
    "dvol": inspect_dvol,
}
"""How each partitioned asset is judged."""

Verdicts = dict[tuple[Slice, date], Verdict]


def verdicts_of(
    asset: str, store: CandleStore, parts: Iterable[Slice], run_id: str, *, rejected_since: datetime | None = None
) -> Verdicts:
    """Judge the days of an asset that were collected; of the others there is nothing to judge.

    Args:
        asset: Its name.
        store: Where it is kept.
        parts: The slices of the run.
        run_id: The run.
        rejected_since: Rejected rows received before may have been dropped for their age, and are not missed.
    """
    inspect = INSPECTIONS[asset]
    if inspect is inspect_candles:
        inspect = partial(inspect_candles, rejected_since=rejected_since)
    return {
        (part, day): verdict
        for part in LeftOut(store, run_id).without(parts)
        for day, verdict in inspect(store, part).items()
    }


def severity(verdicts: Mapping[Any, Verdict]) -> dg.AssetCheckSeverity:
    """Return how bad it is: a broken promise is an error and blocks what lies downstream; a doubt only warns."""
    holds = all(verdict.holds for verdict in verdicts.values())
    return dg.AssetCheckSeverity.WARN if holds else dg.AssetCheckSeverity.ERROR


def passed(verdicts: Mapping[Any, Verdict]) -> bool:
    """Tell whether nothing is broken and nothing doubtful."""
    return all(verdict.holds and not verdict.doubts for verdict in verdicts.values())


def findings(verdicts: Verdicts) -> dict[str, Any]:
    """Return what was found, as metadata: the first 200 findings, all of them added up, and rows that show them."""
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
        metadata["samples"] = records_table(_SAMPLE_COLUMNS, islice(_samples(verdicts), SAMPLED))
    return metadata


def _samples(verdicts: Verdicts) -> Iterator[tuple[str, ...]]:
    """The rows that show the findings: of every day and finding the first, then the second of each, and so on."""
    shown = [
        (rank, (str(part.market), what, example.timeframe, format_time(example.open_time), example.found,
                example.expected))
        for (part, _), verdict in verdicts.items()
        for what, samples in groupby(verdict.samples, key=lambda sample: sample.what)
        for rank, (_, example) in enumerate(samples)
    ]  # fmt: skip
    yield from (row for _, row in sorted(shown, key=lambda one: one[0]))


def evaluations(
    instance: dg.DagsterInstance, asset: dg.AssetKey, verdicts: Verdicts
) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield one evaluation for each partition.

    Dagster evaluates a run of many partitions as one, without partition, and shows each of them as skipped. An
    evaluation counts only for the materialization it names, so each names the latest of its partition.
    """
    # Slice by slice: a materialization is read with all its metadata, and a range has thousands.
    for part, of_part in groupby(verdicts, key=lambda of: of[0]):
        days = {key_of(part.market, day): (part, day) for _, day in of_part}
        judged = _latest_materializations(instance, asset, set(days))
        for partition, of in days.items():
            yield dg.AssetCheckEvaluation(
                asset_key=asset,
                check_name=CHECK_NAME,
                passed=passed({of: verdicts[of]}),
                severity=severity({of: verdicts[of]}),
                metadata=findings({of: verdicts[of]}),
                target_materialization_data=judged.get(partition),
                blocking=True,
                partition=partition,
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
