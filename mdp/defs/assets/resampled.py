"""The resampled layer: longer candles made from validated minutes.

Not here: the rule (``domain.resample``).
"""

import dagster as dg

from mdp.defs.io_managers import Batches, Stored, streamed
from mdp.defs.metadata import column_schema
from mdp.defs.partitions import MARKET_DAYS
from mdp.domain.candles import CANDLE_SCHEMA
from mdp.pipeline.resampling import resample_candles
from mdp.ports import Clock


@dg.asset(
    partitions_def=MARKET_DAYS,
    group_name="resampled",
    owners=["team:market-data"],
    backfill_policy=dg.BackfillPolicy.single_run(),
    kinds={"python", "polars", "deltalake"},
    metadata={"dagster/column_schema": column_schema(CANDLE_SCHEMA), "dagster/table_name": "ohlcv"},
)
def ohlcv_resampled(ohlcv: Stored, clock: dg.ResourceParam[Clock]) -> dg.Output[Batches]:
    """One row per market, timeframe (5m, 15m, 1h, 4h, 1d) and closed bucket that holds at least one minute.

    `minutes` says how many it holds (table `ohlcv`, views `ohlcv_5m` … `ohlcv_1d`). Equal to the exchange's own.
    """
    return streamed(resample_candles(ohlcv.parts, ohlcv.store, clock, run_id=ohlcv.run_id))
