"""Commands that look: ``read``, ``aligned``, ``coverage``, ``sql`` and what explains what they show.

Not here: what a command does (its module in ``mdp.cli``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdp.cli.options import (
    AsJson,
    AsOf,
    End,
    Format,
    Markets,
    Output,
    RowFormat,
    Snapshot,
    Start,
    WhenMissing,
    flowing_help,
)

FirstDay = Annotated[
    str | None, typer.Option("--start", help="First day, included: 2024-12-25. Default: the first one stored.")
]
LastDay = Annotated[
    str | None, typer.Option("--end", help="Day after the last. Default: the day after the last one stored.")
]


def read(
    market: Annotated[str, typer.Argument(help="For example binance:BTC-USDT or deribit:BTC-DVOL.")],
    timeframe: Annotated[str, typer.Argument(help="1m, 5m, 15m, 1h, 4h or 1d; an index has 1m.")],
    start: Start,
    end: End,
    as_of: AsOf = None,
    snapshot: Snapshot = None,
    missing: Annotated[
        WhenMissing | None,
        typer.Option(
            help="Read as a backtest does, without a candle that closes after --end, and refuse a range that is not "
            "whole, allow it, or generate what is missing."
        ),
    ] = None,
    format_: RowFormat = Format.TABLE,
    output: Output = None,
) -> None:
    """Read stored candles. What is not stored is absent; nothing is filled in."""
    if missing is not None:
        from mdp.cli.backtest import read_as_backtest

        asked = (market, timeframe, start, end, format_.value, output)
        raise typer.Exit(read_as_backtest(*asked, missing=missing.value, as_of=as_of, snapshot=snapshot))
    from mdp.cli.read import read_candles

    read_candles(market, timeframe, start, end, format_.value, output, as_of=as_of, snapshot=snapshot)


def aligned(
    timeframe: Annotated[str, typer.Argument(help="1m, 5m, 15m, 1h, 4h or 1d.")],
    start: Start,
    end: End,
    market: Markets = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", "-c", help="open, high, low, close, volume …; repeat it. Default: close."),
    ] = None,
    as_of: AsOf = None,
    snapshot: Snapshot = None,
    format_: RowFormat = Format.TABLE,
    output: Output = None,
) -> None:
    """Read several markets side by side: a row for every slot, empty where nothing is stored, never filled in.

    An index gives the value of the slot's last minute.
    """
    from mdp.cli.read import read_side_by_side

    read_side_by_side(
        market, timeframe, start, end, format_.value, output, columns=column, as_of=as_of, snapshot=snapshot
    )


def explain(
    market: Annotated[str, typer.Argument(help="For example binance:BTC-USDT or deribit:BTC-DVOL.")],
    time: Annotated[str, typer.Argument(help="Any time inside the candle: 2024-12-30T08:15Z.")],
    timeframe: Annotated[str, typer.Option("--timeframe", "-t", help="1m, 5m, 15m, 1h, 4h or 1d.")] = "1m",
    as_json: AsJson = False,
) -> None:
    """Tell everything that is known of one candle, there or missing: where from, when, what changed, what uses it."""
    from mdp.cli.explain import show_explanation

    show_explanation(market, time, timeframe, as_json=as_json)


def coverage(
    market: Markets = None,
    start: FirstDay = None,
    end: LastDay = None,
    as_json: AsJson = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with a heat map to this file instead.")
    ] = None,
    days: Annotated[
        Format | None,
        typer.Option("--days", metavar="FORMAT", help="One row per market and day instead: table, csv, json."),
    ] = None,
) -> None:
    """Show how much of each market is stored, why the rest is not, and which days could not be collected."""
    from mdp.cli.coverage import show_coverage

    show_coverage(market, start, end, as_json=as_json, html=html, days_format=days and days.value)


def gaps(
    market: Markets = None,
    start: FirstDay = None,
    end: LastDay = None,
    cause: Annotated[
        str | None,
        typer.Option(help="unfetched, exchange_outage, no_trades, before_listing or unknown. Default: all."),
    ] = None,
    as_json: AsJson = False,
    format_: RowFormat = Format.TABLE,
    output: Output = None,
) -> None:
    """List the minutes that are missing: from when to when, why, how often they were seen missing, whether for good.

    The table has no room for the first sighting and the detail; the other formats have them, and mdp explain.
    """
    from mdp.cli.gaps import show_gaps

    show_gaps(market, start, end, cause, "json" if as_json else format_.value, output)


def revisions(
    market: Markets = None,
    start: Annotated[str | None, typer.Option(help="First time, included. Default: the first one stored.")] = None,
    end: Annotated[str | None, typer.Option(help="First time that is not included any more. Default: now.")] = None,
    as_json: AsJson = False,
    format_: RowFormat = Format.TABLE,
    output: Output = None,
) -> None:
    """List the candles whose stored values were changed: old and new, and when.

    The exchange later gave others, or a change that somebody made by hand was healed.
    """
    from mdp.cli.gaps import show_revisions

    show_revisions(market, start, end, "json" if as_json else format_.value, output)


def sql(
    query: Annotated[str, typer.Argument(help="For example: SELECT count(*) FROM ohlcv_1h")],
    format_: RowFormat = Format.TABLE,
    output: Output = None,
) -> None:
    """Ask the lake in DuckDB's SQL.

    Views: ohlcv_1m … ohlcv_1d, dvol, gaps, gap_sightings, rejected_ohlcv, revisions, raw_ohlcv, raw_dvol, fetches,
    failed_fetches, archive_files.
    """
    from mdp.cli.sql import run_sql

    run_sql(query, format_.value, output)


def register(app: typer.Typer) -> None:
    """Add them to the command line."""
    for command in (read, aligned, explain, coverage, gaps, revisions, sql):
        app.command(help=flowing_help(command))(command)
