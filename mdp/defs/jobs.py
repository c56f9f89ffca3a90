"""The jobs people and schedules launch, and the daily schedules.

Not here: what a job does (the assets).
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from mdp.defs.partitions import key_of
from mdp.defs.queue import PLACE_TAG, WORK
from mdp.domain.market import SPOT_EXCHANGES, SPOT_MARKETS, VOLATILITY_MARKETS, Market

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
RESUMES_TAG = "mdp/resumes"
"""On a run that does not ask again for what another one collected within a day and did not come to judge."""

MARKET_TAG = "mdp/market"

candles_job = dg.define_asset_job(
    "candles_job",
    selection=dg.AssetSelection.assets("raw_ohlcv", "ohlcv", "ohlcv_resampled"),
    tags={PLACE_TAG: WORK},  # on runs too that do not pass the queue: it counts them
    description="Collect, judge and resample the candles of some days of some markets.",
)

dvol_job = dg.define_asset_job(
    "dvol_job",
    selection=dg.AssetSelection.assets("raw_dvol", "dvol"),
    tags={PLACE_TAG: WORK},
    description="Collect and judge the volatility index of some days of some currencies.",
)

agreement_job = dg.define_asset_job(
    "agreement_job",
    selection=dg.AssetSelection.assets("market_coverage"),
    tags={PLACE_TAG: WORK},
    description="Report the coverage of all markets, and compare what is stored with the clock, with the other "
    "exchanges and with the exchange's own candles; name what is left failed.",
)


def yesterday(scheduled_at: datetime) -> date:
    """Return the last day that was complete at a time."""
    return (scheduled_at.astimezone(UTC) - timedelta(days=1)).date()


def request_of(markets: Sequence[Market], day: date, *, run_key: str) -> dg.RunRequest:
    """Ask for one day of markets that stand next to each other in their partitions definition, as one run."""
    return dg.RunRequest(run_key, tags={RANGE_START: key_of(markets[0], day), RANGE_END: key_of(markets[-1], day)})


@dg.schedule(job=candles_job, cron_schedule="10 0 * * *", execution_timezone="UTC")
def daily_candles(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
    """Every night at 00:10 UTC: yesterday's candles, one run for each exchange, so that none waits for another."""
    day = yesterday(context.scheduled_execution_time)
    return [
        request_of([market for market in SPOT_MARKETS if market.exchange is exchange], day, run_key=f"{exchange}-{day}")
        for exchange in SPOT_EXCHANGES
    ]


@dg.schedule(job=dvol_job, cron_schedule="15 0 * * *", execution_timezone="UTC")
def daily_dvol(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Every night at 00:15 UTC: yesterday's volatility index, in one run."""
    day = yesterday(context.scheduled_execution_time)
    return request_of(VOLATILITY_MARKETS, day, run_key=f"deribit-{day}")


@dg.schedule(job=agreement_job, cron_schedule="40 0 * * *", execution_timezone="UTC")
def daily_agreement(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Every night at 00:40 UTC: is what is stored fresh, and do the exchanges agree with it?"""
    return dg.RunRequest(run_key=str(yesterday(context.scheduled_execution_time)))
