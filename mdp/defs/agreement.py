"""The checks that look at all markets at once: freshness, agreement, native candles, what is left failed.

Not here: how they are measured (``pipeline.checking``).
"""

from collections.abc import Iterable, Iterator

import dagster as dg

from mdp.config.settings import Settings
from mdp.defs.failures import as_failure
from mdp.defs.metadata import failures_table, records_table
from mdp.domain.agreement import level_bound
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
from mdp.pipeline.checking.agreement import Agreement, compare_exchanges
from mdp.pipeline.checking.freshness import ends_missing, lags, last_full_day, last_minute_due
from mdp.pipeline.checking.native import NativeComparison, NotJudged, compare_with_native
from mdp.pipeline.checking.verdicts import SAMPLED
from mdp.pipeline.coverage import failed_days
from mdp.ports import CandleStore, Clock, OpenSource
from mdp.reading import FIRST_DAY

WARN = dg.AssetCheckSeverity.WARN


def markets_of(settings: Settings) -> list[Market]:
    """Return the markets that this environment collects, indices too."""
    return [Market.parse(market) for market in settings.markets]


def spot_markets_of(settings: Settings) -> list[Market]:
    """Return the spot markets that this environment collects."""
    return [market for market in markets_of(settings) if not market.is_volatility_index]


@dg.asset_check(asset="market_coverage")
def is_fresh(
    store: dg.ResourceParam[CandleStore], settings: dg.ResourceParam[Settings], clock: dg.ResourceParam[Clock]
) -> dg.AssetCheckResult:
    """The last UTC day is there to its last minute, of every market and index: none can hide another that is dead.

    From 00:40 on; until then the day before it. A minute in a gap that is explained or permanent is there too.
    """
    now, markets = clock(), markets_of(settings)
    found, missing = lags(store, markets, now), ends_missing(store, markets, now)
    rows = [
        (str(market), "over a week" if lag is None else str(lag), missing.get(market, "there"))
        for market, lag in found.items()
    ]
    return dg.AssetCheckResult(
        passed=not missing,
        severity=WARN,
        metadata={
            "lag": records_table(("market", "lag", "last minute"), rows),
            "stale": ", ".join(map(str, missing)) or "none",
            "last minute": format_time(last_minute_due(now).start),
        },
    )


@dg.asset_check(asset="market_coverage")
def exchanges_agree(
    store: dg.ResourceParam[CandleStore], settings: dg.ResourceParam[Settings], clock: dg.ResourceParam[Clock]
) -> dg.AssetCheckResult:
    """On the last full day the exchanges of each symbol tell of one market: price level, distance by minute, time.

    Names the exchange that disagrees with most others, and by how much its candles look shifted. Not passed when any
    two disagree, named or not, nor when a symbol could not be judged: fewer than two exchanges with candles of the day.
    """
    window = last_full_day(clock())
    found = compare_exchanges(store, spot_markets_of(settings), window)
    return dg.AssetCheckResult(
        passed=bool(found.standings) and not found.disputes and not found.not_judged,
        severity=WARN,
        metadata=_agreement_metadata(found, window),
    )


@dg.asset_check(asset="market_coverage")  # type: ignore[arg-type]  # a generator is accepted, though not declared
def matches_native_timeframe(
    store: dg.ResourceParam[CandleStore],
    native_sources: dg.ResourceParam[OpenSource],
    settings: dg.ResourceParam[Settings],
    clock: dg.ResourceParam[Clock],
) -> Iterator[dg.AssetCheckResult]:
    """Our 5m, 1h and 1d candles equal those the exchange makes itself: of the last full day and one earlier stored day.

    The earlier day is another one each night, so that all history is looked at in time. Not passed when no market has
    any. A market whose exchange does not answer could not be judged: the others are reported, then the step fails.
    """
    with as_failure():
        report = compare_with_native(store, spot_markets_of(settings), native_sources, last_full_day(clock()))
        if report.compared or not report.not_judged:
            yield dg.AssetCheckResult(
                passed=bool(report.compared) and not any(one.differing for one in report.compared),
                severity=WARN,
                metadata=_native_metadata(report.compared)
                | {"not judged": ", ".join(map(str, report.not_judged)) or "none"},
            )
        if report.not_judged:
            raise NotJudged(report.not_judged)


@dg.asset_check(asset="market_coverage")
def nothing_is_left_failed(
    store: dg.ResourceParam[CandleStore], settings: dg.ResourceParam[Settings], clock: dg.ResourceParam[Clock]
) -> dg.AssetCheckResult:
    """No day is left whose latest attempt failed: what was given up is seen every night until it is there."""
    until_now = Interval(FIRST_DAY, clock())
    failed = [one for market in markets_of(settings) for one in failed_days(store, market, until_now)]
    return dg.AssetCheckResult(
        passed=not failed,
        severity=WARN,
        metadata={
            "days": sum(one.days for one in failed),
            "failed": failures_table(failed[:200]),
            "what to do": "`mdp backfill --missing`, or launch the partitions again" if failed else "nothing",
        },
    )


def _agreement_metadata(found: Agreement, window: Interval) -> dict[str, dg.MetadataValue | str | int]:
    pairs = [
        (market.exchange.value, market.symbol_key, pair.other, pair.minutes, round(pair.level, 6), round(pair.p99, 6),
         f"{pair.correlation:.2f}", pair.lag, f"{pair.activity:.2f}")
        for market, standing in found.standings.items()
        for pair in standing.pairs
    ]  # fmt: skip
    columns = ("exchange", "symbol", "against", "minutes", "level", "p99_distance", "correlation", "best_lag_minutes",
               "volume_correlation")  # fmt: skip
    named = [(str(market), "yes" if market in found.apart else "no", why) for market, why in found.disputes]
    far = [
        (one.symbol, format_time(one.open_time), " ".join(f"{name}={close}" for name, close in one.closes.items()),
         f"{one.distance:.4%}")
        for one in found.far_minutes
    ]  # fmt: skip
    spread = [pair.spread for one in found.standings.values() for pair in one.pairs]
    return {
        "window": str(window),
        "markets compared": len(found.standings),
        "distance": records_table(columns, pairs),
        "disagreeing": records_table(("market", "named", "why"), named),
        "samples": records_table(("symbol", "open_time", "closes", "distance"), far),
        "not judged": records_table(("what", "why"), found.not_judged.items()),
        "level bound": f"{level_bound(min(spread, default=0.0)):.2%} at the smallest",
    }


def _native_metadata(compared: Iterable[NativeComparison]) -> dict[str, dg.MetadataValue | str]:
    compared = list(compared)
    rows = [
        (str(one.market), format_time(one.window.start), one.compared, one.differing, one.cause) for one in compared
    ]
    samples = [
        (str(one.market), shown.timeframe, format_time(shown.open_time), shown.found, shown.expected)
        for one in compared
        for shown in one.examples
    ]
    return {
        "candles": records_table(("market", "day", "compared", "differing", "cause"), rows),
        "samples": records_table(("market", "timeframe", "open_time", "ours", "theirs"), samples[:SAMPLED]),
    }
