"""Commands that keep what is stored: ``snapshot …``, ``maintain``, ``storage``.

Not here: what a command does (its module in ``mdp.cli``).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mdp.cli.options import AsJson, End, Markets, Start, flowing_help

snapshot = typer.Typer(
    name="snapshot",
    help="Hold candles of markets and days under a name: they read the same for ever, whatever is collected since.",
    rich_markup_mode="rich",
)

Name = Annotated[str, typer.Argument(help="Of the snapshot.")]


@snapshot.callback(invoke_without_command=True)
def help_when_alone(context: typer.Context) -> None:
    """Print the help when no command is given."""
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


@snapshot.command()
def create(
    name: Annotated[str, typer.Argument(help="A new name: letters, digits, dots, - and _.")],
    start: Start,
    end: End,
    market: Markets = None,
    timeframe: Annotated[
        list[str] | None, typer.Option("--timeframe", "-t", help="1m, 5m, … 1d; repeat it. Default: all.")
    ] = None,
    note: Annotated[str, typer.Option(help="What people should know about it.")] = "",
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Make it even if nothing is stored there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Hold what is stored now: candles of the markets in the range, and what is known of their gaps."""
    from mdp.cli import snapshot as command

    command.create(name, market, timeframe, (start, end), note=note, allows_empty=allow_empty, as_json=as_json)


@snapshot.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show every snapshot."""
    from mdp.cli import snapshot as command

    command.list_all(as_json=as_json)


@snapshot.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Show what a snapshot holds, part by part: rows, digests, sources, what is missing and why."""
    from mdp.cli import snapshot as command

    command.show(name, as_json=as_json)


@snapshot.command()
def verify(
    name: Annotated[str, typer.Argument(metavar="NAME|FOLDER", help="A snapshot, or the folder of an exported one.")],
    as_json: AsJson = False,
) -> None:
    """Read all of it again and name what is not as its manifest says. Exit code 1: something is not."""
    from mdp.cli import snapshot as command

    raise typer.Exit(command.verify(name, as_json=as_json))


@snapshot.command()
def delete(name: Name) -> None:
    """Forget a snapshot; what only it still held is removed."""
    from mdp.cli import snapshot as command

    command.delete(name)


@snapshot.command()
def export(
    name: Name, folder: Annotated[Path, typer.Argument(help="Not there yet, or empty; written whole or not at all.")]
) -> None:
    """Write a snapshot as a folder of Parquet files that anybody can read and another machine can verify and load."""
    from mdp.cli import snapshot as command

    command.export(name, folder)


@snapshot.command()
def load(
    folder: Annotated[Path, typer.Argument(help="Of an exported snapshot.")],
    name: Annotated[str | None, typer.Option(help="What it is called here. Default: as it was called there.")] = None,
) -> None:
    """Verify an exported snapshot and make it one of the store here; the tables stay as they are."""
    from mdp.cli import snapshot as command

    command.load(folder, name)


def maintain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; count what would be removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Drop old evidence, join small files, remove what is no longer part of any table; safe beside everything else.

    How long things are kept is set by MDP_MAINTENANCE__…; what a snapshot holds stays. Exit code 1: some table failed.
    """
    from mdp.cli.maintain import run_maintain

    run_maintain(is_dry=dry_run, as_json=as_json)


def storage(as_json: AsJson = False) -> None:
    """Show what fills the disk: tables, snapshots, pages waiting, Dagster."""
    from mdp.cli.maintain import show_storage

    show_storage(as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add them to the command line."""
    app.add_typer(snapshot)
    for command in (maintain, storage):
        app.command(help=flowing_help(command))(command)
