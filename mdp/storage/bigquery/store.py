"""The central store: replacing, reading, adding to, looking after tables in BigQuery.

A slice is loaded into a table of its own and put in its place by one statement: a reader sees the old slice or the new
one, whoever dies in between.
Not here: jobs and what becomes of them (``jobs``), the statements (``statements``), the tables (``tables``).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import TypeVar

import polars as pl
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient

from mdp.config.sections import BigQuerySettings
from mdp.ports import Compaction, DiskUse, Slice, SnapshotDraft, Table, Vacuum
from mdp.storage.bigquery import statements
from mdp.storage.bigquery.columns import parquet, restored, stored
from mdp.storage.bigquery.connecting import connect, connect_writing
from mdp.storage.bigquery.failures import FAILURES, NotThere, explained
from mdp.storage.bigquery.folding import fold_live_rows
from mdp.storage.bigquery.jobs import Jobs
from mdp.storage.bigquery.live import LiveWriter
from mdp.storage.bigquery.names import LIVE_TABLES, NOBODY, Datasets, JobNames, live_name, physical_names
from mdp.storage.bigquery.snapshots import Snapshots
from mdp.storage.bigquery.staging import staged_rows
from mdp.storage.bigquery.tables import Tables, stored_fields
from mdp.storage.rows import (
    chosen_columns,
    require_inside,
    require_live,
    require_long_enough,
    require_storable,
    require_time_column,
    timeframe_names,
)

_log = logging.getLogger(__name__)

_FOLD_AFTER = timedelta(hours=1)
"""Live rows younger than this stay where they are: a writer may still be about to commit rows beside them."""

_FORSAKEN_AFTER = timedelta(days=2)
"""Copies older than this belong to a snapshot or to nobody: who takes them has a day until they expire."""

_Client = TypeVar("_Client")
Connect = Callable[[BigQuerySettings], bigquery.Client]
ConnectWriting = Callable[[BigQuerySettings], BigQueryWriteClient]


class BigQueryStore:
    """Candles in BigQuery, behind the port ``CandleStore``. Safe for many processes, and for the threads of each.

    Nothing is connected to before the first use. Tables and datasets are made when they are first written to.

    Args:
        settings: Which project and datasets, how patiently.
        writer: Who writes, such as a run and its attempt: part of the names of the jobs, by which they are found in
            the history of the project. Rows that a run adds again because nobody heard how adding them went are added
            once; of ``mdp``, which is no run, both times.
        connect: Makes the client of the REST API.
        connect_writing: Makes the client of the Storage Write API.

    Raises:
        ConfigError: no project is named.
    """

    def __init__(
        self,
        settings: BigQuerySettings,
        *,
        writer: str = NOBODY,
        connect: Connect = connect,
        connect_writing: ConnectWriting = connect_writing,
    ) -> None:
        self.datasets = Datasets.of(settings)
        self._settings = settings
        self._connect = connect
        self._connect_writing = connect_writing
        self._names = JobNames(writer)
        self._turns = defaultdict[str, threading.BoundedSemaphore](
            lambda: threading.BoundedSemaphore(settings.merges_at_once)
        )
        self._last_ordinal = 0
        self._lock = threading.RLock()

    def read(self, table: Table, part: Slice, *, columns: Collection[str] | None = None) -> pl.DataFrame:
        """Return the rows of a slice, as the port promises. What was never written to has no rows.

        Raises:
            StorageError: a table that was there is no longer.
        """
        names = chosen_columns(table, columns)
        present = {} if _holds_nothing(part) else self._tables.present(table, timeframe_names(part))
        if not present:
            return table.schema.to_frame().select(names)
        rows = statements.visible_rows(table, self.datasets, present, statements.in_slice(table, "b"))
        sql = f"SELECT {statements.listed(names)} FROM (\n{rows}\n) ORDER BY {statements.ordered(table)}"
        try:
            answer = self._jobs.rows(f"{table.name} {part}", sql, statements.slice_parameters(part))
        except NotThere:
            self._tables.forget(table)
            raise
        return restored(table, answer, names)

    def replace(self, table: Table, part: Slice, rows: pl.DataFrame) -> None:
        """Make ``rows`` the content of a slice, as the port promises.

        Raises:
            StoreUnavailable: BigQuery gave no answer; the slice is as it was, or as it was to become.
            ConfigError: the credentials do not serve.
        """
        require_inside(table, part, rows)
        if _holds_nothing(part) or (rows.is_empty() and not self._tables.present(table, timeframe_names(part))):
            return
        self._anew(table, partial(self._replace, table, part, stored(rows, 0)))

    def _replace(self, table: Table, part: Slice, rows: pl.DataFrame) -> None:
        self._tables.prepare(table)
        write = self._names.begin(table.name, part)
        with staged_rows(self._jobs, table, write, rows) as staged, self._turns[table.name]:
            sql = statements.replacement(table, self.datasets, part, staged, has_live=self._has_live_rows(table, part))
            self._jobs.change(f"{write}-replace", sql, statements.slice_parameters(part))

    def append(self, table: Table, rows: pl.DataFrame) -> None:
        """Add rows, as the port promises.

        Raises:
            StoreUnavailable: BigQuery gave no answer; the rows were added or not.
            ConfigError: the credentials do not serve.
        """
        require_storable(table, rows)
        if not rows.is_empty():
            self._anew(table, partial(self._append, table, rows))

    def _append(self, table: Table, rows: pl.DataFrame) -> None:
        self._tables.prepare(table)
        timeframes = sorted(rows["timeframe"].unique().to_list())
        names, ordered = physical_names(table, timeframes), stored(rows, self._next_ordinals(rows.height))
        with self._names.adding(self.datasets.table(table.name), parquet(stored(rows, 0))) as write:
            if len(names) == 1:
                target = self.datasets.table(names[0])
                self._jobs.load(f"{write}-append", parquet(ordered), target, stored_fields(table), is_appended=True)
                return
            with staged_rows(self._jobs, table, self._names.begin(table.name), ordered) as staged:
                added = [statements.addition(table, self.datasets, name, staged, timeframes) for name in names]
                self._jobs.change(f"{write}-append", statements.in_transaction(added))

    def append_live(self, table: Table, rows: pl.DataFrame) -> None:
        """Add or change single rows, as the port promises.

        Raises:
            InputError: a table without live rows.
            StoreUnavailable: BigQuery gave no answer; the rows are written or not.
        """
        require_live(table, rows)
        if not rows.is_empty():
            self._anew(table, partial(self._append_live, table, rows))

    def _append_live(self, table: Table, rows: pl.DataFrame) -> None:
        self._tables.prepare(table)
        self._live.write(table, rows)

    def draft_snapshot(self, name: str) -> AbstractContextManager[SnapshotDraft]:
        """Begin a snapshot, as the port promises."""
        return self._snapshots.draft(name)

    def snapshots(self) -> Mapping[str, bytes]:
        """Return every published snapshot, as the port promises."""
        return self._snapshots.manifests()

    def manifest(self, name: str) -> bytes:
        """Return the manifest of one snapshot, as the port promises."""
        return self._snapshots.manifest(name)

    def read_snapshot(
        self, name: str, table: Table, part: Slice, *, columns: Collection[str] | None = None
    ) -> pl.DataFrame:
        """Return the rows of a slice as a snapshot took them, as the port promises."""
        return self._snapshots.read(name, table, part, chosen_columns(table, columns))

    def delete_snapshot(self, name: str) -> None:
        """Forget a snapshot, as the port promises."""
        self._snapshots.delete(name)

    def compact(self, table: Table) -> Compaction:
        """Fold live rows older than an hour into their table. BigQuery keeps its files itself: all counts are zero."""
        if table.name in LIVE_TABLES and self._tables.present(table):
            self.fold_live_rows(table, older_than=_FOLD_AFTER)
        return Compaction()

    def fold_live_rows(self, table: Table, *, older_than: timedelta) -> None:
        """Give a table the live rows that count, and forget all that were written longer ago than ``older_than``.

        Args:
            table: ``OHLCV`` or ``DVOL``, written to before.
            older_than: Longer than any writer takes from the beginning of a batch to its end.
        """
        fold_live_rows(self._jobs, self._tables, self._names.begin(table.name), table, older_than)

    def vacuum(self, table: Table, keep: timedelta, *, dry_run: bool = False) -> Vacuum:
        """Remove copies that no snapshot names: of one who was killed while he published, or whose removal failed.

        The rest BigQuery does itself: it removes what is old, and what was staged expires after a day.
        """
        require_long_enough(keep)
        forsaken = self._snapshots.forsaken(table, max(keep, _FORSAKEN_AFTER))
        if not dry_run:
            self._snapshots.drop(forsaken)
        return Vacuum(files=len(forsaken), size_bytes=sum(one.num_bytes or 0 for one in forsaken))

    def set_aside_damaged(self, table: Table, *, dry_run: bool = False) -> tuple[str, ...]:  # noqa: ARG002  # the port's
        """Do nothing: BigQuery answers for its storage."""
        return ()

    def prune(self, table: Table, column: str, before: datetime) -> int:
        """Remove old rows, as the port promises.

        Raises:
            InputError: a column that is no time of the table.
        """
        require_time_column(table, column, before)
        names = list(self._tables.present(table))
        if names and table.name in LIVE_TABLES:
            names.append(live_name(table))
        write, removed = self._names.begin(table.name), 0
        for name in names:
            sql = f"DELETE FROM `{self.datasets.table(name)}` AS b WHERE b.`{column}` < @before"
            removed += self._jobs.change(f"{write}-prune-{name}", sql, [statements.moment("before", before)])
        return removed

    def disk_use(self, table: Table) -> DiskUse:
        """Tell what BigQuery counts. Bytes are logical: what a query that reads everything would be charged for."""
        rows, size_bytes = self._tables.size(table)
        return DiskUse(rows=rows, size_bytes=size_bytes)

    @cached_property
    def _jobs(self) -> Jobs:
        return Jobs(self._connected(self._connect), self.datasets, self._settings)

    @cached_property
    def _tables(self) -> Tables:
        return Tables(self._jobs)

    @cached_property
    def _live(self) -> LiveWriter:
        client = self._connected(self._connect_writing)
        return LiveWriter(client, self.datasets, self._settings.patience_s, self._settings.timeout_s)

    @cached_property
    def _snapshots(self) -> Snapshots:
        return Snapshots(self._jobs, self._tables, self._names)

    def _connected(self, connect: Callable[[BigQuerySettings], _Client]) -> _Client:
        try:
            return connect(self._settings)
        except FAILURES as error:
            raise explained(error, "the first connection", self.datasets) from error

    def _has_live_rows(self, table: Table, part: Slice) -> bool:
        """Tell whether there are live rows to be hidden; those that come later were written later, and count."""
        if table.name not in LIVE_TABLES:
            return False
        sql = statements.live_count(table, self.datasets)
        counted = self._jobs.rows(f"live rows of {part}", sql, statements.slice_parameters(part))
        return bool(counted.column(0)[0].as_py())

    def _anew(self, table: Table, write: Callable[[], None]) -> None:
        """Write; where somebody removed a table since it was looked at, make it and write once more."""
        try:
            write()
        except NotThere as error:
            _log.warning("%s was looked at, and is made anew where it is missing: %s", table.name, error)
            self._tables.forget(table)
            write()

    def _next_ordinals(self, count: int) -> int:
        """Return the first of so many ordinals, later than all before: by this machine's clock, and never twice."""
        with self._lock:
            first = max(time.time_ns(), self._last_ordinal + 1)
            self._last_ordinal = first + count
            return first


def _holds_nothing(part: Slice) -> bool:
    return part.window.is_empty or not part.timeframes
