"""A deployment over several hosts: one that controls, and workers; each process as its container would start it.

On the first host: Postgres, Valkey, the simulator behind one address for all, code server, daemon. On each other: a
worker. Not here: the hosts (``hosts``), what is tried with them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2

from mdp.bus.server import find_program
from mdp_tests.support.hosts import Host, hosts
from mdp_tests.support.postgres import Postgres, create
from mdp_tests.support.simulator_control import Control, exchange_urls

LAYERS = ("raw_ohlcv", "ohlcv", "ohlcv_resampled")
_SIMULATOR, _EXCHANGES, _CODE, _VALKEY = 8790, 8791, 4000, 6379
SIMULATOR_URL = f"http://127.0.0.1:{_SIMULATOR}"
BUS_URL = f"redis://127.0.0.1:{_VALKEY}/0"
"""Where simulator and bus are for those that are on the first host."""

_LAUNCH = """mutation Launch($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on Error { message } } }"""
_TURN_ON = """mutation TurnOn($one: SensorSelector!) { startSensor(sensorSelector: $one) {
  __typename ... on Error { message } } }"""
_CANCEL = """mutation Cancel($id: String!) { cancelPartitionBackfill(backfillId: $id) {
  __typename ... on Error { message } } }"""


@dataclass
class Fleet:
    """A deployment that runs.

    Attributes:
        folder: What all hosts share, as a file system would be.
        control: Host of everything but workers.
        workers: The others, by name.
        postgres: Its server.
        extra: Settings beyond those that a fleet needs.
    """

    folder: Path
    control: Host
    workers: dict[str, Host]
    postgres: Postgres
    extra: dict[str, str] = field(default_factory=dict)
    valkey: subprocess.Popen[bytes] | None = None

    @property
    def data_dir(self) -> Path:
        """Where the lake is."""
        return self.folder / "data"

    @property
    def environment(self) -> dict[str, str]:
        """What every process finds."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MDP_", "DAGSTER_"))}
        valkey = f"redis://{self.control.address}:{_VALKEY}"
        urls = exchange_urls(f"http://{self.control.address}:{_EXCHANGES}")
        return {
            **inherited, **urls, **{name.replace("REST_URL", "ARCHIVES"): "false" for name in urls if "REST" in name},
            "MDP_DATA_DIR": str(self.data_dir), "MDP_BUS__URL": f"{valkey}/0", "MDP_BUS__EGRESS": "gateway",
            "MDP_DAGSTER__INSTANCE": "celery", "MDP_DAGSTER__POSTGRES_URL": self.postgres.url,
            "MDP_DAGSTER__BROKER_URL": f"{valkey}/1", **self.extra,
        }  # fmt: skip

    @property
    def dagster_environment(self) -> dict[str, str]:
        """What Dagster's own commands find besides, as ``mdp env`` says."""
        said = self.control.run(_mdp("env"), self.environment)
        pairs = (line.removeprefix("export ").split("=", 1) for line in said.splitlines())
        return {**self.environment, **{name: value.strip("'") for name, value in pairs}}

    @property
    def workspace(self) -> Path:
        """The file that says where the code server is."""
        return self.folder / "workspace.yaml"

    def start_worker(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the worker of a host, with ``--live`` the one of the live run."""
        return self.workers[name].start(name, _mdp("worker", *arguments), self.environment)

    def start_valkey(self) -> None:
        """Start the server of bus and queue; what it held is on disk."""
        addresses = ["127.0.0.1", self.control.address]
        command = [find_program(), "--bind", *addresses, "--port", str(_VALKEY), "--protected-mode", "no",
                   "--save", "", "--appendonly", "yes", "--dir", str(self.folder)]  # fmt: skip
        self.valkey = self.control.start("valkey", command, self.environment)

    def stop_valkey(self) -> None:
        """Kill it."""
        assert self.valkey is not None
        self.valkey.kill()
        self.valkey.wait(10)

    def on_control(self, function: Callable[[Control], Any]) -> Any:
        """Ask the simulator."""
        return self.control.call(lambda: function(Control(SIMULATOR_URL)))

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask Dagster's storage."""

        def ask() -> list[tuple[Any, ...]]:
            connection = psycopg2.connect(self.postgres.url.replace("+psycopg2", ""), connect_timeout=10)
            try:
                with connection.cursor() as cursor:
                    cursor.execute(query, values)
                    return list(cursor.fetchall())
            finally:
                connection.close()

        return self.control.call(ask)

    def launch(self, partitions: Sequence[str], layers: Sequence[str] = LAYERS) -> str:
        """Put a backfill into Dagster's storage, as the page does; return its id."""
        params = {"assetSelection": [{"path": [layer]} for layer in layers], "partitionNames": list(partitions)}
        said = self._graphql(_LAUNCH, {"params": params})["launchPartitionBackfill"]
        assert said["__typename"] == "LaunchBackfillSuccess", said
        return str(said["backfillId"])

    def cancel(self, backfill_id: str) -> None:
        """Cancel a backfill and all its runs, as the page does."""
        said = self._graphql(_CANCEL, {"id": backfill_id})["cancelPartitionBackfill"]
        assert said["__typename"] == "CancelBackfillSuccess", said

    def turn_on(self, sensor: str) -> None:
        """Turn a sensor on, as its toggle on the page does."""
        one = {"repositoryLocationName": "mdp", "repositoryName": "__repository__", "sensorName": sensor}
        said = self._graphql(_TURN_ON, {"one": one})["startSensor"]
        assert said["__typename"] == "Sensor", said

    def _graphql(self, text: str, variables: dict[str, Any]) -> Any:
        """Ask Dagster without its webserver."""
        answer = self.folder / "answer.json"
        command = [_program("dagster-graphql"), "-w", str(self.workspace), "-t", text]
        command += ["-v", json.dumps(variables), "-o", str(answer)]
        self.control.run(command, self.dagster_environment)
        return json.loads(answer.read_text())["data"]

    def backfill_status(self, backfill_id: str) -> str:
        """Return Dagster's word for how a backfill stands."""
        return str(self.sql("SELECT status FROM bulk_actions WHERE key = %s", backfill_id)[0][0])

    def statuses(self) -> Counter[str]:
        """Count runs by how they stand."""
        return Counter(str(status) for (status,) in self.sql("SELECT status FROM runs"))

    def wait_until(self, what: str, holds: Callable[[], bool], patience_s: float) -> float:
        """Wait until something holds; return how many seconds that took."""
        began = time.monotonic()
        while not holds():
            assert time.monotonic() - began < patience_s, f"{what}: not within {patience_s:g} s; {self.tell()}"
            time.sleep(0.5)
        return time.monotonic() - began

    def tell(self) -> str:
        """Return what processes said last, for a person who looks for what went wrong."""
        logs = sorted(self.folder.glob("*.log"))
        return f"{dict(self.statuses())}\n" + "\n".join(f"== {log.name}\n{log.read_text()[-1_500:]}" for log in logs)


@contextmanager
def running_fleet(
    folder: Path, workers: Sequence[str], *, extra: dict[str, str] | None = None, simulator: Sequence[str] = ()
) -> Iterator[Fleet]:
    """Run a deployment until the block ends; its workers are not started.

    Args:
        folder: Empty; may be read by the user whose Postgres is.
        workers: Names of their hosts.
        extra: Settings.
        simulator: Arguments of it.
    """
    with hosts(folder, "control", *workers) as made:
        control = made.pop("control")
        postgres = create(folder / "postgres", host=control.address, port=5432, prefix=control.prefix)
        fleet = Fleet(folder, control, made, postgres, extra or {})
        fleet.workspace.write_text(
            f"load_from:\n  - grpc_server: {{host: {control.address}, port: {_CODE}, location_name: mdp}}\n"
        )
        try:
            postgres.start()
            _start_control(fleet, simulator)
            yield fleet
        finally:
            postgres.remove()


def _start_control(fleet: Fleet, simulator: Sequence[str]) -> None:
    control, environment = fleet.control, fleet.environment
    fleet.start_valkey()
    control.start(
        "simulator", [sys.executable, "-m", "mdp.simulator", "--port", str(_SIMULATOR), *simulator], environment
    )
    gateway = [sys.executable, "-m", "mdp_tests.support.gateway", control.address, str(_EXCHANGES), str(_SIMULATOR)]
    control.start("gateway", gateway, environment)
    control.run(_mdp("init"), environment)
    dagster = fleet.dagster_environment
    code = ["api", "grpc", "-h", control.address, "-p", str(_CODE), "-m", "mdp.definitions", "--location-name", "mdp"]
    server = control.start("code", [_program("dagster"), *code], dagster)
    said = fleet.folder / "code.log"
    fleet.wait_until("code server", lambda: "Started" in said.read_text() or server.poll() is not None, 120)
    assert server.poll() is None, fleet.tell()
    control.start("daemon", [_program("dagster-daemon"), "run", "-w", str(fleet.workspace)], dagster)


def _mdp(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mdp.cli", *arguments]


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)
