"""Commands that run services: ``simulate``, ``up``, ``env``.

Not here: what a command does (its module in ``mdp.cli``).
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from mdp.cli.options import flowing_help


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


def up() -> None:
    """Start everything on this machine: simulator, Dagster and two weeks of candles. Ctrl-C stops it all."""
    from mdp.cli.up import run_up

    raise typer.Exit(run_up())


def env() -> None:
    """Print the variables Dagster's own commands need: eval "$(mdp env)"."""
    from mdp.cli.processes import dagster_environment
    from mdp.config.settings import load_settings

    for name, value in dagster_environment(load_settings()).items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")


def register(app: typer.Typer) -> None:
    """Add them to the command line."""
    for command in (simulate, up, env):
        app.command(help=flowing_help(command))(command)
