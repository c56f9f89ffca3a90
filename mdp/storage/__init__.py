"""Where tables are kept: one port, ``CandleStore``, and its implementations.

The local lake with DuckDB as its SQL, and a store in memory. Not here: what the rows mean (``domain``), when they are
written (``pipeline``).
"""

from __future__ import annotations

from mdp.config.settings import Settings
from mdp.errors import ConfigError
from mdp.ports import CandleStore
from mdp.storage.delta import DeltaStore
from mdp.storage.memory import MemoryStore

__all__ = ["DeltaStore", "MemoryStore", "open_store"]


def open_store(settings: Settings) -> CandleStore:
    """Return the store that the settings name. Nothing is created or connected to before the first use.

    Raises:
        ConfigError: a store that this version does not have.
    """
    if settings.store != "duckdb":
        raise ConfigError("MDP_STORE", got=settings.store, expected="duckdb; others are not available in this version")
    return DeltaStore(settings.lake_dir)
