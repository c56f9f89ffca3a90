"""Commands that say who may ask the service: ``keys …``.

Not here: what a command does (its module in ``mdp.cli``).
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mdp.cli.options import AsJson

keys = typer.Typer(
    name="keys",
    help="Keys with which the service is asked from other machines. A running service sees a change within a second.",
    rich_markup_mode="rich",
)


@keys.callback(invoke_without_command=True)
def help_when_alone(context: typer.Context) -> None:
    """Print the help when no command is given."""
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is, or what for: letters, digits, dots, _, @ and -.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="read, or generate (which lets missing days be collected, and reads too); repeat it."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="For how long it is good (90d, 12h), or until when (2027-01-01). Default: ever.")
    ] = None,
    per_minute: Annotated[
        int | None,
        typer.Option("--per-minute", min=1, max=1_000_000, help="Requests. Default: MDP_API__REQUESTS_PER_MINUTE."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it: this once, for it is kept nowhere."""
    from mdp.cli import keys as command

    command.create(name, scope or ["read"], expires, per_minute, as_json=as_json)


@keys.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show every key but its secret: what it is good for, since when, how long, and whether it was revoked."""
    from mdp.cli import keys as command

    command.list_all(as_json=as_json)


@keys.command()
def revoke(key: Annotated[str, typer.Argument(metavar="ID|NAME", help="As `mdp keys list` shows it.")]) -> None:
    """Take a key back for good; the service refuses it within a second."""
    from mdp.cli import keys as command

    command.revoke(key)


def register(app: typer.Typer) -> None:
    """Add them to the command line."""
    app.add_typer(keys)
