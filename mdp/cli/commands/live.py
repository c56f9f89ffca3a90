"""Commands of the two modes: ``live``, ``buffer`` and ``watch`` look at live trading, ``backtest`` at the past.

Not here: what a command does (its module in ``mdp.cli``), the processes that run (``running``).
"""

from __future__ import annotations

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
    Timeframes,
    flowing_help,
)


def buffer(
    market: Annotated[str, typer.Argument(help="For example binance:BTC-USDT or deribit:BTC-DVOL.")],
    timeframe: Annotated[str, typer.Argument(help="1m, 5m, 15m, 1h, 4h or 1d.")],
    format_: RowFormat = Format.TABLE,
    output: Output = None,
) -> None:
    """Show the live buffer of a market: its last closed candles, the forming one, and how sure each is."""
    from mdp.cli.buffer import show_buffer

    show_buffer(market, timeframe, format_.value, output)


def watch(
    market: Annotated[list[str] | None, typer.Argument(help="Markets, such as binance:BTC-USDT. Default: all.")] = None,
    timeframe: Annotated[str, typer.Option("--timeframe", "-t", help="1m, 5m, 15m, 1h, 4h or 1d.")] = "1m",
) -> None:
    """Follow live candles until Ctrl-C: one table on a terminal, a line of JSON for each change in a pipe."""
    from mdp.cli.watch import watch_markets

    watch_markets(market, timeframe)


def live(
    as_json: AsJson = False,
    require: Annotated[
        str | None, typer.Option(help="Look at the feed of this exchange alone, and say only what is wrong with it.")
    ] = None,
) -> None:
    """Show how live trading is: feeds, the live run, each market's lag, what waits to be stored.

    Exit code 1: a market is late, or its feed does not run.
    """
    from mdp.cli.live_status import require_feed, show_status

    raise typer.Exit(show_status(as_json=as_json) if require is None else require_feed(require))


def backtest(
    start: Start,
    end: End,
    market: Markets = None,
    timeframe: Timeframes = None,
    as_of: AsOf = None,
    snapshot: Snapshot = None,
    generate: Annotated[bool, typer.Option("--generate", help="Have what is missing collected first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether a range is whole, so that a backtest may use it; name what is missing, and why.

    Without --generate no exchange is asked. Exit code 0: every minute is there, explained or missing for good, and the
    longer candles are those of their minutes. 3: the rest is listed. mdp read --missing refuse reads such a range.
    """
    from mdp.cli.backtest import check_range

    code = check_range(
        market, start, end, timeframes=timeframe, as_of=as_of, snapshot=snapshot, generates=generate, as_json=as_json
    )
    raise typer.Exit(code)


def register(app: typer.Typer) -> None:
    """Add them to the command line."""
    for command in (buffer, watch, live, backtest):
        app.command(help=flowing_help(command))(command)
