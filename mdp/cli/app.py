"""The command ``mdp`` and its subcommands: arguments, help texts, exit codes.

Exit codes: 0 done; 1 it failed; 2 an argument or setting is wrong; 3 some asked slots are neither stored nor
explained; 130 interrupted. Not here: what a command does (one module each).
"""

from __future__ import annotations

import os
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from mdp.errors import ConfigError, InputError, MdpError

app = typer.Typer(
    name="mdp",
    help="Crypto candles you can trust: collect, judge, resample, store and read them. Times are UTC, ranges are "
    "half-open: --end is not included.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback(invoke_without_command=True)
def help_when_alone(context: typer.Context) -> None:
    """Print the help when no command is given."""
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    ARROW = "arrow"


Start = Annotated[str, typer.Option(help="First day or time, included: 2024-12-30 or 2024-12-30T08:00Z.")]
End = Annotated[str, typer.Option(help="Last day or time, excluded.")]
Markets = Annotated[
    list[str] | None, typer.Option("--market", "-m", help="For example binance:BTC-USDT; repeat it. Default: all.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@app.command()
def read(
    market: Annotated[str, typer.Argument(help="For example binance:BTC-USDT or deribit:BTC-DVOL.")],
    timeframe: Annotated[str, typer.Argument(help="1m, 5m, 15m, 1h, 4h or 1d.")],
    start: Start,
    end: End,
    format_: Annotated[Format, typer.Option("--format", "-f", help="How to write the rows.")] = Format.TABLE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, whole or not at all.")
    ] = None,
) -> None:
    """Read stored candles. What is not stored is absent; nothing is filled in."""
    from mdp.cli.read import read_candles

    read_candles(market, timeframe, start, end, format_.value, output)


@app.command()
def coverage(
    market: Markets = None,
    start: Annotated[str | None, typer.Option(help="First day. Default: the first one stored.")] = None,
    end: Annotated[str | None, typer.Option(help="Day after the last. Default: after the last one stored.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how much of each market is stored, and why the rest is not."""
    from mdp.cli.coverage import show_coverage

    show_coverage(market, start, end, as_json=as_json)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="For example: SELECT count(*) FROM ohlcv_1h")],
    format_: Annotated[Format, typer.Option("--format", "-f", help="How to write the rows.")] = Format.TABLE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, whole or not at all.")
    ] = None,
) -> None:
    """Ask the lake in DuckDB's SQL. Views: ohlcv_1m … ohlcv_1d, dvol, gaps, rejected_ohlcv, revisions, raw_ohlcv."""
    from mdp.cli.sql import run_sql

    run_sql(query, format_.value, output)


@app.command()
def backfill(
    start: Annotated[str, typer.Option(help="First day, included: 2024-12-25.")],
    end: Annotated[str, typer.Option(help="Day after the last: 2025-01-08.")],
    market: Markets = None,
    missing: Annotated[bool, typer.Option("--missing", help="Only days that are not complete yet.")] = False,
    as_json: AsJson = False,
) -> None:
    """Collect, judge and resample days of markets, as Dagster runs that its UI shows.

    Exit code 0: every asked minute is stored, or it is known why the exchange has none. 3: the rest is listed.
    """
    from mdp.cli.backfill import run_backfill

    raise typer.Exit(run_backfill(market, start, end, only_missing=missing, as_json=as_json))


@app.command()
def simulate(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 8790,
    data: Annotated[Path | None, typer.Option(help="Folder of recorded days instead of the carried one.")] = None,
    now: Annotated[str | None, typer.Option(help="Where the simulated clock starts. Default: the real time.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the generated prices.")] = None,
) -> None:
    """Serve Binance, Bybit, OKX and Deribit from recorded and generated data."""
    from mdp.cli.simulate import run_simulator

    run_simulator(port, data, now, seed)


@app.command()
def up() -> None:
    """Start everything on this machine: simulator, Dagster and two weeks of candles. Ctrl-C stops it all."""
    from mdp.cli.up import run_up

    raise typer.Exit(run_up())


@app.command()
def env() -> None:
    """Print the variables Dagster's own commands need: eval "$(mdp env)"."""
    from mdp.cli.processes import dagster_environment
    from mdp.config.settings import load_settings

    for name, value in dagster_environment(load_settings()).items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")


def main() -> None:
    """Run ``mdp``; errors of ours become one line on stderr and an exit code."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except TyperException as error:
        _complain(f"{error} (see `mdp --help`)")
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except MdpError as error:
        _complain(str(error), *getattr(error, "__notes__", []))
        sys.exit(2 if isinstance(error, (InputError, ConfigError)) else 1)
    except BrokenPipeError:
        # The reader of our output has seen enough (`| head`); point stdout elsewhere so that its flush is silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        _complain(f"{error.filename or 'output'}: {error.strerror or error}")
        sys.exit(1)


def _complain(*lines: str) -> None:
    for line in lines:
        sys.stderr.write(f"mdp: {line}\n")
