"""What a test asks of a running deployment, as people and bots do: its page, its service, its bus.

Not here: starting it (``topology``), what must hold (``test_topology``).
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import httpx
import psutil

from mdp.bus import open_live_reader
from mdp.config.settings import Settings, load_settings
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import BusUnavailable
from mdp.ports.live import LiveBus
from mdp_tests.deploy.topology import Deployment

LAYERS = ("raw_ohlcv", "ohlcv", "ohlcv_resampled")
SENSOR = {"repositoryLocationName": "mdp", "repositoryName": "__repository__", "sensorName": "live_sensor"}
_TURN_ON = "mutation($one: SensorSelector!) { done: startSensor(sensorSelector: $one) { __typename } }"
_STATE = """query($one: SensorSelector!) { sensorOrError(sensorSelector: $one) { __typename
  ... on Sensor { sensorState { status } } } }"""
_ASSETS = "{ assetNodes { assetKey { path } groupName } }"
_BEATS = "{ instance { daemonHealth { allDaemonStatuses { daemonType lastHeartbeatTime } } } }"
_LAUNCH = """mutation($backfill: LaunchBackfillParams!) { done: launchPartitionBackfill(backfillParams: $backfill) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on Error { message } } }"""
_BACKFILLS = "{ found: partitionBackfillsOrError { ... on PartitionBackfills { results { id status } } } }"
_RUNS = """{ runsOrError { ... on Runs { results {
  runId status startTime endTime pipelineName parentRunId tags { key value } } } } }"""
_LOG = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
  ... on MessageEvent { message timestamp } ... on EngineEvent { error { message } } } } } }"""

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """A run, as the page tells of it."""

    id: str
    status: str
    job: str
    parent: str | None
    start_s: float | None
    end_s: float | None
    place: str

    @property
    def has_ended(self) -> bool:
        """Tell whether Dagster counts it as ended."""
        return self.status in ("SUCCESS", "FAILURE", "CANCELED")


@dataclass
class Course:
    """A deployment, and what was asked of it.

    Attributes:
        deployment: What runs.
        markets: What it collects.
        asked: The days that were asked for, of each market.
        collections: Paths of what the service was asked to collect.
    """

    deployment: Deployment
    markets: tuple[str, ...]
    asked: dict[str, list[date]] = field(default_factory=dict)
    collections: list[str] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        """As the services have them."""
        bus = {"url": f"redis://127.0.0.1:{self.deployment.place.ports['valkey']}/0"}
        env = self.deployment.running["api"].service.environment["MDP_ENV"]
        data_dir = self.deployment.place.data_dir
        return load_settings(env=env, data_dir=data_dir, simulated=True, markets=self.markets, bus=bus)

    def ask(self, query: str, **variables: Any) -> Any:
        """Ask the page."""
        url = f"{self.deployment.url('webserver')}/graphql"
        answer = httpx.post(url, json={"query": query, "variables": variables}, timeout=60, trust_env=False).json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def get(self, service: str, path: str) -> httpx.Response:
        """Ask a service over HTTP."""
        return httpx.get(f"{self.deployment.url(service)}{path}", timeout=30, trust_env=False)

    def wait(self, what: str, until: Callable[[], T | None], within_s: float = 120) -> tuple[T, float]:
        """Ask again and again; return what came and how long it took. A service that is away is asked again."""
        began, last = time.monotonic(), ""
        while time.monotonic() < began + within_s:
            try:
                if found := until():
                    return found, time.monotonic() - began
            except (httpx.TransportError, json.JSONDecodeError, AssertionError, BusUnavailable) as error:
                last = f"{type(error).__name__} {error}"[:2_000]
            time.sleep(0.1)
        raise AssertionError(f"{what}: not within {within_s:g} s; {last}; {self.why()}")

    def why(self) -> str:
        """Return how everything stands, for whoever reads that a test failed."""
        services = {name: (one.starts, one.ended) for name, one in self.deployment.running.items()}
        runs: Any = None
        with suppress(Exception):
            runs = [(run.id[:8], run.status, run.job) for run in self.runs()]
        return f"{services} {runs} " + "\n".join(
            f"--- {name}: {self.deployment.log(name, 1_200)}" for name in self.deployment.running
        )

    # What the page tells

    def location_is_loaded(self) -> bool:
        """Tell whether the page has the definitions of the code server."""
        return bool(self.ask(_STATE, one=SENSOR)["sensorOrError"]["__typename"] == "Sensor")

    def assets(self) -> set[str]:
        """Return the assets that the page shows."""
        return {"/".join(one["assetKey"]["path"]) for one in self.ask(_ASSETS)["assetNodes"]}

    def turn_on(self) -> None:
        """Turn live trading on, as the toggle of the page does."""
        assert self.ask(_TURN_ON, one=SENSOR)["done"]["__typename"] == "Sensor"

    def heartbeats(self) -> dict[str, float]:
        """Return when each daemon last said that it lives, in seconds since the epoch."""
        told = self.ask(_BEATS)["instance"]["daemonHealth"]["allDaemonStatuses"]
        return {one["daemonType"]: one["lastHeartbeatTime"] or 0.0 for one in told}

    def runs(self) -> list[Run]:
        """Return all runs, newest first."""
        found = []
        for one in self.ask(_RUNS)["runsOrError"]["results"]:
            tags = {tag["key"]: tag["value"] for tag in one["tags"]}
            times = (one["startTime"], one["endTime"])
            place = tags.get("mdp/place", "")
            found.append(Run(one["runId"], one["status"], one["pipelineName"], one["parentRunId"], *times, place))
        return found

    def at_work(self) -> list[Run]:
        """Return the runs of backfills that started and did not end."""
        return [run for run in self.runs() if run.place == "work" and run.status == "STARTED"]

    def unfinished(self) -> list[str]:
        """Return what is still to be done: backfills and their runs."""
        backfills = self.ask(_BACKFILLS)["found"]["results"]
        states = ("REQUESTED", "CANCELING", "FAILING")
        runs = [f"run {run.id} {run.status}" for run in self.runs() if run.place == "work" and not run.has_ended]
        return runs + [f"backfill {one['id']} {one['status']}" for one in backfills if one["status"] in states]

    def worker_of(self, run: Run) -> psutil.Process | None:
        """Return the process that executes a run."""
        for event in self.ask(_LOG, id=run.id)["logsForRun"]["events"]:
            if found := re.search(r"Started process for run \(pid: (\d+)\)", event.get("message", "")):
                return self.deployment.process_inside("code", int(found[1]))
        return None

    def had_done_all(self, run: Run) -> bool:
        """Tell whether a run that failed was killed after its last step: then Dagster finds nothing to launch anew."""
        events = self.ask(_LOG, id=run.id)["logsForRun"]["events"]
        return any("No steps needed to be retried" in str(event.get("error")) for event in events)

    # What is asked for

    def collect_by_page(self, markets: Sequence[str], first: date, days: int) -> None:
        """Launch a backfill as the page does."""
        wanted = [first + timedelta(days=number) for number in range(days)]
        keys = [f"{day}|{market}" for market in markets for day in wanted]
        backfill = {"assetSelection": [{"path": [layer]} for layer in LAYERS], "partitionNames": keys}
        told = self.ask(_LAUNCH, backfill=backfill)["done"]
        assert told["__typename"] == "LaunchBackfillSuccess", told
        for market in markets:
            self.asked.setdefault(market, []).extend(wanted)

    def collect_by_service(self, market: str, first: date, days: int) -> None:
        """Have the missing days of a market collected as whoever asks the service does."""
        window = {"start": str(first), "end": str(first + timedelta(days=days))}
        path = f"/api/v1/market-data/{market.replace(':', '/')}/generate"
        told = httpx.post(f"{self.deployment.url('api')}{path}", params=window, timeout=60, trust_env=False)
        assert told.status_code in (200, 202), told.text
        self.collections.append(told.headers["location"])
        self.asked.setdefault(market, []).extend(first + timedelta(days=number) for number in range(days))

    # What is live

    def bus(self, question: Callable[[LiveBus], Any]) -> Any:
        """Ask the bus.

        Raises:
            BusUnavailable: it does not answer.
        """

        async def ask() -> Any:
            async with open_live_reader(self.settings) as bus:
                return await question(bus)

        return asyncio.run(ask())

    def lease(self, name: str) -> str | None:
        """Return who holds a lease of the bus."""
        holder: str | None = self.bus(lambda bus: bus.holder_of(name))
        return holder

    def sequence(self, market: str) -> int:
        """Return the number of a market's buffer, which grows with each change."""
        buffer = self.bus(lambda bus: bus.buffer(Market.parse(market), Timeframe.M1))
        assert buffer is not None, f"{market} has no buffer"
        sequence: int = buffer.seq
        return sequence


@dataclass
class Listener:
    """A subscriber of the service: hears of candles that closed, and comes back when it is cut off.

    Attributes:
        closes: When each candle that was heard to close opened, by topic.
        cut_off: How often the connection ended.
    """

    url: str
    topic: str = "candles.*.*.1m"
    closes: dict[str, set[str]] = field(default_factory=dict)
    cut_off: int = 0
    is_over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Listen until told that it is over."""
        threading.Thread(target=self._listen, name="listener", daemon=True).start()

    def _listen(self) -> None:
        while not self.is_over.is_set():
            with (
                suppress(httpx.HTTPError),
                httpx.stream(
                    "GET", f"{self.url}/api/v1/stream/events?topic={self.topic}", timeout=20, trust_env=False
                ) as answer,
            ):
                for line in answer.iter_lines():
                    self._hear(line)
                    if self.is_over.is_set():
                        return
            self.cut_off += 1
            time.sleep(0.2)

    def _hear(self, line: str) -> None:
        if not line.startswith("data:"):
            return
        told = json.loads(line.removeprefix("data:"))
        if told.get("type") == "candle" and told["state"] != "forming":
            self.closes.setdefault(told["topic"], set()).add(told["open_time"])


def simulated(moment: float) -> datetime:
    """Return a moment of the simulator's clock."""
    return datetime.fromtimestamp(moment, UTC)
