"""The launcher of runs as tasks of Celery, which workers on any number of hosts take.

Over the library's own: a run is never executed twice, a host that dies is noticed, a broker that is away costs no run,
and a run that is canceled ends as such. Not here: executing a run (``execution``).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
from celery.canvas import Signature  # type: ignore[import-untyped]  # ships no types
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.storage.dagster_run import ACTIVE_RUN_STATUSES, RunsFilter
from dagster._serdes import ConfigurableClassData
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_RUN_PRIORITY_TAG, DAGSTER_CELERY_TASK_ID_TAG
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from mdp.config.settings import load_settings
from mdp.defs.queue import LIVE, PLACE_TAG
from mdp.defs.relaunching import LostRuns, waiting_for_storage
from mdp.hosts.queueing import OPTIONS, celery_address
from mdp.hosts.signs import DEAD, Signs, Watch
from mdp.hosts.vigil import Patience

WORK_QUEUE, LIVE_QUEUE = "dagster", "dagster-live"
"""Where tasks wait: a worker takes those of one queue, so that the live run never waits for a backfill to end."""

_LONGEST_LOOK_S = 20.0
"""Two looks at a run lie ``run_monitoring.poll_interval_seconds`` apart: 10 in ``deploy/dagster/celery``."""


class HostsLauncher(CeleryRunLauncher):
    """Puts each run into the queue as one task, and watches whether whoever took it is still there."""

    def __init__(self, patience: Patience, broker: str, **of_celery: Any) -> None:
        options = {**OPTIONS, **(of_celery.pop("config_source", None) or {})}
        self._signs = Signs(broker)
        self._watch = Watch(_LONGEST_LOOK_S)
        self._patience = patience
        self._lost = LostRuns()
        super().__init__(broker=celery_address(broker), config_source=options, **of_celery)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Make it with the patience of the settings, and without a store of results."""
        patience = Patience(load_settings().dagster.lost_after_s)
        return cls(patience, inst_data=inst_data, **{**config_value, "backend": None})

    def launch_run(self, context: LaunchRunContext) -> None:
        """Put a run into the queue; a task of an attempt that the storage broke off does nothing."""
        with waiting_for_storage():
            super().launch_run(context)

    def _launch_celery_task_run(self, run: dg.DagsterRun, task_signature: Signature, routing_key: str) -> None:
        """Name the task in the run before anybody can take it: a worker begins no run that names another task.

        Raises:
            DagsterUserCodeUnreachableError: the broker is away. Of all that may be raised here, this alone makes the
                daemon queue the run again instead of failing it.
        """
        task_id = str(uuid.uuid4())
        queue = LIVE_QUEUE if run.tags.get(PLACE_TAG) == LIVE else self.default_queue
        self._instance.add_run_tags(run.run_id, {DAGSTER_CELERY_TASK_ID_TAG: task_id})
        try:
            task_signature.apply_async(
                task_id=task_id, queue=queue, routing_key=f"{queue}.{routing_key}", priority=_priority_of(run)
            )
        except (OperationalError, RedisError) as error:
            said = f"the queue of the workers does not answer ({type(error).__name__}); the run waits"
            raise DagsterUserCodeUnreachableError(said) from error
        self._instance.report_engine_event(f"The run waits for a worker in queue {queue}, as task {task_id}.", run)

    def terminate(self, run_id: str) -> bool:
        """Cancel a run: at once where no worker began it, else its vigil ends it within a few seconds."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        task_id = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        try:
            if task_id is not None and self._signs.withdraw(task_id):
                self._instance.report_run_canceled(run, "Canceled before a worker began it.")
        except RedisError:
            pass  # whoever takes the task reads in Dagster's storage that it is not wanted any more
        return True

    @property
    def supports_resume_run(self) -> bool:
        """A lost run is launched anew (``run_retries``), and asks only for what is not kept."""
        return False

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Tell whether a run that began is still executed.

        Run monitoring fails the run at every answer but ``RUNNING`` and ``SUCCESS``, at ``UNKNOWN`` too: so whatever is
        not known counts as running.
        """
        task_id = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        if task_id is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "not launched through the queue: nobody watches it")
        try:
            beat = self._signs.last(task_id)
        except RedisError as error:
            self._watch.could_not_look()
            said = f"not known: the queue of the workers does not answer ({type(error).__name__})"
            return CheckRunHealthResult(WorkerStatus.RUNNING, said)
        if beat == DEAD:
            return self._lost.judge(run, "The process that executed it died, or its worker was told to end.")
        self._forget_ended()
        silent_s = self._watch.silent_s(task_id, beat)
        if silent_s < self._patience.lost_s:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return self._lost.judge(run, f"No sign of life for {silent_s:.0f} s: its host is gone.")

    def died_before_start(self, run: dg.DagsterRun) -> bool:
        """Tell whether whoever took the task of a run died before the run began; run monitoring asks only later."""
        task_id = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        try:
            return task_id is not None and self._signs.last(task_id) == DEAD
        except RedisError:
            return False

    def get_run_worker_debug_info(self, run: dg.DagsterRun, include_container_logs: bool | None = True) -> str | None:  # noqa: ARG002 the signature is Dagster's
        """Say which worker has or had a run."""
        task_id = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        if task_id is None:
            return None
        try:
            who = self._signs.claimed_by(task_id)
        except RedisError:
            return f"Task {task_id}; the queue of the workers does not answer."
        return f"Task {task_id}, begun by {who}." if who else f"Task {task_id}: no worker has begun it."

    def _forget_ended(self) -> None:
        active = self._instance.get_runs(RunsFilter(statuses=ACTIVE_RUN_STATUSES))
        self._watch.forget_all_but({run.tags.get(DAGSTER_CELERY_TASK_ID_TAG, "") for run in active})


def _priority_of(run: dg.DagsterRun) -> int:
    try:
        return int(run.tags.get(DAGSTER_CELERY_RUN_PRIORITY_TAG, 0))
    except ValueError:
        return 0
