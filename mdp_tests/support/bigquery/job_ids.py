"""Job ids given by the client: a second job of one id is refused with 409, whatever became of the first.

"Specify the job ID in the request and retry safely: if the request arrived, the retry returns 409 Already Exists"
(https://cloud.google.com/bigquery/docs/running-jobs#generate-jobid). The emulator runs the job again, and its upload
host invents an id of its own.

Not here: the format of uploads (``uploads``).
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from bqemulator.api.routes import jobs
from bqemulator.domain.errors import AlreadyExistsError


def refuse_known(ctx: Any, project_id: str, job_id: str) -> None:
    """Raise the service's 409 where a job has that id already."""
    if ctx.catalog.get_job(project_id, job_id) is not None:
        raise AlreadyExistsError(f"Already Exists: Job {project_id}:US.{job_id}")


def teach() -> None:
    """Wrap what ``jobs.insert`` hands a job to."""
    for name in (
        "_handle_query_job",
        "_handle_load_job_with_async_envelope",
        "execute_extract_job",
        "execute_copy_job",
    ):
        setattr(jobs, name, _once(getattr(jobs, name)))


def _once(run: Any) -> Any:
    @wraps(run)
    async def refuse_or_run(project_id: str, job_id: str, config: Any, *rest: Any, **named: Any) -> Any:
        refuse_known(named["ctx"] if "ctx" in named else rest[0], project_id, job_id)
        return await run(project_id, job_id, config, *rest, **named)

    return refuse_or_run
