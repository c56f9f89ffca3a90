"""The shell of the live sensor: decisions become requests, and runs whose process is gone become ended ones."""

from __future__ import annotations

import dagster as dg
import pytest

from mdp.config.settings import load_settings
from mdp.defs.live_decision import Decision, RunFact
from mdp.defs.live_job import live_job
from mdp.defs.live_sensor import _done, live_sensor
from mdp.defs.queue import LIVE, PLACE_TAG


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def tick(instance, tmp_path, **settings):
    resources = {"settings": load_settings(data_dir=tmp_path, **settings)}
    return live_sensor(dg.build_sensor_context(instance=instance, resources=resources))


def test_where_nothing_runs_one_live_run_is_requested_and_each_time_another(instance, tmp_path):
    # no bus runs in this folder either, and looking starts none
    first, second = (tick(instance, tmp_path, simulated=True) for _ in range(2))
    (one,), (other,) = first.run_requests, second.run_requests
    assert (one.job_name, other.job_name) == ("live_job", "live_job")
    assert one.run_key != other.run_key, "a key that was used is never launched again"
    assert not (tmp_path / "bus").exists()


def test_in_backtest_it_says_why_it_does_nothing(instance, tmp_path):
    result = tick(instance, tmp_path, mode="backtest")
    assert not result.run_requests
    assert "backtest" in result.skip_reason.skip_message


def test_it_is_off_until_somebody_turns_it_on(definitions):
    sensor = definitions.get_repository_def().get_sensor_def("live_sensor")
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
    assert {target.job_name for target in sensor.targets} == {"live_job", "heal_job"}


def test_what_it_asks_of_healing_is_what_healing_understands(definitions, instance):
    asked = _done(dg.build_sensor_context(instance), Decision("why", heal=["okx:BTC-USDT"]), heard="a")
    (request,) = asked.run_requests
    assert (request.job_name, asked.cursor) == ("heal_job", "a")
    assert dg.validate_run_config(definitions.resolve_job_def("heal_job"), request.run_config)


STATUS = dg.DagsterRunStatus


@pytest.mark.parametrize(("status", "ends_as"), [(STATUS.STARTED, STATUS.FAILURE), (STATUS.CANCELING, STATUS.CANCELED)])
def test_a_run_whose_process_is_gone_is_ended_as_it_was_meant_to(instance, status, ends_as):
    run = instance.create_run_for_job(live_job, status=status)
    zombie = RunFact(run.run_id, status.value, 99)
    _done(dg.build_sensor_context(instance), Decision("why", start=True, end=[zombie]), heard=None)
    assert instance.get_run_by_id(run.run_id).status is ends_as


def test_the_live_run_takes_its_own_place_is_finite_and_is_not_retried_behind_the_sensor():
    assert live_job.run_tags[PLACE_TAG] == LIVE
    assert live_job.run_tags["dagster/max_retries"] == "0"
    assert int(live_job.run_tags["dagster/max_runtime"]) > load_settings().live.run_minutes * 60
