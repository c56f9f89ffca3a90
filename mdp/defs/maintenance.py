"""The job that looks after the tables every week, and what it tells people who look before they read.

Not here: the work (``pipeline.maintenance``).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from mdp.config.sections import MaintenanceSettings
from mdp.config.settings import Settings
from mdp.defs.failures import as_failure
from mdp.defs.metadata import records_table
from mdp.domain.market import Market
from mdp.pipeline.disk import free_bytes, rooms
from mdp.pipeline.maintenance import Plan, Upkeep, maintain, require_maintained, total_use
from mdp.pipeline.tidying import tidy
from mdp.ports import CandleStore, Clock, DiskUse, Vacuum
from mdp.sources import open_spool

_OBSERVED = ("raw_ohlcv", "ohlcv", "raw_dvol", "dvol")
"""Tables that are an asset of the same name, on whose page their size is worth a curve."""


class MaintenanceConfig(dg.Config):
    """How one run looks after the tables; what is not given is as the settings say."""

    dry_run: bool = Field(default=False, description="Change nothing; count what would be removed.")
    retention_hours: int | None = Field(
        default=None, ge=1, le=720, description="How long files stay that are no longer part of a table."
    )

    def settings(self, settings: MaintenanceSettings) -> MaintenanceSettings:
        """Return the settings with what this run says otherwise."""
        if self.retention_hours is None:
            return settings
        return settings.model_copy(update={"retention_hours": self.retention_hours})


@dg.op(
    description="Drop old evidence, join small files and remove what no table and no snapshot holds, table by table. "
    "A table that fails stops no other; the run fails at the end.",
    out=dg.Out(dg.Nothing),
)
def maintain_tables(
    context: dg.OpExecutionContext,
    config: MaintenanceConfig,
    store: dg.ResourceParam[CandleStore],
    settings: dg.ResourceParam[Settings],
    clock: dg.ResourceParam[Clock],
) -> Iterator[Any]:
    """Look after all tables and tell what came of it."""
    markets = tuple(map(Market.parse, settings.markets))
    plan = Plan(config.settings(settings.maintenance), clock(), markets, config.dry_run)
    done = []
    for one in maintain(store, plan):
        done.append(one)
        context.log.info(_line(one))
    pages = open_spool(settings, clock).sweep(dry_run=config.dry_run)
    leftovers = tidy(settings, plan.now, is_dry=config.dry_run)
    metadata = upkeep_metadata(done, pages, is_dry=config.dry_run) | disk_metadata(settings)
    metadata["leftovers removed"] = leftovers.files
    for one in done:
        if one.table in _OBSERVED and one.after is not None:
            yield dg.AssetObservation(one.table, description="Room on the disk", metadata=use_metadata(one.after))
    with as_failure(metadata=metadata):
        require_maintained(done)
    yield dg.Output(None, metadata=metadata)


def _line(one: Upkeep) -> str:
    failed = "".join(f"; FAILED {trouble.step}: {trouble.message}" for trouble in one.troubles)
    removed = f"{one.vacuum.files} files of {one.vacuum.size_bytes:,} bytes removed"
    joined = f"{one.compaction.files_before} files joined to {one.compaction.files_after}"
    return f"{one.table}: {one.pruned} rows dropped, {joined}, {removed}{failed}"


def upkeep_metadata(done: Sequence[Upkeep], pages: Vacuum, *, is_dry: bool) -> dict[str, Any]:
    """Return what a run came to: totals as numbers, of which Dagster draws curves, and a table of the tables."""
    before, after = (total_use([getattr(one, when) for one in done]) for when in ("before", "after"))
    return {
        "dry run": is_dry,
        "size_bytes before": before.size_bytes,
        "size_bytes": after.size_bytes,
        "files before": before.files,
        "files": after.files,
        "dagster/row_count": after.rows,
        "rows dropped": sum(one.pruned for one in done),
        "bytes removed": sum(one.vacuum.size_bytes for one in done),
        "pages removed": pages.files,
        "tables": records_table(_COLUMNS, [_record(one) for one in done]),
        "failed": records_table(
            ("table", "step", "error", "a_retry_can_help"),
            [(one.table, each.step, each.message, each.retryable) for one in done for each in one.troubles],
        ),
    }


_COLUMNS = (
    "table", "rows_before", "rows", "files_before", "files", "bytes_before", "bytes", "rows_dropped", "files_removed",
    "bytes_removed", "old_bytes_left", "failed",
)  # fmt: skip


def _record(one: Upkeep) -> tuple[Any, ...]:
    before, after = one.before or DiskUse(), one.after or DiskUse()
    sizes = (before.rows, after.rows, before.files, after.files, before.size_bytes, after.size_bytes)
    removed = (one.pruned, one.vacuum.files, one.vacuum.size_bytes, after.old_bytes)
    return one.table, *sizes, *removed, ", ".join(trouble.step for trouble in one.troubles)


def use_metadata(use: DiskUse) -> dict[str, Any]:
    """Return the room of one table."""
    found: dict[str, Any] = {"dagster/row_count": use.rows, "files": use.files, "size_bytes": use.size_bytes}
    return found | ({"bytes a row": round(use.size_bytes / use.rows, 1)} if use.rows else {})


def disk_metadata(settings: Settings) -> dict[str, Any]:
    """Return what takes room beside the tables, and how much is left."""
    rows = [(one.name, one.files, one.size_bytes, str(one.directory)) for one in rooms(settings)]
    free = free_bytes(settings.data_dir)
    found: dict[str, Any] = {"besides": records_table(("name", "files", "bytes", "directory"), rows)}
    return found | ({"free_bytes": free} if free is not None else {})


@dg.job(description="Look after the tables: drop old evidence, join small files, remove what nothing holds any more.")
def maintenance_job() -> None:
    """One step: the tables one after the other, so that the disk and the log of each are asked once at a time."""
    maintain_tables()


@dg.schedule(job=maintenance_job, cron_schedule="0 3 * * 0", execution_timezone="UTC")
def weekly_maintenance(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Sundays at 03:00 UTC, when the nightly runs are over: look after the tables."""
    return dg.RunRequest(run_key=str(context.scheduled_execution_time.date()))
