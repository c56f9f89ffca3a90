"""Which market the candles of a data directory are of: the simulator's, the real one, or that of paper trading.

Two of them in one lake could never be told apart again. Not here: what an environment refuses (``isolation``).
"""

from __future__ import annotations

import secrets
from pathlib import Path

from mdp.config.settings import Settings
from mdp.errors import ConfigError


def world_of(settings: Settings) -> str:
    """Return whose candles are collected: ``simulated``, ``real`` or ``paper``."""
    return "simulated" if settings.simulated else settings.exchanges.network


def world_file(settings: Settings) -> Path:
    """Return the file that says whose candles a data directory holds."""
    return settings.data_dir / "world.txt"


def claim_data_dir(settings: Settings) -> None:
    """Note whose candles a data directory will hold, before the first exchange is asked; later, make sure of it.

    Safe when several processes do it at once. Nothing is noted where the store is BigQuery, whose datasets are told
    apart by environment.

    Raises:
        ConfigError: it holds those of another market, or it cannot be written.
    """
    if settings.store != "duckdb":
        return
    path, world = world_file(settings), world_of(settings)
    try:
        found = _noted(path) or _note(path, world)
    except OSError as error:
        expected = f"a directory that can be written ({error.strerror})"
        raise ConfigError("MDP_DATA_DIR", got=str(settings.data_dir), expected=expected) from error
    if found != world:
        expected = (
            f"another directory for candles of {world} exchanges (MDP_SIMULATED, MDP_EXCHANGES__NETWORK): this one "
            f"holds those of {found} ones"
        )
        raise ConfigError("MDP_DATA_DIR", got=str(settings.data_dir), expected=expected)


def _noted(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def _note(path: Path, world: str) -> str:
    """Write it in one step, unless somebody was faster; return what is there then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")  # threads share a pid
    unfinished.write_text(f"{world}\n", encoding="utf-8")
    try:
        path.hardlink_to(unfinished)
    except FileExistsError:
        pass
    finally:
        unfinished.unlink(missing_ok=True)
    return path.read_text(encoding="utf-8").strip()
