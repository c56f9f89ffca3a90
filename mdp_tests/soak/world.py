"""Everything that runs in a soak: the simulator, Dagster's page and daemon, and what they start.

Not here: who is killed (``chaos``), what must hold in the end (``verdict``).
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import psutil

from mdp.cli.processes import free_port
from mdp.config.settings import PROJECT_ROOT, Settings, load_settings
from mdp.domain.interval import parse_time
from mdp_tests.support.simulator_process import RunningSimulator, running_simulator
from mdp_tests.support.workplace import Workplace

SENSOR = "live_sensor"

_TOGGLE = """
mutation($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
  __typename ... on PythonError { message } } }
"""
_STATE = """
query($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) {
  ... on Sensor { id sensorState { selectorId status } } ... on PythonError { message } } }
"""
_STOP = """
mutation($id: String!) { stopSensor(id: $id) { __typename ... on PythonError { message } } }
"""


@dataclass
class World:
    """A running platform.

    Attributes:
        place: Its data directory and environment.
        simulator: The exchanges.
        settings: As its processes have them.
        port: Of Dagster's page.
        speed: Of the simulator's clock.
        processes: Dagster's own, by name.
    """

    place: Workplace
    simulator: RunningSimulator
    settings: Settings
    port: int
    speed: float
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def now(self) -> datetime:
        """Tell the simulated time."""
        said: dict[str, Any] = httpx.get(f"{self.simulator.url}/healthz", timeout=30, trust_env=False).json()
        return parse_time(said["now"])

    def forget_faults(self) -> None:
        """Let no further fault strike; what was changed for good, such as outages, stays."""
        url = f"{self.simulator.url}/control/faults"
        for entry in httpx.get(url, timeout=30, trust_env=False).json()["faults"]:
            if entry["fault"]["kind"] not in ("outage", "flat", "restate"):
                httpx.delete(f"{url}/{entry['id']}", timeout=30, trust_env=False).raise_for_status()

    def start(self, name: str) -> None:
        """Start ``webserver`` or ``daemon``; what it says goes to a log of that name."""
        arguments = {
            "webserver": ["dagster_webserver", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(self.port)],
            "daemon": ["dagster._daemon", "run", "-w", "workspace.yaml"],
        }[name]
        with (self.place.data_dir / f"{name}.log").open("ab") as output:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env=self.place.dagster_environment, cwd=PROJECT_ROOT, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip

    def turn_sensor(self, *, on: bool) -> None:
        """Turn the live sensor on or off, as its toggle on the page does."""
        selector = {
            "repositoryName": "__repository__", "repositoryLocationName": "mdp", "sensorName": SENSOR,
        }  # fmt: skip
        if on:
            said = self._ask(_TOGGLE, {"selector": selector})["startSensor"]
        else:
            state = self._ask(_STATE, {"selector": selector})["sensorOrError"]
            said = self._ask(_STOP, {"id": state["id"]})["stopSensor"]
        assert said["__typename"] in ("Sensor", "StopSensorMutationResult"), said

    def _ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}/graphql"
        answer = httpx.post(url, json={"query": query, "variables": variables}, timeout=60, trust_env=False).json()
        assert "errors" not in answer, answer
        found: dict[str, Any] = answer["data"]
        return found

    def wait_for_page(self, patience_s: float = 180) -> None:
        """Wait until the page answers."""
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            with suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{self.port}/server_info", trust_env=False).status_code == 200:
                    return
            time.sleep(0.3)
        raise AssertionError("Dagster's page did not answer")

    def require_alive(self) -> None:
        """Say which of Dagster's processes ended by itself, and its last words."""
        for name, process in self.processes.items():
            said = (self.place.data_dir / f"{name}.log").read_text(errors="replace")[-2_000:]
            assert process.poll() is None, f"{name} ended with code {process.returncode}: {said}"

    def run_worker(self, instance: dg.DagsterInstance, run_id: str) -> int | None:
        """Return the process in which a run is at work; None where there is none."""
        for entry in instance.all_logs(run_id):
            found = re.search(r"\(pid: (\d+)\)", entry.user_message or entry.message or "")
            if found and psutil.pid_exists(int(found[1])):
                return int(found[1])
        return None

    def stop(self) -> None:
        """End Dagster's processes; feeds that were started end by themselves or by their pid."""
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        # what is killed may have kept the server of the bus, which another one then starts again
        while left := self._left():
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=5)

    def _left(self) -> list[psutil.Process]:
        """Return the processes that were started for this data directory, by whomever."""
        own = str(self.place.data_dir)
        return [
            process
            for process in psutil.process_iter(["environ"])
            if (process.info["environ"] or {}).get("MDP_DATA_DIR") == own and process.pid != psutil.Process().pid
        ]


@contextmanager
def platform_at_work(
    folder: Path, *, speed: float, now: str, scenario: str | None, extra: dict[str, str]
) -> Iterator[World]:
    """Run the simulator, Dagster's page and its daemon until the block ends; the live sensor is still off."""
    arguments = ["--now", now, "--speed", f"{speed:g}", *(["--scenario", scenario] if scenario else [])]
    with running_simulator(*arguments) as simulator:
        place = Workplace(folder, simulator.url, extra)
        settings = load_settings(data_dir=folder)
        world = World(place, simulator, settings, free_port(0), speed)
        made = place.run("init")
        assert made.returncode == 0, made.stderr
        try:
            for name in ("webserver", "daemon"):
                world.start(name)
            world.wait_for_page()
            yield world
        finally:
            world.stop()
