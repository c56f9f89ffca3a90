"""What Dagster knows that a person may have to know: gathered from its instance.

Not here: what follows (``alerting``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

import dagster as dg
from dagster._core.events import DagsterEventType
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)
from dagster._core.storage.dagster_run import RunsFilter
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG

from mdp.defs.alerting import STUCK_S, Facts, FailedBackfill, FailedCheck, FailedRun
from mdp.defs.queue import EXCHANGE_TAG

SETTLED_S = 10.0
"""That a failed run is tried again, Dagster says a moment after its failure; until then nothing is concluded."""

RETRIED_S = 300.0
"""A run that is to be tried again is so within a minute or two; one that was not after so long will not be."""

_MOST, _MOST_OF_A_CHECK = 500, 100
_TOO_LONG = "exceeding maximum runtime"
"""What run monitoring says when it ends a run by itself, with the event of one that a person cancels."""


def gather(instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey], *, since: float, now: float) -> Facts:
    """Return what happened after ``since``, seconds since 1970, as far as it is settled ``now``."""
    return Facts(
        now,
        failed_runs=list(_failed_runs(instance, since, now - SETTLED_S)),
        failed_checks=[found for key in checks for found in _failed_checks(instance, key, since)],
        failed_backfills=list(_failed_backfills(instance, since)),
        stuck_runs=_stuck_runs(instance, now),
    )


def _failed_runs(instance: dg.DagsterInstance, since: float, until: float) -> Iterator[FailedRun]:
    failed = RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=datetime.fromtimestamp(since, UTC))
    for record in instance.get_run_records(failed, limit=_MOST):
        run, ended = record.dagster_run, record.end_time or until
        is_over = since < ended <= until and not _is_tried_again(run, until - ended)
        if is_over and not _was_canceled(instance, run.run_id):
            yield FailedRun(run.run_id, run.job_name, _why(instance, run.run_id), ended, run.tags.get(EXCHANGE_TAG, ""))


def _is_tried_again(run: dg.DagsterRun, ended_ago_s: float) -> bool:
    if run.tags.get(WILL_RETRY_TAG) != "true":
        return False
    return AUTO_RETRY_RUN_ID_TAG in run.tags or ended_ago_s < RETRIED_S


def _was_canceled(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Did somebody ask for its end? It may fail on its way there."""
    # the first says who it was: a launcher writes another one when it ends the run
    asked = instance.event_log_storage.get_logs_for_run(run_id, of_type=DagsterEventType.RUN_CANCELING, limit=1)
    return any(_TOO_LONG not in (entry.get_dagster_event().message or "") for entry in asked)


def _why(instance: dg.DagsterInstance, run_id: str) -> str:
    """The one line of a failed run that a person needs: of its first failed step, else of the run."""
    for kind in (DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE):
        for entry in instance.event_log_storage.get_logs_for_run(run_id, of_type=kind, limit=1):
            data = entry.get_dagster_event().event_specific_data
            told = getattr(getattr(data, "user_failure_data", None), "description", None) or entry.user_message
            return _first_line(told or getattr(getattr(data, "error", None), "message", "") or entry.message)
    return _first_line("")


def _failed_checks(instance: dg.DagsterInstance, key: dg.AssetCheckKey, since: float) -> Iterator[FailedCheck]:
    # by the time of the verdict: the record itself is made when the run begins, which may be an hour before
    history = instance.event_log_storage.get_asset_check_execution_history(
        key, limit=_MOST_OF_A_CHECK, status={AssetCheckExecutionRecordStatus.FAILED}
    )
    for record in history:
        evaluation = record.evaluation
        if evaluation is not None and evaluation.severity is dg.AssetCheckSeverity.ERROR and _judged(record) > since:
            name, said = f"{key.asset_key.to_user_string()}:{key.name}", evaluation.description or "see its metadata"
            yield FailedCheck(name, _first_line(said), record.run_id, _judged(record), record.partition or "")


def _judged(record: AssetCheckExecutionRecord) -> float:
    return record.event.timestamp if record.event is not None else record.create_timestamp


def _failed_backfills(instance: dg.DagsterInstance, since: float) -> Iterator[FailedBackfill]:
    for status in (BulkActionStatus.FAILED, BulkActionStatus.COMPLETED_FAILED):
        for backfill in instance.get_backfills(status=status, limit=_MOST):
            ended = backfill.backfill_end_timestamp or 0.0
            if ended > since:
                said = backfill.error.message if backfill.error else "some of its runs failed"
                yield FailedBackfill(backfill.backfill_id, _first_line(said), ended)


def _stuck_runs(instance: dg.DagsterInstance, now: float) -> Mapping[str, float]:
    found = {}
    for record in instance.get_run_records(RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]), limit=_MOST):
        run_id = record.dagster_run.run_id
        last = instance.event_log_storage.get_logs_for_run(run_id, limit=1, ascending=False)
        silent_s = now - (last[0].timestamp if last else record.start_time or now)
        if silent_s > STUCK_S:
            found[run_id] = silent_s
    return found


def _first_line(said: str) -> str:
    """Return what fits into an alert."""
    return next(iter(said.strip().splitlines()), "no reason is known")[:500]
