"""Everything that ``mdp up`` starts, once for all tests here, in a data directory of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from mdp.reading import read
from mdp_tests.support.workplace import Workplace

READY = "Ctrl-C stops what was started here."


@dataclass
class Up:
    """A running ``mdp up``, what it printed, and how long it took.

    Attributes:
        seconds: From its start until everything was there.
        first_candles_s: From its start until the first candles could be read.
    """

    workplace: Workplace
    process: subprocess.Popen[bytes]
    output: Path
    seconds: float
    first_candles_s: float

    @property
    def text(self) -> str:
        return self.output.read_text(encoding="utf-8")

    @property
    def ui_url(self) -> str:
        return re.search(r"Dagster\s+(http://127\.0\.0\.1:\d+)", self.text)[1]

    @property
    def api_url(self) -> str:
        return re.search(r"Page and API\s+(http://127\.0\.0\.1:\d+)", self.text)[1]

    def graphql(self, query: str, **variables: Any) -> Any:
        """Ask the webserver as the UI does."""
        answer = httpx.post(
            f"{self.ui_url}/graphql", json={"query": query, "variables": variables}, timeout=60, trust_env=False
        ).json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]


def start_up(data_dir: Path) -> Up:
    """Start ``mdp up`` with the ports free to choose; wait until it says where to look."""
    workplace = Workplace(data_dir)
    output = data_dir / "up.out"
    started = time.monotonic()
    with output.open("wb") as file:
        process = subprocess.Popen(workplace.command("up"), env=workplace.environment, stdout=file, stderr=file)
    first_candles_s = None
    while READY not in output.read_text(encoding="utf-8"):
        assert process.poll() is None, output.read_text(encoding="utf-8")
        assert time.monotonic() < started + 280, output.read_text(encoding="utf-8")
        if first_candles_s is None and has_candles(workplace):
            first_candles_s = time.monotonic() - started
        time.sleep(0.2)
    seconds = time.monotonic() - started
    return Up(workplace, process, output, seconds, first_candles_s or seconds)


def has_candles(workplace: Workplace) -> bool:
    """Tell whether a reader finds candles of the market that the first screen names."""
    found = read("binance:BTC-USDT", "1h", "2024-12-25", "2025-01-08", settings=workplace.settings)
    return not found.is_empty()


def interrupt(up: Up) -> tuple[int, list[psutil.Process]]:
    """Press Ctrl-C; return the exit code and the descendants that are still there afterwards."""
    family = psutil.Process(up.process.pid).children(recursive=True)
    os.kill(up.process.pid, signal.SIGINT)
    code = up.process.wait(60)
    _, alive = psutil.wait_procs(family, timeout=10)
    return code, alive


@pytest.fixture(scope="session")
def up(tmp_path_factory):
    running = start_up(tmp_path_factory.mktemp("up"))
    yield running
    if running.process.poll() is None:
        _, alive = interrupt(running)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
