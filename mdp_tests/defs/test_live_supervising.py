"""One feed of each exchange runs: adopted, started, started again, never two; and a started one survives us."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest

from mdp.domain.market import Exchange
from mdp.errors import BusUnavailable
from mdp.live import supervising
from mdp.live.holding import Holder
from mdp.live.starting import start_detached
from mdp.live.supervising import FeedKeeper, Supervisor
from mdp_tests.defs.test_live_run import Around, ScriptedBus

HERE = socket.gethostname()
LEASE = "feed/okx"


class ScriptedProcess:
    def __init__(self, pid):
        self.pid, self.code, self.is_killed = pid, None, False

    def poll(self):
        return self.code

    def kill(self):
        self.is_killed, self.code = True, -9

    def last_words(self):
        return "famous last words"


class Stage:
    """A keeper of one feed, its bus, and the processes it started."""

    def __init__(self, lease_s=2.0):
        self.bus, self.log, self.started = ScriptedBus(), Around(), []
        self.keeper = FeedKeeper(self.bus, Exchange.OKX, self.start, lease_s=lease_s, log=self.log)

    def start(self, exchange):
        self.started.append(ScriptedProcess(4_000_000 + len(self.started)))  # a number that no process here has
        return self.started[-1]

    def look(self, times=1):
        for _ in range(times):
            asyncio.run(self.keeper.look())

    def takes_its_lease(self):
        self.bus.leases[LEASE] = f"{HERE}:{self.started[-1].pid}:random"


@pytest.fixture
def stage():
    return Stage()


def test_without_a_feed_one_is_started_and_only_one(stage):
    stage.look(5)
    assert len(stage.started) == 1
    stage.takes_its_lease()
    stage.look(5)
    assert len(stage.started) == 1


def test_a_feed_that_runs_elsewhere_is_adopted(stage):
    stage.bus.leases[LEASE] = "another-machine:7:random"
    stage.look(3)
    assert stage.started == []
    assert sum("adopted" in line for line in stage.log.lines) == 1


def test_an_adopted_feed_whose_lease_lapsed_is_replaced(stage):
    stage.bus.leases[LEASE] = "another-machine:7:random"
    stage.look()
    del stage.bus.leases[LEASE]
    stage.look()
    assert len(stage.started) == 1


def test_a_child_that_died_is_replaced_in_the_same_look_and_its_lease_is_freed(stage):
    stage.look()
    stage.takes_its_lease()
    stage.look()
    stage.started[0].code = -9
    stage.look()
    assert (len(stage.started), stage.bus.leases) == (2, {})
    assert any("famous last words" in line for line in stage.log.lines)


def test_the_lease_of_another_feed_is_never_freed_for_a_child_that_died(stage):
    stage.look()
    stage.bus.leases[LEASE] = f"{HERE}:1:random"
    stage.started[0].code = 1
    stage.look(3)
    assert stage.bus.leases == {LEASE: f"{HERE}:1:random"}
    assert len(stage.started) == 1, "another one runs: it is adopted"


def test_a_feed_that_dies_of_its_start_is_started_less_and_less_often(stage, monkeypatch):
    monkeypatch.setattr(supervising, "WAITS_S", (0.0, 0.02, 60.0))
    stage.look()
    stage.started[-1].code = 2
    stage.look()
    assert len(stage.started) == 2, "once at once"
    stage.started[-1].code = 2
    stage.look()
    assert len(stage.started) == 2
    time.sleep(0.03)
    stage.look()
    assert len(stage.started) == 3
    stage.started[-1].code = 2
    time.sleep(0.03)
    stage.look(3)
    assert len(stage.started) == 3


def test_a_feed_that_ran_long_is_replaced_at_once_however_often_others_died_young(stage, monkeypatch):
    monkeypatch.setattr(supervising, "WAITS_S", (0.0, 60.0))
    monkeypatch.setattr(supervising, "STEADY_S", 0.0)
    for number in range(4):
        stage.look()
        assert len(stage.started) == number + 1
        stage.started[-1].code = -9


def test_a_child_that_hangs_is_killed_and_replaced():
    stage = Stage(lease_s=0.01)
    stage.look()
    stage.takes_its_lease()
    stage.look()
    del stage.bus.leases[LEASE]
    time.sleep(0.04)
    stage.look()
    assert stage.started[0].is_killed
    stage.look()
    assert len(stage.started) == 2


def test_while_the_bus_is_away_no_child_is_taken_to_hang():
    stage = Stage(lease_s=0.01)
    stage.look()
    stage.takes_its_lease()
    stage.look()
    stage.bus.is_away = True
    for _ in range(3):
        time.sleep(0.02)
        with pytest.raises(BusUnavailable):
            stage.look()
    stage.bus.is_away, stage.bus.leases = False, {}
    stage.look()
    assert not stage.started[0].is_killed, "it takes its lease again in a moment"


def test_a_server_that_was_started_anew_knows_no_lease_and_no_child_is_taken_to_hang():
    stage = Stage(lease_s=0.01)
    stage.look()
    stage.takes_its_lease()
    stage.look()
    time.sleep(0.05)
    stage.bus.epoch, stage.bus.leases = "two", {}
    stage.look()
    assert not stage.started[0].is_killed, "it takes its lease again in a moment"
    time.sleep(0.05)
    stage.look()
    assert stage.started[0].is_killed, "it did not"


def test_a_child_that_is_slow_to_come_up_is_left_alone(stage):
    stage = Stage(lease_s=0.01)
    stage.look()
    time.sleep(0.04)
    stage.look()
    assert not stage.started[0].is_killed


def test_a_death_while_the_bus_is_away_is_remembered(stage):
    stage.look()
    stage.takes_its_lease()
    stage.look()
    stage.bus.is_away, stage.started[0].code = True, -9
    with pytest.raises(BusUnavailable):
        stage.look()
    stage.bus.is_away = False
    stage.look()
    assert (len(stage.started), stage.bus.leases) == (2, {})


@pytest.mark.parametrize(
    ("text", "holder"),
    [("host:12:abc", Holder("host", 12)), ("host:12", None), ("host:x:abc", None), ("", None), ("run-id", None)],
)
def test_a_holder_is_read_and_anything_else_is_not_guessed(text, holder):
    assert Holder.parse(text) == holder


def test_feeds_are_wanted_again_and_again_and_unwanted_ones_are_waited_for():
    bus, log, started = ScriptedBus(), Around(), Counter()

    def start(exchange):
        started[exchange] += 1
        return ScriptedProcess(4_000_000)

    supervisor = Supervisor(bus, [Exchange.OKX, Exchange.BYBIT], start, lease_s=2, linger_s=600, log=log)

    async def work():
        task = asyncio.create_task(supervisor.run())
        await asyncio.sleep(0.05)
        assert bus.said["wanted/okx"] == (b"", 600)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        left = await supervisor.dismiss(within_s=0.15)
        for keeper in supervisor.keepers:
            keeper.process.code = 0
        return left, await supervisor.dismiss(within_s=5)

    assert asyncio.run(work()) == ([Exchange.OKX, Exchange.BYBIT], [])
    assert started == {Exchange.OKX: 1, Exchange.BYBIT: 1}
    assert bus.said["wanted/okx"][1] < 0.01, "or a feed that missed the rest would linger"
    assert bus.said["unwanted/okx"][1] < 0.01, "what was said to one feed, the next does not hear"


def test_feeds_are_told_to_end_even_if_the_bus_was_away_in_that_moment():
    bus, log = ScriptedBus(), Around()
    bus.leases[LEASE], bus.is_away = "another-machine:7:random", True
    supervisor = Supervisor(bus, [Exchange.OKX], lambda _: pytest.fail("started"), lease_s=2, linger_s=600, log=log)

    async def work():
        asyncio.get_running_loop().call_later(0.03, setattr, bus, "is_away", False)
        asyncio.get_running_loop().call_later(0.15, bus.leases.clear)
        return await supervisor.dismiss(within_s=5)

    assert asyncio.run(work()) == []
    assert "unwanted/okx" in bus.said


SURVIVES = """
import sys, pathlib
from mdp.live.starting import start_detached
process = start_detached([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"],
                         pathlib.Path(sys.argv[1]))
print(process.pid)
"""


@pytest.mark.slow
def test_feeds_that_are_services_are_adopted_and_neither_started_nor_ended():
    bus, log = ScriptedBus(), Around()
    bus.leases[LEASE] = "another-machine:7:random"
    supervisor = Supervisor(bus, [Exchange.OKX], None, lease_s=2, linger_s=600, log=log)
    (keeper,) = supervisor.keepers

    async def work():
        await keeper.look()
        assert keeper.is_running
        bus.leases.clear()
        for _ in range(3):
            await keeper.look()
        assert not keeper.is_running
        return await supervisor.dismiss(within_s=5)

    assert list(asyncio.run(work())) == []
    assert keeper.starts == 0
    assert "unwanted/okx" not in bus.said, "the next live run wants it"
    assert any("others start again" in line for line in log.lines)


def test_a_started_feed_survives_whoever_started_it_and_hears_no_interrupt_of_its_terminal(tmp_path):
    log = tmp_path / "log" / "feed.log"
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", SURVIVES, str(log)], capture_output=True, text=True, check=True
    )
    assert told.stderr == ""
    feed = psutil.Process(int(told.stdout))
    try:
        assert os.getsid(feed.pid) == feed.pid
        deadline = time.monotonic() + 10
        while log.read_text() != "up\n" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (feed.is_running(), log.read_text()) == (True, "up\n")
    finally:
        feed.kill()


@pytest.mark.slow
def test_an_adopted_feed_that_is_killed_here_is_replaced_before_its_lease_lapses(stage, tmp_path):
    # the words by which a feed is known in the list of processes
    command = [sys.executable, "-c", "import time; time.sleep(60)", "feed", "okx"]
    other = start_detached(command, tmp_path / "other.log")
    try:
        stage.bus.leases[LEASE] = f"{HERE}:{other.pid}:random"
        deadline = time.monotonic() + 10
        while not Holder(HERE, other.pid).is_seen(Exchange.OKX) and time.monotonic() < deadline:
            time.sleep(0.02)
        stage.look(2)
        assert stage.started == []
        os.kill(other.pid, signal.SIGKILL)
        began = time.monotonic()
        while not stage.started and time.monotonic() < began + 5:
            stage.look()
        assert len(stage.started) == 1
    finally:
        if other.poll() is None:
            other.kill()
