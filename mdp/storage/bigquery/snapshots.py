"""Snapshots: tables of their own that hold the rows of some slices as they were.

What is taken is copied by one query for each table, so that all its slices are of one moment, into tables that expire
after a day. Publishing lets them stay and then makes one table whose name is the snapshot's: BigQuery makes a table
exactly once, whoever else tries.
Not here: the tables that are copied (``tables``), what a manifest says (``pipeline``).
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime

import polars as pl
from google.cloud import bigquery

from mdp.errors import InputError, SnapshotExists, SnapshotMissing, StorageError, StoreCorrupt
from mdp.ports import Slice, Table
from mdp.storage.bigquery import statements
from mdp.storage.bigquery.columns import parquet, restored
from mdp.storage.bigquery.failures import FAILURES
from mdp.storage.bigquery.jobs import UNREPEATED, Jobs
from mdp.storage.bigquery.names import JobNames
from mdp.storage.bigquery.tables import STAGED_FOR, Tables
from mdp.storage.rows import chosen_columns, require_snapshot_name, timeframe_names

_PUBLISHED = "published_"
_DRAFT_LABEL = "mdp_draft"
_MANIFEST = [bigquery.SchemaField("manifest", "BYTES")]


class Snapshots:
    """The snapshots of one store."""

    def __init__(self, jobs: Jobs, tables: Tables, names: JobNames) -> None:
        self._jobs = jobs
        self._tables = tables
        self._names = names
        self._datasets = jobs.datasets

    @contextlib.contextmanager
    def draft(self, name: str) -> Iterator[Draft]:
        """Begin a snapshot; what was not published is removed, and expires where it cannot be."""
        require_snapshot_name(name)
        if self._draft_of(name) is not None:
            raise SnapshotExists(name)
        self._tables.make_datasets()
        draft = Draft(name, self._jobs, self._tables, self._names)
        try:
            yield draft
        finally:
            if not draft.is_published:
                with contextlib.suppress(StorageError):
                    self._remove(draft.key)

    def manifests(self) -> Mapping[str, bytes]:
        """Return the manifest of every published snapshot, ascending by name."""
        listed = self._jobs.find("list of snapshots", lambda: list(self._listed()))
        names = [_name_of(item.table_id) for item in listed or [] if item.table_id.startswith(_PUBLISHED)]
        drafts = {name: self._draft_of(name) for name in sorted(names)}
        # One without a draft was deleted since it was listed.
        return {name: self._manifest(name, key) for name, key in drafts.items() if key is not None}

    def read(self, name: str, table: Table, part: Slice, names: list[str]) -> pl.DataFrame:
        """Return the rows of a slice that was taken; none of what was not."""
        require_snapshot_name(name)
        key = self._draft_of(name)
        if key is None:
            raise SnapshotMissing(name, list(self.manifests()))
        return read_held(self._jobs, held_name(key, table), table, part, names)

    def delete(self, name: str) -> None:
        """Forget a snapshot: first its name, then what it holds."""
        require_snapshot_name(name)
        key = self._draft_of(name)
        client, timeout_s = self._jobs.client, self._jobs.timeout_s
        full = self._datasets.held(_published_name(name))
        if key is None:
            raise SnapshotMissing(name, list(self.manifests()))
        self._jobs.ask(
            f"deletion of snapshot {name}",
            lambda: client.delete_table(full, not_found_ok=True, retry=UNREPEATED, timeout=timeout_s),
        )
        self._remove(key)

    def _remove(self, key: str) -> None:
        client, timeout_s = self._jobs.client, self._jobs.timeout_s
        for item in self._jobs.find("list of snapshots", lambda: list(self._listed())) or []:
            if item.table_id.startswith(f"{key}_"):
                full = self._datasets.held(item.table_id)
                with contextlib.suppress(*FAILURES):
                    client.delete_table(full, not_found_ok=True, retry=UNREPEATED, timeout=timeout_s)

    def _listed(self) -> Iterator[bigquery.table.TableListItem]:
        dataset = f"{self._datasets.project}.{self._datasets.snapshots}"
        return iter(self._jobs.client.list_tables(dataset, retry=UNREPEATED, timeout=self._jobs.timeout_s))

    def _draft_of(self, name: str) -> str | None:
        return published_draft(self._jobs, name)

    def _manifest(self, name: str, key: str) -> bytes:
        full = self._datasets.held(f"{key}_manifest")
        answer = self._jobs.rows(f"manifest of {name}", f"SELECT manifest FROM `{full}`")
        if answer is None or answer.num_rows != 1:
            raise StoreCorrupt(f"snapshot {name!r}: expected one row in {full}")
        found: bytes = answer.column("manifest")[0].as_py()
        return found


class Draft:
    """A snapshot in the making, behind the port ``SnapshotDraft``."""

    def __init__(self, name: str, jobs: Jobs, tables: Tables, names: JobNames) -> None:
        self.key = f"draft_{secrets.token_hex(8)}"
        self.is_published = False
        self._name = name
        self._jobs = jobs
        self._tables = tables
        self._job = names.begin(f"snapshot-{self.key}")
        self._taken: list[str] = []

    def take(self, table: Table, parts: Collection[Slice]) -> str:
        """Copy the slices, all as of one moment; return the name of the copy."""
        full = self._jobs.datasets.held(held_name(self.key, table))
        if full in self._taken:
            raise InputError("table", got=table.name, expected="a table that this snapshot has not taken yet")
        self._tables.prepare(table)
        present, slices = self._tables.present(table), [part for part in parts if not part.window.is_empty]
        rows = statements.visible_rows(
            table, self._jobs.datasets, present, statements.in_any_slice(table, "b", len(slices))
        )
        parameters = [
            parameter
            for number, part in enumerate(slices)
            for parameter in statements.slice_parameters(part, f"s{number}_")
        ]
        expires = (datetime.now(UTC) + STAGED_FOR).strftime("%Y-%m-%d %H:%M:%S UTC")
        sql = (
            f"CREATE OR REPLACE TABLE `{full}` CLUSTER BY exchange, symbol, `{table.time_column}`"
            f" OPTIONS (expiration_timestamp = TIMESTAMP '{expires}') AS\n{rows}"
        )
        self._jobs.change(f"{self._job}-take-{table.name}", sql, parameters)
        self._taken.append(full)
        return full

    def read(self, table: Table, part: Slice) -> pl.DataFrame:
        """Return the rows of a slice that was taken."""
        names = chosen_columns(table, None)
        return read_held(self._jobs, held_name(self.key, table), table, part, names)

    def publish(self, manifest: bytes) -> None:
        """Let everything stay, then make the table that names the snapshot.

        Raises:
            SnapshotExists: another one has that name.
        """
        jobs, client, datasets = self._jobs, self._jobs.client, self._jobs.datasets
        full = datasets.held(f"{self.key}_manifest")
        body = parquet(pl.DataFrame({"manifest": [manifest]}, schema={"manifest": pl.Binary}))
        jobs.load(f"{self._job}-manifest", body, full, _MANIFEST, is_appended=False)
        for held in self._taken:
            self._keep(held)
        made = bigquery.Table(datasets.held(_published_name(self._name)), _MANIFEST)
        made.labels = {_DRAFT_LABEL: self.key}
        made.description = f"Snapshot {self._name}: its rows are in the tables that begin with {self.key}"
        jobs.add(f"snapshot {self._name}", lambda: client.create_table(made, retry=UNREPEATED, timeout=jobs.timeout_s))
        # Looked at, whoever made it: the answer to our own try may have been lost.
        if published_draft(jobs, self._name) != self.key:
            raise SnapshotExists(self._name)
        self.is_published = True

    def _keep(self, full: str) -> None:
        jobs, client = self._jobs, self._jobs.client
        held = jobs.ask(f"table {full}", lambda: client.get_table(full, retry=UNREPEATED, timeout=jobs.timeout_s))
        held.expires = None
        jobs.ask(
            f"keeping of {full}",
            lambda: client.update_table(held, ["expires"], retry=UNREPEATED, timeout=jobs.timeout_s),
        )


def held_name(key: str, table: Table) -> str:
    """Return the name of the table that holds what a draft took of one of ours."""
    return f"{key}_{table.name}"


def published_draft(jobs: Jobs, name: str) -> str | None:
    """Return the key of the draft that was published under a name; None: none was."""
    full = jobs.datasets.held(_published_name(name))
    found = jobs.find(f"snapshot {name}", lambda: jobs.client.get_table(full, retry=UNREPEATED, timeout=jobs.timeout_s))
    return None if found is None else str((found.labels or {}).get(_DRAFT_LABEL, ""))


def read_held(jobs: Jobs, name: str, table: Table, part: Slice, names: list[str]) -> pl.DataFrame:
    """Return the rows of a slice from what a snapshot holds, in the order in which the store reads them."""
    nothing = table.schema.to_frame().select(names)
    if part.window.is_empty or not timeframe_names(part):
        return nothing
    sql = (
        f"SELECT {statements.listed(names)} FROM `{jobs.datasets.held(name)}` AS b"
        f" WHERE {statements.in_slice(table, 'b')} ORDER BY {statements.ordered(table)}"
    )
    answer = jobs.rows(f"{name} {part}", sql, statements.slice_parameters(part))
    return nothing if answer is None else restored(table, answer, names)


def _published_name(name: str) -> str:
    # Tables may not be named with dots, and emulators read upper and lower case as one.
    return f"{_PUBLISHED}{name.encode().hex()}"


def _name_of(table_id: str) -> str:
    return bytes.fromhex(table_id.removeprefix(_PUBLISHED)).decode()
