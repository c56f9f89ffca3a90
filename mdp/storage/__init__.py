"""Where tables are kept: one port, ``CandleStore``, and its implementations.

The local lake with DuckDB as its SQL, the central store in BigQuery, and a store in memory. Not here: what the rows
mean (``domain``), when they are written (``pipeline``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdp.config.settings import Settings
from mdp.ports import CandleStore
from mdp.storage.delta import DeltaStore
from mdp.storage.memory import MemoryStore

if TYPE_CHECKING:
    from mdp.storage.bigquery.store import Connect

__all__ = ["DeltaStore", "MemoryStore", "open_store"]


def open_store(settings: Settings, *, writer: str = "mdp", connect: Connect | None = None) -> CandleStore:
    """Return the store that the settings name. Nothing is created or connected to before the first use.

    Args:
        settings: Of the environment.
        writer: Who writes, such as a run and its attempt; BigQuery's jobs are named after it.
        connect: Makes Google's client where the store is BigQuery; None: with the credentials of this machine.

    Raises:
        ConfigError: the central store has no project.
    """
    if settings.store == "duckdb":
        return DeltaStore(
            settings.lake_dir,
            snapshots_dir=settings.snapshots_dir,
            compact_files=settings.maintenance.compact_files,
        )
    # Imported when needed: Google's libraries bring pandas and 100 MB along.
    from mdp.storage.bigquery.store import BigQueryStore

    if connect is None:
        return BigQueryStore(settings.bigquery, writer=writer)
    return BigQueryStore(settings.bigquery, writer=writer, connect=connect)
