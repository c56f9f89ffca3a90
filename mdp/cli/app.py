"""The command ``mdp`` and its subcommands: arguments, help texts, exit codes.

Exit codes: 0 done; 1 it failed; 2 an argument or setting is wrong; 3 some asked slots are neither stored nor
explained; 130 interrupted. A reader of stdout who leaves early (``| head``) changes none of them. Not here: what a
command does (one module each).
"""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from mdp.cli.streams import lasting_streams
from mdp.errors import ConfigError, InputError, MdpError

app = typer.Typer(
    name="mdp",
    help="Crypto candles you can trust: collect, judge, resample, store and read them. Times are UTC, ranges are "
    "half-open: --end is not included.",
    epilog="Exit codes: 0 done; 1 it failed; 2 an argument or setting is wrong; 3 a backfill left minutes that are "
    "neither stored nor explained; 130 interrupted.",
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
End = Annotated[str, typer.Option(help="First day or time that is not included any more: 2024-12-31.")]
Markets = Annotated[
    list[str] | None, typer.Option("--market", "-m", help="For example binance:BTC-USDT; repeat it. Default: all.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")]
RowFormat = Annotated[
    Format, typer.Option("--format", "-f", metavar="FORMAT", help="table, csv, json, parquet or arrow.")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file, whole or not at all.")]


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def backfill(
    start: Annotated[str, typer.Option(help="First day, included: 2024-12-25.")],
    end: Annotated[str, typer.Option(help="Day after the last: 2025-01-08.")],
    market: Markets = None,
    missing: Annotated[bool, typer.Option("--missing", help="Only days that are not complete yet.")] = False,
    as_json: AsJson = False,
) -> None:
    """Collect, judge and resample days of markets, as Dagster runs that its UI shows.

    What an exchange does not give is asked for again, and the others are not kept waiting. Exit code 0: every asked
    minute is stored, or it is known why the exchange has none. 3: the rest is listed, and why.
    """
    from mdp.cli.backfill import run_backfill

    raise typer.Exit(run_backfill(market, start, end, only_missing=missing, as_json=as_json))


@app.command()
def verify_archives(
    market: Markets = None,
    start: Annotated[str | None, typer.Option(help="First day, included: 2024-12-25. Default: the first one.")] = None,
    end: Annotated[str | None, typer.Option(help="Day after the last. Default: today.")] = None,
    refetch: Annotated[bool, typer.Option("--refetch", help="Collect the days in doubt again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask whether the exchanges' bulk files are still those that candles were taken from; name the days if not.

    Exit code 0: they are, or the days in doubt were collected again. 1: some could not be asked for. 3: days in doubt.
    """
    from mdp.cli.verify_archives import run_verify_archives

    raise typer.Exit(run_verify_archives(market, start, end, refetches=refetch, as_json=as_json))


@app.command()
def simulate(
    port: Annotated[
        int | None, typer.Option(help="Port on 127.0.0.1; 0 takes a free one. Default: MDP_SIMULATOR__PORT.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of recorded days instead of the carried one.")] = None,
    now: Annotated[
        str | None, typer.Option(help="Where the simulated clock starts: 2025-01-08T00:00Z. Default: now.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the generated prices. Default: MDP_SIMULATOR__SEED.")
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(
            help="What goes wrong: a TOML file, or one of flaky, hour, down, geo, restated, spoiled. Default: nothing."
        ),
    ] = None,
    latency_ms: Annotated[float | None, typer.Option(help="Round trip added to every request.")] = None,
    jitter_ms: Annotated[float | None, typer.Option(help="Up to so much more latency, evenly spread.")] = None,
    bandwidth_mbit: Annotated[float | None, typer.Option(help="Million bits a second, for each exchange.")] = None,
) -> None:
    """Serve Binance, Bybit, OKX and Deribit from recorded and generated data."""
    from mdp.cli.simulate import run_simulator
    from mdp.simulator.lines import read_line

    line = read_line(latency_ms, jitter_ms, bandwidth_mbit)
    run_simulator(port, data, now, seed, scenario=scenario, line=line)


@app.command()
def up() -> None:
    """Start everything on this machine: simulator, Dagster and two weeks of candles. Ctrl-C stops it all."""
    from mdp.cli.up import run_up

    raise typer.Exit(run_up())


@app.command()
def budget(
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Draw the table anew each second.")] = False,
    format_: Annotated[
        str, typer.Option("--format", "-f", metavar="FORMAT", help="table, json or prometheus.")
    ] = "table",
    lift: Annotated[
        str | None, typer.Option("--lift", metavar="EXCHANGE", help="End its cool-down at this address instead.")
    ] = None,
) -> None:
    """Show how much of each exchange's quota all processes use now, who waits, and what must be left alone."""
    from mdp.cli import budget as command

    if lift is not None:
        command.lift(lift)
        return
    command.show_budget("json" if as_json else format_, is_watched=watch)


@app.command()
def env() -> None:
    """Print the variables Dagster's own commands need: eval "$(mdp env)"."""
    from mdp.cli.processes import dagster_environment
    from mdp.config.settings import load_settings

    for name, value in dagster_environment(load_settings()).items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")


def main() -> None:
    """Run ``mdp``; errors of ours become one line on stderr and an exit code."""
    with lasting_streams():
        code = _run()
    sys.exit(code)


def _run() -> int:
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except TyperException as error:
        return _complain(2, f"{error} (see `mdp --help`)")
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except MdpError as error:
        is_wrong_input = isinstance(error, (InputError, ConfigError))
        return _complain(2 if is_wrong_input else 1, str(error), *getattr(error, "__notes__", []))
    except OSError as error:
        return _complain(1, f"{error.filename or 'output'}: {error.strerror or error}")


def _complain(code: int, *lines: str) -> int:
    for line in lines:
        sys.stderr.write(f"mdp: {line}\n")
    return code
