"""A store that keeps its tables in this process's memory: for tests and for trying things out.

Not here: anything that outlives the process (``delta``).
"""

from __future__ import annotations

import threading
from collections.abc import Collection

import polars as pl

from mdp.ports import Slice, Table
from mdp.storage.rows import chosen_columns, is_in_slice, require_inside, require_storable


class MemoryStore:
    """Candles in memory, behind the port ``CandleStore``. Safe for the threads of one process."""

    def __init__(self) -> None:
        self._tables: dict[str, pl.DataFrame] = {}
        self._lock = threading.Lock()

    def read(self, table: Table, part: Slice, *, columns: Collection[str] | None = None) -> pl.DataFrame:
        """Return the rows of a slice, as the port promises."""
        names = chosen_columns(table, columns)
        rows = self._rows(table).filter(is_in_slice(table, part))
        return rows.sort("timeframe", *table.sort_by, maintain_order=True).select(names)

    def replace(self, table: Table, part: Slice, rows: pl.DataFrame) -> None:
        """Make ``rows`` the content of a slice, as the port promises."""
        require_inside(table, part, rows)
        with self._lock:
            kept = self._rows(table).filter(~is_in_slice(table, part))
            self._tables[table.name] = pl.concat([kept, rows])

    def append(self, table: Table, rows: pl.DataFrame) -> None:
        """Add rows, as the port promises."""
        require_storable(table, rows)
        with self._lock:
            self._tables[table.name] = pl.concat([self._rows(table), rows])

    def _rows(self, table: Table) -> pl.DataFrame:
        return self._tables.get(table.name, table.schema.to_frame())
