"""How a run launched from the command line ends, and what becomes of runs whose process is gone."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.tags import GRPC_INFO_TAG, WILL_RETRY_TAG

from mdp.config.settings import load_settings
from mdp.definitions import build
from mdp.defs.launching import fail_lost, fail_orphans, launch_range, owned
from mdp.defs.resources import platform_resources
from mdp.domain.market import Market
from mdp.errors import ConfigError
from mdp_tests.support.builders import NOW
from mdp_tests.support.scripted_source import ScriptedExchanges

BTC = Market.parse("binance:BTC-USDT")
RUN_ID = "0f6bb1f3-5a52-4f0e-9f51-6a9f1f0f3c7e"


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture
def job():
    @dg.job
    def nothing():
        pass

    return nothing


def launch(instance, tmp_path, **resources):
    """Launch one day of the real job, with some resources replaced."""
    settings = load_settings(data_dir=tmp_path)
    given = {
        **platform_resources(settings),
        "sources": ScriptedExchanges(),
        "clock": lambda: NOW,
        **resources,
    }
    day = date(2024, 12, 30)
    return launch_range(
        build(given), instance, market=BTC, first=day, last=day, run_id=RUN_ID, on_materialized=lambda *_: None
    )


def raising(error):
    def open_(_):
        raise error

    return dg.ResourceDefinition(open_)


def lock_of(run, folder):
    """Leave the lock file of a run behind, as a process does that dies."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run.run_id}.lock"
    path.touch()
    return path


def with_status(instance, job, status, **tags):
    return instance.create_run_for_job(job, status=status, tags=tags)


def test_a_resource_that_cannot_be_opened_fails_the_run_with_its_reason(instance, tmp_path):
    error = ConfigError("MDP_STORE", got="bigquery", expected="a store that this build has")
    outcome = launch(instance, tmp_path, store=raising(error))
    assert not outcome.succeeded
    assert outcome.error == str(error)
    assert instance.get_run_by_id(RUN_ID).status == dg.DagsterRunStatus.FAILURE


def test_a_run_that_is_executed_here_is_not_said_to_be_tried_again(tmp_path):
    retries = {"run_retries": {"enabled": True, "max_retries": 3}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=retries) as instance:
        launch(instance, tmp_path / "data", store=raising(OSError("gone")))
        instance.report_run_failed(instance.get_run_by_id(RUN_ID), "The process that executed this run died.")
        assert instance.get_run_by_id(RUN_ID).tags[WILL_RETRY_TAG] == "false", (
            "the daemon could not, and nobody was told"
        )


def test_an_interrupted_run_does_not_pass_for_done(instance, tmp_path):
    outcome = launch(instance, tmp_path, store=raising(KeyboardInterrupt()))
    assert not outcome.succeeded
    assert outcome.error


def test_a_lock_that_was_removed_while_its_owner_waited_for_it_is_taken_again(tmp_path):
    # Who looks for orphans holds the lock for a moment, and removes a file whose run nobody knows.
    path, held, done = tmp_path / f"{RUN_ID}.lock", threading.Event(), threading.Event()

    def own():
        with owned(RUN_ID, tmp_path):
            held.set()
            done.wait(10)

    with path.open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_EX)
        owner = threading.Thread(target=own)
        owner.start()
        while sum(link.readlink() == path for link in open_files()) < 2:
            time.sleep(0.01)
        path.unlink()
    assert held.wait(10)
    try:
        with path.open("r+") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        done.set()
        owner.join()
    assert not path.exists()


def open_files():
    return [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink() and os.path.lexists(link)]


def test_an_owner_whose_lock_file_is_gone_leaves_without_a_fuss(tmp_path):
    with owned(RUN_ID, tmp_path):
        (tmp_path / f"{RUN_ID}.lock").unlink()


def test_the_run_of_a_dead_process_fails_and_its_lock_is_removed(instance, job, tmp_path):
    run = with_status(instance, job, dg.DagsterRunStatus.STARTED)
    path = lock_of(run, tmp_path)
    assert fail_orphans(instance, tmp_path) == [run.run_id]
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE
    assert not path.exists()


def test_a_process_that_died_before_it_started_its_run_leaves_no_run_behind(instance, job, tmp_path):
    run = with_status(instance, job, dg.DagsterRunStatus.NOT_STARTED)
    lock_of(run, tmp_path)
    assert fail_orphans(instance, tmp_path) == [run.run_id]
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE


def test_a_run_that_is_executing_is_left_alone(instance, job, tmp_path):
    run = with_status(instance, job, dg.DagsterRunStatus.STARTED)
    with owned(run.run_id, tmp_path):
        assert fail_orphans(instance, tmp_path) == []
        assert (tmp_path / f"{run.run_id}.lock").exists()
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.STARTED


def test_a_run_that_ended_keeps_its_end(instance, job, tmp_path):
    run = with_status(instance, job, dg.DagsterRunStatus.SUCCESS)
    path = lock_of(run, tmp_path)
    assert fail_orphans(instance, tmp_path) == []
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.SUCCESS
    assert not path.exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [("STARTING", "FAILURE"), ("STARTED", "FAILURE"), ("CANCELING", "CANCELED"),
     ("NOT_STARTED", "NOT_STARTED"), ("SUCCESS", "SUCCESS")],
)  # fmt: skip
def test_what_a_daemon_launched_and_did_not_end_is_ended(instance, job, before, after):
    run = with_status(instance, job, dg.DagsterRunStatus(before), **{GRPC_INFO_TAG: "{}"})
    assert fail_lost(instance) == ([run.run_id] if before != after else [])
    assert instance.get_run_by_id(run.run_id).status.value == after


def test_a_run_that_no_daemon_launched_is_not_lost_with_it(instance, job):
    run = with_status(instance, job, dg.DagsterRunStatus.STARTED)
    assert fail_lost(instance) == []
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.STARTED
