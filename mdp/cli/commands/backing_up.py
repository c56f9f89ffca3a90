"""Commands that keep a second copy of everything: ``backup …``.

Not here: what a command does (``mdp.cli.backup``).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mdp.cli.options import AsJson

backup = typer.Typer(
    name="backup",
    help="Keep a copy of all that a machine would lose with its disk, and put it back: candles, snapshots, keys, "
    "Dagster's runs.",
    rich_markup_mode="rich",
)

Place = Annotated[Path, typer.Argument(help="Folder in which backups lie side by side, best on another disk.")]
Backup = Annotated[Path, typer.Argument(help="Folder of a backup; of a place, its newest is meant.")]


@backup.callback(invoke_without_command=True)
def help_when_alone(context: typer.Context) -> None:
    """Print the help when no command is given."""
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


@backup.command()
def create(
    place: Place,
    full: Annotated[bool, typer.Option("--full", help="Copy what the backup before holds already, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a backup, beside feeds, backfills and maintenance; what did not change since the last takes no room."""
    from mdp.cli import backup as command

    command.create(place, is_full=full, as_json=as_json)


@backup.command("list")
def list_(place: Place, as_json: AsJson = False) -> None:
    """Show every backup of a place."""
    from mdp.cli import backup as command

    command.list_all(place, as_json=as_json)


@backup.command()
def verify(folder: Backup, as_json: AsJson = False) -> None:
    """Read all of a backup and name what is not as its manifest says. Exit code 1: something is not."""
    from mdp.cli import backup as command

    raise typer.Exit(command.verify(folder, as_json=as_json))


@backup.command()
def restore(
    folder: Backup,
    into: Annotated[Path | None, typer.Option(help="Data directory. Default: MDP_DATA_DIR.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Set aside what is there; runs that Postgres holds are removed.")
    ] = False,
    without_dagster: Annotated[
        bool, typer.Option("--without-dagster", help="Leave Dagster's storage as it is.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put a backup into a data directory in which nothing is at work: all of it, once every byte was compared."""
    from mdp.cli import backup as command

    command.restore(folder, into, replaces=replace, leaves_dagster=without_dagster, as_json=as_json)


@backup.command()
def prune(
    place: Place,
    keep_daily: Annotated[int, typer.Option(help="The last backup of so many days stays.")] = 7,
    keep_weekly: Annotated[int, typer.Option(help="The last backup of so many weeks stays.")] = 4,
    keep_monthly: Annotated[int, typer.Option(help="The last backup of so many months stays.")] = 12,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; say what would be.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove the backups that need not stay; the newest always does."""
    from mdp.cli import backup as command

    command.prune(place, (keep_daily, keep_weekly, keep_monthly), is_dry=dry_run, as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add them to the command line."""
    app.add_typer(backup)
