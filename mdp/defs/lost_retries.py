"""Runs that were to be launched anew, and were not, or that nobody will ever begin: told of to whoever launches them.

A run that fails is written in three steps: its event, its status, and that it will be retried. Dagster's daemon follows
the events; when it looks between the first two, it finds a run that has not failed, and never looks again. The run's
backfill then waits for ever. And a run that it cannot launch in that instant, because the code server is away, it
gives up for good. Of a run that has yet to start it asks nobody whether it still can, and waits for hours. Not here:
which runs are tried again (``run_retries`` in ``dagster.yaml``), not telling of a lost run before it can be launched
anew (``relaunching``).
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol, runtime_checkable

import dagster as dg
from dagster._core.errors import DagsterInvalidSubsetError
from dagster._core.events import RunFailureReason
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES
from dagster._core.storage.dagster_run import RunsFilter
from dagster._core.storage.tags import (
    AUTO_RETRY_RUN_ID_TAG,
    BACKFILL_ID_TAG,
    RUN_FAILURE_REASON_TAG,
    WILL_RETRY_TAG,
)

SETTLED_S = 60.0
"""Dagster's daemon launches a run anew within seconds; one that failed so long ago it does not know of."""

MOST_TIMES = 5
"""So often a failure is told; whoever does not listen by then has other reasons."""

_AGE = timedelta(days=1)

_GIVEN_UP = "Failed to retry run"
"""What the daemon writes beside a run that it could not launch anew."""


def overlooked(instance: dg.DagsterInstance, *, now: float) -> list[dg.DagsterRun]:
    """Return the runs that failed, are or were to be launched anew, and were not.

    Args:
        instance: Of Dagster.
        now: Seconds since 1970.

    Returns:
        Those of the last day, without runs of backfills that have ended or were deleted.
    """
    lately = datetime.fromtimestamp(now, UTC) - _AGE
    failed = RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=lately)
    return [
        one.dagster_run
        for one in instance.get_run_records(failed)
        if AUTO_RETRY_RUN_ID_TAG not in one.dagster_run.tags
        and (_is_settled(one, now) or _was_given_up(instance, one.dagster_run))
        and _is_wanted(instance, one.dagster_run)
    ]


@runtime_checkable
class KnowsUnbegun(Protocol):
    """A launcher that knows of runs whose workers died before the run began."""

    def died_before_start(self, run: dg.DagsterRun) -> bool:
        """Tell it of one that is to start."""


def never_begun(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Return the runs that are to start, and whose workers are gone."""
    launcher = instance.run_launcher
    if not isinstance(launcher, KnowsUnbegun):
        return []
    starting = instance.get_runs(RunsFilter(statuses=[dg.DagsterRunStatus.STARTING]))
    return [run for run in starting if launcher.died_before_start(run)]


def _is_settled(record: dg.RunRecord, now: float) -> bool:
    is_to_come = record.dagster_run.tags.get(WILL_RETRY_TAG) == "true"
    return is_to_come and record.end_time is not None and record.end_time < now - SETTLED_S


def _was_given_up(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Tell whether the daemon tried to launch a run anew and could not; of a failed step it never tries.

    A run that died when all of its steps had succeeded has nothing left to launch: that is no reason to try again.
    """
    if run.tags.get(RUN_FAILURE_REASON_TAG) == RunFailureReason.STEP_FAILURE.value:
        return False
    told = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT, ascending=False, limit=20)
    events = [record.event_log_entry.get_dagster_event() for record in told.records]
    errors = [event.engine_event_data.error for event in events if event.message == _GIVEN_UP]
    return bool(errors) and not any(error and error.cls_name == DagsterInvalidSubsetError.__name__ for error in errors)


def _is_wanted(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    backfill_id = run.tags.get(BACKFILL_ID_TAG)
    backfill = None if backfill_id is None else instance.get_backfill(backfill_id)
    if backfill_id is not None and (backfill is None or backfill.status in BULK_ACTION_TERMINAL_STATUSES):
        return False
    told = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
    return len(told) < MOST_TIMES


@dg.sensor(
    minimum_interval_seconds=15,  # a backfill whose run was given up ends within half a minute
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Has runs launched anew that were lost with their process, and that Dagster's daemon overlooked, gave up, or "
        "still waits for."
    ),
)
def lost_retries_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Tell the failure of each such run, once more or at last."""
    found = overlooked(context.instance, now=time.time())
    unbegun = never_begun(context.instance)
    for run in found:
        _tell(context, run, "It is to be launched anew and was not: its failure is told once more.")
    for run in unbegun:
        _tell(context, run, "Its worker died, or could not reach Dagster's storage, before the run began.")
    return dg.SkipReason(f"{len(found)} runs were overlooked, {len(unbegun)} will not begin")


def _tell(context: dg.SensorEvaluationContext, run: dg.DagsterRun, said: str) -> None:
    context.instance.report_run_failed(run, said)
    context.log.warning(f"run {run.run_id}: {said}")
