"""Several processes ask one exchange that enforces its quotas: all of the quota is used, and nobody is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from mdp.domain.market import Exchange
from mdp_tests.support.simulator_process import running_simulator


@pytest.mark.slow
@pytest.mark.parametrize(
    ("exchange", "processes", "seconds", "per_second"),
    [(Exchange.OKX, 2, 12, 10), (Exchange.BINANCE, 4, 75, 50)],
)
@pytest.mark.timeout(200)
def test_processes_that_share_a_budget_are_never_refused(tmp_path, exchange, processes, seconds, per_second):
    with running_simulator() as simulator:
        began = time.monotonic()
        command = [sys.executable, "-m", "mdp_tests.bus.asking_simulator", simulator.url, str(tmp_path)]
        asking = [
            subprocess.Popen([*command, exchange.value, str(seconds)], stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        found = [json.loads(process.communicate(timeout=seconds + 60)[0]) for process in asking]
        took_s = time.monotonic() - began
    answered = sum(one["answered"] for one in found)
    part = answered / (seconds * per_second)
    print(f"{exchange.value}: {processes} processes, {answered} requests, {part:.1%} of the quota, {took_s:.0f} s")
    assert [one.get("refused", 0) for one in found] == [0] * processes
    assert all(one["answered"] for one in found)
