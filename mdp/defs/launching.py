"""Launch a job over a range of days of one market, in this process, on the instance whose runs the UI shows.

Not here: what people type (``cli.backfill``), the jobs (``jobs``).
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagster as dg
from dagster._core.events import DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from mdp.defs.jobs import RANGE_END, RANGE_START
from mdp.defs.partitions import key_of
from mdp.domain.market import Market

OnMaterialized = Callable[[str, str], None]
"""Told the asset and the partition key as soon as that partition is durable."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended; ``error`` is what its failed step said, empty when it succeeded."""

    succeeded: bool
    error: str


def launch_range(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    *,
    market: Market,
    first: date,
    last: date,
    run_id: str,
    on_materialized: OnMaterialized,
) -> Outcome:
    """Run the job of a market over the days ``first`` to ``last``, both included, and wait for its end."""
    job = definitions.resolve_job_def("dvol_job" if market.is_volatility_index else "candles_job")

    def listen(entry: EventLogEntry) -> None:
        event = entry.dagster_event
        if event and event.event_type == DagsterEventType.ASSET_MATERIALIZATION and event.asset_key and event.partition:
            on_materialized(event.asset_key.to_user_string(), str(event.partition))

    instance.add_event_listener(run_id, listen)
    result = job.execute_in_process(
        instance=instance,
        run_id=run_id,
        raise_on_error=False,
        tags={
            RANGE_START: key_of(market, first),
            RANGE_END: key_of(market, last),
            "mdp/market": str(market).replace(":", "_"),
        },
    )
    failures = [event.event_specific_data for event in result.all_events if event.is_step_failure]
    return Outcome(result.success, "; ".join(_reason(data) for data in failures))


def _reason(data: object) -> str:
    """The one line a person needs of a step's failure: ours where the step failed on purpose."""
    failure = getattr(data, "user_failure_data", None)
    if failure is not None and failure.description:
        return str(failure.description)
    error = getattr(data, "error", None)
    while error is not None and error.cause is not None:
        error = error.cause
    return str(error.message).strip() if error is not None else "the step failed"


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
    """Hold the lock that says this process executes a run, for as long as it lives."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run_id}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        path.unlink()


def fail_orphans(instance: dg.DagsterInstance, folder: Path) -> list[str]:
    """Mark the runs as failed whose process died without saying so (kill -9, power loss); return their ids.

    The lock of a dead process is free. A run that is still executing keeps its lock and is left alone.
    """
    orphans = []
    for path in sorted(folder.glob("*.lock")):
        with suppress(OSError), path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            run = instance.get_run_by_id(path.stem)
            if run is not None and run.status in IN_PROGRESS_RUN_STATUSES:
                instance.report_run_failed(run, "The process that executed this run died; launch the range again.")
                orphans.append(path.stem)
            path.unlink(missing_ok=True)
    return orphans
