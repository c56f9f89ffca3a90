"""The live run is a task that any of several hosts takes: its host dies, its worker is replaced, no minute is lost."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mdp.bus import open_live_reader
from mdp.config.settings import load_settings
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import BusUnavailable
from mdp.ports import OHLCV, Slice
from mdp.storage import open_store
from mdp_tests.soak.verdict import longer_differ, minutes_differ, true_minutes
from mdp_tests.support.fleet import BUS_URL, SIMULATOR_URL, Fleet, running_fleet

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]

MARKETS = ("binance:BTC-USDT", "okx:ETH-USDT")
SPEED = 20
SETTINGS = {
    "MDP_MARKETS": '["binance:BTC-USDT", "okx:ETH-USDT"]',
    "MDP_LIVE__PERSIST_EVERY_S": "2",
    "MDP_DAGSTER__LOST_AFTER_S": "15",
}
HOSTS = ("one", "two")


@dataclass
class Live:
    """The deployment, and what it says of its live run."""

    fleet: Fleet

    def holders(self) -> list[str | None]:
        """Who holds the leases: the live run, the feeds."""
        settings = load_settings(data_dir=self.fleet.data_dir, bus={"url": BUS_URL})

        async def ask() -> list[str | None]:
            async with open_live_reader(settings) as bus:
                return [await bus.holder_of(name) for name in ("live", "feed/binance", "feed/okx")]

        with suppress(BusUnavailable):
            return self.fleet.control.call(lambda: asyncio.run(ask()))
        return [None] * 3

    def stored(self, run_id: str) -> bool:
        """Tell whether a run stored something."""
        query = "SELECT count(*) FROM event_logs WHERE run_id = %s AND dagster_event_type = 'ASSET_MATERIALIZATION'"
        return bool(self.fleet.sql(query, run_id)[0][0])

    def run_at_work(self, *but: str) -> str | None:
        """Return the run that stores, other than some."""
        started = self.fleet.sql("SELECT run_id FROM runs WHERE status = 'STARTED'")
        return next((run_id for (run_id,) in started if run_id not in but and self.stored(run_id)), None)

    def host_of(self, run_id: str) -> str:
        """Return the host whose worker executes a run."""
        pids = {name: set(host.pids()) for name, host in self.fleet.workers.items()}
        query = "SELECT event FROM event_logs WHERE run_id = %s AND event LIKE '%%begins the run.%%'"
        ((event,),) = self.fleet.sql(query, run_id)
        pid = int(event.partition(") begins the run.")[0].rpartition("(")[2])
        return next(name for name, ours in pids.items() if pid in ours)

    def now(self) -> datetime:
        """The market's time."""
        return datetime.fromtimestamp(self.fleet.on_control(lambda control: control.now_ms()) / 1000, UTC)

    def is_stored_until(self, end: datetime) -> bool:
        """Tell whether the last minute before a time is stored of every market."""
        last = Interval(end - Timeframe.M1.duration, end)
        store = open_store(load_settings(data_dir=self.fleet.data_dir))
        return all(len(store.read(OHLCV, Slice(Market.parse(one), (Timeframe.M1,), last))) for one in MARKETS)

    def require_the_truth(self, start: datetime, end: datetime) -> int:
        """Compare what is stored with what happened; return how many minutes."""
        store, window, count = open_store(load_settings(data_dir=self.fleet.data_dir)), Interval(start, end), 0
        for market in map(Market.parse, MARKETS):
            truth = self.fleet.control.call(lambda one=market: true_minutes(SIMULATOR_URL, one, window))
            wrong = [*minutes_differ(store, market, window, truth), *longer_differ(store, market, window)]
            assert not wrong, "\n".join(wrong)
            count += len(truth)
        return count


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    simulator = ("--speed", str(SPEED), "--now", "2025-03-04T10:30:00Z")
    # Not below pytest's own folder: each of its sessions closes that to all other users, Postgres' among them.
    with (
        tempfile.TemporaryDirectory(prefix="mdp-fleet-") as folder,
        running_fleet(Path(folder), HOSTS, extra=SETTINGS, simulator=simulator) as running,
    ):
        for name in HOSTS:
            running.start_worker(name, "--live")
        yield Live(running)


def test_the_live_run_goes_on_elsewhere_when_its_host_dies_and_when_its_worker_is_replaced(live):
    fleet = live.fleet
    fleet.turn_on("live_sensor")
    fleet.wait_until("a run that stores", lambda: live.run_at_work() is not None, 120)
    fleet.wait_until("all leases", lambda: None not in live.holders(), 30)
    first = live.run_at_work()
    began = Timeframe.M1.floor(live.now())
    home = live.host_of(first)
    (other,) = set(HOSTS) - {home}

    fleet.workers[home].die()
    took_s = fleet.wait_until("another run", lambda: live.run_at_work(first) is not None, 120)
    second = live.run_at_work(first)
    print(f"its host died: another run stored after {took_s:.0f} s")
    assert live.host_of(second) == other
    fleet.wait_until("its leases", lambda: None not in live.holders(), 30)
    assert live.holders()[0] == second

    fleet.workers[home].plug_in()
    fleet.start_worker(home, "--live")
    worker = fleet.workers[other].processes[-1]
    worker.send_signal(signal.SIGTERM)  # as a container's end
    worker.wait(60)
    took_s = fleet.wait_until("a third run", lambda: live.run_at_work(first, second) is not None, 120)
    third = live.run_at_work(first, second)
    print(f"its worker was told to end: another run stored after {took_s:.0f} s")
    assert live.host_of(third) == home
    assert fleet.statuses() == {"FAILURE": 2, "STARTED": 1}, "at any time there was one live run"

    end = Timeframe.M1.floor(live.now())
    fleet.wait_until("all of it stored", lambda: live.is_stored_until(end), 60)
    print(f"{live.require_the_truth(began, end)} minutes are the truth")
