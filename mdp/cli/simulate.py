"""``mdp simulate``: the exchanges on this machine.

Not here: the simulator (``mdp.simulator``).
"""

from __future__ import annotations

from pathlib import Path

from mdp.config.settings import load_settings
from mdp.domain.interval import parse_time
from mdp.errors import InputError
from mdp.simulator.server import serve


def run_simulator(port: int | None, data: Path | None, now: str | None, seed: int | None) -> None:
    """Serve until interrupted; where a setting has the port or the seed, None means what it says.

    Raises:
        InputError: the time, the folder or the port cannot be used.
    """
    try:
        start = parse_time(now) if now else None
    except ValueError as error:
        raise InputError("now", got=now, expected=str(error).removeprefix("expected ").partition(", got")[0]) from None
    default = load_settings().simulator
    serve(default.port if port is None else port, data, start, default.seed if seed is None else seed)
