"""The tutorial does what it says: its commands and its strategy are run as they are printed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

from mdp.config.settings import PROJECT_ROOT
from mdp_tests.support.simulator_process import running_simulator
from mdp_tests.support.workplace import Workplace

TUTORIAL = (PROJECT_ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^mdp (.+)$", TUTORIAL, flags=re.MULTILINE)
STRATEGY = re.findall(r"```python\n(.*?)```", TUTORIAL, flags=re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tutorial")
    with running_simulator("--now", "2025-01-09T00:00:00Z") as simulator:
        found = Workplace(folder, simulator.url)
        done = found.run("backfill", "-m", "binance:BTC-USDT", "--start", "2024-12-25", "--end", "2025-01-08")
        assert done.returncode == 0, done.stdout + done.stderr
        yield found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_command_of_the_tutorial_succeeds_and_its_strategy_trades(place):
    assert len(COMMANDS) == 5
    for command in COMMANDS:
        done = place.run(*shlex.split(command))
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    (strategy,) = STRATEGY
    done = subprocess.run(
        [sys.executable, "-c", strategy],
        env=place.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    trades, usdt = re.fullmatch(r"(\d+) trades, ([\d,.]+) USDT in the end, fees not counted\n", done.stdout).groups()
    assert int(trades) > 4
    assert 5_000 < float(usdt.replace(",", "")) < 20_000
