"""``mdp sql``: DuckDB's SQL over the lake.

Not here: the views (``storage.sql``).
"""

from __future__ import annotations

from pathlib import Path

from mdp.cli.output import write_rows
from mdp.config.settings import load_settings
from mdp.errors import ConfigError
from mdp.storage import open_store
from mdp.storage.delta import DeltaStore
from mdp.storage.sql import query


def run_sql(text: str, format_: str, output: Path | None) -> None:
    """Run one query and write its rows.

    Raises:
        InputError: DuckDB does not accept the query.
        ConfigError: the environment has no local lake.
    """
    settings = load_settings()
    store = open_store(settings)
    if not isinstance(store, DeltaStore):
        raise ConfigError("MDP_STORE", got=settings.store, expected="duckdb, the store with a local lake")
    write_rows(query(store, text), format_, output)
