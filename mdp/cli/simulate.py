"""``mdp simulate``: the exchanges on this machine.

Not here: the simulator (``mdp.simulator``).
"""

from __future__ import annotations

from pathlib import Path

from mdp.config.settings import load_settings
from mdp.domain.interval import parse_time
from mdp.errors import InputError
from mdp.simulator.server import serve


def run_simulator(port: int, data: Path | None, now: str | None, seed: int | None) -> None:
    """Serve until interrupted.

    Raises:
        InputError: the time, the folder or the port cannot be used.
    """
    try:
        start = parse_time(now) if now else None
    except ValueError as error:
        raise InputError("now", got=now, expected=str(error).removeprefix("expected ").partition(", got")[0]) from None
    serve(port, data, start, load_settings().simulator.seed if seed is None else seed)
