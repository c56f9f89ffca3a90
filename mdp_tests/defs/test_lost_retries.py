"""A run whose failure Dagster's daemon overlooked is launched anew nevertheless, once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, JobFailureData, RunFailureReason, StepSuccessData
from dagster._core.execution.plan.handle import StepHandle
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, BACKFILL_ID_TAG, WILL_RETRY_TAG
from dagster._core.test_utils import InProcessTestWorkspaceLoadTarget, create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon

from mdp.defs.lost_retries import MOST_TIMES, SETTLED_S, lost_retries_sensor, overlooked

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:The .warn. method is deprecated"),  # in Dagster's daemon
]

CODE = """
import dagster as dg

@dg.op
def work():
    pass

@dg.job
def one_job():
    work()

defs = dg.Definitions(jobs=[one_job])
"""
SETTINGS = {
    "run_coordinator": {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"},
    "run_retries": {"enabled": True, "max_retries": 3, "retry_on_asset_or_op_failure": False},
}


@pytest.fixture
def instance(tmp_path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=SETTINGS) as found:
        yield found


class Daemon:
    """The part of Dagster's daemon that launches failed runs anew, one look at a time."""

    def __init__(self, instance, workspace) -> None:
        self.instance = instance
        self.workspace = workspace
        self.consumer = EventLogConsumerDaemon()
        (entry,) = workspace.create_request_context().get_code_location_entries().values()
        self.job = entry.code_location.get_repository("__repository__").get_full_job("one_job")
        self.plan = entry.code_location.get_execution_plan(self.job, {}, None, None, instance)

    def look(self) -> None:
        list(self.consumer.run_iteration(self.workspace))

    @contextmanager
    def code_away(self, code: Path) -> Iterator[None]:
        """For a while the code cannot be loaded, then it is there again."""
        before, away = self.workspace, code.with_name("away.py")
        code.rename(away)
        target = InProcessTestWorkspaceLoadTarget(before.workspace_load_target.create_origins()[0])
        with pytest.warns(UserWarning, match="Error loading"):
            elsewhere = WorkspaceProcessContext(self.instance, target)
        with elsewhere as self.workspace:
            yield
        self.workspace = before
        away.rename(code)

    def started(self, **tags: str) -> dg.DagsterRun:
        return create_run_for_test(
            self.instance,
            job_name="one_job",
            status=dg.DagsterRunStatus.STARTED,
            tags=tags,
            remote_job_origin=self.job.get_remote_origin(),
            job_snapshot=self.job.job_snapshot,
            execution_plan_snapshot=self.plan.execution_plan_snapshot,
        )

    def fail(self, run: dg.DagsterRun) -> None:
        self.instance.report_run_failed(run)

    def fail_unseen(self, run: dg.DagsterRun) -> None:
        """What is written when a run fails, with the daemon's look between the event and the status."""
        storage = self.instance.event_log_storage
        store = storage.store_event

        def store_and_look(event):
            store(event)
            self.look()

        storage.store_event = store_and_look
        try:
            self.fail(run)
        finally:
            del storage.store_event

    def again(self, run: dg.DagsterRun) -> list[str]:
        return [one.run_id for one in self.instance.get_runs() if one.parent_run_id == run.run_id]


@contextmanager
def running_daemon(instance, folder) -> Iterator[Daemon]:
    code = folder / "code.py"
    code.write_text(CODE)
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(python_file=str(code), working_directory=str(folder)), location_name="code"
    )
    with WorkspaceProcessContext(instance, InProcessTestWorkspaceLoadTarget(origin)) as workspace:
        daemon = Daemon(instance, workspace)
        daemon.look()
        yield daemon


def tell(instance) -> None:
    with dg.build_sensor_context(instance=instance) as context:
        lost_retries_sensor(context)


def later() -> float:
    return time.time() + SETTLED_S + 1


def test_a_failure_that_was_overlooked_is_told_again_and_the_run_launched_anew_once(instance, tmp_path, monkeypatch):
    with running_daemon(instance, tmp_path) as daemon:
        seen, unseen = daemon.started(), daemon.started()
        daemon.fail(seen)
        daemon.look()
        daemon.fail_unseen(unseen)
        daemon.look()
        assert len(daemon.again(seen)) == 1
        assert daemon.again(unseen) == [], "Dagster sees it by itself now: this module may go"
        assert instance.get_run_by_id(unseen.run_id).tags[WILL_RETRY_TAG] == "true"

        assert overlooked(instance, now=time.time()) == [], "the daemon has a minute for it"
        monkeypatch.setattr("mdp.defs.lost_retries.SETTLED_S", -1)
        tell(instance)
        daemon.look()
        assert len(daemon.again(unseen)) == 1
        tell(instance)
        daemon.look()
        assert len(daemon.again(seen)) == len(daemon.again(unseen)) == 1
        assert AUTO_RETRY_RUN_ID_TAG in instance.get_run_by_id(unseen.run_id).tags


def test_a_run_that_could_not_be_launched_anew_while_the_code_server_was_away_is_so_later(instance, tmp_path):
    with running_daemon(instance, tmp_path) as daemon:
        run, of_a_step = daemon.started(), daemon.started()
        with daemon.code_away(tmp_path / "code.py"):
            daemon.fail(run)
            instance.report_run_failed(of_a_step, "a step", JobFailureData(None, RunFailureReason.STEP_FAILURE))
            daemon.look()
        assert daemon.again(run) == []
        assert instance.get_run_by_id(run.run_id).tags[WILL_RETRY_TAG] == "false", "Dagster tries again by itself now"
        assert [one.run_id for one in overlooked(instance, now=time.time())] == [run.run_id]
        tell(instance)
        daemon.look()
        assert len(daemon.again(run)) == 1
        assert daemon.again(of_a_step) == []
        assert overlooked(instance, now=time.time()) == []


def test_a_run_that_died_when_its_steps_had_succeeded_has_nothing_to_be_launched_for(instance, tmp_path):
    with running_daemon(instance, tmp_path) as daemon:
        run = daemon.started()
        step = {"job_name": "one_job", "step_key": "work", "step_handle": StepHandle.parse_from_key("work")}
        for kind, said in (("STEP_START", None), ("STEP_SUCCESS", StepSuccessData(1.0))):
            event = DagsterEvent(kind, event_specific_data=said, **step)
            instance.report_dagster_event(event, run.run_id)
        daemon.fail(run)
        daemon.look()
        assert daemon.again(run) == []
        told = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records
        assert "Failed to retry run" in str(told), "Dagster knows by itself now that nothing is left"
        assert overlooked(instance, now=later()) == []


def test_what_is_not_to_be_launched_anew_is_left_alone(instance, tmp_path):
    with running_daemon(instance, tmp_path) as daemon:
        of_nothing = daemon.started(**{BACKFILL_ID_TAG: "deleted"})
        often, once = daemon.started(), daemon.started()
        for _ in range(MOST_TIMES):
            daemon.fail(often)
        for run in (of_nothing, once):
            daemon.fail(run)
        assert [run.run_id for run in overlooked(instance, now=later())] == [once.run_id]
        assert overlooked(instance, now=later() + 2 * 86_400) == []
