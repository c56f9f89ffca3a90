"""Launch the job that heals, in this process, on the instance whose runs the UI shows.

Not here: the job (``healing``), what people type (``cli.heal``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run_iterator

from mdp.defs.healing import REPORT, HealConfig
from mdp.defs.launching import LAUNCHED_HERE, OnMaterialized, listen_to, why_failed


@dataclass(frozen=True, slots=True)
class HealRun:
    """How a run that heals ended.

    Attributes:
        error: Empty exactly when it succeeded.
        report: What it came to (``pipeline.healing.telling``); None where it did not come so far.
    """

    error: str
    report: dict[str, Any] | None


def launch_heal(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    config: HealConfig,
    *,
    run_id: str,
    on_materialized: OnMaterialized,
) -> HealRun:
    """Run the job and wait for its end."""
    job = definitions.resolve_job_def("heal_job")
    listen_to(instance, run_id, on_materialized)
    run_config = {"ops": {"heal": {"config": config.model_dump()}}}
    tags = {**job.run_tags, **LAUNCHED_HERE}
    run = instance.create_run_for_job(job, run_id=run_id, run_config=run_config, tags=tags)
    # a materialization weighs 25 kB; what the end tells is enough
    said = [
        event
        for event in execute_run_iterator(InMemoryJob(job), run, instance)
        if event.is_step_failure or event.is_successful_output or event.is_failure
    ]
    ended = instance.get_run_by_id(run_id)
    succeeded = ended is not None and ended.is_success
    return HealRun("" if succeeded else why_failed(said, ended), _report(said))


def _report(events: Iterable[dg.DagsterEvent]) -> dict[str, Any] | None:
    for event in events:
        said: Any = event.event_specific_data
        if event.is_step_failure:
            said = getattr(said, "user_failure_data", None)
        found = getattr(said, "metadata", {}).get(REPORT)
        if isinstance(found, dg.JsonMetadataValue) and isinstance(found.data, dict):
            return found.data
    return None
