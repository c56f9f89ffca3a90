"""What a worker does with a task: claim it, execute its run under a vigil, and leave no run without an end.

Not here: starting workers (``worker``), what a run does (``defs``).
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster._cli.api import _execute_run_command_body
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG as TASK_ID_TAG

from mdp.hosts.signs import Signs
from mdp.hosts.vigil import Patience, keeping_vigil

_TO_BEGIN = {dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING}

_log = logging.getLogger(__name__)


def execute_task(
    instance: dg.DagsterInstance, *, run_id: str, task_id: str, who: str, signs: Signs, patience: Patience
) -> str:
    """Execute the run of a task, unless it is not to begin or somebody has it; return in words what became of it.

    Args:
        instance: Where the run is.
        run_id: Of the run.
        task_id: Of the task; a run that was launched again since has another one.
        who: Name of the worker, for people.
        signs: Where claims and signs of life go.
        patience: How long silence may last.
    """
    run = instance.get_run_by_id(run_id)
    if run is None:
        return _ignored(run_id, "it was deleted")
    if run.tags.get(TASK_ID_TAG) != task_id:
        return _ignored(run_id, "it was launched again as another task")
    if run.status == dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, "Canceled before a worker began it.")
        return _ignored(run_id, "it was canceled")
    if run.status not in _TO_BEGIN:
        return _ignored(run_id, f"it is {run.status.value} already")
    if not signs.claim(task_id, who):
        return _ignored(run_id, f"{signs.claimed_by(task_id)} has it")
    signs.beat(task_id)
    instance.report_engine_event(f"Worker {who} begins the run.", run)

    def status_of(asked: str) -> dg.DagsterRunStatus | None:
        found = instance.get_run_by_id(asked)
        return None if found is None else found.status

    with _interruptible():
        try:
            with keeping_vigil(run_id, task_id, status_of, signs, patience):
                _execute_run_command_body(run_id, instance, lambda _: None, set_exit_code_on_failure=True)
        finally:
            ended = _leave_no_run_without_end(instance, run_id)
    return ended


def _leave_no_run_without_end(instance: dg.DagsterInstance, run_id: str) -> str:
    """Say how a run ended that could not say so itself, such as one whose code did not load."""
    run = instance.get_run_by_id(run_id)
    if run is None:
        return "deleted"
    if run.is_finished:
        return run.status.value
    if run.status == dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run)
        return dg.DagsterRunStatus.CANCELED.value
    instance.report_run_failed(run, "Its worker was interrupted, or could not load its code; see the worker's log.")
    return dg.DagsterRunStatus.FAILURE.value


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM interrupt a run, which a child of Celery ignores or dies of.

    Dagster sets its own handlers while steps run, and afterwards gives SIGTERM that of SIGINT: a child that was left
    like that would ignore its worker's wish that it end.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        _log.warning("interrupted outside of a step")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignored(run_id: str, why: str) -> str:
    _log.warning("run %s is not begun: %s", run_id, why)
    return f"not begun: {why}"
