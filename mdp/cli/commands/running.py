"""Commands that run services: ``init``, ``simulate``, ``feed``, ``serve``, ``up``, ``env``.

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
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one. Default: MDP_SIMULATOR__PORT.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Whoever reaches it may change what is simulated.")
    ] = "127.0.0.1",
    data: Annotated[Path | None, typer.Option(help="Folder of recorded days instead of the carried one.")] = None,
    now: Annotated[
        str | None, typer.Option(help="Where the simulated clock starts: 2025-01-08T00:00Z. Default: now.")
    ] = None,
    speed: Annotated[
        float, typer.Option(help="Simulated seconds in a real one, from 0.01 to 1000: 60 shows an hour in a minute.")
    ] = 1.0,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the generated prices. Default: MDP_SIMULATOR__SEED.")
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(
            help="What goes wrong: a TOML file, or one of flaky, hour, down, geo, live_day, restated, spoiled. "
            "Default: nothing."
        ),
    ] = None,
    latency_ms: Annotated[float | None, typer.Option(help="Round trip added to every request.")] = None,
    jitter_ms: Annotated[float | None, typer.Option(help="Up to so much more latency, evenly spread.")] = None,
    bandwidth_mbit: Annotated[float | None, typer.Option(help="Million bits a second, for each exchange.")] = None,
    stream_rate: Annotated[
        float, typer.Option(help="Stream messages a second and market at most, however fast the clock is.")
    ] = 20.0,
) -> None:
    """Serve Binance, Bybit, OKX and Deribit from recorded and generated data."""
    from mdp.cli.simulate import run_simulator
    from mdp.simulator.lines import read_line

    line = read_line(latency_ms, jitter_ms, bandwidth_mbit)
    run_simulator(port, data, now, seed, scenario=scenario, line=line, speed=speed, stream_rate=stream_rate, host=host)


def feed(
    exchange: Annotated[str, typer.Argument(help="binance, bybit, okx or deribit.")],
    while_wanted: Annotated[
        bool, typer.Option("--while-wanted", help="End when the live run does not want it any more.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for a feed that runs already to end, then begin.")] = False,
) -> None:
    """Keep the live buffers of an exchange's markets, until Ctrl-C. One for each exchange runs at a time."""
    from mdp.cli.feed import run_feed

    run_feed(exchange, while_wanted=while_wanted, waits=wait)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: MDP_API__HOST, 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one. Default: MDP_API__PORT, 8000.")
    ] = None,
) -> None:
    """Serve buffers and history over HTTP, streams, drop-in klines and the page, until Ctrl-C.

    From this machine no key is needed; from elsewhere each request needs one: mdp keys create.
    """
    from mdp.cli.serve import run_service

    run_service(host, port)


def up() -> None:
    """Start everything on this machine: simulator, Dagster, page and API, two weeks of candles. Ctrl-C stops it all."""
    from mdp.cli.up import run_up

    raise typer.Exit(run_up())


def init() -> None:
    """Make a place ready before its services start: folders, lake, Dagster's storage. Repeating it changes nothing."""
    from mdp.cli.init import prepare
    from mdp.config.settings import load_settings

    for line in prepare(load_settings()):
        sys.stdout.write(f"{line}\n")


def env() -> None:
    """Print the variables Dagster's own commands need: eval "$(mdp env)"."""
    from mdp.cli.processes import dagster_environment
    from mdp.config.settings import load_settings

    for name, value in dagster_environment(load_settings()).items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")


def register(app: typer.Typer) -> None:
    """Add them to the command line."""
    for command in (init, simulate, feed, serve, up, env):
        app.command(help=flowing_help(command))(command)
