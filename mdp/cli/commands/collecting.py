"""Commands that ask the exchanges: ``backfill``, ``verify-archives``, ``budget`` and what heals.

Not here: what a command does (its module in ``mdp.cli``).
"""

from __future__ import annotations

from typing import Annotated

import typer

from mdp.cli.options import AsJson, Markets, flowing_help


def backfill(
    start: Annotated[
        str | None,
        typer.Option(
            help="First day, included: 2024-12-25. Default: MDP_HISTORY_DAYS before today; without it, each market's "
            "first."
        ),
    ] = None,
    end: Annotated[
        str | None, typer.Option(help="Day after the last: 2025-01-08. Default: today, so that yesterday is the last.")
    ] = None,
    market: Markets = None,
    missing: Annotated[bool, typer.Option("--missing", help="Only days that are not complete yet.")] = False,
    as_json: AsJson = False,
) -> None:
    """Collect, judge and resample days of markets, as Dagster runs that its UI shows.

    What an exchange does not give is asked for again, and the others are not kept waiting. Exit code 0: every asked
    minute is stored, it is known why the exchange has none, or it was missing twice, apart in time. 3: the rest is
    listed, and why.
    """
    from mdp.cli.backfill import run_backfill

    raise typer.Exit(run_backfill(market, start, end, only_missing=missing, as_json=as_json))


def heal(
    market: Markets = None,
    start: Annotated[
        str | None, typer.Option(help="First day that should be stored: 2024-12-25. Default: the first one stored.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="Day after the last. Default: the one after the last stored.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what is wrong.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find what is missing or damaged, make it whole from all sources, and show before and after.

    Each layer is compared with the one it is made of, and raw rows with the digest of what was received. Exit code 0:
    every minute is stored, explained, or missing for good. 3: the rest is listed, and when it may be asked for again.
    """
    from mdp.cli.heal import run_heal

    raise typer.Exit(run_heal(market, start, end, only_looks=dry_run, as_json=as_json))


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


def register(app: typer.Typer) -> None:
    """Add them to the command line."""
    for command in (backfill, heal, verify_archives, budget):
        app.command(help=flowing_help(command))(command)
