"""Launch a job over a range of days of one market, in this process, on the instance whose runs the UI shows.

Not here: what people type (``cli.backfill``), the jobs (``jobs``).
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import IO

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.events import DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.api import execute_run_iterator
from dagster._core.storage.dagster_run import ACTIVE_RUN_STATUSES, RunsFilter
from dagster._core.storage.tags import GRPC_INFO_TAG, MAX_RETRIES_TAG

from mdp.defs.jobs import MARKET_TAG, RANGE_END, RANGE_START, RESUMES_TAG
from mdp.defs.metadata import RETRIED
from mdp.defs.partitions import key_of
from mdp.defs.queue import EXCHANGE_TAG
from mdp.domain.market import Market

LAUNCHED_HERE = {MAX_RETRIES_TAG: "0"}
"""Tags of a run that a process executes itself: Dagster's daemon has no code of it to launch it anew with."""

OnMaterialized = Callable[[str, str], None]
"""Told the asset and the partition key as soon as that partition is durable."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        succeeded: Whether everything was done.
        error: Empty exactly when it was.
        retried: Why requests to exchanges were repeated, and how often.
    """

    succeeded: bool
    error: str
    retried: Mapping[str, int] = field(default_factory=dict)


def launch_range(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    *,
    market: Market,
    first: date,
    last: date,
    run_id: str,
    on_materialized: OnMaterialized,
    resumes: bool = False,
) -> Outcome:
    """Run the job of a market over the days ``first`` to ``last``, both included, and wait for its end.

    ``resumes``: do not ask again for days that a run collected within a day, and that nothing speaks against.
    """
    job = definitions.resolve_job_def("dvol_job" if market.is_volatility_index else "candles_job")
    listen_to(instance, run_id, on_materialized)
    tags = {
        **LAUNCHED_HERE,
        RANGE_START: key_of(market, first),
        RANGE_END: key_of(market, last),
        MARKET_TAG: str(market).replace(":", "_"),
        EXCHANGE_TAG: market.exchange.value,
        **({RESUMES_TAG: "true"} if resumes else {}),
    }
    run = instance.create_run_for_job(job, run_id=run_id, tags={**job.run_tags, **tags})
    # Not `execute_in_process`: it keeps every event until the end, 25 kB for each of a dozen events a day.
    said = [event for event in execute_run_iterator(InMemoryJob(job), run, instance) if _is_kept(event)]
    ended = instance.get_run_by_id(run_id)
    succeeded = ended is not None and ended.is_success
    return Outcome(succeeded, "" if succeeded else why_failed(said, ended), _retried(said))


def _is_kept(event: dg.DagsterEvent) -> bool:
    return event.is_step_failure or event.is_handled_output or event.event_type in _ENDS


def _retried(events: Iterable[dg.DagsterEvent]) -> dict[str, int]:
    """Add up what the steps say that they repeated, those that failed included."""
    total: Counter[str] = Counter()
    for event in events:
        said = event.event_specific_data
        if event.is_step_failure:
            said = getattr(said, "user_failure_data", None)
        elif not event.is_handled_output:
            continue
        value = getattr(said, "metadata", {}).get(RETRIED)
        if isinstance(value, dg.JsonMetadataValue):
            total.update(value.data)
    return dict(total)


def listen_to(instance: dg.DagsterInstance, run_id: str, on_materialized: OnMaterialized) -> None:
    """Tell of each partition of a run as soon as it is durable."""

    def listen(entry: EventLogEntry) -> None:
        event = entry.dagster_event
        if event and event.event_type == DagsterEventType.ASSET_MATERIALIZATION and event.asset_key and event.partition:
            on_materialized(event.asset_key.to_user_string(), str(event.partition))

    instance.add_event_listener(run_id, listen)


def why_failed(events: Sequence[dg.DagsterEvent], run: dg.DagsterRun | None) -> str:
    """Return what a run that did not succeed says of itself: its failed steps, else the failure of the whole run."""
    steps = [event for event in events if event.is_step_failure]
    # No step fails when a resource cannot be opened, or when the run is interrupted between two of them.
    ends = [event for event in events if event.event_type in _ENDS]
    said = [_reason(event) for event in steps or ends]
    return "; ".join(said) or f"the run ended as {run.status.value if run else 'unknown'}"


_ENDS = (DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED)


def _reason(event: dg.DagsterEvent) -> str:
    """The one line a person needs of a failure: ours where it was on purpose."""
    data = event.event_specific_data
    failure = getattr(data, "user_failure_data", None)
    if failure is not None and failure.description:
        return str(failure.description)
    error = getattr(data, "error", None)
    while error is not None and error.cause is not None:
        error = error.cause
    # Dagster writes the class in front, which says nothing to whoever reads one of our messages.
    message = str(error.message).strip().removeprefix(f"mdp.errors.{error.cls_name}: ") if error is not None else ""
    return message or event.message or "failed without a reason"


@contextmanager
def opened_instance(folder: Path) -> Iterator[dg.DagsterInstance]:
    """Open Dagster's instance, one process at a time.

    The first to open it creates its SQLite schema, and Dagster does not expect two to do so at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "dagster.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        instance = dg.DagsterInstance.get()
        fcntl.flock(file, fcntl.LOCK_UN)
    with instance:
        yield instance


@contextmanager
def owned(run_id: str, folder: Path) -> Iterator[None]:
    """Hold the lock that says this process executes a run, for as long as it lives.

    Take it before Dagster hears of the run. Where the body raises, the file stays, free: the run's end is not known,
    and :func:`fail_orphans` looks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run_id}.lock"
    with _locked(path):
        yield
        path.unlink(missing_ok=True)


def _locked(path: Path) -> IO[str]:
    """Open and lock a file, and be sure that it is the one that the path still names."""
    while True:
        file = path.open("a")
        fcntl.flock(file, fcntl.LOCK_EX)
        # Between the two, someone who looks for orphans may have found it free and removed it.
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        file.close()


def fail_orphans(instance: dg.DagsterInstance, folder: Path) -> list[str]:
    """Mark the runs as failed whose process died without saying so (kill -9, power loss); return their ids.

    The lock of a dead process is free. A run that is still executing keeps its lock and is left alone.
    """
    orphans = []
    for path in sorted(folder.glob("*.lock")):
        with suppress(OSError), path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            run = instance.get_run_by_id(path.stem)
            # Also one that is created and not yet started: nobody but the dead process would have started it.
            if run is not None and not run.is_finished:
                instance.report_run_failed(run, "The process that executed this run died; launch the range again.")
                orphans.append(path.stem)
            path.unlink(missing_ok=True)
    return orphans


def fail_lost(instance: dg.DagsterInstance) -> list[str]:
    """End the runs whose process went with the daemon that launched it; return their ids.

    Only for a caller who knows that no daemon of this instance is running. A launched run has no lock of ours, and
    Dagster does not watch its process, so it would stay "started" and keep its place among those that may run at once.
    One that is queued waits for the next daemon; one without the launcher's tag is no daemon's.
    """
    lost = []
    for run in instance.get_runs(RunsFilter(statuses=ACTIVE_RUN_STATUSES)):
        if GRPC_INFO_TAG not in run.tags:
            continue
        if run.status == dg.DagsterRunStatus.CANCELING:  # failed, it would be retried
            instance.report_run_canceled(run, "Its process ended when Dagster was stopped.")
        else:
            instance.report_run_failed(run, "Its process ended when Dagster was stopped.")
        lost.append(run.run_id)
    return lost
