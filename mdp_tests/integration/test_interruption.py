"""Killed anywhere, run again: the same table; Ctrl-C; several at once lose nothing and ask no more than one may."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from mdp.domain.interval import Interval
from mdp_tests.support.simulator_control import Control, outcomes
from mdp_tests.support.simulator_process import running_simulator
from mdp_tests.support.workplace import Workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BTC = "binance:BTC-USDT"
WINDOW = Interval.of_days(date(2024, 11, 25), date(2025, 1, 7))
ARGUMENTS = ("backfill", "-m", BTC, "--start", "2024-11-25", "--end", "2025-01-08")
DAYS = 44


DAGSTER_VARIABLES = ("DAGSTER_HOME", "DAGSTER_STORAGE_DIR", "DAGSTER_COMPUTE_LOGS_DIR")


def instance_of(workplace):
    """Dagster's instance of a workplace, as the webserver opens it."""
    os.environ.update({name: workplace.dagster_environment[name] for name in DAGSTER_VARIABLES})
    return dg.DagsterInstance.get()


@pytest.fixture(autouse=True)
def restore_environment(monkeypatch):
    for name in DAGSTER_VARIABLES:
        monkeypatch.setenv(name, "")


def green(workplace, asset):
    with instance_of(workplace) as instance:
        return instance.get_materialized_partitions(dg.AssetKey(asset))


def unfinished_runs(workplace):
    with instance_of(workplace) as instance:
        return [run for run in instance.get_runs() if not run.is_finished]


def kill_session(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def workers_of(workplace):
    """The worker processes, found by the locks they hold: their data directory is in their environment."""
    mark = f"MDP_DATA_DIR={workplace.data_dir}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (process / "environ").read_bytes() and b"mdp.cli.worker" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def kill_all(workplace, process):
    """As kill -9 does, or a power failure: no process of the backfill says goodbye."""
    for worker in workers_of(workplace):
        os.kill(worker, signal.SIGKILL)
    kill_session(process)


def wait_for(workplace, process, asset, partitions):
    """Wait until so many partitions of an asset are green."""
    while len(green(workplace, asset)) < partitions:
        assert process.poll() is None, (workplace.data_dir / "backfill.out").read_text()
        time.sleep(0.02)


def workplaces(tmp_path, simulator_url, *names):
    for name in names:
        (tmp_path / name).mkdir()
        yield Workplace(tmp_path / name, simulator_url)


@pytest.mark.parametrize("layer", ["raw_ohlcv", "ohlcv"])
def test_killed_in_the_middle_and_run_again_it_is_the_undisturbed_table(tmp_path, simulator_url, layer):
    disturbed, undisturbed = workplaces(tmp_path, simulator_url, "disturbed", "undisturbed")
    process = disturbed.start(*ARGUMENTS)
    wait_for(disturbed, process, layer, 1)
    kill_all(disturbed, process)
    finished = green(disturbed, layer)
    assert 0 < len(finished) < DAYS, "some partitions were green when it died, not all"
    assert len(unfinished_runs(disturbed)) == 1

    assert disturbed.run(*ARGUMENTS).returncode == 0
    assert undisturbed.run(*ARGUMENTS).returncode == 0
    assert disturbed.digests(BTC, WINDOW) == undisturbed.digests(BTC, WINDOW)
    assert len(green(disturbed, "ohlcv_resampled")) == DAYS
    assert unfinished_runs(disturbed) == [], "the run that died is marked as failed"


def test_killed_before_the_last_layer_only_what_is_missing_is_enough(tmp_path, simulator_url):
    # Every minute is stored and judged by then, the longer candles are not: such a day is not complete.
    disturbed, undisturbed = workplaces(tmp_path, simulator_url, "disturbed", "undisturbed")
    process = disturbed.start(*ARGUMENTS)
    wait_for(disturbed, process, "ohlcv", DAYS)
    kill_all(disturbed, process)
    assert len(green(disturbed, "ohlcv_resampled")) < DAYS

    again = disturbed.run(*ARGUMENTS, "--missing")
    assert again.returncode == 0, again.stdout + again.stderr
    assert undisturbed.run(*ARGUMENTS).returncode == 0
    assert disturbed.digests(BTC, WINDOW) == undisturbed.digests(BTC, WINDOW)
    assert len(green(disturbed, "ohlcv_resampled")) == DAYS
    assert unfinished_runs(disturbed) == []


def test_ctrl_c_ends_in_seconds_with_all_runs_ended(tmp_path, simulator_url):
    (workplace,) = workplaces(tmp_path, simulator_url, "interrupted")
    process = workplace.start(*ARGUMENTS, "-m", "okx:BTC-USDT")
    wait_for(workplace, process, "raw_ohlcv", 1)
    while len(runs := unfinished_runs(workplace)) < min(2, os.cpu_count()):
        assert process.poll() is None
        time.sleep(0.05)
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    code = process.wait(60)
    print(f"Ctrl-C took {time.monotonic() - started:.1f} s")
    assert (code, workers_of(workplace)) == (130, [])
    output = (workplace.data_dir / "backfill.out").read_text()
    assert sum("interrupted" in line for line in output.splitlines()) == 1, output
    with instance_of(workplace) as instance:
        ends = {instance.get_run_by_id(run.run_id).status for run in runs}
    assert ends <= {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
    assert list((workplace.data_dir / "run" / "runs").iterdir()) == []


def test_two_workers_stay_within_the_quota_of_one_exchange(tmp_path):
    arguments = ("-m", "okx:BTC-USDT", "-m", "okx:ETH-USDT", "--start", "2024-12-25", "--end", "2025-01-04")
    with running_simulator() as simulator:  # its own, for another test's requests would count as ours
        (workplace,) = workplaces(tmp_path, simulator.url, "quota")
        result = workplace.run("backfill", *arguments)
        asked = Control(simulator.url).requests("okx")
    assert result.returncode == 0, result.stderr
    assert {one["status"] for one in asked} == {200}, outcomes(asked)


def test_four_processes_on_different_markets_lose_nothing(tmp_path, simulator_url):
    markets = ("binance:BTC-USDT", "binance:ETH-USDT", "bybit:BTC-USDT", "deribit:BTC-DVOL")
    together, alone = workplaces(tmp_path, simulator_url, "together", "alone")
    span = ("--start", "2024-12-20", "--end", "2025-01-08")
    window = Interval.of_days(date(2024, 12, 20), date(2025, 1, 7))
    processes = [together.start("backfill", "-m", market, *span) for market in markets]
    codes = [process.wait(500) for process in processes]
    output = (together.data_dir / "backfill.out").read_text()
    assert codes == [0, 0, 0, 0], output
    assert "lock" not in output.lower()
    assert alone.run("backfill", *(part for market in markets for part in ("-m", market)), *span).returncode == 0
    for market in markets:
        assert together.digests(market, window) == alone.digests(market, window)
    assert len(green(together, "ohlcv")) == 3 * 19
    with instance_of(together) as instance:
        assert all(run.is_success for run in instance.get_runs())
