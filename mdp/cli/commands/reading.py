"""Commands that look: ``read``, ``coverage``, ``sql`` and what explains what they show.

Not here: what a command does (its module in ``mdp.cli``).
"""

from __future__ import annotations

from typing import Annotated

import typer

from mdp.cli.options import AsJson, End, Format, Markets, Output, RowFormat, Start


def read(
    market: Annotated[str, typer.Argument(help="For example binance:BTC-USDT or deribit:BTC-DVOL.")],
    timeframe: Annotated[str, typer.Argument(help="1m, 5m, 15m, 1h, 4h or 1d; an index has 1m.")],
    start: Start,
    end: End,
    format_: RowFormat = Format.TABLE,
    output: Output = None,
) -> None:
    """Read stored candles. What is not stored is absent; nothing is filled in."""
    from mdp.cli.read import read_candles

    read_candles(market, timeframe, start, end, format_.value, output)


def coverage(
    market: Markets = None,
    start: Annotated[
        str | None, typer.Option(help="First day, included: 2024-12-25. Default: the first one stored.")
    ] = None,
    end: Annotated[
        str | None, typer.Option(help="Day after the last. Default: the day after the last one stored.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how much of each market is stored, why the rest is not, and which days could not be collected."""
    from mdp.cli.coverage import show_coverage

    show_coverage(market, start, end, as_json=as_json)


def sql(
    query: Annotated[str, typer.Argument(help="For example: SELECT count(*) FROM ohlcv_1h")],
    format_: RowFormat = Format.TABLE,
    output: Output = None,
) -> None:
    """Ask the lake in DuckDB's SQL.

    Views: ohlcv_1m … ohlcv_1d, dvol, gaps, rejected_ohlcv, revisions, raw_ohlcv, raw_dvol, fetches, failed_fetches,
    archive_files.
    """
    from mdp.cli.sql import run_sql

    run_sql(query, format_.value, output)


def register(app: typer.Typer) -> None:
    """Add them to the command line."""
    for command in (read, coverage, sql):
        app.command()(command)
