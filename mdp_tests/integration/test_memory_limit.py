"""What a worker holds at most, measured by the kernel: over weeks no more than for a day, and the limit besides."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from mdp.cli.processes import stop
from mdp_tests.support.simulator_process import running_simulator
from mdp_tests.support.workplace import Workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

LIMIT_MB = 64
"""The smallest there is: 22 days of minutes."""

MARKET = "bybit:BTC-USDT"


def worker_kb(pid):
    """The most memory that the worker of a backfill had until now; 0 while there is none."""
    most = 0
    with suppress(psutil.Error, OSError):
        for child in psutil.Process(pid).children():
            status = Path(f"/proc/{child.pid}/status").read_text()
            if "mdp.cli.worker" in child.cmdline() and (found := re.search(r"VmHWM:\s+(\d+) kB", status)):
                most = max(most, int(found[1]))
    return most


def most_mb(workplace, first, last):
    """Run a backfill, and return the most memory that its worker ever had."""
    workplace.data_dir.mkdir()
    arguments = ("backfill", "-m", MARKET, "--start", first, "--end", last)
    process = workplace.start(*arguments)
    try:
        most = 0
        while process.poll() is None:
            most = max(most, worker_kb(process.pid))
            time.sleep(0.05)
    finally:
        stop(process)
    assert process.returncode == 0, (workplace.data_dir / "backfill.out").read_text()
    return most / 1_024


def test_a_worker_over_weeks_stays_within_the_limit_beside_what_a_day_takes(tmp_path):
    with running_simulator() as simulator:
        extra = {"MDP_WORKERS": "1", "MDP_MEMORY_MB_PER_MARKET": str(LIMIT_MB)}
        day, month = (Workplace(tmp_path / name, simulator.url, extra) for name in ("day", "month"))
        bare = most_mb(day, "2024-12-01", "2024-12-02")
        whole = most_mb(month, "2024-12-01", "2024-12-26")
    print(f"one day: {bare:.0f} MB; 25 days with a limit of {LIMIT_MB} MB: {whole:.0f} MB")
    assert whole <= bare + LIMIT_MB


def test_a_limit_that_holds_no_day_is_refused_before_anything_is_started(tmp_path):
    workplace = Workplace(tmp_path, "http://127.0.0.1:1", {"MDP_MEMORY_MB_PER_MARKET": "8"})
    ended = workplace.run("backfill", "-m", MARKET, "--start", "2024-12-01", "--end", "2024-12-02")
    assert ended.returncode != 0
    assert "MDP_MEMORY_MB_PER_MARKET" in ended.stderr
    assert "64" in ended.stderr
    assert not (tmp_path / "lake").exists()
