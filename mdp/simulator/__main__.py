"""``python -m mdp.simulator``: the simulator without the rest of the project's command line.

Not here: the service itself (``server``).
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from pathlib import Path

from mdp.domain.interval import parse_time
from mdp.errors import InputError, MdpError
from mdp.simulator.lines import read_line
from mdp.simulator.server import serve
from mdp.simulator.simulation import DEFAULT_SEED


def main(arguments: list[str] | None = None) -> int:
    """Serve until stopped; return the exit code: 0, or 2 after one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m mdp.simulator", description="Simulate the exchanges over HTTP.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0, the default, takes a free one")
    parser.add_argument("--data", type=Path, help="folder of recorded days; default: those in the package")
    parser.add_argument("--now", help="simulated time at the start, such as 2025-01-08T00:00Z; default: the wall clock")
    parser.add_argument("--speed", type=float, default=1.0, help="simulated seconds in a real one, 0.01 to 1000")
    parser.add_argument("--stream-rate", type=float, default=20.0, help="messages a second and market at most")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="seed of everything invented")
    parser.add_argument("--scenario", help="what goes wrong: a TOML file, or flaky, down or geo")
    parser.add_argument("--latency-ms", type=float, help="round trip added to every request")
    parser.add_argument("--jitter-ms", type=float, help="up to so much more")
    parser.add_argument("--bandwidth-mbit", type=float, help="million bits a second, for each exchange")
    chosen = parser.parse_args(arguments)
    try:
        line = read_line(chosen.latency_ms, chosen.jitter_ms, chosen.bandwidth_mbit)
        serve(
            chosen.port, chosen.data, _moment(chosen.now), chosen.seed, scenario=chosen.scenario, line=line,
            speed=chosen.speed, stream_rate=chosen.stream_rate,
        )  # fmt: skip
    except MdpError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise InputError(
            "--now", got=text, expected=str(error).removeprefix("expected ").partition(", got ")[0]
        ) from None


if __name__ == "__main__":
    sys.exit(main())
