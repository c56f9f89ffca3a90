"""The commands about settings: ``config show`` and ``config check``.

Not here: what they do (``mdp.cli.config``).
"""

from __future__ import annotations

from typing import Annotated

import typer

from mdp.cli.options import AsJson, flowing_help
from mdp.errors import InputError

Env = Annotated[str | None, typer.Option("--env", metavar="NAME", help="Which environment. Default: that of MDP_ENV.")]


def show(
    env: Env = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only settings that are not the default.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print every setting that is in force, secrets masked, and where it comes from.

    That is the default, the environment's file, a variable, or, for an exchange's address, the catalogue of addresses
    or the simulator.
    """
    from mdp.cli.config import show_settings

    show_settings(env, only_changed=changed, as_json=as_json)


def check(
    env: Env = None,
    every: Annotated[bool, typer.Option("--all", help="Every environment, with the variables that are set.")] = False,
    as_json: AsJson = False,
) -> None:
    """Name every setting that is missing or wrong, why it is needed, and how to give it.

    Nothing is asked over the network. Exit code 0: the environment may start. 2: the rest is listed.
    """
    from mdp.cli.config import check_settings

    if env is not None and every:
        raise InputError("env", got=env, expected="either --env or --all")
    raise typer.Exit(check_settings(env, checks_all=every, as_json=as_json))


def register(app: typer.Typer) -> None:
    """Add them to the command line."""
    group = typer.Typer(help="Show the settings and where they come from; name what is missing.", no_args_is_help=True)
    for command in (show, check):
        group.command(help=flowing_help(command))(command)
    app.add_typer(group, name="config")
