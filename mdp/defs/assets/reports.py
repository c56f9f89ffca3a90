"""The reports: what is stored, looked at as a whole.

Not here: counting and drawing (``pipeline.coverage_report``, ``pipeline.heat_map``), the checks beside the report
(``defs.agreement``).
"""

from datetime import timedelta

import dagster as dg

from mdp.config.settings import Settings
from mdp.defs.metadata import coverage_metadata, tell_coverage
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.pipeline.coverage_report import report_market
from mdp.ports import CandleStore, Clock
from mdp.reading import FIRST_DAY

NIGHTLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=36), warn_window=timedelta(hours=26))
"""The report is made each night. The one asset with such a policy: one of candles would be satisfied by any partition
of any market, and a single market at work would hide eight dead ones; ``is_fresh`` beside this report looks at each."""


@dg.asset(
    deps=["ohlcv", "dvol"],
    group_name="reports",
    owners=["team:market-data"],
    kinds={"python", "polars"},
    freshness_policy=NIGHTLY,
)
def market_coverage(
    store: dg.ResourceParam[CandleStore], settings: dg.ResourceParam[Settings], clock: dg.ResourceParam[Clock]
) -> dg.MaterializeResult[None]:
    """One row per market and day: minutes expected, present, idle and missing by cause, rows rejected and revised.

    In the metadata: the heat map of all days, the sums of each market, and the days whose latest attempt failed, and
    why: what an earlier night could not get stays in sight. `mdp coverage --days` gives the rows, `--html` a page.
    The checks beside it look at all markets at once. They stand here and not at `ohlcv`, where every backfill would run
    them, and an exchange that is down would fail the days of another.
    """
    until_now = Interval(FIRST_DAY, clock())
    reports = [report_market(store, market, until_now) for market in map(Market.parse, settings.markets)]
    tell_coverage(reports, clock())
    return dg.MaterializeResult(metadata=coverage_metadata(reports))
