"""The metadata people read: the closed list of keys, and how reports become it.

Not here: what is counted (``pipeline.batches.DayReport``).
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg
import polars as pl

from mdp.bus.report import BudgetReport
from mdp.counts import COUNTS
from mdp.domain.market import Exchange
from mdp.pipeline.batches import DayReport
from mdp.pipeline.collect import Tally
from mdp.pipeline.coverage_report import CAUSES, MarketReport
from mdp.pipeline.failed_days import FailedDays
from mdp.pipeline.heat_map import heat_map
from mdp.pipeline.heat_map_picture import draw_png

RETRIED = "retried"
"""Why a step repeated requests and how often, as JSON: name of our error to a count."""

_COMMENTS = {
    "exchange": "Where the data comes from, spelled as CCXT spells it",
    "symbol": "What is traded, BASE-QUOTE",
    "timeframe": "Length of the candle",
    "open_time": "First instant of the candle, UTC: its key",
    "window_start": "UTC day that was asked for",
    "window_end": "End of the UTC day that was asked for, exclusive",
    "volume": "Traded amount in the base coin",
    "quote_volume": "Traded amount in the quote coin; null where the exchange does not give it",
    "trades": "Number of trades; null where the exchange does not give it",
    "minutes": "How many minutes the candle holds",
    "source": "rest, archive, stream or resampled",
    "ingested_at": "When it was received, UTC",
    "fetched_at": "When it was received, UTC",
    "closed": "Whether the exchange had finished the candle when it answered",
    "dvol": "Close of the last closed candle of the index, percent",
    "hour_open_time": "Open time of the candle the value comes from: an hour, unless the resolution is 1m",
    "age_minutes": "Minutes since that candle closed",
}


def column_schema(schema: pl.Schema) -> dg.TableSchema:
    """Describe a table's columns for Dagster's catalog."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name, type=str(dtype), description=_COMMENTS.get(name)) for name, dtype in schema.items()
        ]
    )


def day_metadata(report: DayReport) -> dict[str, Any]:
    """Return the metadata of one materialized partition."""
    metadata: dict[str, Any] = {"dagster/partition_row_count": report.rows, "digest": report.digest}
    if report.first_open_time and report.last_open_time:
        metadata["first_open_time"] = dg.MetadataValue.timestamp(report.first_open_time)
        metadata["last_open_time"] = dg.MetadataValue.timestamp(report.last_open_time)
    if report.requests is not None:
        metadata |= {"requests": report.requests, "source": report.source, "waited_s": round(report.waited_s, 1)}
    if report.retried:
        metadata["retried"] = counts_table(("error", "requests"), report.retried)
    if report.files:
        metadata["files"] = records_table(
            ("path", "sha256", "checksum_verified"),
            ((file.path, file.sha256, file.is_verified) for file in report.files),
        )
    if report.revised is not None:
        metadata |= {
            "gap_count": sum(report.gaps.values()),
            "rejected": sum(report.rejected.values()),
            "revised": report.revised,
        }
    if report.gaps:
        metadata["gaps"] = counts_table(("cause", "slots"), report.gaps)
    if report.rejected:
        metadata["rejected_by_rule"] = counts_table(("rule", "rows"), report.rejected)
    return metadata


def tallies_metadata(tallies: Mapping[Exchange, Tally]) -> dict[str, Any]:
    """Return what a step asked of the exchanges: ``requests`` and the like in total, and by exchange as a table."""
    columns = ("exchange", "slices", "missed", "requests", "retried", "waited_s", "files")
    retried = sum((tally.retried for tally in tallies.values()), Counter[str]())
    rows = [
        (
            one.value,
            tally.slices,
            tally.missed,
            tally.requests,
            tally.retried.total(),
            round(tally.waited_s, 1),
            tally.files,
        )
        for one, tally in sorted(tallies.items())
    ]
    return {
        "requests": sum(tally.requests for tally in tallies.values()),
        RETRIED: dg.MetadataValue.json(dict(retried)),
        "waited_s": round(sum(tally.waited_s for tally in tallies.values()), 1),
        "by_exchange": records_table(columns, rows),
    }


def budget_metadata(report: BudgetReport, exchanges: Iterable[Exchange]) -> dict[str, Any]:
    """Return how much of their quotas is in use now, by all processes of this address; empty where nobody counts."""
    columns = ("exchange", "env", "quota", "used", "of_our", "of_all", "window_s", "waits", "held_after_refusals")
    rows = [
        (one.exchange, use.env, use.quota, use.used_by_env, use.share, use.amount, use.window_s, one.waits, one.limited)
        for one in report.exchanges
        if one.exchange in set(exchanges)
        for use in one.quotas
    ]
    return {"budget": records_table(columns, rows)} if rows else {}


def coverage_metadata(reports: Sequence[MarketReport]) -> dict[str, Any]:
    """Return the coverage of all markets: sums of each as a table, the days as a picture, what was not collected."""
    summed = ("expected", "present", "idle", *CAUSES, "permanent", "rejected", "revised")
    rows = []
    for one in reports:
        first_last = (str(one.days["day"].min()), str(one.days["day"].max())) if len(one.days) else ("", "")
        rows.append((str(one.market), *first_last, *map(one.total, summed), sum(failed.days for failed in one.failed)))
    metadata: dict[str, Any] = {
        "coverage": records_table(("market", "first_day", "last_day", *summed, "days_not_collected"), rows),
        "not collected": failures_table(failed for one in reports for failed in one.failed),
        "dagster/row_count": sum(len(one.days) for one in reports),
    }
    map_ = heat_map(reports)
    if map_ is not None:
        picture = base64.b64encode(draw_png(map_)).decode()
        metadata["heat map"] = dg.MetadataValue.md(
            f"![coverage by market and {map_.unit}](data:image/png;base64,{picture})"
        )
    return metadata


def tell_coverage(reports: Sequence[MarketReport], now: datetime) -> None:
    """Say for Prometheus how much of each market there was when it was looked at."""
    for one in reports:
        market = str(one.market)
        if one.share is not None:
            COUNTS.set("mdp_coverage_ratio", one.share, market)
        for cause, minutes in one.missing.items():
            COUNTS.set("mdp_missing_candles", minutes, market, cause)
        COUNTS.set("mdp_partitions_not_collected", sum(failed.days for failed in one.failed), market)
    COUNTS.set("mdp_coverage_reported_timestamp_seconds", now.timestamp())


def failures_table(failures: Iterable[FailedDays]) -> dg.TableMetadataValue:
    """Return the days that could not be collected, and why, as a table."""
    columns = ("exchange", "market", "first_day", "days", "error", "message", "retryable", "attempts")
    return records_table(
        columns,
        [
            (one.market.exchange.value, str(one.market), str(one.window.start.date()), one.days, one.error,
             one.message, one.retryable, one.attempts)
            for one in failures
        ],
    )  # fmt: skip


def counts_table(columns: tuple[str, str], counts: Mapping[str, int]) -> dg.TableMetadataValue:
    """Return counts as a table, one row for each name."""
    return records_table(columns, counts.items())


def records_table(columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> dg.TableMetadataValue:
    """Return rows as a table that the UI shows."""
    return dg.MetadataValue.table(
        records=[dg.TableRecord(dict(zip(columns, row, strict=True))) for row in rows],
        schema=dg.TableSchema(columns=[dg.TableColumn(name) for name in columns]),
    )
