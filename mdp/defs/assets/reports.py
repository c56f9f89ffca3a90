"""The reports: what is stored, looked at as a whole.

Not here: counting (``pipeline.coverage``), the checks beside the report (``defs.agreement``).
"""

import dagster as dg

from mdp.config.settings import Settings
from mdp.defs.metadata import records_table
from mdp.domain.gaps import Cause
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.pipeline.coverage import coverage_of_stored_days, total
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

    The checks beside it look at all markets at once. They stand here and not at `ohlcv`, where every backfill would run
    them, and an exchange that is down would fail the days of another.
    """
    rows = []
    for market in map(Market.parse, settings.markets):
        days = coverage_of_stored_days(store, market, Interval(FIRST_DAY, clock()))
        sum_ = total(days)
        first_last = (str(min(days)), str(max(days))) if days else ("", "")
        missing = (sum_.missing.get(cause, 0) for cause in Cause)
        rows.append((str(market), *first_last, sum_.expected, sum_.present, *missing))
    columns = ("market", "first_day", "last_day", "expected", "present", *(cause.value for cause in Cause))
    return dg.MaterializeResult(metadata={"coverage": records_table(columns, rows), "dagster/row_count": len(rows)})
