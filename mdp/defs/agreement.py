"""The checks that look at all markets at once: freshness, agreement between exchanges, native candles.

Not here: how agreement is measured (``pipeline.agreement``).
"""

import dagster as dg

from mdp.defs.failures import as_failure
from mdp.defs.metadata import records_table
from mdp.defs.resources import LakeSql
from mdp.domain.market import SPOT_MARKETS
from mdp.pipeline.agreement import (
    CLOSES_WITHIN,
    DISAGREEMENT_SQL,
    FRESH_WITHIN,
    compare_with_native,
    lags,
    last_full_day,
)
from mdp.ports import CandleStore, Clock, OpenSource

WARN = dg.AssetCheckSeverity.WARN


@dg.asset_check(asset="market_coverage")
def is_fresh(store: dg.ResourceParam[CandleStore], clock: dg.ResourceParam[Clock]) -> dg.AssetCheckResult:
    """Every market, each for itself, has candles of the last 26 hours: one live market cannot hide eight dead ones."""
    found = lags(store, SPOT_MARKETS, clock())
    stale = [market for market, lag in found.items() if lag is None or lag > FRESH_WITHIN]
    rows = [(str(market), "over a week" if lag is None else str(lag)) for market, lag in found.items()]
    return dg.AssetCheckResult(
        passed=not stale,
        severity=WARN,
        metadata={"lag": records_table(("market", "lag"), rows), "stale": ", ".join(map(str, stale)) or "none"},
    )


@dg.asset_check(asset="market_coverage")
def exchanges_agree(duckdb: dg.ResourceParam[LakeSql], clock: dg.ResourceParam[Clock]) -> dg.AssetCheckResult:
    """On the last full day 99 % of each market's closes lie within 1 % of the median of the exchanges.

    Not passed when nothing could be compared.
    """
    window = last_full_day(clock())
    with duckdb.get_connection() as connection:
        rows = connection.execute(DISAGREEMENT_SQL, [window.start, window.end]).fetchall()
    apart = [row for row in rows if row[3] > CLOSES_WITHIN]
    return dg.AssetCheckResult(
        passed=bool(rows) and not apart,
        severity=WARN,
        metadata={
            "window": str(window),
            "markets compared": len(rows),
            "distance": records_table(("exchange", "symbol", "minutes", "distance"), rows),
        },
    )


@dg.asset_check(asset="market_coverage")
def matches_native_timeframe(
    store: dg.ResourceParam[CandleStore], native_sources: dg.ResourceParam[OpenSource], clock: dg.ResourceParam[Clock]
) -> dg.AssetCheckResult:
    """Our 1h candles of the last full day equal those the exchange makes itself, for every market that has any.

    Not passed when no market has any.
    """
    with as_failure():
        compared = compare_with_native(store, SPOT_MARKETS, native_sources, last_full_day(clock()))
    rows = [(str(one.market), one.compared, one.differing) for one in compared]
    return dg.AssetCheckResult(
        passed=bool(compared) and not any(one.differing for one in compared),
        severity=WARN,
        metadata={"candles": records_table(("market", "compared", "differing"), rows)},
    )
