"""The reports: what is stored, looked at as a whole.

Not here: counting (``pipeline.coverage``), the checks beside the report (``defs.agreement``).
"""

import dagster as dg

from mdp.config.settings import Settings
from mdp.defs.metadata import failures_table, records_table
from mdp.domain.gaps import Cause
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.pipeline.coverage import coverage_of_stored_days, failed_days, total
from mdp.ports import CandleStore, Clock
from mdp.reading import FIRST_DAY


@dg.asset(
    deps=["ohlcv", "dvol"],
    group_name="reports",
    owners=["team:market-data"],
    kinds={"python", "polars"},
)
def market_coverage(
    store: dg.ResourceParam[CandleStore], settings: dg.ResourceParam[Settings], clock: dg.ResourceParam[Clock]
) -> dg.MaterializeResult[None]:
    """One row per market in the metadata: first and last stored day, minutes expected, present and missing by cause.

    Beside it the days whose latest attempt failed, and why: what an earlier night could not get stays in sight.
    The checks beside it look at all markets at once. They stand here and not at `ohlcv`, where every backfill would run
    them, and an exchange that is down would fail the days of another.
    """
    rows, failed = [], []
    for market in map(Market.parse, settings.markets):
        until_now = Interval(FIRST_DAY, clock())
        days = coverage_of_stored_days(store, market, until_now)
        own_failures = failed_days(store, market, until_now)
        failed += own_failures
        sum_ = total(days)
        first_last = (str(min(days)), str(max(days))) if days else ("", "")
        missing = (sum_.missing.get(cause, 0) for cause in Cause)
        unheard = sum(one.days for one in own_failures)
        rows.append((str(market), *first_last, sum_.expected, sum_.present, *missing, unheard))
    causes = (cause.value for cause in Cause)
    columns = ("market", "first_day", "last_day", "expected", "present", *causes, "days_not_collected")
    return dg.MaterializeResult(
        metadata={
            "coverage": records_table(columns, rows),
            "not collected": failures_table(failed),
            "dagster/row_count": len(rows),
        }
    )
