"""Live buffers as people get them: from a real bus, with what to start where there is none."""

from __future__ import annotations

import asyncio
import threading

import pytest

import mdp
from mdp.bus.live import open_live_bus
from mdp.config.settings import load_settings
from mdp.domain.live import Buffer, CandleState, Change, LiveCandle
from mdp.domain.timeframe import Timeframe
from mdp.errors import BusUnavailable, ConfigError, InputError, SliceMissing
from mdp.reading.candle_buffer import BUFFER_SCHEMA, CandleBuffer
from mdp_tests.support.builders import DVOL, MARKET

M1, MINUTE_US = Timeframe.M1, 60_000_000
BTC = str(MARKET)


def live(number, state=CandleState.CONFIRMED, **values):
    plain = LiveCandle(number * MINUTE_US, 1.0, 9.0, 0.5, 4.0, 2.0, None, 3, 1, state, "rest", number * MINUTE_US)
    return plain._replace(**values)


def buffer_of(*candles, market=MARKET):
    return CandleBuffer.of(Buffer(market, M1, 100, candles, 7, 0))


def test_a_frame_has_the_columns_of_stored_candles_and_how_sure_each_is():
    frame = buffer_of(live(1), live(3, CandleState.FORMING, volume=None)).frame()
    assert frame.schema == BUFFER_SCHEMA
    assert frame.select("exchange", "symbol", "timeframe", "volume", "trades", "state").rows() == [
        ("binance", "BTC-USDT", "1m", 2.0, 3, "confirmed"),
        ("binance", "BTC-USDT", "1m", None, 3, "forming"),
    ]
    assert buffer_of().frame().schema == BUFFER_SCHEMA


def test_the_newest_is_the_last_that_has_closed():
    found = buffer_of(live(1), live(3, CandleState.FORMING), market=DVOL)
    assert (found.newest, found.missing_us) == (live(1), (2 * MINUTE_US,))
    assert buffer_of(live(1, CandleState.FORMING)).newest is None


def test_where_nothing_runs_it_is_said_what_to_start(tmp_path):
    settings = load_settings(data_dir=tmp_path)
    for ask in (lambda: mdp.buffer(BTC, "1m", settings=settings), lambda: mdp.follow(BTC, settings=settings)):
        with pytest.raises(BusUnavailable, match="`mdp feed` starts it"):
            ask()
    assert list(tmp_path.iterdir()) == [], "looking starts nothing"


def test_a_wrong_argument_is_named_and_a_backtest_has_no_live_buffer(tmp_path):
    with pytest.raises(InputError, match="timeframe: expected one of 1m"):
        mdp.buffer(BTC, "2m", settings=load_settings(data_dir=tmp_path))
    with pytest.raises(ConfigError, match="MDP_MODE: expected live: in a backtest no feed runs"):
        mdp.follow(BTC, settings=load_settings(data_dir=tmp_path, mode="backtest"))


class Writer:
    """A live bus whose loop runs in a thread of its own, as that of a feed does in a process of its own."""

    def __init__(self, settings):
        self.settings = settings
        self.open()

    def open(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.bus = self.run(self._open())

    async def _open(self):
        bus = await open_live_bus(self.settings).__aenter__()
        await bus.lease("feed/binance", "a test", for_s=600)  # as a feed does: else the buffers count as stale
        return bus

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def publish(self, *candles):
        self.run(self.bus.publish(MARKET, [Change(M1, candle) for candle in candles]))

    def close(self):
        self.run(self.bus.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def writer(tmp_path):
    found = Writer(load_settings(data_dir=tmp_path))
    yield found
    found.close()


@pytest.mark.slow
class TestRealBus:
    def test_what_a_feed_wrote_is_read(self, writer):
        with pytest.raises(SliceMissing, match="no feed has written this buffer yet; start `mdp feed binance`"):
            mdp.buffer(BTC, "1m", settings=writer.settings)
        writer.publish(live(1), live(2, CandleState.FORMING))
        found = mdp.buffer(BTC, "1m", settings=writer.settings)
        assert found.candles == (live(1), live(2, CandleState.FORMING))
        assert found.frame()["state"].to_list() == ["confirmed", "forming"]

    def test_changes_are_followed_in_order_and_leaving_leaves_nothing(self, writer):
        before = threading.active_count()
        writer.publish(live(1))
        found = mdp.follow(BTC, settings=writer.settings)
        assert next(found).candle == live(1)
        for close in (5.0, 6.0, 7.0):
            writer.publish(live(2, CandleState.FORMING, close=close))
        assert [next(found).candle.close for _ in range(3)] == [5.0, 6.0, 7.0]
        found.close()
        assert threading.active_count() == before

    def test_it_can_be_followed_where_an_event_loop_runs_already(self, writer):
        writer.publish(live(1))

        async def notebook():
            found = mdp.follow(BTC, settings=writer.settings)
            first = next(found)
            found.close()
            return first

        assert asyncio.run(notebook()).candle == live(1)

    def test_a_bus_that_goes_away_makes_buffers_stale_until_it_is_back(self, writer):
        writer.publish(live(1))
        found = mdp.follow(BTC, settings=writer.settings)
        assert next(found).reason == "read"
        writer.close()
        assert next(found).buffer.is_stale
        writer.open()
        writer.publish(live(1), live(2))
        while (update := next(found)).candle != live(2):
            pass
        assert not update.buffer.is_stale
        found.close()
