"""The live run over a bus that is a script: what it stores, acknowledges, says, and how it ends."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from mdp.config.sections import LiveSettings
from mdp.defs import live_run
from mdp.defs.live_run import ALIVE, LEASE, Ending, LiveRun
from mdp.domain.live import Entry
from mdp.domain.market import Market
from mdp.errors import BusUnavailable, LeaseHeld, StoreUnavailable
from mdp.pipeline.live_report import Kept, NotKept
from mdp.ports.live import Backlog, Taken
from mdp_tests.support.builders import NOW

BTC, ETH = Market.parse("binance:BTC-USDT"), Market.parse("binance:ETH-USDT")
SETTINGS = LiveSettings(persist_every_s=0.2, lease_s=0.5, run_minutes=0.002)


class ScriptedLease:
    def __init__(self, bus, name, holder):
        self.bus, self.name, self.holder = bus, name, holder

    async def renew(self):
        self.bus.ask("renew")
        return self.bus.leases.get(self.name) == self.holder

    async def release(self):
        self.bus.ask("release")
        if self.bus.leases.get(self.name) == self.holder:
            del self.bus.leases[self.name]


class ScriptedBus:
    """The part of the bus that a live run uses, in memory; time does not pass in it."""

    epoch = "one"

    def __init__(self, *markets):
        self.waiting = [Taken(str(number), Entry(market)) for number, market in enumerate(markets)]
        self.leases, self.said, self.asked = {}, {}, Counter()
        self.is_away = False

    def ask(self, what):
        self.asked[what] += 1
        if self.is_away:
            raise BusUnavailable("away")

    async def take(self, consumer, *, at_most, wait_s):
        self.ask("take")
        return tuple(self.waiting[:at_most])

    async def acknowledge(self, taken):
        self.ask("acknowledge")
        ids = {one.id for one in taken}
        self.waiting = [one for one in self.waiting if one.id not in ids]

    async def backlog(self):
        return Backlog(len(self.waiting), None)

    async def lease(self, name, holder, *, for_s):
        self.ask("lease")
        return ScriptedLease(self, name, holder) if self.leases.setdefault(name, holder) == holder else None

    async def holder_of(self, name):
        self.ask("holder_of")
        return self.leases.get(name)

    async def revoke(self, name, holder):
        self.ask("revoke")
        if self.leases.get(name) == holder:
            del self.leases[name]

    async def tell(self, name, said, *, for_s):
        self.ask("tell")
        self.said[name] = (said, for_s)


class NoFeeds:
    """Feeds that nobody needs to keep."""

    starts_feeds = True

    def __init__(self, bus, last_words=()):
        self.bus, self.last_words, self.dismissed = bus, last_words, False

    async def run(self):
        await asyncio.Event().wait()

    async def dismiss(self, *, within_s):
        self.dismissed = True
        self.bus.waiting += self.last_words
        return []


class Around:
    """Remembers what it was told; says that the sensor is off after so many questions."""

    def __init__(self, off_after=None, over=()):
        self.off_after, self.over, self.flushes, self.lines = off_after, over, [], []

    async def sensor_is_off(self):
        self.off_after = None if self.off_after is None else self.off_after - 1
        return self.off_after is not None and self.off_after < 0

    async def is_over(self, run_id):
        return run_id in self.over

    async def flushed(self, flush):
        self.flushes.append(flush)

    def info(self, message):
        self.lines.append(message)

    warning = error = info


async def stored(taken):
    return Kept((), NOW)


def run(bus, keep=stored, around=None, settings=SETTINGS, feeds=None, during=None):
    around = around or Around()

    async def work():
        one = LiveRun(bus, "me", feeds or NoFeeds(bus), keep, around, settings, around)
        if during is not None:
            asyncio.get_running_loop().call_later(0.02, during, one)
        return await asyncio.wait_for(one.work(), 10)

    return asyncio.run(work()), around


def test_what_waits_is_stored_acknowledged_and_reported_as_one_flush():
    bus = ScriptedBus(BTC, ETH)
    ending, around = run(bus)
    assert ending is Ending.OVER
    assert bus.waiting == []
    assert [(flush.taken, flush.stored, flush.problem) for flush in around.flushes] == [(2, 2, "")]
    assert bus.leases == {}, "its lease is given up"


def test_an_empty_flush_is_not_reported():
    assert run(ScriptedBus())[1].flushes == []


def test_it_says_that_it_is_alive_for_three_lengths_of_its_lease():
    bus = ScriptedBus()
    run(bus, during=lambda one: (bus.said.__setitem__("seen", bus.said[ALIVE]), one.end(Ending.OVER)))
    assert bus.said["seen"] == (b"me", 1.5)


def test_what_cannot_be_stored_is_not_acknowledged_said_once_and_tried_again():
    bus, tries = ScriptedBus(BTC), []

    async def fails_twice(taken):
        tries.append(len(taken))
        if len(tries) < 3:
            raise StoreUnavailable("no space left")
        return Kept((), NOW)

    _, around = run(bus, fails_twice, settings=LiveSettings(persist_every_s=0.2, run_minutes=0.009))
    assert (tries, bus.waiting) == ([1, 1, 1], [])
    assert [flush.stored for flush in around.flushes] == [0, 0, 1]
    assert sum("no space left" in line for line in around.lines) == 1
    assert sum("stored again" in line for line in around.lines) == 1


@pytest.mark.slow  # seconds of patience at its end
def test_of_what_was_partly_stored_only_that_is_acknowledged():
    bus = ScriptedBus(BTC, ETH)

    async def not_eth(taken):
        raise NotKept(Kept((), NOW), {ETH: StoreUnavailable("damaged")})

    run(bus, not_eth, during=lambda one: one.end(Ending.INTERRUPTED))
    assert [one.entry.market for one in bus.waiting] == [ETH]


def test_an_error_of_ours_fails_the_run_and_frees_the_lease():
    bus = ScriptedBus(BTC)

    async def broken(taken):
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        run(bus, broken)
    assert bus.leases == {}
    assert len(bus.waiting) == 1


def test_turned_off_it_stores_the_last_words_of_the_feeds_too():
    bus = ScriptedBus(BTC)
    feeds = NoFeeds(bus, [Taken("last", Entry(ETH))])
    ending, around = run(bus, around=Around(off_after=0), feeds=feeds, settings=LiveSettings(persist_every_s=60))
    assert (ending, feeds.dismissed, bus.waiting) == (Ending.UNWANTED, True, [])
    assert sum(flush.stored for flush in around.flushes) == 2


def test_turned_off_while_it_ends_by_itself_it_still_ends_the_feeds():
    bus = ScriptedBus(BTC)
    feeds = NoFeeds(bus, [Taken("last", Entry(ETH))])
    settings = LiveSettings(persist_every_s=60, run_minutes=0.001)
    _, around = run(bus, around=Around(off_after=1), feeds=feeds, settings=settings)
    assert (feeds.dismissed, bus.waiting) == (True, [])
    assert sum(flush.stored for flush in around.flushes) == 2


def test_terminated_it_stores_what_waits_and_leaves_the_feeds():
    bus, feeds = ScriptedBus(), None
    feeds = NoFeeds(bus)

    def terminate(one):
        bus.waiting.append(Taken("new", Entry(BTC)))
        one.end(Ending.INTERRUPTED)

    ending, _ = run(bus, feeds=feeds, settings=LiveSettings(persist_every_s=60), during=terminate)
    assert (ending, feeds.dismissed, bus.waiting) == (Ending.INTERRUPTED, False, [])


def test_told_to_end_while_it_stores_it_does_not_store_the_same_beside_it():
    bus, at_work = ScriptedBus(BTC), Counter()

    async def slow(taken):
        at_work["now"] += 1
        at_work["most"] = max(at_work["most"], at_work["now"])
        await asyncio.sleep(0.1)
        at_work["now"] -= 1
        at_work["done"] += 1
        return Kept((), NOW)

    run(bus, slow, during=lambda one: one.end(Ending.INTERRUPTED))
    assert (at_work["most"], at_work["done"], bus.waiting) == (1, 1, [])


def test_the_lease_of_a_run_that_ended_is_taken_away_at_once():
    bus = ScriptedBus()
    bus.leases[LEASE] = "killed"
    assert run(bus, around=Around(over=("killed",)))[0] is Ending.OVER


def test_the_lease_of_a_run_that_lives_is_respected(monkeypatch):
    bus = ScriptedBus(BTC)
    bus.leases[LEASE] = "other"
    monkeypatch.setattr(live_run, "LEASE_PATIENCE_S", 0)
    with pytest.raises(LeaseHeld, match="other"):
        run(bus)
    assert (bus.leases, len(bus.waiting)) == ({LEASE: "other"}, 1)


def test_a_lease_that_another_took_ends_the_run_without_storing_more():
    bus = ScriptedBus()

    def replaced(one):
        bus.leases[LEASE] = "other"
        bus.waiting.append(Taken("new", Entry(BTC)))

    settings = LiveSettings(persist_every_s=60, lease_s=0.5)
    ending, _ = run(bus, settings=settings, during=replaced)
    assert (ending, len(bus.waiting), bus.leases) == (Ending.REPLACED, 1, {LEASE: "other"})


def test_a_lease_that_the_bus_forgot_is_taken_again():
    bus = ScriptedBus()
    settings = LiveSettings(persist_every_s=60, lease_s=0.5, run_minutes=0.004)
    ending, _ = run(bus, settings=settings, during=lambda one: bus.leases.clear())
    assert ending is Ending.OVER
    assert bus.asked["lease"] == 2


def test_a_bus_that_is_away_for_a_while_ends_nothing():
    bus = ScriptedBus()
    loop_s = 0.25

    def away(one):
        bus.is_away = True
        asyncio.get_running_loop().call_later(loop_s, back)

    def back():
        bus.is_away = False
        bus.waiting.append(Taken("new", Entry(BTC)))

    ending, around = run(bus, during=away, settings=LiveSettings(persist_every_s=0.2, run_minutes=0.012))
    assert (ending, bus.waiting) == (Ending.OVER, [])
    assert any("away" in line for line in around.lines)


def test_a_bus_that_is_away_in_the_moment_of_the_end_is_asked_again():
    bus = ScriptedBus()

    def end_while_away(one):
        bus.waiting.append(Taken("new", Entry(BTC)))
        bus.is_away = True
        asyncio.get_running_loop().call_later(0.05, setattr, bus, "is_away", False)
        one.end(Ending.INTERRUPTED)

    ending, _ = run(bus, settings=LiveSettings(persist_every_s=60), during=end_while_away)
    assert (ending, bus.waiting, bus.leases) == (Ending.INTERRUPTED, [], {})


@pytest.mark.slow  # seconds of patience at its end
def test_a_market_that_cannot_be_stored_does_not_keep_the_others_waiting(monkeypatch):
    monkeypatch.setattr(live_run, "AT_MOST", 3)
    bus = ScriptedBus(*[BTC] * 5, ETH, ETH)

    async def all_but_one(taken):
        failures = {BTC: StoreUnavailable("damaged")} if any(one.entry.market == BTC for one in taken) else {}
        kept = Kept((), NOW)
        if failures:
            raise NotKept(kept, failures)
        return kept

    run(bus, all_but_one, settings=LiveSettings(persist_every_s=0.2, run_minutes=0.02))
    assert [one.entry.market for one in bus.waiting] == [BTC] * 5
