"""Runs whose process is gone: who notices, and who is left alone."""

from __future__ import annotations

import os
import subprocess
import sys

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from mdp.defs import run_workers
from mdp.defs.run_workers import BEGIN_S, Signs, WatchedRunLauncher

HOLD = """
import sys
from pathlib import Path
from mdp.defs.run_workers import Signs
Signs(Path(sys.argv[1])).give("a-run")
print("given", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def signs(tmp_path):
    yield Signs(tmp_path / "watched")
    while run_workers._held:
        os.close(run_workers._held.pop())


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on as told."""

    class Clock:
        now_s = 0.0

        def monotonic(self):
            return self.now_s

    made = Clock()
    monkeypatch.setattr(run_workers, "time", made)
    return made


def health(launcher, run_id="a-run"):
    return launcher.check_run_worker_health(dg.DagsterRun("live_job", run_id=run_id)).status


def test_a_run_that_was_not_launched_here_is_left_alone(signs):
    launcher = WatchedRunLauncher(signs)
    assert launcher.supports_check_run_worker_health
    assert not launcher.supports_resume_run
    assert health(launcher) is WorkerStatus.RUNNING


def test_a_run_that_was_launched_here_before_its_data_directory_was_restored_is_lost(signs, clock):
    launcher = WatchedRunLauncher(signs)
    run = dg.DagsterRun("live_job", run_id="a-run", tags={GRPC_INFO_TAG: "{}"})
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    clock.now_s = BEGIN_S
    assert launcher.check_run_worker_health(run).status is WorkerStatus.FAILED


def test_a_run_whose_sign_is_given_lives_however_long(signs, clock):
    signs.expect("a-run")
    signs.give("a-run")
    launcher = WatchedRunLauncher(signs)
    for _ in range(3):
        assert health(launcher) is WorkerStatus.RUNNING
        clock.now_s += 1_000


def test_a_run_whose_sign_nobody_gives_is_lost_after_a_moment(signs, clock):
    signs.expect("a-run")
    launcher = WatchedRunLauncher(signs)
    assert health(launcher) is WorkerStatus.RUNNING, "it may have written that it started an instant ago"
    clock.now_s += 10
    assert health(launcher) is WorkerStatus.FAILED


def test_no_run_has_two_processes(signs):
    signs.expect("a-run")
    signs.give("a-run")
    with pytest.raises(BlockingIOError):
        signs.give("a-run")


def test_a_process_that_shares_no_folder_with_the_launcher_refuses_the_run(signs):
    with pytest.raises(dg.DagsterInvariantViolationError, match="MDP_DATA_DIR"):
        run_workers._give(signs, "a-run")


def test_files_are_removed_once_run_and_process_ended(signs):
    for run_id in ("ended", "at-work", "ending"):
        signs.expect(run_id)
    signs.give("ending")
    signs.forget_ended(lambda run_id: run_id != "at-work")
    assert [signs.is_expected(run_id) for run_id in ("ended", "at-work", "ending")] == [False, True, True]


@pytest.mark.slow
def test_the_sign_ends_with_the_process_however_it_ends(signs):
    signs.expect("a-run")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(signs.path_of("a-run").parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"given\n"
        assert signs.is_given("a-run")
        process.kill()
        process.wait()
        assert not signs.is_given("a-run")
