"""Feeds as processes: a real simulator, a real bus, buffers read from outside, everything that goes wrong.

Not here: the rules (``mdp_tests.live``), Dagster (``test_live_run``).
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import contextmanager
from datetime import timedelta

import pytest

from mdp.bus import open_live_bus, open_live_reader
from mdp.config.settings import load_settings
from mdp.domain.live import CandleState
from mdp.domain.market import MARKETS, Exchange, Market
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.errors import BusUnavailable
from mdp.live.health import FeedHealth, read_health, told_under
from mdp_tests.support.simulator_control import Control
from mdp_tests.support.simulator_process import running_simulator
from mdp_tests.support.workplace import Workplace

pytestmark = pytest.mark.slow

BTC = Market.parse("binance:BTC-USDT")
SPEED = 20


@pytest.fixture(scope="module")
def fast_simulator():
    with running_simulator("--speed", str(SPEED), "--now", "2025-03-06T09:00Z") as simulator:
        yield simulator.url


@pytest.fixture
def place(tmp_path, fast_simulator):
    Control(fast_simulator).clear_faults()
    return Workplace(tmp_path, fast_simulator)


@contextmanager
def feeding(place, *arguments):
    """A feed at work; ended by SIGTERM."""
    process = place.start("feed", *arguments)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(20)


def said(place):
    return (place.data_dir / "feed.out").read_text()


def on_bus(place, scene, opener=open_live_reader):
    """Do something with the bus of a data directory."""

    async def inside():
        async with opener(load_settings(data_dir=place.data_dir)) as bus:
            return await scene(bus)

    return asyncio.run(inside())


def health(place, exchange="binance") -> FeedHealth | None:
    async def scene(bus):
        told = await bus.told(told_under(exchange))
        return read_health(told[told_under(exchange)]) if told else None

    try:
        return on_bus(place, scene)
    except BusUnavailable:
        return None


def wait_for(what, holds, *, within_s=30.0):
    """Wait until something holds, and return it and the seconds that took."""
    began = time.monotonic()
    while time.monotonic() - began < within_s:
        if found := holds():
            return found, time.monotonic() - began
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {within_s} s")


def is_full(place, exchange="binance"):
    found = health(place, exchange)
    return found if found and all(one.state == "streaming" for one in found.markets) else None


def buffer(place, market=BTC, timeframe=Timeframe.M1):
    return on_bus(place, lambda bus: bus.buffer(market, timeframe))


def text_of(open_us):
    return (EPOCH + timedelta(microseconds=open_us)).isoformat().replace("+00:00", "Z")


def differences(place, market=BTC):
    """Confirmed minutes of the buffer that are not the simulator's truth, and minutes that only one of them has."""
    held = {one.open_us: one for one in buffer(place, market).closed}
    sure = (CandleState.CONFIRMED, CandleState.CORRECTED)
    rows = Control(place.simulator_url).truth(str(market), text_of(min(held)), text_of(max(held) + 60_000_000))
    true = {row[0] * 1000: row for row in rows}
    wrong = [text_of(slot) for slot in sorted(held.keys() ^ true.keys())]
    return wrong + [
        f"{text_of(slot)}: {list(one[1:6])} is not {true[slot][1:6]}"
        for slot, one in held.items()
        if one.state in sure and slot in true and list(one[1:6]) != true[slot][1:6]
    ]


def test_buffers_of_every_market_are_full_at_once_and_equal_the_exchanges_truth(place):
    """All four feeds at a time; then an ordinary end."""
    feeds = [place.start("feed", exchange.value) for exchange in Exchange]
    try:
        for exchange in Exchange:
            wait_for(f"{exchange} streams", lambda one=exchange: is_full(place, one.value), within_s=40)
        for market in MARKETS:
            for timeframe in Timeframe:
                held = buffer(place, market, timeframe)
                assert len(held.candles) >= held.size, f"{market} {timeframe}: {len(held.candles)}"
                assert held.missing_us == ()
        time.sleep(4)
        apart = {str(market): wrong for market in MARKETS if (wrong := differences(place, market))}
        assert apart == {}
        assert all(one.inconsistent == 0 for exchange in Exchange for one in health(place, exchange.value).markets)
    finally:
        began = time.monotonic()
        for feed in feeds:
            feed.send_signal(signal.SIGTERM)
        codes = [feed.wait(20) for feed in feeds]
        print(f"four feeds ended in {time.monotonic() - began:.2f} s")
    assert codes == [0, 0, 0, 0], said(place)


def test_a_feed_that_is_killed_is_back_where_it_was(place):
    with feeding(place, "bybit"):  # it keeps the bus
        wait_for("bybit streams", lambda: is_full(place, "bybit"))
        with feeding(place, "binance") as first:
            wait_for("binance streams", lambda: is_full(place))
            first.kill()
            first.wait(10)
        before = buffer(place)
        began = time.monotonic()
        with feeding(place, "binance", "--wait"):
            wait_for("a newer candle", lambda: buffer(place).candles[-1].open_us > before.candles[-1].open_us)
            print(f"kill -9 to new candles: {time.monotonic() - began:.1f} s, its start included")
            assert len(buffer(place).candles) == len(before.candles), "the ring was never emptied"
            wait_for("binance streams", lambda: is_full(place))
            time.sleep(2)
            assert differences(place) == []


def test_no_feed_runs_in_backtest(place):
    place.extra["MDP_MODE"] = "backtest"
    refused = place.run("feed", "binance", timeout_s=30)
    assert (refused.returncode, "MDP_MODE: expected live" in refused.stderr) == (2, True)


def test_a_feed_ends_when_it_is_told_that_nobody_wants_it(place):
    async def want(bus):
        await bus.tell("wanted/binance", b"", for_s=60)
        for _ in range(300):
            if told_under("binance") in await bus.told(told_under("binance")):
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)
        assert feed.poll() is None, "it is wanted"
        began = time.monotonic()
        await bus.tell("unwanted/binance", b"", for_s=5)
        code = await asyncio.to_thread(feed.wait, 10)
        print(f"unwanted: ended in {time.monotonic() - began:.2f} s")
        return code, await bus.holder_of("feed/binance")

    with feeding(place, "binance", "--while-wanted") as feed:
        assert on_bus(place, want, open_live_bus) == (0, None)


@pytest.fixture(scope="module")
def fed(tmp_path_factory, fast_simulator):
    """A place where the feed of Binance streams, for tests that leave it as they found it."""
    place = Workplace(tmp_path_factory.mktemp("fed"), fast_simulator)
    Control(fast_simulator).clear_faults()
    with feeding(place, "binance"):
        wait_for("binance streams", lambda: is_full(place))
        yield place


def test_a_second_feed_refuses_to_run_and_says_who_does(fed):
    second = fed.run("feed", "binance", timeout_s=30)
    assert second.returncode == 1
    assert "feed/binance: expected to be the only one" in second.stderr
    assert health(fed) is not None


def test_a_silent_stream_that_answers_pings_is_noticed_and_healed(fed):
    control, began_us = Control(fed.simulator_url), health(fed).market_us
    control.script({"kind": "stream_silence", "exchange": "binance", "times": 1})
    _, took_s = wait_for("the silence is noticed", lambda: any(one.silences for one in health(fed).markets))
    print(
        f"silence noticed after {took_s:.1f} s, at most {(health(fed).market_us - began_us) / 1e6:.0f} s of the market"
    )
    wait_for("it streams again", lambda: is_full(fed))
    time.sleep(3)
    assert differences(fed) == []


def test_a_connection_that_breaks_leaves_no_hole(fed):
    control, before = Control(fed.simulator_url), sum(one.reconnects for one in health(fed).markets)
    for kind in ("stream_abort", "stream_close", "stream_missing_close"):
        control.script({"kind": kind, "exchange": "binance", "times": 1})
        time.sleep(3.5)
    wait_for("it streams again", lambda: is_full(fed))
    time.sleep(2)
    assert sum(one.reconnects for one in health(fed).markets) >= before + 2
    assert differences(fed) == []
    print(json.dumps([(one.market, one.reconnects, one.corrections) for one in health(fed).markets]))
