"""The live buffers as an asset: what the live run keeps, and the check that they are fresh.

Not here: keeping them (``live_job``), the verdict (``live_verdict``).
"""

from datetime import timedelta

import dagster as dg
import polars as pl

from mdp.config.settings import Settings
from mdp.defs.failures import as_failure
from mdp.defs.metadata import column_schema

_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "exchange": pl.String,
    "symbol": pl.String,
    "timeframe": pl.String,
    "open_time": pl.Datetime("us", "UTC"),
    "open": pl.Float64,
    "high": pl.Float64,
    "low": pl.Float64,
    "close": pl.Float64,
    "volume": pl.Float64,
    "quote_volume": pl.Float64,
    "trades": pl.Int64,
    "minutes": pl.Int16,
    "state": pl.String,
    "source": pl.String,
}
BUFFER_SCHEMA = pl.Schema(_COLUMNS)
"""What a buffer says of each of its candles."""

DESCRIPTION = """The last 100 closed candles and the forming one of each market at 1m, 5m, 15m, 1h, 4h and 1d.

In the bus, kept by one feed process for each exchange. `live_job` stores the minutes that closed into `ohlcv` (and
`dvol`) every MDP_LIVE__PERSIST_EVERY_S seconds; each such flush is a materialization of this asset: what was stored,
how late each market is, how the feeds are. Turn `live_sensor` on to start it. `mdp buffer` reads a buffer.

The minutes stored here stand in the tables of `ohlcv`, `ohlcv_resampled` and `dvol`, whose nightly partitions replace
them by what the exchange says of the whole day; they are no partition of those assets, so they trigger nothing."""


@dg.definitions
def live_buffers() -> dg.Definitions:
    """The asset. It is external to Dagster's own materializing: a button would start a run for every press."""
    spec = dg.AssetSpec(
        "live_buffers",
        deps=["binance", "bybit", "okx", "deribit"],
        group_name="live",
        owners=["team:market-data"],
        kinds={"python", "redis"},
        description=DESCRIPTION,
        metadata={"dagster/column_schema": column_schema(BUFFER_SCHEMA), "stores into": "ohlcv, ohlcv_resampled, dvol"},
        # real time, for it says whether anything is stored at all; how late a market is, says the check
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=2), warn_window=timedelta(minutes=65)
        ),
    )
    return dg.Definitions(assets=[spec])


@dg.asset_check(
    asset="live_buffers",
    description="Every market's newest minute is as new as promised, none hides another, and what closed is stored in "
    "time. The live run writes this verdict whenever it changes; executed from the page, it looks now.",
)
def buffers_are_fresh(settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
    """Look at the bus now. A bus that is away could not be judged: that is an error, not a verdict."""
    import asyncio

    from mdp.defs.live_facts import listen
    from mdp.defs.live_metadata import lateness
    from mdp.defs.live_verdict import verdict
    from mdp.domain.market import Market

    with as_failure():
        heard = asyncio.run(listen(settings, doubtful=[]))
    feeds = heard.feeds or {}
    late = lateness(map(Market.parse, settings.markets), feeds)
    found = verdict(late, heard.backlog, settings.live.persist_every_s, feeds)
    return dg.AssetCheckResult(passed=found.passed, severity=dg.AssetCheckSeverity.WARN, metadata=dict(found.metadata))
