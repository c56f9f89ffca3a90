"""The cores that processes of backfills may use, and that others go before them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from mdp.cli.processes import start, stop
from mdp.cli.workers import WORKER
from mdp.config.settings import PROJECT_ROOT
from mdp.defs.cores import NICENESS, cores_of_share
from mdp_tests.support.workplace import Workplace

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="cores of a process are a matter of Linux")
BUSY_S = 4.0

BUSY = """
import sys, threading, time
from mdp.defs.cores import yield_to_others
import polars as pl

share, threads = float(sys.argv[1]), int(sys.argv[2])
end = []

def work():  # without the GIL, as the columns of a table are
    frame = pl.DataFrame({"a": range(300_000)})
    while not end:
        frame.sort(pl.col("a") * 7 % 1_013)

running = [threading.Thread(target=work) for _ in range(threads)]
for thread in running[: threads // 2]:
    thread.start()  # there before, as threads of libraries may be
if share:
    yield_to_others(share)
    yield_to_others(share)  # whoever calls again confines it no further
for thread in running[threads // 2 :]:
    thread.start()
print("busy", flush=True)
sys.stdin.read()
end.append(True)
"""


@pytest.mark.parametrize(
    ("cores", "share", "count"),
    [(1, 0.1, 1), (2, 0.5, 1), (2, 0.51, 2), (4, 0.25, 1), (10, 0.7, 7), (64, 0.01, 1), (3, 1.0, 3)],
)
def test_a_share_is_rounded_up_to_whole_cores(cores, share, count):
    assert len(cores_of_share({*range(cores)}, share)) == count


def test_every_process_gets_the_same_cores_of_those_it_may_use():
    assert cores_of_share({0, 3, 5, 9}, 0.5) == {5, 9}


def busy(share, threads):
    command = [sys.executable, "-c", BUSY, str(share), str(threads)]
    process = start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PROJECT_ROOT)
    assert process.stdout.readline() == b"busy\n"
    return process


def end(*processes):
    for process in processes:
        process.stdin.close()
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.stdout.close()
    stop(*processes)


def used_s(process):
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def cores_in_use(processes, seconds):
    """How many cores processes kept busy over some seconds, each of them."""
    before, began = [used_s(process) for process in processes], time.monotonic()
    time.sleep(seconds)
    passed_s = time.monotonic() - began
    return [(used_s(process) - earlier) / passed_s for process, earlier in zip(processes, before, strict=True)]


@pytest.mark.slow
@ON_LINUX
def test_busy_backfills_together_keep_to_their_share_and_leave_what_they_have_to_others():
    cores = os.sched_getaffinity(0)
    backfills = [busy(0.5, 4), busy(0.5, 4)]
    other = None
    try:
        together = sum(cores_in_use(backfills, BUSY_S))
        print(f"two busy processes of backfills with share 0.5 of {len(cores)} cores: {together:.3f} cores")
        assert together <= len(cores_of_share(cores, 0.5)) * 1.05
        assert together > 0, "or nobody worked"
        other = busy(0, 4)
        for thread in psutil.Process(other.pid).threads():  # it wants the same cores, and no free one
            os.sched_setaffinity(thread.id, cores_of_share(cores, 0.5))
        *yielding, first = cores_in_use([*backfills, other], BUSY_S)
        print(f"beside a process that wants the same: it has {first:.3f} cores, they have {yielding}")
        assert first > 1.5 * max(yielding)
    finally:
        end(*backfills, *([other] if other else []))


@pytest.mark.slow
@ON_LINUX
def test_a_worker_of_a_backfill_is_confined_with_all_its_threads(tmp_path):
    workplace = Workplace(tmp_path, extra={"MDP_CPU_SHARE": "0.5"})
    errors = (tmp_path / "worker.log").open("wb")
    with errors:
        worker = start(
            WORKER,
            environment=workplace.dagster_environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=PROJECT_ROOT,
        )
    try:
        assert b"ready" in worker.stdout.readline()
        seen = psutil.Process(worker.pid)
        expected = cores_of_share(os.sched_getaffinity(0), 0.5)
        assert {frozenset(os.sched_getaffinity(thread.id)) for thread in seen.threads()} == {frozenset(expected)}
        assert seen.nice() == max(os.nice(0), NICENESS)
    finally:
        end(worker)
