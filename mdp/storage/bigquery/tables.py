"""The tables in BigQuery: made when first written to, looked at before they are used, widened when they are older.

Not here: their rows (``store``, ``live``), what is held for snapshots (``snapshots``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

import polars as pl
from google.cloud import bigquery

from mdp.domain.candles import TIME
from mdp.errors import OutdatedStore
from mdp.ports import Table
from mdp.storage.bigquery.columns import PHYSICAL, WRITTEN_AT, is_list, meaning, sql_type
from mdp.storage.bigquery.datasets import make_datasets, require_lasting
from mdp.storage.bigquery.jobs import UNREPEATED, Jobs
from mdp.storage.bigquery.names import LIVE_TABLES, REPLACED, Datasets, live_name, physical_names, view_name
from mdp.storage.bigquery.statements import stored_columns, visible_rows

VERSION_LABEL = "mdp_schema_version"

_REPLACED_SCHEMA = pl.Schema(
    {
        "table_name": pl.String(),
        "exchange": pl.String(),
        "symbol": pl.String(),
        "timeframe": pl.String(),
        "window_start": TIME,
        "window_end": TIME,
        "written_until": TIME,
    }
)
"""One row per replaced slice and timeframe that had live rows: those written until then no longer count."""


def fields(schema: Mapping[str, pl.DataType]) -> list[bigquery.SchemaField]:
    """Return columns as BigQuery describes them. All may be null: what may not is judged before it is written."""
    return [
        bigquery.SchemaField(name, sql_type(dtype), mode="NULLABLE", description=meaning(name) or "")
        for name, dtype in schema.items()
    ]


def stored_fields(table: Table) -> list[bigquery.SchemaField]:
    """Return the columns of a table as it is stored."""
    return fields({**table.schema, **PHYSICAL})


def view_query(table: Table, datasets: Datasets) -> str:
    """Return the query of the view by which people read a table: live rows in their place, lists as arrays."""
    everything = {name: frozenset(stored_columns(table)) for name in physical_names(table)}
    columns = ", ".join(
        f"JSON_VALUE_ARRAY(`{name}`) AS `{name}`" if is_list(dtype) else f"`{name}`"
        for name, dtype in table.schema.items()
    )
    return f"SELECT {columns} FROM (\n{visible_rows(table, datasets, everything, 'TRUE')}\n)"


def change_table(jobs: Jobs, doing: str, table: bigquery.Table, names: list[str]) -> None:
    """Set some properties of a table, whoever else changes it at the same time: he sets the same.

    Not on condition that it is still as it was read: of two tries of which the first answer was lost, the second one
    would be refused.
    """
    table._properties.pop("etag", None)
    jobs.ask(doing, lambda: jobs.client.update_table(table, names, retry=UNREPEATED, timeout=jobs.timeout_s))


class Tables:
    """Makes and looks after the tables of one store. Safe for threads and processes: who comes second finds it made."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._datasets = jobs.datasets
        self._columns: dict[str, frozenset[str]] = {}
        self._ready: set[str] = set()
        self._lock = threading.Lock()

    def present(self, table: Table, timeframes: Iterable[str] | None = None) -> dict[str, frozenset[str]]:
        """Return the tables that hold rows of some timeframes and are there, with their columns.

        Raises:
            OutdatedStore: one is of a newer version, or not ours.
        """
        found = {}
        for name in physical_names(table, timeframes):
            columns = self._columns.get(name) or self._look(table, name)
            if columns:
                found[name] = columns
        return found

    def prepare(self, table: Table) -> None:
        """Make what is missing for a table to be written to, and add the columns that an older one lacks.

        Raises:
            OutdatedStore: one is of a newer version, or not ours.
            ConfigError: the credentials do not allow it, or what is written would expire.
        """
        with self._lock:
            if table.name in self._ready:
                return
            make_datasets(self._jobs)
            # Before the tables beside which they are read: whoever finds those finds these.
            if table.name in LIVE_TABLES:
                self._make_live(table)
            for name in physical_names(table):
                if not self._widened(table, name):
                    self._make(table, name)
            self._make_view(table)
            self._ready.add(table.name)

    def forget(self, table: Table) -> None:
        """Know nothing of the tables of one of ours any more, for one was removed: they are looked at anew."""
        with self._lock:
            self._ready.discard(table.name)
            for name in physical_names(table):
                self._columns.pop(name, None)

    def size(self, table: Table) -> tuple[int, int]:
        """Return how many rows and bytes BigQuery counts in the tables of one of ours."""
        rows = size_bytes = 0
        extra = [live_name(table)] if table.name in LIVE_TABLES else []
        for name in [*physical_names(table), *extra]:
            found = self._find(name)
            if found is not None:
                rows, size_bytes = rows + (found.num_rows or 0), size_bytes + (found.num_bytes or 0)
        return rows, size_bytes

    def _look(self, table: Table, name: str) -> frozenset[str] | None:
        found = self._find(name)
        if found is None:
            return None
        self._require_ours(table, name, found)
        columns = frozenset(field.name for field in found.schema)
        if columns.issuperset(stored_columns(table)):  # another process may widen a narrower one at any time
            self._columns[name] = columns
        return columns

    def _find(self, name: str) -> bigquery.Table | None:
        client, full = self._jobs.client, self._datasets.table(name)
        return self._jobs.find(
            f"table {full}", lambda: client.get_table(full, retry=UNREPEATED, timeout=self._jobs.timeout_s)
        )

    def _require_ours(self, table: Table, name: str, found: bigquery.Table) -> int:
        full, label = self._datasets.table(name), (found.labels or {}).get(VERSION_LABEL, "")
        if not label.isdigit():
            raise OutdatedStore(
                f"BigQuery table {full} has no label {VERSION_LABEL}, so it was not made by this program; "
                "name another dataset in MDP_BIGQUERY__DATASET"
            )
        if int(label) > table.version:
            raise OutdatedStore(
                f"BigQuery table {full} is of version {label}, this program knows version {table.version} of "
                f"{table.name}: install the newer version of mdp that wrote it"
            )
        there = {field.name: field.field_type for field in found.schema}
        aliases = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
        wrong = [
            f"{field.name} is {there[field.name]}, expected {field.field_type}"
            for field in stored_fields(table)
            if field.name in there and aliases.get(there[field.name], there[field.name]) != field.field_type
        ]
        missing = [field.name for field in stored_fields(table) if field.name not in there]
        if wrong or (missing and int(label) >= table.version):
            problems = "; ".join([*wrong, *(f"{column} is missing" for column in missing)])
            raise OutdatedStore(f"BigQuery table {full} was changed by another program: {problems}; restore it")
        return int(label)

    def _widened(self, table: Table, name: str) -> bool:
        """Add the columns that a table of an older version lacks; False where there is no table."""
        found = self._find(name)
        if found is None:
            return False
        require_lasting(found)
        if self._require_ours(table, name, found) < table.version:
            there = {field.name for field in found.schema}
            found.schema = [*found.schema, *(field for field in stored_fields(table) if field.name not in there)]
            found.labels = {**found.labels, VERSION_LABEL: str(table.version)}
            change_table(self._jobs, f"widening of {self._datasets.table(name)}", found, ["schema", "labels"])
        self._columns[name] = frozenset({*table.schema, *PHYSICAL})
        return True

    def _make(self, table: Table, name: str) -> None:
        columns = {**table.schema, **PHYSICAL}
        self._create(name, columns, table, f"One row per {table.name}; read it through {view_name(table)}")
        self._columns[name] = frozenset(columns)

    def _make_live(self, table: Table) -> None:
        columns = {**table.schema, **PHYSICAL, WRITTEN_AT: TIME}
        if not self._widened(table, live_name(table)):
            self._create(live_name(table), columns, table, f"Live rows of {table.name}, until they are folded into it")
        made = bigquery.Table(self._datasets.table(REPLACED), fields(_REPLACED_SCHEMA))
        made.clustering_fields = ["table_name", "exchange", "symbol"]
        made.description = "Slices that were replaced: live rows written until then no longer count"
        self._add(made)

    def _create(self, name: str, columns: Mapping[str, pl.DataType], table: Table, description: str) -> None:
        made = bigquery.Table(self._datasets.table(name), fields(columns))
        made.time_partitioning = bigquery.TimePartitioning(type_="MONTH", field=table.time_column)
        made.clustering_fields = ["exchange", "symbol", table.time_column]
        made.description = description
        made.labels = {VERSION_LABEL: str(table.version)}
        self._add(made)

    def _add(self, made: bigquery.Table) -> bool:
        client, timeout_s = self._jobs.client, self._jobs.timeout_s
        return self._jobs.add(
            f"table {made.full_table_id or made.reference}",
            lambda: client.create_table(made, retry=UNREPEATED, timeout=timeout_s),
        )

    def _make_view(self, table: Table) -> None:
        made = bigquery.Table(self._datasets.table(view_name(table)))
        made.view_query = view_query(table, self._datasets)
        made.description = f"What {table.name} holds now, for people"
        if not self._add(made):
            self._refresh_view(made)

    def _refresh_view(self, made: bigquery.Table) -> None:
        there = self._find(made.table_id)
        if there is not None and there.view_query != made.view_query:
            change_table(self._jobs, f"view {made.reference}", made, ["view_query", "description"])
