"""The command that looks whether a place is well: ``doctor``.

Not here: what it looks at (``mdp.cli.doctor``).
"""

from __future__ import annotations

import typer

from mdp.cli.options import AsJson, flowing_help


def doctor(as_json: AsJson = False) -> None:
    """Look at settings, clock, disk, bus, store, Dagster and exchanges, and say what to do. Nothing is changed.

    Exit code 1: something does not work. Each exchange is asked one small question, within its budget.
    """
    from mdp.cli.doctor.looking import run_doctor

    raise typer.Exit(run_doctor(as_json=as_json))


def register(app: typer.Typer) -> None:
    """Add it to the command line."""
    app.command(help=flowing_help(doctor))(doctor)
