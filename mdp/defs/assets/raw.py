"""The raw layer: what the exchanges answered, unjudged.

Not here: asking (``pipeline.collect``).
"""

from collections.abc import Callable

import dagster as dg

from mdp.bus.report import BudgetReport
from mdp.config.settings import Settings
from mdp.defs.io_managers import Batches, streamed
from mdp.defs.jobs import RESUMES_TAG
from mdp.defs.metadata import budget_metadata, column_schema, tallies_metadata
from mdp.defs.partitions import CURRENCY_DAYS, MARKET_DAYS, slices_of
from mdp.domain.candles import RAW_SCHEMA
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.collect import Collecting, Tallies, collect_candles
from mdp.pipeline.resuming import left_to_ask
from mdp.pipeline.volatility import collect_dvol
from mdp.ports import CandleStore, Clock, OpenSource, Slice

ReadBudgets = Callable[[], BudgetReport]
"""Tells how much of the quotas is in use."""


def parts_to_ask(
    context: dg.AssetExecutionContext, parts: list[Slice], store: CandleStore, clock: Clock
) -> list[Slice]:
    """Leave out what was collected already, in a run that goes on where another one was broken off."""
    return left_to_ask(parts, store, clock) if RESUMES_TAG in context.run.tags else parts


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
    context: dg.AssetExecutionContext,
    sources: dg.ResourceParam[OpenSource],
    clock: dg.ResourceParam[Clock],
    store: dg.ResourceParam[CandleStore],
    collecting: dg.ResourceParam[Collecting],
    budget_report: dg.ResourceParam[ReadBudgets],
) -> dg.Output[Batches]:
    """One row per market and minute as the exchange answered it, in our columns, unjudged.

    Off-grid, repeated and unfinished candles are included. `fetches` beside it says what was asked, and when.
    """
    tallies: Tallies = {}
    parts = parts_to_ask(context, slices_of(context.partition_keys), store, clock)
    batches = collect_candles(parts, sources, clock, how=collecting, run_id=context.run.run_id, tallies=tallies)
    return streamed(batches, lambda: tallies_metadata(tallies) | budget_metadata(budget_report(), tallies))


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
    store: dg.ResourceParam[CandleStore],
    collecting: dg.ResourceParam[Collecting],
    budget_report: dg.ResourceParam[ReadBudgets],
    settings: dg.ResourceParam[Settings],
) -> dg.Output[Batches]:
    """One row per index, asked day and hour as Deribit answered it, unjudged; and minute, where so set.

    A day carries the candles before its midnight that its first minutes need.
    """
    tallies: Tallies = {}
    parts = slices_of(context.partition_keys, index_timeframe=Timeframe(settings.dvol.resolution))
    parts = parts_to_ask(context, parts, store, clock)
    batches = collect_dvol(
        parts, sources, clock, max_age_minutes=settings.dvol.max_age_minutes, how=collecting,
        run_id=context.run.run_id, tallies=tallies,
    )  # fmt: skip
    return streamed(batches, lambda: tallies_metadata(tallies) | budget_metadata(budget_report(), tallies))
