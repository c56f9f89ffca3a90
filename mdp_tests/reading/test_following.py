"""Whoever follows live candles learns every end state, whatever becomes of the messages."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from mdp.bus.live_keys import LiveKeys
from mdp.bus.topics import buffer_rest, candle_rest
from mdp.domain.live import Buffer, CandleState, LiveCandle
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.errors import BusUnavailable
from mdp.ports.live import Message
from mdp.reading import following
from mdp.reading.following import updates
from mdp_tests.support.builders import MARKET

M1, MINUTE_US = Timeframe.M1, 60_000_000
FORMING, CLOSED = CandleState.FORMING, CandleState.CLOSED
PLACE = LiveKeys("local-dev").place(MARKET, M1)


def live(number, close, state=FORMING):
    return LiveCandle(number * MINUTE_US, 1.0, 9.0, 0.5, close, 2.0, None, 3, 1, state, "stream", number * MINUTE_US)


class ScriptedBus:
    """A bus whose messages are lost, or whose connection breaks, when a test says so."""

    def __init__(self, *candles, size=3):
        self.now = Buffer(MARKET, M1, size, tuple(candles), 1, 0)
        self.heard = asyncio.Queue()
        self.reads = 0
        self.feed = "somebody"

    def change(self, candle, *, is_lost=False):
        there = {one.open_us: one for one in self.now.candles} | {candle.open_us: candle}
        candles = tuple(there[opened] for opened in sorted(there))[-self.now.size - 1 :]
        self.now = replace(self.now, candles=candles, seq=self.now.seq + 1)
        if not is_lost:
            self._say("candles", candle_rest(PLACE, candle))

    def rewrite(self, *candles):
        self.now = replace(self.now, candles=candles, seq=self.now.seq + 1)
        self._say("buffers", buffer_rest(PLACE, "rewritten", 1))

    def _say(self, kind, rest):
        self.heard.put_nowait(Message(f"{kind}.binance.BTC-USDT.1m", b'{"seq":%d' % self.now.seq + rest))

    async def holder_of(self, name):
        return self.feed

    async def buffer(self, market, timeframe):
        self.reads += 1
        return self.now

    def subscribe(self, *patterns):
        assert patterns == ("candles.binance.BTC-USDT.1m", "buffers.binance.BTC-USDT.1m")
        return self

    async def ready(self):
        pass

    async def __aiter__(self):
        while True:
            said = await self.heard.get()
            if isinstance(said, Exception):
                raise said
            yield said

    async def aclose(self):
        pass


def follow(bus, script, count):
    """Let a script change a bus after the first update; the updates that follow, as reason and close."""

    async def run():
        found, told = updates(bus, [(MARKET, M1)]), []
        first = await anext(found)
        assert (first.reason, first.candle) == ("read", bus.now.candles[-1])
        script(bus)
        for _ in range(count):
            update = await asyncio.wait_for(anext(found), 5)
            told.append((update.reason, update.candle and update.candle.close))
        await found.aclose()
        return told, update.buffer

    return asyncio.run(run())


def test_a_change_comes_as_it_happened_and_the_buffer_with_it():
    def script(bus):
        bus.change(live(1, 5.0))
        bus.change(live(1, 6.0, CLOSED))
        bus.change(live(2, 7.0))

    bus = ScriptedBus(live(1, 4.0))
    told, buffer = follow(bus, script, 3)
    assert told == [("changed", 5.0), ("changed", 6.0), ("changed", 7.0)]
    assert (buffer.candles, buffer.seq, bus.reads) == (bus.now.candles, 4, 1)
    assert buffer.newest == live(1, 6.0, CLOSED)


@pytest.mark.parametrize(("last", "first"), [(live(1, 4.0, CLOSED), 2), (live(1, 4.0), 1)])
def test_candles_that_ended_while_nobody_heard_and_that_no_buffer_holds_are_said_to_be_missed(last, first):
    def script(bus):
        bus.now = replace(bus.now, candles=tuple(live(number, number, CLOSED) for number in (7, 8, 9)), seq=9)
        bus.heard.put_nowait(BusUnavailable("away"))

    async def run():
        bus = ScriptedBus(last)
        found = updates(bus, [(MARKET, M1)])
        await anext(found)
        script(bus)
        told = [await asyncio.wait_for(anext(found), 5) for _ in range(5)]
        await found.aclose()
        return told

    stale, missed, *read = asyncio.run(run())
    assert (stale.reason, missed.reason, missed.candle) == ("stale", "missed", None)
    assert [EPOCH + timedelta(minutes=number) for number in (first, 7)] == [missed.missed.start, missed.missed.end]
    assert [(one.reason, one.candle.close, one.missed) for one in read] == [("read", n, None) for n in (7.0, 8.0, 9.0)]


def test_a_buffer_that_no_feed_keeps_any_more_is_stale_until_one_writes_again():
    def script(bus):
        bus.feed = None

    bus = ScriptedBus(live(1, 4.0))
    told, buffer = follow(bus, script, 1)
    assert (told, buffer.is_stale) == ([("stale", None)], True)

    async def again():
        bus = ScriptedBus(live(1, 4.0))
        bus.feed = None
        found = updates(bus, [(MARKET, M1)])
        assert (await anext(found)).buffer.is_stale
        bus.change(live(1, 5.0))
        update = await asyncio.wait_for(anext(found), 5)
        await found.aclose()
        return update

    update = asyncio.run(again())
    assert (update.reason, update.buffer.is_stale) == ("changed", False)


def test_a_lost_message_is_noticed_by_the_next_and_what_changed_comes():
    def script(bus):
        bus.change(live(1, 6.0, CLOSED), is_lost=True)
        bus.change(live(2, 7.0))

    bus = ScriptedBus(live(1, 4.0))
    told, buffer = follow(bus, script, 2)
    assert told == [("read", 6.0), ("read", 7.0)]
    assert (buffer.candles, buffer.seq, bus.reads) == (bus.now.candles, 3, 2)


def test_what_is_older_than_the_buffer_is_passed_by():
    def script(bus):
        bus.heard.put_nowait(Message("candles.binance.BTC-USDT.1m", b'{"seq":0' + candle_rest(PLACE, live(1, 5.0))))
        bus.change(live(1, 8.0))

    told, _ = follow(ScriptedBus(live(1, 4.0)), script, 1)
    assert told == [("changed", 8.0)]


def test_a_buffer_that_was_written_anew_is_read_anew():
    told, buffer = follow(ScriptedBus(live(1, 4.0)), lambda bus: bus.rewrite(live(1, 4.0), live(2, 5.0)), 1)
    assert told == [("read", 5.0)]
    assert len(buffer.candles) == 2


def test_only_the_slots_of_the_ring_are_kept():
    def script(bus):
        for number in range(2, 9):
            bus.change(live(number, float(number)))

    bus = ScriptedBus(live(1, 1.0))
    _, buffer = follow(bus, script, 7)
    assert buffer.candles == bus.now.candles
    assert len(buffer.candles) == 4


@pytest.mark.parametrize(("is_changed", "after"), [(True, ("read", 6.0)), (False, ("read", None))])
def test_while_the_bus_is_away_the_buffer_is_stale_and_then_what_changed_comes(is_changed, after):
    def script(bus):
        bus.heard.put_nowait(BusUnavailable("it is gone"))
        bus.heard.put_nowait(BusUnavailable("it is gone again"))
        if is_changed:
            bus.change(live(1, 6.0, CLOSED), is_lost=True)

    told, buffer = follow(ScriptedBus(live(1, 4.0)), script, 2)
    assert told == [("stale", None), after]
    assert not buffer.is_stale


def test_a_burst_comes_whole_and_in_order_and_no_more_of_it_is_held_than_can_be():
    bus = ScriptedBus(live(1, 0.0), size=100)
    closes = [float(number) for number in range(1, 3 * following._MOST_AHEAD)]

    async def run():
        found = updates(bus, [(MARKET, M1)])
        await anext(found)
        for close in closes:
            bus.change(live(1, close))
        first = await anext(found)
        for _ in range(10):
            await asyncio.sleep(0)
        left = bus.heard.qsize()
        told = [first.candle.close] + [(await anext(found)).candle.close for _ in closes[1:]]
        await found.aclose()
        return left, told

    left, told = asyncio.run(run())
    assert told == closes
    assert left >= following._MOST_AHEAD - 1


def test_a_buffer_that_nobody_keeps_is_stale_from_the_first_word_on():
    bus = ScriptedBus(live(1, 1.0))
    bus.feed = None

    async def run():
        found = updates(bus, [(MARKET, M1)])
        first = await anext(found)
        bus.heard.put_nowait(BusUnavailable("it went and came back"))
        bus.change(live(1, 2.0), is_lost=True)
        second = await anext(found)
        await found.aclose()
        return first, second

    first, second = asyncio.run(run())
    assert (first.buffer.is_stale, second.buffer.is_stale, second.candle.close) == (True, True, 2.0)


def test_a_candle_that_the_feed_took_back_is_gone():
    bus = ScriptedBus(live(1, 1.0, CLOSED), live(2, 2.0))

    async def run():
        found = updates(bus, [(MARKET, M1)])
        await anext(found)
        bus.rewrite(live(1, 1.0, CLOSED))
        update = await anext(found)
        await found.aclose()
        return update

    update = asyncio.run(run())
    assert (update.candle, update.reason, [one.open_us for one in update.buffer.candles]) == (None, "read", [MINUTE_US])


def test_a_buffer_that_is_read_again_after_its_feed_went_is_stale_too():
    bus = ScriptedBus(live(1, 1.0, CLOSED), live(2, 2.0))

    async def run():
        found = updates(bus, [(MARKET, M1)])
        await anext(found)
        bus.feed = None
        bus.rewrite(live(1, 1.0, CLOSED), live(2, 3.0))
        update = await anext(found)
        await found.aclose()
        return update

    update = asyncio.run(run())
    assert (update.candle.close, update.buffer.is_stale) == (3.0, True)
