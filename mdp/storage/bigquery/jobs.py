"""Requests and jobs that get done once, whatever is lost on the way.

Google's client tries again what it knows to be harmless; it does not try again an upload that met a quota, and a job
whose answer got lost comes back as 409. Here every job has a name of our own, so that asking for it again is harmless,
and 409 means: it is there, ask how it went. Therefore the client's own retries are all switched off.
Not here: what an error means (``failures``), the statements (``statements``).
"""

from __future__ import annotations

import contextlib
import io
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import stamina
from google.api_core import exceptions as api
from google.cloud import bigquery

from mdp.config.sections import BigQuerySettings
from mdp.errors import StorageError, StoreUnavailable, WriteConflict
from mdp.storage.bigquery.failures import FAILURES, explained, explained_job, may_pass
from mdp.storage.bigquery.names import Datasets

_CONFLICTS = 12
"""How often a statement is run anew because another one changed the same rows: about a minute of waiting."""

_PATIENCE_S = 1_800
"""How long a job is waited for; a statement may stand in BigQuery's queue."""

UNREPEATED: Any = None
"""For Google's client: make a request once. Its types do not know that, its documentation does."""

_T = TypeVar("_T")
Job = bigquery.QueryJob | bigquery.LoadJob


class Jobs:
    """Runs requests and jobs of one store. Safe for threads.

    Args:
        client: Google's client.
        datasets: Of the store.
        settings: How long requests are tried.
    """

    def __init__(self, client: bigquery.Client, datasets: Datasets, settings: BigQuerySettings) -> None:
        self.client = client
        self.datasets = datasets
        self.timeout_s = settings.timeout_s
        self._patience_s = settings.patience_s

    def ask(self, doing: str, request: Callable[[], _T]) -> _T:
        """Make a request that may be repeated, until it is answered.

        Raises:
            StoreUnavailable: it was not answered for as long as it was tried.
            ConfigError: the credentials do not serve.
            NotThere: something that it names is not there.
            StorageError: BigQuery refuses it.
        """
        try:
            return self._insist(request)
        except FAILURES as error:
            raise explained(error, doing, self.datasets) from error

    def find(self, doing: str, request: Callable[[], _T]) -> _T | None:
        """Make a request for something that may not be there: then None."""
        try:
            return self._insist(request)
        except api.NotFound:
            return None
        except FAILURES as error:
            raise explained(error, doing, self.datasets) from error

    def add(self, doing: str, request: Callable[[], object]) -> bool:
        """Make a request that makes something; False: there is one already, perhaps by a try whose answer was lost."""
        try:
            self._insist(request)
        except api.Conflict:
            return False
        except FAILURES as error:
            raise explained(error, doing, self.datasets) from error
        return True

    def load(
        self, name: str, body: bytes, target: str, schema: Sequence[bigquery.SchemaField], *, is_appended: bool
    ) -> None:
        """Load a Parquet file into a table, in one atomic step.

        Args:
            name: Of the job.
            body: The file.
            target: Full name of the table.
            schema: Of the file.
            is_appended: Whether the rows are added to a table that is there; otherwise the table is made.
        """
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            schema=schema,
            write_disposition="WRITE_APPEND" if is_appended else "WRITE_TRUNCATE",
            create_disposition="CREATE_NEVER" if is_appended else "CREATE_IF_NEEDED",
        )

        def start(job_id: str) -> bigquery.LoadJob:
            return self.client.load_table_from_file(
                io.BytesIO(body), target, size=len(body), job_id=job_id, num_retries=0, job_config=config,
                timeout=self.timeout_s,
            )  # fmt: skip

        self._run(name, start)

    def change(self, name: str, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement that changes tables, or a script of several.

        Returns:
            How many rows were added, changed and removed; 0 for a script.

        Raises:
            WriteConflict: other statements kept changing the same rows; nothing was changed.
            StoreUnavailable: no answer; whether it was changed is not known.
            StorageError: it cannot be done; nothing was changed.
        """
        job = self._run(name, self._starting(sql, parameters))
        return int(getattr(job, "num_dml_affected_rows", None) or 0)

    def rows(self, name: str, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """Return what a query finds, as an Arrow table.

        Raises:
            NotThere: a table that it names is not there.
            StoreUnavailable: no answer.
        """
        job: Any = self._run(f"mdp-query-{secrets.token_hex(8)}", self._starting(sql, parameters), f", query {name}")
        # Waited for above: the time-out given here is one of each request, not of the job.
        once = {"retry": UNREPEATED, "timeout": self.timeout_s}
        return self.ask(
            f"query {name}", lambda: job.result(**once, job_retry=UNREPEATED).to_arrow(create_bqstorage_client=False)
        )

    def _starting(self, sql: str, parameters: Sequence[Any]) -> Callable[[str], bigquery.QueryJob]:
        config = bigquery.QueryJobConfig(query_parameters=list(parameters))

        def start(job_id: str) -> bigquery.QueryJob:
            return self.client.query(
                sql, job_config=config, job_id=job_id, retry=UNREPEATED, job_retry=UNREPEATED, timeout=self.timeout_s
            )

        return start

    def _run(self, name: str, start: Callable[[str], Job], about: str = "") -> Job:
        """Run a job to its end. A try that failed is over and changed nothing, so that the next one is another job."""
        for attempt in stamina.retry_context(
            on=(WriteConflict, _JobFailed), attempts=_CONFLICTS, timeout=None, wait_initial=0.1, wait_max=10
        ):
            with attempt:
                return self._once(f"{name}-{attempt.num}", start, about)
        raise AssertionError("unreachable")

    def _once(self, job_id: str, start: Callable[[str], Job], about: str) -> Job:
        doing = f"job {job_id}{about}"
        try:
            job, was_there = self.ask(doing, lambda: self._started(job_id, start))
            job = self._finished(doing, job)
        except StoreUnavailable:
            # What it would still do must not come after what its caller does next.
            location, timeout_s = self.datasets.location, self.timeout_s
            with contextlib.suppress(*FAILURES):
                self.client.cancel_job(job_id, location=location, retry=UNREPEATED, timeout=timeout_s)
            raise
        if job.error_result:
            error = explained_job(job.error_result, doing, self.datasets)
            # One of an earlier try may have failed for what is no longer so, and when it was cancelled.
            is_over = isinstance(error, StoreUnavailable) or (was_there and not isinstance(error, WriteConflict))
            raise _JobFailed(str(error)) if is_over else error
        return job

    def _finished(self, doing: str, job: Job) -> Job:
        deadline, pause_s = time.monotonic() + _PATIENCE_S, 0.02
        while job.state != "DONE":
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"BigQuery did not finish {doing} within {_PATIENCE_S} s")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 2)
            job = self.ask(doing, partial(self._job, job.job_id))
        return job

    def _started(self, job_id: str, start: Callable[[str], Job]) -> tuple[Job, bool]:
        """Return a job, and whether it was there before this try."""
        try:
            return start(job_id), False
        except api.Conflict:
            try:
                return self._job(job_id), True
            except api.NotFound as error:
                # For a moment after a 409 the job may not be found: googleapis/python-bigquery#2134
                raise _Unfound(f"job {job_id} exists and is not found") from error

    def _job(self, job_id: str) -> Job:
        location = self.datasets.location
        job = self.client.get_job(job_id, location=location, retry=UNREPEATED, timeout=self.timeout_s)
        if not isinstance(job, bigquery.QueryJob | bigquery.LoadJob):
            raise StorageError(f"BigQuery has job {job_id}, which is not ours: {job.job_type}")
        return job

    def _insist(self, request: Callable[[], _T]) -> _T:
        for attempt in stamina.retry_context(
            on=_is_passing, attempts=None, timeout=self._patience_s, wait_initial=1, wait_max=32, wait_jitter=1
        ):
            with attempt:
                return request()
        raise AssertionError("unreachable")


class _Unfound(ConnectionError):
    """A job that is said to exist and cannot be asked for."""


class _JobFailed(StoreUnavailable):
    """A job that was run and failed for a reason that may pass."""


def _is_passing(error: Exception) -> bool:
    return isinstance(error, FAILURES) and may_pass(error)
