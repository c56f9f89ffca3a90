"""A backfill over several hosts: one dies, one is replaced, the queue goes away, a run is canceled; nothing is lost."""

from __future__ import annotations

import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdp.config.settings import load_settings
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.storage import open_store
from mdp_tests.soak.verdict import longer_differ, minutes_differ, true_minutes
from mdp_tests.support.builders import at
from mdp_tests.support.fleet import SIMULATOR_URL, Fleet, running_fleet

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(1_200)]

MARKETS = ("binance:BTC-USDT", "binance:ETH-USDT", "bybit:BTC-USDT", "okx:BTC-USDT")
DAYS = [f"2025-02-{day:02d}" for day in range(1, 13)]
WINDOW = Interval(at("2025-02-01"), at("2025-02-13"))
SETTINGS = {
    "MDP_WORKERS": "2",
    "MDP_DAGSTER__RUNS_AT_ONCE": "4",
    "MDP_DAGSTER__LOST_AFTER_S": "15",
    "MDP_EXCHANGES__BINANCE__PAGES_IN_FLIGHT": "2",
    "MDP_EXCHANGES__BYBIT__PAGES_IN_FLIGHT": "2",
}
IN_FLIGHT = 2 + 2 + 16 + 16
"""So many requests of two runs can have been without an answer when their host died; the rest is on disk."""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    # Not below pytest's own folder: each of its sessions closes that to all other users, Postgres' among them.
    with (
        tempfile.TemporaryDirectory(prefix="mdp-fleet-") as folder,
        running_fleet(Path(folder), ("one", "two"), extra=SETTINGS, simulator=("--latency-ms", "1500")) as running,
    ):
        running.start_worker("one")
        running.start_worker("two")
        yield running


def keys(days: list[str], markets: tuple[str, ...]) -> list[str]:
    return [f"{day}|{market}" for day in days for market in markets]


def begun(fleet: Fleet) -> Counter[str]:
    """How often a worker began each run."""
    query = "SELECT run_id FROM event_logs WHERE event LIKE '%%begins the run.%%'"
    return Counter(run_id for (run_id,) in fleet.sql(query))


def has_ended(fleet: Fleet, backfill: str) -> bool:
    return fleet.backfill_status(backfill) not in ("REQUESTED", "CANCELING")


def require_the_truth(fleet: Fleet, market: str, window: Interval) -> None:
    store, one = open_store(load_settings(data_dir=fleet.data_dir)), Market.parse(market)
    truth = fleet.control.call(lambda: true_minutes(SIMULATOR_URL, one, window))
    wrong = [*minutes_differ(store, one, window, truth), *longer_differ(store, one, window)]
    assert truth
    assert not wrong, "\n".join(wrong)


def test_a_host_that_dies_in_the_middle_costs_nothing_but_time(fleet):
    backfill = fleet.launch(keys(DAYS, MARKETS))
    fleet.wait_until("four runs at work", lambda: fleet.statuses()["STARTED"] == 4, 200)
    pages = fleet.data_dir / "spool"
    fleet.wait_until("some pages on disk", lambda: len(list(pages.rglob("*.page"))) >= 12, 120)
    fleet.workers["one"].die()
    died = time.monotonic()
    fleet.wait_until("its runs noticed", lambda: fleet.statuses()["FAILURE"] == 2, 150)
    noticed_s = time.monotonic() - died
    fleet.wait_until("the backfill complete", lambda: has_ended(fleet, backfill), 400)
    print(f"noticed after {noticed_s:.0f} s, complete after {time.monotonic() - died:.0f} s")

    assert fleet.backfill_status(backfill) == "COMPLETED_SUCCESS", fleet.tell()
    assert fleet.statuses() == {"SUCCESS": 4, "FAILURE": 2}, "two were lost, and launched again once each"
    assert set(begun(fleet).values()) == {1}, "no run was begun twice"
    for market in MARKETS:
        require_the_truth(fleet, market, WINDOW)
    asked = [one for one in fleet.on_control(lambda control: control.requests()) if "instruments" not in one["path"]]
    assert {one["status"] for one in asked} <= {200, None}, "never was the quota exceeded"
    again = Counter((one["path"], one["query"]) for one in asked).total() - len(
        {(o["path"], o["query"]) for o in asked}
    )
    assert again <= IN_FLIGHT, f"{again} of {len(asked)} requests were made again"


def test_a_worker_that_is_replaced_and_a_queue_that_goes_away_cost_nothing_but_time(fleet):
    fleet.workers["one"].kill_all()
    fleet.workers["one"].plug_in()
    fleet.start_worker("one")
    days = [f"2025-03-{day:02d}" for day in range(1, 9)]
    before = fleet.statuses()
    backfill = fleet.launch(keys(days, MARKETS))
    fleet.wait_until("four runs at work", lambda: fleet.statuses()["STARTED"] == 4, 200)
    worker = fleet.workers["one"].processes[-1]
    worker.send_signal(signal.SIGTERM)  # as a container's end
    began = time.monotonic()
    worker.wait(60)
    print(f"a worker with two runs ended within {time.monotonic() - began:.1f} s of SIGTERM")
    assert fleet.workers["one"].pids() == []
    fleet.start_worker("one")
    fleet.wait_until("its runs noticed", lambda: fleet.statuses()["FAILURE"] - before["FAILURE"] == 2, 100)
    fleet.stop_valkey()
    time.sleep(20)  # longer than a run may be silent
    assert fleet.statuses()["FAILURE"] - before["FAILURE"] == 2, "those of the worker, none for the queue"
    fleet.start_valkey()
    fleet.wait_until("the backfill complete", lambda: has_ended(fleet, backfill), 400)
    assert fleet.backfill_status(backfill) == "COMPLETED_SUCCESS", fleet.tell()
    assert set(begun(fleet).values()) == {1}
    for market in MARKETS:
        require_the_truth(fleet, market, Interval(at("2025-03-01"), at("2025-03-09")))


def test_a_run_that_is_canceled_ends_as_such_and_soon(fleet):
    backfill = fleet.launch(keys([f"2025-04-{day:02d}" for day in range(1, 29)], MARKETS[:1]), ("raw_ohlcv",))
    fleet.wait_until("a run at work", lambda: fleet.statuses()["STARTED"] == 1, 200)
    fleet.cancel(backfill)
    took_s = fleet.wait_until("canceled", lambda: fleet.statuses()["CANCELED"] == 1, 120)
    print(f"canceled within {took_s:.0f} s of the answer")
    fleet.wait_until("the backfill canceled", lambda: has_ended(fleet, backfill), 120)
    assert fleet.backfill_status(backfill) == "CANCELED"
