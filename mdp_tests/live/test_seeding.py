"""Filling the buffers when something does not answer: the bus, storage, REST. And comparing them with storage."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest

from mdp.config.sections import LiveSettings
from mdp.domain.candles import CANDLE_SCHEMA, RAW_SCHEMA
from mdp.domain.live import Buffer, CandleState
from mdp.domain.timeframe import Timeframe
from mdp.errors import BusUnavailable, ExchangeUnavailable
from mdp.live import seeding
from mdp.live.backoff import Backoff
from mdp.live.market_feed import MarketFeed
from mdp.live.means import Means
from mdp.live.rereading import compare
from mdp.live.seeding import seed
from mdp.live.tenure import Tenure
from mdp.ports import Fetched
from mdp.ports.live import Backlog
from mdp_tests.live.candles import MINUTE, SECOND, START, minute
from mdp_tests.live.scripted_bus import ScriptedBus
from mdp_tests.live.test_market_feed import Clock
from mdp_tests.live.test_publishing import answer, rest
from mdp_tests.support.builders import MARKET, candle, frame

CONFIRMED, FORMING = CandleState.CONFIRMED, CandleState.FORMING
DOWN = ExchangeUnavailable("binance", "down")


class Rings(ScriptedBus):
    """A bus that holds rings of an earlier feed, that fails to give them at first, and on which entries wait."""

    def __init__(self, minutes=(), *, hiccups=0, oldest_us=None):
        super().__init__()
        self.minutes, self.hiccups, self.oldest_us = tuple(minutes), hiccups, oldest_us

    async def buffer(self, market, timeframe):
        if self.hiccups:
            self.hiccups -= 1
            raise BusUnavailable("just now")
        return Buffer(market, timeframe, 10, self.minutes, 1, START) if timeframe is Timeframe.M1 else None

    async def backlog(self):
        return Backlog(0 if self.oldest_us is None else 1, self.oldest_us)


class Rest:
    """Answers the minutes it was given, and no longer candle; an exception is raised."""

    def __init__(self, said):
        self.said = said

    async def fetch(self, market, timeframe, window):
        if isinstance(self.said, Exception):
            raise self.said
        nothing = Fetched(RAW_SCHEMA.to_frame().drop("window_start"), requests=1)
        return self.said if timeframe is Timeframe.M1 else nothing


class Store:
    """Holds minutes; waits for ``may_answer``."""

    def __init__(self, *rows):
        self.rows, self.may_answer = rows, threading.Event()
        self.may_answer.set()

    def read(self, table, part, *, columns=None):
        self.may_answer.wait(10)
        rows = self.rows if Timeframe.M1 in part.timeframes else ()
        return frame(rows, CANDLE_SCHEMA) if rows else CANDLE_SCHEMA.to_frame()


async def fed(bus, source, store):
    tenure = Tenure(bus, "feed/binance", "me", 60.0)
    await tenure.take(waits=False)
    live = LiveSettings(buffer_size=10)
    means = Means(MARKET.exchange, (MARKET,), live, 10, Clock(), source, None, bus, store)
    feed = MarketFeed(MARKET, means, tenure)
    feed._rest_backoff = Backoff(0.001, 0.01)
    return feed


async def seeding_for_a_while(feed, *, until):
    async with asyncio.timeout(5):
        running = [asyncio.create_task(one) for one in (feed.publisher.run(), seed(feed))]
        try:
            while not until():
                await asyncio.sleep(0.005)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


def rewritten(bus):
    return [len(step[1][Timeframe.M1]) for step in bus.steps if step[0] == "rewrite"]


def stored(number, **values):
    return candle(rest(number)["open_time"], **values)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(seeding, "AGAIN_S", 0.01)


def test_full_rings_are_not_written_over_before_the_bus_has_said_what_they_hold():
    async def scene():
        bus = Rings([minute(number, CONFIRMED) for number in range(5)], hiccups=2)
        feed = await fed(bus, Rest(DOWN), Store())
        feed.books.take(minute(5, FORMING), START + 5 * MINUTE)
        await seeding_for_a_while(feed, until=lambda: rewritten(bus))
        assert rewritten(bus) == [6]
        assert bus.hiccups == 0

    asyncio.run(scene())


def test_while_the_bus_does_not_say_what_rings_hold_nothing_is_written():
    async def scene():
        bus = Rings(hiccups=10_000)
        feed = await fed(bus, Rest(DOWN), Store())
        feed.books.take(minute(5, FORMING), START + 5 * MINUTE)
        await seeding_for_a_while(feed, until=lambda: bus.hiccups < 9_995)
        assert bus.steps == []

    asyncio.run(scene())


def test_one_answer_of_rest_counts_once_however_long_it_takes_to_be_read():
    async def scene():
        bus = Rings([minute(number, CONFIRMED) for number in range(3)])
        feed = await fed(bus, Rest(answer(rest(1, volume=3.0), rest(2), rest(3))), Store())
        later = iter(range(0, 3600, 20))

        def now_us():
            return START + 5 * MINUTE + next(later) * SECOND

        feed.now_us = now_us
        await seeding_for_a_while(feed, until=lambda: feed.is_seeded)
        assert feed.ledger.known(START + MINUTE).volume == 1.0
        assert START + MINUTE in feed.ledger.doubted()

    asyncio.run(scene())


def test_a_store_that_hangs_keeps_neither_the_market_nor_the_end_waiting(monkeypatch, caplog):
    monkeypatch.setattr(seeding, "STORE_PATIENCE_S", 0.02)
    store = Store()
    store.may_answer.clear()

    async def scene():
        feed = await fed(Rings(), Rest(answer(rest(3))), store)
        await seeding_for_a_while(feed, until=lambda: feed.is_seeded)

    began = time.monotonic()
    try:
        with caplog.at_level(logging.WARNING):
            asyncio.run(scene())
        assert time.monotonic() - began < 8, "the store would have kept it for ten seconds"
    finally:
        store.may_answer.set()
    assert "begun without it" in caplog.text


def test_storage_that_answers_late_fills_what_is_missing_and_overrules_nothing(monkeypatch):
    monkeypatch.setattr(seeding, "STORE_PATIENCE_S", 0.02)
    store = Store(stored(0), stored(3, volume=7.0))
    store.may_answer.clear()

    async def scene():
        feed = await fed(Rings(), Rest(answer(rest(1), rest(2), rest(3))), store)

        def is_read():
            if feed.is_seeded:
                store.may_answer.set()
            return feed.tally.stored_differs

        await seeding_for_a_while(feed, until=is_read)
        assert feed.ledger.known(START) is not None
        assert feed.ledger.known(START + 3 * MINUTE).volume == rest(3)["volume"]
        assert feed.ledger.is_stored_otherwise(START + 3 * MINUTE)

    asyncio.run(scene())


def test_what_was_told_before_the_oldest_entry_that_waits_is_compared_though_others_wait():
    async def scene():
        bus = Rings(oldest_us=START + 3 * MINUTE)
        feed = await fed(bus, Rest(DOWN), Store(stored(0), stored(4)))
        feed.means.clock.now_us = START + 20 * MINUTE
        for number in range(5):
            feed.books.take(minute(number, CONFIRMED), START + 20 * MINUTE)
        feed.publisher._entries.clear()
        await compare(feed, START + 20 * MINUTE)
        again = [one.candle.open_us for one in feed.publisher._entries if one.detail == "storage lacked it"]
        assert again == [START + MINUTE], "the next one was told in the same moment as the one that waits"

    asyncio.run(scene())
