"""A run whose worker is gone is told of once it can be launched anew; one that cannot be launched now waits.

Dagster's daemon launches a failed run anew in the instant in which it hears of the failure. While the code server is
away that cannot succeed, and the run is given up for good, with the backfill that it belongs to. A run that it cannot
launch the first time fails too, unless the code server is said to be the reason.
Not here: noticing that a worker is gone (``run_workers``, ``mdp.hosts``), runs that were given up (``lost_retries``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin
from sqlalchemy.exc import SQLAlchemyError

PATIENCE_S = 600.0
"""So long the failure of a run is held back for a code server that is away: a new version takes minutes to start."""


class LostRuns:
    """Runs whose workers are gone, and since when that is known."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def judge(self, run: dg.DagsterRun, said: str) -> CheckRunHealthResult:
        """Say that a run failed, or, while nobody could launch it anew, that it is still running.

        Args:
            run: Whose worker is gone.
            said: How that is known.
        """
        now = time.monotonic()
        if now - self._since.setdefault(run.run_id, now) < PATIENCE_S and not _code_is_there(run):
            waits = f"{said} It will be told when the code server, which has to launch it anew, answers."
            return CheckRunHealthResult(WorkerStatus.RUNNING, waits)
        del self._since[run.run_id]
        return CheckRunHealthResult(WorkerStatus.FAILED, said)


def _code_is_there(run: dg.DagsterRun) -> bool:
    """Tell whether the code of a run is served; of a server that Dagster itself starts, nothing is waited for."""
    job = run.remote_job_origin
    origin = None if job is None else job.repository_origin.code_location_origin
    if not isinstance(origin, GrpcServerCodeLocationOrigin):
        return True
    try:
        origin.create_client().list_repositories()
    except DagsterUserCodeUnreachableError:
        return False
    return True


@contextmanager
def waiting_for_storage() -> Iterator[None]:
    """Have a launch repeated that Dagster's storage broke off.

    Raises:
        DagsterUserCodeUnreachableError: the storage did not answer. Of all that a launch may raise, this alone makes
            the daemon queue the run again instead of failing it.
    """
    try:
        yield
    except storage_failures() as error:
        said = f"Dagster's storage does not answer ({type(error).__name__}); the run waits"
        raise DagsterUserCodeUnreachableError(said) from error


def storage_failures() -> tuple[type[Exception], ...]:
    """Return what is raised where Dagster's storage cannot be used; a laptop need not have the one of servers."""
    try:
        from dagster_postgres.utils import DagsterPostgresException
    except ImportError:
        return (SQLAlchemyError,)
    return (SQLAlchemyError, DagsterPostgresException)
