"""Which of Dagster's old runs may go, and their going.

Dagster keeps a run's events as long as the run, and a partition is green by the event that says so: a run that made the
newest of anything stays. Not here: the tables of candles (``maintenance``), ticks of sensors and schedules
(``dagster.yaml``).
"""

import shutil
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import dagster as dg
from dagster._core.events import DagsterEventType
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.storage.dagster_run import FINISHED_STATUSES, RunsFilter
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.tags import BACKFILL_ID_TAG

from mdp.config.settings import Settings

MOST_AT_ONCE = 20_000
"""Of one run of the job; the rest goes next week."""

_AT_A_TIME = 500
_UNDER_WAY = (BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING)


def removable_runs(
    instance: dg.DagsterInstance,
    assets: Iterable[dg.AssetKey],
    checks: Iterable[dg.AssetCheckKey],
    *,
    before: datetime,
) -> list[str]:
    """Return the runs that ended before a time and by which nothing is known that no later run says.

    Args:
        instance: Of Dagster.
        assets: All that were ever made, also those that the project no longer has.
        checks: All that there are.
        before: UTC.

    Returns:
        The ids of at most :data:`MOST_AT_ONCE`, oldest first.
    """
    needed = set(_told_last(instance, list(assets), list(checks)))
    at_work = {one.backfill_id for status in _UNDER_WAY for one in instance.get_backfills(status=status)}
    old = (
        run.run_id
        for run in _ended(instance, before)
        if run.run_id not in needed and run.tags.get(BACKFILL_ID_TAG) not in at_work
    )
    return list(islice(old, MOST_AT_ONCE))


def _ended(instance: dg.DagsterInstance, before: datetime) -> Iterator[dg.DagsterRun]:
    """Yield all runs that ended before a time, oldest first: behind those that stay for ever, others wait."""
    ended = RunsFilter(statuses=FINISHED_STATUSES, updated_before=before)
    last: str | None = None
    while records := instance.get_run_records(ended, limit=_AT_A_TIME, ascending=True, cursor=last):
        last = records[-1].dagster_run.run_id
        for one in records:
            if one.end_time is not None and one.end_time < before.timestamp():
                yield one.dagster_run


def _told_last(
    instance: dg.DagsterInstance, assets: list[dg.AssetKey], checks: list[dg.AssetCheckKey]
) -> Iterator[str]:
    """Yield the runs of the newest event of each asset and partition, and of each check and partition."""
    storage = instance.event_log_storage
    for asset in assets:
        yield from _of_partitions(instance, asset)
        newest = [instance.get_latest_materialization_event(asset)]
        newest += [record.event_log_entry for record in instance.fetch_observations(asset, limit=1).records]
        yield from (event.run_id for event in newest if event is not None)
    for told in storage.get_asset_check_summary_records(checks).values():
        for record in (told.last_check_execution_record, told.last_completed_check_execution_record):
            if record is not None:
                yield record.run_id
    yield from (info.latest_planned_run_id for info in storage.get_asset_check_partition_info(checks))


def _of_partitions(instance: dg.DagsterInstance, asset: dg.AssetKey) -> Iterator[str]:
    """Yield the runs that made a partition what it is: green, observed, or red since its newest attempt."""
    storage = instance.event_log_storage
    attempts = storage.get_latest_asset_partition_materialization_attempts_without_materializations(asset)
    yield from (run_id for run_id, _ in attempts.values())
    for kind, fetch in (
        (DagsterEventType.ASSET_MATERIALIZATION, storage.fetch_materializations),
        (DagsterEventType.ASSET_OBSERVATION, storage.fetch_observations),
    ):
        ids = list(storage.get_latest_storage_id_by_partition(asset, kind).values())
        for first in range(0, len(ids), _AT_A_TIME):
            wanted = dg.AssetRecordsFilter(asset_key=asset, storage_ids=ids[first : first + _AT_A_TIME])
            yield from (record.run_id for record in fetch(wanted, limit=_AT_A_TIME).records)


@dg.op(out=dg.Out(dg.Nothing), description="Delete old runs by which nothing is known that no later run says.")
def remove_old_runs(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]) -> None:
    """Delete them, with their logs; those that are needed stay, however old."""
    days = settings.dagster.keep_runs_days
    if days is None:
        context.log.info("MDP_DAGSTER__KEEP_RUNS_DAYS is none: every run stays")
        return
    assets, checks = context.instance.all_asset_keys(), context.repository_def.asset_graph.asset_check_keys
    before, begun = datetime.now(UTC) - timedelta(days=days), time.monotonic()
    old = removable_runs(context.instance, assets, checks, before=before)
    found_s = time.monotonic() - begun
    context.log.info(f"{len(old):,} runs ended before {before:%Y-%m-%d} and are not needed; found in {found_s:.1f} s")
    for number, run_id in enumerate(old, start=1):
        remove_run(context.instance, run_id, settings.dagster_dir / "storage")
        if number % 1_000 == 0 or number == len(old):
            context.log.info(f"{number:,} runs removed in {time.monotonic() - begun - found_s:.1f} s")


def remove_run(instance: dg.DagsterInstance, run_id: str, logs: Path) -> None:
    """Delete a run's events, logs and, last of all, itself: what was cut off on the way is found again and finished."""
    storage = instance.event_log_storage
    storage.delete_events(run_id)
    if isinstance(storage, SqliteEventLogStorage):  # it has a file for each run, which it leaves behind empty
        path = Path(storage.path_for_shard(run_id))
        for one in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            one.unlink(missing_ok=True)
    shutil.rmtree(logs / run_id, ignore_errors=True)
    instance.run_storage.delete_run(run_id)


@dg.job(description="Delete old runs of Dagster by which nothing is known that no later run says.")
def retention_job() -> None:
    """One step."""
    remove_old_runs()


@dg.schedule(job=retention_job, cron_schedule="30 3 * * 0", execution_timezone="UTC")
def weekly_retention(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Sundays at 03:30 UTC: delete runs older than MDP_DAGSTER__KEEP_RUNS_DAYS."""
    return dg.RunRequest(run_key=str(context.scheduled_execution_time.date()))
