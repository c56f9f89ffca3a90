"""Loads of Parquet: columns meet by name, lists only where they are asked for, a repeated column is never null.

"Columns are matched by name" (https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-parquet), a Parquet
list becomes an array only with ``enableListInference`` (the same page), and "BigQuery translates a null array into an
empty one" (https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#array_nulls). The emulator goes by
position and keeps null arrays.

Not here: how the file arrives (``uploads``).
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from bqemulator.api.routes import jobs, upload
from bqemulator.domain.errors import InvalidQueryError, NotFoundError, ResourceRef, resource_not_found
from bqemulator.jobs import executor


def teach() -> None:
    """Replace the loader of Parquet files and the choice of a loader, which must know the options."""
    plain = executor._load_path_into_target

    def load(path: str, job: Any, ctx: Any) -> None:
        if job.source_format == "PARQUET":
            load_parquet(path, job, ctx)
        else:
            plain(path, job, ctx)

    executor._load_path_into_target = load
    upload.execute_load_job = _say_not_found(upload.execute_load_job)


def _say_not_found(run: Any) -> Any:
    """A job that names a table or dataset that is not there fails with ``notFound``, not with ``invalid``."""

    @wraps(run)
    async def run_or_fail(project_id: str, job_id: str, config: dict[str, Any], ctx: Any) -> Any:
        try:
            return await run(project_id, job_id, config, ctx)
        except NotFoundError as error:
            reason = {"reason": "notFound", "message": error.message}
            return jobs._failed_job_meta(project_id, job_id, "LOAD", config, reason, ctx.clock.now())

    return run_or_fail


def load_parquet(path: str, job: Any, ctx: Any) -> None:
    """Insert the rows of a file, all or none.

    Raises:
        NotFoundError: there is no such table, and the job gave no schema to make it.
        InvalidQueryError: the file has a column that the table lacks, or lists that were not asked for.
    """
    if ctx.catalog.get_table(job.project_id, job.dataset_id, job.table_id) is None:
        raise resource_not_found(ResourceRef("table", job.project_id, job.dataset_id, job.table_id))
    there = {name: kind for name, kind, *_ in ctx.engine.execute(f"DESCRIBE {job.target_ref}").fetchall()}
    query = "DESCRIBE SELECT * FROM read_parquet(?)"
    sent = {name: kind for name, kind, *_ in ctx.engine.execute(query, [path]).fetchall()}
    unknown = sorted(set(sent) - set(there))
    if unknown:
        raise InvalidQueryError(f"Provided Schema does not match Table {job.table_id}. Cannot add fields: {unknown}")
    lists = sorted(name for name, kind in sent.items() if kind.endswith("[]"))
    if lists and not (job.raw_config.get("parquetOptions") or {}).get("enableListInference"):
        raise InvalidQueryError(f"Fields {lists} are Parquet lists: without enable_list_inference they are records")
    values = ", ".join(
        f'COALESCE("{name}", []) AS "{name}"' if kind.endswith("[]") else f'"{name}"' for name, kind in sent.items()
    )
    ctx.engine.execute(f"INSERT INTO {job.target_ref} BY NAME SELECT {values} FROM read_parquet(?)", [path])
