"""A run that is lost while nobody could launch it anew is told of later; one that cannot be launched now waits."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager

import dagster as dg
import pytest
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from mdp.cli.processes import free_port
from mdp.defs import relaunching
from mdp.defs.relaunching import PATIENCE_S, LostRuns
from mdp.defs.run_workers import Signs, WatchedRunLauncher

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
GONE = "Its process is gone."


class Clock:
    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(relaunching, "time", made)
    return made


@pytest.fixture
def port() -> int:
    return free_port(0)


def run_of(port: int) -> dg.DagsterRun:
    server = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=port, location_name="code")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(server, "__repository__"), "one_job")
    return dg.DagsterRun("one_job", run_id="a-run", remote_job_origin=origin)


@contextmanager
def code_server(port: int, folder):
    code = folder / "served.py"
    code.write_text(CODE)
    command = [
        sys.executable,
        "-m",
        "dagster",
        "code-server",
        "start",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-f",
        str(code),
    ]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def test_a_lost_run_waits_for_its_code_server_for_a_while(port, clock):
    lost = LostRuns()
    for clock.now_s in (0, PATIENCE_S / 2, PATIENCE_S - 1):
        said = lost.judge(run_of(port), GONE)
        assert said.status is WorkerStatus.RUNNING, "run monitoring fails a run at every other answer"
        assert said.msg.startswith(f"{GONE} It will be told when the code server")
    clock.now_s = PATIENCE_S
    assert lost.judge(run_of(port), GONE).status is WorkerStatus.FAILED
    assert lost.judge(run_of(port), GONE).status is WorkerStatus.RUNNING, "another run has its own time"


def test_of_a_code_server_that_dagster_starts_itself_nothing_is_waited_for(clock):
    assert LostRuns().judge(dg.DagsterRun("one_job", run_id="a-run"), GONE).status is WorkerStatus.FAILED


@pytest.mark.slow
def test_a_lost_run_is_told_of_when_its_code_is_there_again(port, tmp_path):
    lost = LostRuns()
    with code_server(port, tmp_path):
        deadline = time.monotonic() + 60
        while lost.judge(run_of(port), GONE).status is WorkerStatus.RUNNING:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert lost.judge(run_of(port), GONE).status is WorkerStatus.RUNNING


def test_a_run_that_the_storage_does_not_let_launch_goes_back_to_the_queue(tmp_path):
    launcher, signs = WatchedRunLauncher(Signs(tmp_path / "watched")), Signs(tmp_path / "watched")
    signs.expect("an-earlier-run")
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        launcher.register_instance(instance)
        instance.get_runs_count()
        (database,) = tmp_path.rglob("runs.db")
        database.write_bytes(b"no database" * 1_000)
        with pytest.raises(DagsterUserCodeUnreachableError, match=r"storage does not answer .*; the run waits"):
            launcher.launch_run(LaunchRunContext(dg.DagsterRun("one_job", run_id="a-run"), workspace=None))
    assert not signs.is_expected("a-run")
