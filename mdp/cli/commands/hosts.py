"""The command that runs on each host of a deployment that has several: ``worker``.

Not here: what it does (``mdp.cli.hosts``).
"""

from __future__ import annotations

from typing import Annotated

import typer

from mdp.cli.options import flowing_help


def worker(
    live: Annotated[
        bool, typer.Option("--live", help="Take the live run and nothing else: one such worker per deployment.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Tells it from other workers of this host. Default: work, or live.")
    ] = None,
) -> None:
    """Execute runs that Dagster puts into the workers' queue, MDP_WORKERS at a time, until SIGTERM or Ctrl-C.

    For MDP_DAGSTER__INSTANCE=celery. Runs that are at work when it ends are launched anew elsewhere.
    """
    from mdp.cli.hosts import run_worker

    run_worker(is_live=live, name=name)


def register(app: typer.Typer) -> None:
    """Add it to the command line."""
    app.command(help=flowing_help(worker))(worker)
