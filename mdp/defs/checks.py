"""The integrity check of each layer: one evaluation for each partition, in runs of one partition and of many.

Not here: what integrity means (``pipeline.integrity``), how a verdict is told (``evaluations``).
"""

import dagster as dg

from mdp.config.settings import Settings
from mdp.defs.evaluations import CHECK_NAME, evaluations, findings, passed, severity, verdicts_of
from mdp.defs.partitions import CURRENCY_DAYS, MARKET_DAYS, slices_of
from mdp.domain.timeframe import Timeframe
from mdp.ports import REJECTED_OHLCV, CandleStore, Clock


def integrity_check(asset: str, partitions: dg.MultiPartitionsDefinition, description: str) -> dg.AssetChecksDefinition:
    """Make the integrity check of one asset.

    Args:
        asset: Its name, one of ``INSPECTIONS``.
        partitions: Its partitions.
        description: The promise, for people.
    """

    @dg.asset_check(asset=asset, name=CHECK_NAME, partitions_def=partitions, blocking=True, description=description)
    def check(
        context: dg.AssetCheckExecutionContext,
        store: dg.ResourceParam[CandleStore],
        settings: dg.ResourceParam[Settings],
        clock: dg.ResourceParam[Clock],
    ) -> dg.AssetCheckResult:
        run = context.op_execution_context
        parts = slices_of(run.partition_keys, index_timeframe=Timeframe(settings.dvol.resolution))
        since = settings.maintenance.kept_since(REJECTED_OHLCV.name, clock())
        verdicts = verdicts_of(asset, store, parts, run.run_id, rejected_since=since)
        if not run.has_partition_key:
            for evaluation in evaluations(run.instance, dg.AssetKey(asset), verdicts):
                run.log_event(evaluation)  # type: ignore[arg-type]  # accepted and stored, though not in the signature
        return dg.AssetCheckResult(passed=passed(verdicts), severity=severity(verdicts), metadata=findings(verdicts))

    return check


@dg.definitions
def checks() -> dg.Definitions:
    """One check for each layer."""
    return dg.Definitions(
        asset_checks=[
            integrity_check(
                "raw_ohlcv", MARKET_DAYS,
                "Each day was asked for and holds the rows that came; rows that cannot be candles are pointed out.",
            ),
            integrity_check(
                "ohlcv", MARKET_DAYS,
                "Every row obeys every rule, keys are unique, minutes and gaps tile the day; gaps without a known "
                "cause are pointed out.",
            ),
            integrity_check(
                "ohlcv_resampled", MARKET_DAYS,
                "Every candle equals what its minutes make, and every bucket that holds a minute has its candle.",
            ),
            integrity_check(
                "raw_dvol", CURRENCY_DAYS,
                "Each day was asked for and holds the candles that came.",
            ),
            integrity_check(
                "dvol", CURRENCY_DAYS,
                "Every minute carries the close of its candle and the right age; minutes and gaps tile the day.",
            ),
        ]
    )  # fmt: skip
