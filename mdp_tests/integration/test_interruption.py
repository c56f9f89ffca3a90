"""Killed anywhere, run again: the same table; finished partitions were green; four at once lose nothing."""

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


@pytest.mark.parametrize("layer", ["raw_ohlcv", "ohlcv"])
def test_killed_in_the_middle_and_run_again_it_is_the_undisturbed_table(tmp_path, simulator_url, layer):
    disturbed = Workplace(tmp_path / "disturbed", simulator_url)
    undisturbed = Workplace(tmp_path / "undisturbed", simulator_url)
    for workplace in (disturbed, undisturbed):
        workplace.data_dir.mkdir()
    process = disturbed.start(*ARGUMENTS)
    while not green(disturbed, layer):
        assert process.poll() is None, (disturbed.data_dir / "backfill.out").read_text()
        time.sleep(0.05)
    for worker in workers_of(disturbed):
        os.kill(worker, signal.SIGKILL)
    kill_session(process)
    finished = green(disturbed, layer)
    assert 0 < len(finished) < DAYS, "some partitions were green when it died, not all"
    assert len(unfinished_runs(disturbed)) == 1

    assert disturbed.run(*ARGUMENTS).returncode == 0
    assert undisturbed.run(*ARGUMENTS).returncode == 0
    assert disturbed.digests(BTC, WINDOW) == undisturbed.digests(BTC, WINDOW)
    assert len(green(disturbed, "ohlcv_resampled")) == DAYS
    assert unfinished_runs(disturbed) == [], "the run that died is marked as failed"


def test_four_processes_on_different_markets_lose_nothing(tmp_path, simulator_url):
    markets = ("binance:BTC-USDT", "binance:ETH-USDT", "bybit:BTC-USDT", "deribit:BTC-DVOL")
    together, alone = Workplace(tmp_path / "together", simulator_url), Workplace(tmp_path / "alone", simulator_url)
    for workplace in (together, alone):
        workplace.data_dir.mkdir()
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
