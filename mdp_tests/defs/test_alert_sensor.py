"""What fails in Dagster is found and told once, over a real instance and a real webhook."""

from __future__ import annotations

import logging
import time

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG
from dagster._daemon.monitoring.run_monitoring import check_run_timeout
from dagster_shared.error import SerializableErrorInfo

from mdp.config.settings import load_settings
from mdp.defs import alert_facts
from mdp.defs.alert_facts import RETRIED_S, gather
from mdp.defs.alert_sensor import alert_sensor
from mdp.defs.alerting import OVERLAP_S
from mdp_tests.support.webhook import say, webhook

pytestmark = pytest.mark.slow


@dg.asset
def bad() -> None:
    raise dg.Failure("the disk is full\nand more")


@dg.asset
def good() -> None:
    pass


@dg.asset_check(asset=good)
def holds() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, description="3 rows differ\n…")


@dg.asset_check(asset=good)
def warns() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)


CHECKS = [*holds.check_keys, *warns.check_keys]
DEFINITIONS = dg.Definitions([bad, good], asset_checks=[holds, warns])


@pytest.fixture
def instance(tmp_path, monkeypatch):
    monkeypatch.setattr(alert_facts, "SETTLED_S", 0.0)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as found:
        yield found


def look(instance, cursor, settings):
    """Let the sensor look once; return its cursor."""
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={"settings": settings}, definitions=DEFINITIONS
    ) as context:
        return alert_sensor(context).cursor


def test_what_failed_in_dagster_is_found_and_told_once(instance, tmp_path):
    with webhook(say(200)) as (url, heard):
        settings = load_settings(data_dir=tmp_path, simulated=True, alerts={"webhook_url": url})
        began, cursor = time.time(), look(instance, None, settings)
        dg.materialize([bad, good, holds, warns], instance=instance, raise_on_error=False)
        facts = gather(instance, CHECKS, since=began, now=time.time())
        assert [run.why for run in facts.failed_runs] == ["the disk is full"]
        assert [(check.name, check.said) for check in facts.failed_checks] == [("good:holds", "3 rows differ")]
        assert gather(instance, CHECKS, since=time.time(), now=time.time()).happened() == {}
        for _ in range(2):
            cursor = look(instance, cursor, settings)
        assert sorted(one["kind"] for one in heard) == ["check_failed", "run_failed"]
        # again, and at once: the same alerts, which rest
        dg.materialize([bad, good, holds], instance=instance, raise_on_error=False)
        look(instance, cursor, settings)
    assert len(heard) == 2


def test_what_could_not_be_sent_outlives_the_daemon_and_arrives_once(instance, tmp_path):
    with webhook(say(503)) as (url, _):
        settings = load_settings(data_dir=tmp_path, simulated=True, alerts={"webhook_url": url})
        cursor = look(instance, None, settings)
        dg.materialize([bad], instance=instance, raise_on_error=False)
        cursor = look(instance, cursor, settings)
    cursor = look(instance, cursor, settings)  # nobody is there at all
    with webhook(say(200)) as (url, heard):
        settings = load_settings(data_dir=tmp_path, simulated=True, alerts={"webhook_url": url})
        for _ in range(2):
            cursor = look(instance, cursor, settings)
    assert [one["about"] for one in heard] == ["__ephemeral_asset_job__"]


def test_a_verdict_of_a_long_run_is_told_though_the_run_began_before_the_last_look(instance):
    between = []

    @dg.asset(name="good")
    def takes_long() -> None:
        between.append(time.time())

    dg.materialize([takes_long, holds], instance=instance, raise_on_error=False)
    found = gather(instance, CHECKS, since=between[0], now=time.time()).failed_checks
    assert [check.name for check in found] == ["good:holds"]


def test_runs_that_are_tried_again_or_were_canceled_are_not_told_and_silent_ones_are(instance):
    began = time.time()
    ids = [dg.materialize([bad], instance=instance, raise_on_error=False).run_id for _ in range(3)]
    instance.add_run_tags(ids[0], {WILL_RETRY_TAG: "true"})
    canceled = instance.get_run_by_id(ids[1])
    instance.report_run_canceling(canceled)
    instance.report_run_failed(canceled)
    at_work = instance.create_run_for_job(dg.job(name="long")(lambda: None), status=dg.DagsterRunStatus.STARTED)
    instance.report_engine_event("at work", at_work)
    facts = gather(instance, [], since=began, now=time.time())
    assert [run.run_id for run in facts.failed_runs] == [ids[2]]
    assert facts.stuck_runs == {}
    much_later = gather(instance, [], since=time.time(), now=time.time() + 4 * 3_600)
    assert [(run, round(silent_s / 3_600)) for run, silent_s in much_later.stuck_runs.items()] == [(at_work.run_id, 4)]


def test_a_run_that_was_to_be_tried_again_and_never_was_is_told(instance):
    began = time.time()
    ids = [dg.materialize([bad], instance=instance, raise_on_error=False).run_id for _ in range(2)]
    instance.add_run_tags(ids[0], {WILL_RETRY_TAG: "true"})
    instance.add_run_tags(ids[1], {WILL_RETRY_TAG: "true", AUTO_RETRY_RUN_ID_TAG: "the-next-one"})
    assert gather(instance, [], since=began, now=time.time() + RETRIED_S - 5).failed_runs == []
    assert [run.run_id for run in gather(instance, [], since=began, now=time.time() + RETRIED_S).failed_runs] == ids[:1]
    assert RETRIED_S < OVERLAP_S, "a look goes back that far, and would no longer find it"


def test_a_run_that_took_too_long_is_told_though_dagster_says_that_it_was_canceled(instance):
    began = time.time()
    run = instance.create_run_for_job(dg.job(name="long")(lambda: None))
    instance.report_dagster_event(dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, "long"), run.run_id)
    time.sleep(0.1)
    check_run_timeout(instance, instance.get_run_record_by_id(run.run_id), logging.getLogger(__name__), 0.05)
    assert [one.run_id for one in gather(instance, [], since=began, now=time.time()).failed_runs] == [run.run_id]


def test_a_run_is_judged_only_when_dagster_has_said_whether_it_tries_again(instance, monkeypatch):
    monkeypatch.setattr(alert_facts, "SETTLED_S", 10.0)
    began = time.time()
    dg.materialize([bad], instance=instance, raise_on_error=False)
    assert gather(instance, [], since=began, now=time.time()).failed_runs == []
    assert len(gather(instance, [], since=began, now=time.time() + 10).failed_runs) == 1


def test_a_backfill_that_failed_is_told(instance):
    ended = time.time()
    backfill = PartitionBackfill(
        "abcdefgh", status=BulkActionStatus.FAILED, from_failure=False, tags={}, asset_selection=[good.key],
        backfill_timestamp=ended - 60, backfill_end_timestamp=ended,
        error=SerializableErrorInfo("no such partition\nand more", [], "CheckError"),
    )  # fmt: skip
    instance.add_backfill(backfill)
    found = gather(instance, [], since=ended - 1, now=ended).failed_backfills
    assert [(one.backfill_id, one.said) for one in found] == [("abcdefgh", "no such partition")]
    assert gather(instance, [], since=ended, now=ended).failed_backfills == []


def test_without_an_address_nobody_is_told_and_it_is_off(instance, tmp_path):
    assert alert_sensor.default_status is dg.DefaultSensorStatus.STOPPED
    settings = load_settings(data_dir=tmp_path, simulated=True)
    with dg.build_sensor_context(instance=instance, resources={"settings": settings}) as context:
        assert "MDP_ALERTS__WEBHOOK_URL" in alert_sensor(context).skip_reason.skip_message
