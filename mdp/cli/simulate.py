"""``mdp simulate``: the exchanges on this machine.

Not here: the simulator (``mdp.simulator``).
"""

from __future__ import annotations

from pathlib import Path

from mdp.config.settings import load_settings
from mdp.domain.interval import parse_time
from mdp.errors import InputError
from mdp.logs import configure_logs
from mdp.simulator.lines import Line
from mdp.simulator.server import HOST, serve
from mdp.simulator.simulation import DEFAULT_STREAM_RATE


def run_simulator(
    port: int | None,
    data: Path | None,
    now: str | None,
    seed: int | None,
    *,
    scenario: str | None = None,
    line: Line | None = None,
    speed: float = 1.0,
    stream_rate: float = DEFAULT_STREAM_RATE,
    host: str = HOST,
) -> None:
    """Serve until interrupted; where a setting has the port or the seed, None means what it says.

    Args:
        port: Where to listen.
        data: Folder of recorded days.
        now: Where the simulated clock starts.
        seed: Of everything invented.
        scenario: A scenario file, or the name of a carried one.
        line: Latency and bandwidth of every exchange.
        speed: Simulated seconds in a real one.
        stream_rate: Messages a second that one market's stream has at most.
        host: Address to listen on.

    Raises:
        InputError: the time, the speed, the folder, the scenario, the address or the port cannot be used.
    """
    try:
        start = parse_time(now) if now else None
    except ValueError as error:
        raise InputError("now", got=now, expected=str(error).removeprefix("expected ").partition(", got")[0]) from None
    settings = load_settings()
    configure_logs(settings)
    default = settings.simulator
    serve(
        default.port if port is None else port,
        data,
        start,
        default.seed if seed is None else seed,
        scenario=scenario,
        line=line,
        speed=speed,
        stream_rate=stream_rate,
        host=host,
    )
