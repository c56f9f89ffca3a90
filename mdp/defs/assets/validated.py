"""The validated layer: every row obeys every rule, every missing minute is a gap with a cause.

Not here: judging (``pipeline.judge``).
"""

import dagster as dg

from mdp.config.reference import Reference
from mdp.config.settings import Settings
from mdp.defs.io_managers import Batches, Stored, streamed
from mdp.defs.metadata import column_schema
from mdp.defs.partitions import CURRENCY_DAYS, MARKET_DAYS
from mdp.domain.candles import CANDLE_SCHEMA, DVOL_SCHEMA
from mdp.pipeline.judge import judge_candles
from mdp.pipeline.volatility import judge_dvol
from mdp.ports import Clock


@dg.asset(
    partitions_def=MARKET_DAYS,
    kinds={"python", "polars", "deltalake"},
    metadata={"dagster/column_schema": column_schema(CANDLE_SCHEMA), "dagster/table_name": "ohlcv_1m"},
    group_name="validated",
    owners=["team:market-data"],
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def ohlcv(
    raw_ohlcv: Stored,
    reference: dg.ResourceParam[Reference],
    clock: dg.ResourceParam[Clock],
    settings: dg.ResourceParam[Settings],
) -> dg.Output[Batches]:
    """One row per market and minute that obeys every rule (table `ohlcv` at 1m, view `ohlcv_1m`).

    Rows that break one are kept in `rejected_ohlcv` with its name, missing minutes in `gaps` with their cause,
    changed candles in `revisions`. Nothing is filled in.
    """
    given, apart = raw_ohlcv, settings.gaps.apart
    return streamed(judge_candles(given.parts, given.store, reference, clock, apart=apart, run_id=given.run_id))


@dg.asset(
    partitions_def=CURRENCY_DAYS,
    kinds={"python", "polars", "deltalake"},
    metadata={"dagster/column_schema": column_schema(DVOL_SCHEMA), "dagster/table_name": "dvol"},
    group_name="validated",
    owners=["team:market-data"],
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def dvol(
    raw_dvol: Stored,
    reference: dg.ResourceParam[Reference],
    clock: dg.ResourceParam[Clock],
    settings: dg.ResourceParam[Settings],
) -> dg.Output[Batches]:
    """One row per index and minute: the close of the last candle that was closed by then, and its age.

    The candle is an hour, or a minute where so set. Absent where it is older than the set limit.
    """
    given, limit, apart = raw_dvol, settings.dvol.max_age_minutes, settings.gaps.apart
    return streamed(
        judge_dvol(given.parts, given.store, reference, clock, max_age_minutes=limit, apart=apart, run_id=given.run_id)
    )
