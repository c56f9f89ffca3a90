"""Live trading as people switch it: the sensor's toggle over GraphQL, real daemon, feeds, bus and simulator.

Everything runs as under ``mdp up``, in a data directory of its own, on a simulated clock that runs 20 times as fast.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psutil
import pytest

from mdp.bus import open_live_reader
from mdp.cli.processes import free_port
from mdp.config.settings import PROJECT_ROOT, load_settings
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import BusUnavailable
from mdp.live.health import read_feeds
from mdp.ports import OHLCV, Slice
from mdp.storage import open_store
from mdp_tests.support.simulator_process import running_simulator
from mdp_tests.support.workplace import Workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MARKETS = ("binance:BTC-USDT", "okx:ETH-USDT")
SPEED = 20
LATE = timedelta(minutes=4)
START = datetime(2025, 3, 4, 10, 30, tzinfo=UTC)
COLUMNS = ["open_time", "open", "high", "low", "close", "volume"]

SENSOR = {"repositoryLocationName": "mdp", "repositoryName": "__repository__", "sensorName": "live_sensor"}
TURN_ON = """mutation($one: SensorSelector!) { startSensor(sensorSelector: $one) {
  __typename ... on Sensor { sensorState { id status } } } }"""
STATE = """query($one: SensorSelector!) { sensorOrError(sensorSelector: $one) { __typename
  ... on Sensor { sensorState { id status ticks(limit: 3) { status skipReason error { message } } } } } }"""
STOP = "mutation($id: String!) { stopSensor(id: $id) { __typename } }"
TERMINATE = "mutation($id: String!) { terminateRun(runId: $id) { __typename } }"
RUNS = """{ runsOrError(filter: {pipelineName: "live_job"}) { ... on Runs { results {
  runId status startTime endTime tags { key value } } } } }"""
FLUSHES = """{ assetOrError(assetKey: {path: ["live_buffers"]}) { __typename ... on Asset {
  assetMaterializations(limit: 500) { timestamp runId } } } }"""
LOG = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
  __typename ... on MessageEvent { message level } } } } }"""


@dataclass
class House:
    """Simulator and Dagster, and what a test asks of them."""

    workplace: Workplace
    simulator_url: str
    ui_url: str
    dagster: subprocess.Popen[bytes] = field(repr=False)

    def ask(self, query: str, **variables: Any) -> Any:
        answer = httpx.post(
            f"{self.ui_url}/graphql", json={"query": query, "variables": variables}, timeout=30, trust_env=False
        ).json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    @property
    def settings(self):
        return load_settings(data_dir=self.workplace.data_dir, markets=MARKETS)

    def turn_on(self):
        told = self.ask(TURN_ON, one=SENSOR)["startSensor"]
        assert told["__typename"] == "Sensor", told

    def turn_off(self):
        state = self.ask(STATE, one=SENSOR)["sensorOrError"]["sensorState"]
        assert self.ask(STOP, id=state["id"])["stopSensor"]["__typename"] == "StopSensorMutationResult"

    def runs(self, *statuses):
        found = self.ask(RUNS)["runsOrError"]["results"]
        return [run for run in found if not statuses or run["status"] in statuses]

    def flushes(self, run_id=None):
        found = self.ask(FLUSHES)["assetOrError"].get("assetMaterializations", [])
        return [one for one in found if run_id in (None, one["runId"])]

    def log(self, run_id):
        return [one for one in self.ask(LOG, id=run_id)["logsForRun"]["events"] if one.get("message")]

    def bus(self, question):
        async def ask():
            async with open_live_reader(self.settings) as bus:
                return await question(bus)

        with suppress(BusUnavailable):
            return asyncio.run(ask())
        return None

    def feeds(self):
        return read_feeds(self.bus(lambda bus: bus.told("feed/")) or {})[0]

    def leases(self):
        async def holders(bus):
            return [await bus.holder_of(name) for name in ("live", "feed/binance", "feed/okx")]

        return self.bus(holders) or [None] * 3

    def now(self):
        with urllib.request.urlopen(f"{self.simulator_url}/control/clock") as answer:
            return datetime.fromtimestamp(json.load(answer)["now_ms"] / 1000, UTC)

    def truth(self, market, window):
        query = f"market={market}&start={format_time(window.start)}&end={format_time(window.end)}"
        with urllib.request.urlopen(f"{self.simulator_url}/control/truth?{query}") as answer:
            return [row[:6] for row in json.load(answer)["rows"]]

    def stored(self, market, window):
        part = Slice(Market.parse(market), (Timeframe.M1,), window)
        return open_store(self.settings).read(OHLCV, part).sort("open_time")

    def worker(self, run_id):
        """The process of a run: the child of the code server that says so in the run's log."""
        said = next(one["message"] for one in self.log(run_id) if "Started process for run" in one["message"])
        return int(said.rpartition("pid: ")[2].rstrip(").\n"))

    def wait(self, what, until, within_s=60.0):
        began = time.monotonic()
        while not (found := until()):
            assert time.monotonic() < began + within_s, f"{what}: not within {within_s} s; {self.why()}"
            assert self.dagster.poll() is None, "Dagster ended"
            time.sleep(0.1)
        return found, time.monotonic() - began

    def why(self):
        logs = [*(self.workplace.data_dir / "log").glob("*.log"), self.workplace.data_dir / "dagster.out"]
        tails = {log.name: log.read_text(errors="replace")[-1500:] for log in logs if log.exists()}
        return f"{self.runs()} {self.ask(STATE, one=SENSOR)} {tails}"

    def is_flushing(self):
        """The run that is at work, once it stored something."""
        for run in self.runs("STARTED"):
            if self.flushes(run["runId"]):
                return run["runId"]
        return None


@contextmanager
def running_house(data_dir, *, speed=SPEED, markets=MARKETS, **extra):
    with ExitStack() as opened:
        simulator = opened.enter_context(running_simulator("--speed", str(speed), "--now", "2025-03-04T10:30:00Z"))
        workplace = Workplace(
            data_dir,
            simulator.url,
            {"MDP_LIVE__PERSIST_EVERY_S": "1", "MDP_MARKETS": json.dumps(markets), "MDP_LIVE__LINGER_S": "30"} | extra,
        )
        made = workplace.run("init")
        assert made.returncode == 0, made.stderr
        port = free_port(0)
        command = [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
        with (data_dir / "dagster.out").open("wb") as output:
            dagster = subprocess.Popen(
                command, cwd=PROJECT_ROOT, env=workplace.dagster_environment, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        opened.callback(end, dagster, data_dir)
        house = House(workplace, simulator.url, f"http://127.0.0.1:{port}", dagster)
        wait_until_up(house)
        yield house


def wait_until_up(house, within_s=120):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError, KeyError, AssertionError):
            if house.ask(STATE, one=SENSOR)["sensorOrError"]["__typename"] == "Sensor":
                return
        time.sleep(0.3)
    raise AssertionError((house.workplace.data_dir / "dagster.out").read_text()[-3000:])


def end(dagster, data_dir):
    """End Dagster, its workers and the feeds that belong to this data directory, and nothing else."""
    dagster.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        dagster.wait(20)
    while left := [process for process in psutil.process_iter() if belongs_to(process, data_dir)]:
        for process in left:  # again and again: of two that keep the bus, one starts its server again first
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=1)
    dagster.wait(10)


def belongs_to(process, data_dir):
    """Tell whether a process works in this data directory: a worker, a feed, or the server of its bus."""
    with suppress(psutil.Error, OSError):
        is_named = any(str(data_dir / "bus") in word for word in process.cmdline())
        is_ours = process.environ().get("MDP_DATA_DIR") == str(data_dir)
        return process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE and (is_named or is_ours)
    return False


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with running_house(tmp_path_factory.mktemp("live")) as running:
        yield running


def truth_equals_stored(house, market, start, end):
    """Compare what is stored with what happened, minute by minute; return how many."""
    window = Interval(start, end)
    told = {row[0]: row[1:] for row in house.truth(market, window)}
    found = {int(row[0].timestamp() * 1000): row[1:] for row in house.stored(market, window).select(COLUMNS).rows()}
    assert sorted(found) == sorted(told), "no minute is missing, and none is made up"
    for moment, row in told.items():
        assert list(found[moment]) == pytest.approx(row, rel=1e-12), (market, moment)
    return len(found)


def confirmed(house, market):
    """Up to where the feed of a market confirmed its minutes."""
    for feed in house.feeds().values():
        for one in feed.markets:
            if one.market == market and one.confirmed_until_us:
                return datetime.fromtimestamp(one.confirmed_until_us / 1e6, UTC)
    return None


def is_alive(pid):
    """Tell whether a process runs; one that ended and that nobody waited for does not."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def first_minute(moment):
    return Timeframe.M1.floor(moment) + Timeframe.M1.duration


def other_run(house, run_id):
    """Another run that stores, once there is one."""
    found = house.is_flushing()
    return found if found != run_id else None


def last_stored(house, market):
    rows = house.stored(market, Interval(START, house.now()))
    return rows["open_time"].max()


@pytest.fixture(scope="module")
def begun(house):
    """The market's time at which everything was at work for the first time; from then on no minute may be missing."""
    house.turn_on()
    house.wait("the first flush", house.is_flushing, 90)
    return first_minute(house.now())


def say(capsys, text):
    with capsys.disabled():  # a figure to read, not to judge: how busy the machine is, no test can know
        print(f"\n{text}")


def test_turned_on_one_run_keeps_one_feed_of_each_exchange(house, begun, capsys):
    house.wait("some flushes", lambda: len(house.flushes()) >= 4)
    (run,) = house.runs("STARTED")
    live, *feeds = house.leases()
    assert live == run["runId"]
    assert all(feeds)
    assert set(house.feeds()) == {"binance", "okx"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_feed_that_is_killed_is_replaced_at_once(house, begun, number, capsys):
    old = house.feeds()["okx"]
    os.kill(old.pid, number)

    def another():
        feed = house.feeds().get("okx")
        return feed is not None and feed.pid != old.pid and all(one.state == "streaming" for one in feed.markets)

    _, seconds = house.wait("another feed", another)
    say(capsys, f"feed hit by {number.name} -> another one streams: {seconds:.1f} s")
    assert len(house.runs("STARTED")) == 1


def test_a_killed_worker_is_replaced_and_adopts_the_feeds(house, begun, capsys):
    run_id, _ = house.wait("a run", house.is_flushing)
    pids = {name: feed.pid for name, feed in house.feeds().items()}
    os.kill(house.worker(run_id), signal.SIGKILL)
    another, seconds = house.wait("another run", lambda: other_run(house, run_id))
    say(capsys, f"worker killed -> the next run stores: {seconds:.1f} s")
    assert {name: feed.pid for name, feed in house.feeds().items()} == pids
    house.wait("adoption", lambda: sum("adopted" in one["message"] for one in house.log(another)) == 2)


def test_code_server_and_worker_killed_the_zombie_is_ended_and_replaced(house, begun, capsys):
    run_id, _ = house.wait("a run", house.is_flushing)
    worker = psutil.Process(house.worker(run_id))
    servers = [one for one in worker.parents() if {"api", "code-server"} & set(one.cmdline())]
    assert servers
    for process in (*servers, worker):
        process.kill()
    _, seconds = house.wait("another run", lambda: other_run(house, run_id), 90)
    (zombie,) = [one for one in house.runs() if one["runId"] == run_id]
    say(capsys, f"code server and worker killed -> the next run stores: {seconds:.1f} s")
    assert zombie["status"] == "FAILURE"


def test_a_terminated_run_stores_all_and_is_canceled(house, begun, capsys):
    run_id, _ = house.wait("a run", house.is_flushing)
    house.ask(TERMINATE, id=run_id)
    _, seconds = house.wait("its end", lambda: [one for one in house.runs("CANCELED") if one["runId"] == run_id])
    say(capsys, f"terminated -> canceled: {seconds:.1f} s")
    assert seconds < 10
    house.wait("another run", lambda: other_run(house, run_id))


def test_turned_off_it_stores_everything_and_ends_the_feeds(house, begun, capsys):
    run_id, _ = house.wait("a run", house.is_flushing)
    house.wait("fresh buffers", lambda: all((confirmed(house, one) or START) > house.now() - LATE for one in MARKETS))
    pids = [feed.pid for feed in house.feeds().values()]
    house.turn_off()
    _, seconds = house.wait(
        "its end", lambda: [one for one in house.runs() if one["runId"] == run_id and one["endTime"]]
    )
    (run,) = [one for one in house.runs() if one["runId"] == run_id]
    say(capsys, f"turned off -> ended: {seconds:.1f} s")
    assert run["status"] == "SUCCESS"
    assert seconds < 10
    assert not any(house.leases()), "whoever stored last had waited for every feed"
    house.wait("the end of their processes", lambda: not any(map(is_alive, pids)), 10)
    for market in MARKETS:
        assert house.now() - last_stored(house, market) < timedelta(seconds=SPEED * (seconds + 5)) + LATE


def test_turned_on_again_no_minute_is_missing_and_all_are_as_they_happened(house, begun, capsys):
    house.turn_on()
    house.wait("a run", house.is_flushing)
    until = Timeframe.M1.floor(house.now())  # what passed while nothing ran is in it
    house.wait("confirmed minutes", lambda: all((confirmed(house, one) or begun) > until for one in MARKETS))
    house.wait("their storage", lambda: all(last_stored(house, one) > until for one in MARKETS))
    counts = {market: truth_equals_stored(house, market, begun, until) for market in MARKETS}
    say(capsys, f"equal to what happened: {counts}")
    assert min(counts.values()) > 5
