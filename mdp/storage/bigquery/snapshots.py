"""Snapshots: tables of their own that hold the rows of some slices as they were.

What is taken is copied by one query for each table, so that all its slices are of one moment, into tables that expire
after a day. Publishing lets them stay and then makes one table whose name is the snapshot's: BigQuery makes a table
exactly once, whoever else tries.
Not here: the tables that are copied (``tables``), what a manifest says (``pipeline``).
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta

import polars as pl
from google.cloud import bigquery

from mdp.errors import InputError, MdpError, SnapshotExists, SnapshotMissing, StoreCorrupt
from mdp.ports import Slice, Table
from mdp.storage.bigquery import statements
from mdp.storage.bigquery.columns import parquet
from mdp.storage.bigquery.datasets import STAGED_FOR, make_datasets
from mdp.storage.bigquery.failures import NotThere
from mdp.storage.bigquery.held import Published, held_name, of_items, published, published_name, read_held
from mdp.storage.bigquery.jobs import UNREPEATED, Jobs
from mdp.storage.bigquery.names import JobNames
from mdp.storage.bigquery.tables import Tables, change_table
from mdp.storage.rows import chosen_columns, require_snapshot_name

_log = logging.getLogger(__name__)

_COPY = re.compile("(?P<key>draft_[0-9a-f]{16})_(?P<of>.+)")
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
        if published(self._jobs, name) is not None:
            raise SnapshotExists(name)
        make_datasets(self._jobs)
        draft = Draft(name, self._jobs, self._tables, self._names)
        try:
            yield draft
        finally:
            with contextlib.suppress(MdpError):
                self._give_up(draft, name)

    def _give_up(self, draft: Draft, name: str) -> None:
        # Where nobody answered whether it was published it may have been: then it stays.
        found = None if draft.is_published else published(self._jobs, name)
        if not draft.is_published and (found is None or found.key != draft.key):
            self._remove(draft.key)

    def manifests(self) -> Mapping[str, bytes]:
        """Return the manifest of every published snapshot that has one, ascending by name."""
        found = {}
        for name, there in sorted(self._published().items()):
            try:
                found[name] = self._manifest(name, there)
            except SnapshotMissing:
                continue  # deleted since it was listed
            except StoreCorrupt as error:
                _log.warning("left out of the list of snapshots: %s", error)
        return found

    def manifest(self, name: str) -> bytes:
        """Return the manifest of one snapshot.

        Raises:
            SnapshotMissing: there is no such snapshot.
            StoreCorrupt: its manifest is gone.
        """
        return self._manifest(name, self._of(name))

    def read(self, name: str, table: Table, part: Slice, names: list[str]) -> pl.DataFrame:
        """Return the rows of a slice that was taken; none of what was not.

        Raises:
            SnapshotMissing: there is no such snapshot.
            StoreCorrupt: what it took is gone.
        """
        there = self._of(name)
        if table.name not in there.taken:
            return table.schema.to_frame().select(names)
        try:
            return read_held(self._jobs, held_name(there.key, table), table, part, names)
        except NotThere as error:
            full = self._datasets.held(held_name(there.key, table))
            self._require_still(name, there)
            if self._find(full) is None:
                raise StoreCorrupt(f"snapshot {name!r}: {full}, which holds its {table.name}, is gone") from error
            raise

    def delete(self, name: str) -> None:
        """Forget a snapshot: first its name, then what it holds.

        Raises:
            SnapshotMissing: there is no such snapshot.
            StoreUnavailable: no answer; it is there, or what it held is removed by :meth:`forsaken` later.
        """
        there = self._of(name)
        self._drop(self._datasets.held(published_name(name)))
        self._remove(there.key)

    def forsaken(self, table: Table, older_than: timedelta) -> list[bigquery.Table]:
        """Return copies of a table, and manifests, that no snapshot names and that are older than ``older_than``."""
        listed, before = self._listed(), datetime.now(UTC) - older_than
        kept = {there.key for there in of_items(listed).values()}
        found = []
        for item in listed:
            copy = _COPY.fullmatch(item.table_id)
            is_of_it = copy is not None and copy["key"] not in kept and copy["of"] in (table.name, "manifest")
            if is_of_it and item.created is not None and item.created <= before:
                found.append(self._find(self._datasets.held(item.table_id)))
        return [one for one in found if one is not None]

    def drop(self, copies: Collection[bigquery.Table]) -> None:
        """Remove tables of the snapshots."""
        for copy in copies:
            self._drop(self._datasets.held(copy.table_id))

    def _remove(self, key: str) -> None:
        for item in self._listed():
            if item.table_id.startswith(f"{key}_"):
                self._drop(self._datasets.held(item.table_id))

    def _drop(self, full: str) -> None:
        client, timeout_s = self._jobs.client, self._jobs.timeout_s
        self._jobs.ask(
            f"removal of {full}",
            lambda: client.delete_table(full, not_found_ok=True, retry=UNREPEATED, timeout=timeout_s),
        )

    def _published(self) -> dict[str, Published]:
        return of_items(self._listed())

    def _listed(self) -> list[bigquery.table.TableListItem]:
        full, client = f"{self._datasets.project}.{self._datasets.snapshots}", self._jobs.client
        timeout_s = self._jobs.timeout_s
        listed = self._jobs.find(
            "list of snapshots", lambda: list(client.list_tables(full, retry=UNREPEATED, timeout=timeout_s))
        )
        return listed or []

    def _of(self, name: str) -> Published:
        require_snapshot_name(name)
        found = published(self._jobs, name)
        if found is None:
            raise SnapshotMissing(name, sorted(self._published()))
        return found

    def _require_still(self, name: str, there: Published) -> None:
        if published(self._jobs, name) != there:
            raise SnapshotMissing(name, sorted(self._published()))

    def _find(self, full: str) -> bigquery.Table | None:
        client, timeout_s = self._jobs.client, self._jobs.timeout_s
        return self._jobs.find(f"table {full}", lambda: client.get_table(full, retry=UNREPEATED, timeout=timeout_s))

    def _manifest(self, name: str, there: Published) -> bytes:
        full, client = self._datasets.held(f"{there.key}_manifest"), self._jobs.client
        table, timeout_s = bigquery.Table(full, _MANIFEST), self._jobs.timeout_s
        # Not by a query: the rows of a table are listed by one request, free of charge.
        rows = self._jobs.find(
            f"manifest of {name}", lambda: list(client.list_rows(table, retry=UNREPEATED, timeout=timeout_s))
        )
        if rows is None or len(rows) != 1:
            self._require_still(name, there)
            raise StoreCorrupt(f"snapshot {name!r}: expected one row in {full}, {len(rows or [])} are there")
        body: bytes = rows[0]["manifest"]
        return body


class Draft:
    """A snapshot in the making, behind the port ``SnapshotDraft``."""

    def __init__(self, name: str, jobs: Jobs, tables: Tables, names: JobNames) -> None:
        self.key = f"draft_{secrets.token_hex(8)}"
        self.is_published = False
        self._name = name
        self._jobs = jobs
        self._tables = tables
        self._job = names.begin(f"snapshot-{self.key}")
        self._taken: dict[str, str] = {}

    def take(self, table: Table, parts: Collection[Slice]) -> str:
        """Copy the slices, all as of one moment; return the name of the copy."""
        full = self._jobs.datasets.held(held_name(self.key, table))
        if table.name in self._taken:
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
        self._taken[table.name] = full
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
        for held in self._taken.values():
            self._keep(held)
        made = bigquery.Table(datasets.held(published_name(self._name)), _MANIFEST)
        made.labels = Published(self.key, frozenset(self._taken)).labels()
        made.description = f"Snapshot {self._name}: its rows are in the tables that begin with {self.key}"
        jobs.add(f"snapshot {self._name}", lambda: client.create_table(made, retry=UNREPEATED, timeout=jobs.timeout_s))
        # Looked at, whoever made it: the answer to our own try may have been lost.
        found = published(jobs, self._name)
        if found is None or found.key != self.key:
            raise SnapshotExists(self._name)
        self.is_published = True

    def _keep(self, full: str) -> None:
        jobs, client = self._jobs, self._jobs.client
        held = jobs.ask(f"table {full}", lambda: client.get_table(full, retry=UNREPEATED, timeout=jobs.timeout_s))
        held.expires = None
        change_table(jobs, f"keeping of {full}", held, ["expires"])
