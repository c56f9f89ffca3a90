"""An exchange restates its past, in its files and in its API: each changed minute is one revision, however often and
however rudely it is fetched again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from datetime import date

import pytest

from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.revisions import rows_as_of
from mdp.domain.timeframe import Timeframe
from mdp.ports import FETCHES, OHLCV, REVISIONS, Slice
from mdp.storage import open_store
from mdp_tests.support.builders import window
from mdp_tests.support.simulator_control import Control
from mdp_tests.support.simulator_process import running_simulator
from mdp_tests.support.workplace import Workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BTC = Market.parse("binance:BTC-USDT")
DAYS = Interval.of_days(date(2021, 4, 22), date(2021, 4, 23))
PART = Slice(BTC, (Timeframe.M1,), DAYS)
RESTATED = window("2021-04-22T23:25", "2021-04-23T00:35")
BACKFILL = ("backfill", "-m", str(BTC), "--start", "2021-04-22", "--end", "2021-04-24")


def read(workplace, table):
    return open_store(workplace.settings).read(table, PART)


def killed_once_it_has_collected(workplace):
    """Kill a backfill, its workers along, as soon as the new raw rows are there; the rest of it is lost."""
    asked = len(read(workplace, FETCHES))
    process = workplace.start(*BACKFILL)
    deadline = time.monotonic() + 120
    while len(read(workplace, FETCHES)) == asked and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    listed = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False)
    for number in (process.pid, *map(int, listed.stdout.split())):
        os.kill(number, signal.SIGKILL)
    process.wait()
    return len(read(workplace, FETCHES)) - asked


def test_seventy_restated_minutes_are_seventy_revisions_though_the_refetch_is_killed_and_repeated(tmp_path):
    with running_simulator("--scenario", "restated", "--now", "2025-01-08T00:00Z") as simulator:
        archive = {"MDP_EXCHANGES__BINANCE__ARCHIVE_URL": f"{simulator.url}/binance-archive"}
        workplace = Workplace(tmp_path, simulator.url, archive)
        assert workplace.run(*BACKFILL).returncode == 0
        before = read(workplace, OHLCV)
        assert set(before["source"]) == {"archive"}
        Control(simulator.url).set_now("2025-01-08T13:00Z")
        collected = killed_once_it_has_collected(workplace)
        recorded = len(read(workplace, REVISIONS))
        assert workplace.run(*BACKFILL).returncode == 0
        first = read(workplace, REVISIONS)
        assert workplace.run(*BACKFILL).returncode == 0
    revisions, after = read(workplace, REVISIONS), read(workplace, OHLCV)
    assert revisions.equals(first), "a third fetch of the same adds nothing"
    assert revisions["open_time"].to_list() == [RESTATED.start + minute * Timeframe.M1.duration for minute in range(70)]
    for row in revisions.iter_rows(named=True):
        assert row["old_volume"] != row["new_volume"]
        assert (row["old_source"], row["new_source"]) == ("archive", "archive")
        assert row["old_ingested_at"] < row["revised_at"]
    assert rows_as_of(after, revisions, revisions["old_ingested_at"].max()).equals(before)
    assert rows_as_of(after, revisions, revisions["revised_at"].max()).equals(after)
    print(f"killed after {collected} days were collected and {recorded} revisions recorded: {len(revisions)} revisions")
