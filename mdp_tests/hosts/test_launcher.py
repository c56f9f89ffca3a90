"""What becomes of a run in the queue of the workers: begun once, canceled, lost, or waiting for the broker."""

from __future__ import annotations

import secrets

import dagster as dg
import pytest
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import WorkerStatus

from mdp.defs.lost_retries import lost_retries_sensor
from mdp.defs.queue import LIVE, PLACE_TAG
from mdp.hosts.execution import execute_task
from mdp.hosts.launcher import LIVE_QUEUE, WORK_QUEUE
from mdp.hosts.vigil import Patience

STARTING, STARTED, CANCELING = dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING
CANCELED, FAILURE = dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE

# Celery and kombu call redis-py in words of an older one
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")


@pytest.fixture
def task_id() -> str:
    return secrets.token_hex(8)


def execute(instance, signs, run, task_id):
    return execute_task(
        instance, run_id=run.run_id, task_id=task_id, who="me", signs=signs, patience=Patience(60)
    )  # fmt: skip


def test_a_run_whose_worker_gives_signs_of_life_is_running_and_a_silent_one_failed(
    launcher_at, broker, signs, run_as, task_id
):
    patient, hasty = launcher_at(broker), launcher_at(broker, lost_s=0)
    run = run_as(STARTED, task_id)
    signs.beat(task_id)
    assert [patient.check_run_worker_health(run).status for _ in range(3)] == [WorkerStatus.RUNNING] * 3
    said = hasty.check_run_worker_health(run)
    assert said.status == WorkerStatus.FAILED
    assert "No sign of life" in said.msg


def test_a_run_whose_process_died_is_failed_at_once(launcher_at, broker, signs, run_as, task_id):
    signs.mourn(task_id)
    assert launcher_at(broker).check_run_worker_health(run_as(STARTED, task_id)).status == WorkerStatus.FAILED


def test_a_broker_that_is_away_fails_no_run(launcher_at, nobody, run_as, task_id):
    launcher = launcher_at(nobody, lost_s=0)
    said = launcher.check_run_worker_health(run_as(STARTED, task_id))
    assert said.status == WorkerStatus.RUNNING, "run monitoring fails a run at UNKNOWN too"
    assert "not known" in said.msg
    assert "does not answer" in launcher.get_run_worker_debug_info(run_as(STARTED, task_id))


def test_a_run_that_no_queue_knows_is_left_alone(launcher_at, broker, run_as):
    launcher = launcher_at(broker, lost_s=0)
    assert launcher.check_run_worker_health(run_as(STARTED)).status == WorkerStatus.RUNNING
    assert launcher.get_run_worker_debug_info(run_as(STARTED)) is None


@pytest.mark.slow
def test_a_run_goes_back_to_the_queue_of_dagster_while_the_broker_is_away(launcher_at, nobody, run_as, instance):
    launcher, run = launcher_at(nobody), run_as(STARTING)
    signature = launcher.celery.signature("execute_job")
    with pytest.raises(DagsterUserCodeUnreachableError, match="the run waits"):
        launcher._launch_celery_task_run(run, signature, "execute_job")


@pytest.mark.parametrize(("tags", "queue"), [({}, WORK_QUEUE), ({PLACE_TAG: LIVE}, LIVE_QUEUE)])
def test_a_run_names_its_task_and_live_has_a_queue_of_its_own(launcher_at, broker, run_as, instance, tags, queue):
    launcher, run = launcher_at(broker), run_as(STARTING)
    instance.add_run_tags(run.run_id, tags)
    launcher._launch_celery_task_run(
        instance.get_run_by_id(run.run_id), launcher.celery.signature("execute_job"), "execute_job"
    )
    task_id = instance.get_run_by_id(run.run_id).tags["dagster-celery/task_id"]
    with launcher.celery.connection_for_read() as connection:
        message = connection.SimpleQueue(launcher.celery.amqp.queues[queue], no_ack=True).get(timeout=2)
    assert message.headers["id"] == task_id


def test_canceled_before_it_began_it_has_ended_and_nobody_begins_it(
    launcher_at, broker, signs, run_as, instance, task_id
):
    run = run_as(STARTING, task_id)
    assert launcher_at(broker).terminate(run.run_id)
    assert instance.get_run_by_id(run.run_id).status == CANCELED
    assert "CANCELED already" in execute(instance, signs, run, task_id)
    assert not launcher_at(broker).terminate(run.run_id), "it has ended"


def test_canceled_while_it_is_executed_it_is_left_to_its_vigil(launcher_at, broker, signs, run_as, instance, task_id):
    run = run_as(STARTED, task_id)
    signs.claim(task_id, "a worker")
    assert launcher_at(broker).terminate(run.run_id)
    assert instance.get_run_by_id(run.run_id).status == CANCELING


def test_canceled_while_the_broker_is_away_it_ends_when_its_turn_comes(
    launcher_at, nobody, signs, run_as, instance, task_id
):
    run = run_as(STARTING, task_id)
    assert launcher_at(nobody).terminate(run.run_id)
    assert "canceled" in execute(instance, signs, run, task_id)
    assert instance.get_run_by_id(run.run_id).status == CANCELED


def test_a_run_that_somebody_has_is_not_begun_again(signs, run_as, instance, task_id):
    run = run_as(STARTING, task_id)
    signs.claim(task_id, "another")
    assert "another has it" in execute(instance, signs, run, task_id)
    assert instance.get_run_by_id(run.run_id).status == STARTING


def test_a_task_of_an_earlier_launch_does_nothing(signs, run_as, instance, task_id):
    run = run_as(STARTING, "a later task")
    assert "launched again" in execute(instance, signs, run, task_id)
    assert signs.claimed_by(task_id) is None


@pytest.mark.parametrize("status", [STARTED, FAILURE, dg.DagsterRunStatus.SUCCESS])
def test_only_a_run_that_waits_for_its_worker_is_begun(signs, run_as, instance, task_id, status):
    assert f"{status.value} already" in execute(instance, signs, run_as(status, task_id), task_id)
    assert signs.claimed_by(task_id) is None


def test_a_run_whose_code_does_not_load_has_an_end(signs, run_as, instance, task_id):
    run = run_as(STARTING, task_id)  # without an origin, there is nothing to load
    with pytest.raises(Exception, match="origin"):
        execute(instance, signs, run, task_id)
    assert instance.get_run_by_id(run.run_id).status == FAILURE


def test_a_run_whose_worker_died_before_it_began_is_failed_and_one_that_waits_is_not(
    launcher_at, broker, nobody, signs, run_as, instance, task_id, monkeypatch
):
    lost, waits, of_nobody = run_as(STARTING, task_id), run_as(STARTING, secrets.token_hex(8)), run_as(STARTING)
    signs.mourn(task_id)
    for launcher in (launcher_at(nobody), launcher_at(broker)):
        assert instance.get_run_by_id(lost.run_id).status == STARTING, "of a broker that is away nothing is known"
        monkeypatch.setattr(instance, "_run_launcher", launcher)
        with dg.build_sensor_context(instance=instance) as context:
            lost_retries_sensor(context)
    assert instance.get_run_by_id(lost.run_id).status == FAILURE
    assert [instance.get_run_by_id(run.run_id).status for run in (waits, of_nobody)] == [STARTING] * 2
