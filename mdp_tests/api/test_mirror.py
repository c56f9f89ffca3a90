"""The mirror holds what the bus says, says so when it cannot know, and never stands still looking fresh."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import pytest

from mdp.api import mirror as mirroring
from mdp.api.mirror import Mirror
from mdp.config.settings import load_settings
from mdp.domain.timeframe import Timeframe
from mdp.errors import BusUnavailable
from mdp_tests.reading.test_following import ScriptedBus, live
from mdp_tests.support.builders import MARKET

M1 = Timeframe.M1


class OneBuffer(ScriptedBus):
    """A bus on which there is one buffer of all that are asked for."""

    def subscribe(self, *patterns):
        return self

    async def buffer(self, market, timeframe):
        return await super().buffer(market, timeframe) if (market, timeframe) == (MARKET, M1) else None


@pytest.fixture
def mirrored(tmp_path, monkeypatch):
    """Run a mirror of a bus beside a script that takes it."""
    monkeypatch.setattr(mirroring, "_PAUSE_S", 0.05)
    settings = load_settings(data_dir=tmp_path, simulated=True, markets=(str(MARKET),))

    def run(bus, script):
        async def inside():
            mirror = Mirror(settings, bus)
            task = asyncio.create_task(mirror.run())
            try:
                async with asyncio.timeout(10):
                    await script(mirror)
                assert not task.done()
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

        asyncio.run(inside())

    return run


async def until(is_so):
    while not is_so():
        await asyncio.sleep(0.002)


def held(mirror):
    return mirror.find(MARKET, M1)


def test_it_holds_what_is_on_the_bus_and_each_change_and_knows_what_nobody_wrote(mirrored):
    bus = OneBuffer(live(1, 4.0))

    async def script(mirror):
        assert (held(mirror), mirror.heard_s(), mirror.is_connected) == (None, None, False)
        await until(lambda: mirror.is_connected)
        assert held(mirror).candles == bus.now.candles
        assert mirror.missing == tuple((MARKET, timeframe) for timeframe in Timeframe if timeframe is not M1)
        before = held(mirror)
        bus.change(live(2, 5.0))
        await until(lambda: held(mirror) is not before)
        assert (held(mirror).candles, held(mirror).seq, mirror.stale) == (bus.now.candles, 2, ())
        assert 0 <= mirror.heard_s() < 10

    mirrored(bus, script)


def test_whoever_listens_is_told_in_order_once_the_mirror_has_it_until_it_has_heard_enough(mirrored):
    bus = OneBuffer(live(1, 4.0))

    async def script(mirror):
        told, deaf = [], []
        await until(lambda: mirror.is_connected)
        stop_at_once = mirror.listen(lambda update: (deaf.append(update), stop_at_once()))
        stop = mirror.listen(lambda update: told.append((update.candle.close, held(mirror) is update.buffer)))
        for close in (5.0, 6.0, 7.0):
            bus.change(live(2, close))
        await until(lambda: len(told) == 3)
        assert told == [(5.0, True), (6.0, True), (7.0, True)]
        assert len(deaf) == 1
        stop()
        bus.change(live(2, 8.0))
        await until(lambda: held(mirror).seq == 5)
        assert len(told) == 3

    mirrored(bus, script)


def test_a_listener_that_breaks_harms_neither_the_mirror_nor_another_listener(mirrored, caplog):
    bus = OneBuffer(live(1, 4.0))

    async def script(mirror):
        told = []
        await until(lambda: mirror.is_connected)
        mirror.listen(lambda _: 1 // 0)
        mirror.listen(lambda update: told.append(update.candle.close))
        bus.change(live(2, 5.0))
        await until(lambda: told == [5.0])
        assert (mirror.failures, held(mirror).is_stale) == (0, False)

    with caplog.at_level(logging.ERROR, "mdp.api.mirror"):
        mirrored(bus, script)
    assert "whoever listens to binance:BTC-USDT 1m broke off" in caplog.text


def test_while_the_bus_is_away_its_buffers_stay_marked_stale_and_come_back(mirrored):
    bus = OneBuffer(live(1, 4.0))

    async def script(mirror):
        await until(lambda: mirror.is_connected)
        bus.heard.put_nowait(BusUnavailable("gone"))
        await until(lambda: held(mirror).is_stale)
        assert (held(mirror).candles, mirror.is_connected) == (bus.now.candles, False)
        assert mirror.stale == ((MARKET, M1),)
        bus.change(live(2, 5.0), is_lost=True)
        await until(lambda: not held(mirror).is_stale)
        await until(lambda: mirror.is_connected)
        assert (held(mirror).candles, mirror.failures) == (bus.now.candles, 0)

    mirrored(bus, script)


def test_a_fault_in_mirroring_leaves_nothing_that_looks_fresh_and_it_begins_again(mirrored, caplog):
    bus = OneBuffer(live(1, 4.0))

    async def script(mirror):
        told = []
        await until(lambda: mirror.is_connected)
        mirror.listen(told.append)
        bus.heard.put_nowait(ZeroDivisionError("a fault of ours"))
        await until(lambda: mirror.failures == 1)
        assert (held(mirror).is_stale, mirror.is_connected) == (True, False)
        assert [update.reason for update in told] == ["stale"]
        bus.change(live(2, 5.0), is_lost=True)
        await until(lambda: mirror.is_connected)
        assert (held(mirror).candles, held(mirror).is_stale) == (bus.now.candles, False)

    with caplog.at_level(logging.ERROR, "mdp.api.mirror"):
        mirrored(bus, script)
    assert "a fault of ours" in caplog.text
