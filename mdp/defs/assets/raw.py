"""The raw layer: what the exchanges answered, unjudged.

Not here: asking (``pipeline.collect``).
"""

import dagster as dg

from mdp.config.settings import Settings
from mdp.defs.io_managers import Batches, streamed
from mdp.defs.metadata import column_schema
from mdp.defs.partitions import CURRENCY_DAYS, MARKET_DAYS, slices_of
from mdp.domain.candles import RAW_SCHEMA
from mdp.pipeline.collect import OpenSource, collect_candles, collect_dvol
from mdp.ports import Clock


@dg.asset(
    partitions_def=MARKET_DAYS,
    deps=["binance", "bybit", "okx"],
    kinds={"python", "polars", "deltalake"},
    metadata={"dagster/column_schema": column_schema(RAW_SCHEMA), "dagster/table_name": "raw_ohlcv"},
    group_name="raw",
    owners=["team:market-data"],
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def raw_ohlcv(
    context: dg.AssetExecutionContext, sources: dg.ResourceParam[OpenSource], clock: dg.ResourceParam[Clock]
) -> dg.Output[Batches]:
    """One row per market and minute as the exchange answered it, in our columns, unjudged.

    Off-grid, repeated and unfinished candles are included. `fetches` beside it says what was asked, and when.
    """
    parts = slices_of(context.partition_keys)
    return streamed(collect_candles(parts, sources, clock))


@dg.asset(
    partitions_def=CURRENCY_DAYS,
    deps=["deribit"],
    kinds={"python", "polars", "deltalake"},
    metadata={"dagster/column_schema": column_schema(RAW_SCHEMA), "dagster/table_name": "raw_dvol"},
    group_name="raw",
    owners=["team:market-data"],
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def raw_dvol(
    context: dg.AssetExecutionContext,
    sources: dg.ResourceParam[OpenSource],
    clock: dg.ResourceParam[Clock],
    settings: dg.ResourceParam[Settings],
) -> dg.Output[Batches]:
    """One row per index, asked day and hour as Deribit answered it, unjudged.

    A day carries the hours before its midnight that its first minutes need.
    """
    parts = slices_of(context.partition_keys)
    return streamed(collect_dvol(parts, sources, clock, max_age_minutes=settings.dvol.max_age_minutes))
