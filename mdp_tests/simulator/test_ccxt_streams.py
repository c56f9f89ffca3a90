"""Unmodified CCXT pro against the simulator's streams: one task a symbol, as it is meant to be used."""

from __future__ import annotations

import asyncio
import time

import ccxt.pro
import httpx
import pytest

from mdp.domain.market import Market
from mdp.simulator.markets import MARKETS_BY_ID
from mdp.simulator.threaded import running_in_thread
from mdp.simulator.truth import true_minutes
from mdp_tests.simulator.stream_client import SPOT, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

COINS = ("BTC", "ETH", "SOL")


@pytest.fixture(scope="module")
def simulator(shared_simulation):
    with running_in_thread(shared_simulation, now="2025-06-01T00:00Z", speed=120) as simulator:
        yield simulator


async def watch(client, symbol, minutes, seen):
    """Keep the last that was told of each minute, until some minutes are over."""
    while len(seen) <= minutes:
        for row in await asyncio.wait_for(client.watch_ohlcv(symbol, "1m"), 10):
            seen[row[0]] = row


@pytest.mark.parametrize("exchange", SPOT)
def test_every_symbol_gets_its_minutes_and_they_are_the_truth(simulator, exchange):
    async def talk():
        client = getattr(ccxt.pro, exchange)(simulator.ccxt_urls(exchange))
        seen = {coin: {} for coin in COINS}
        try:
            await client.load_markets()
            async with asyncio.TaskGroup() as group:
                for coin in COINS:
                    group.create_task(watch(client, f"{coin}/USDT", 4, seen[coin]))
        finally:
            await client.close()
        return seen

    for coin, rows in run(talk()).items():
        opened = sorted(rows)
        true = true_minutes(simulator.simulation, Market.parse(f"{exchange}:{coin}-USDT"), opened[0], opened[-1])
        assert len(true) >= 4
        # CCXT does not tell whether a minute is closed, and may wake too late for the last message of one
        same = [rows[row[0]][1:6] == row[1:6] for row in true]
        assert sum(same) >= len(same) - 1


@pytest.mark.parametrize("exchange", SPOT)
def test_a_pending_call_hears_of_a_close_and_the_next_one_connects_again(simulator, exchange):
    async def talk():
        client = getattr(ccxt.pro, exchange)(simulator.ccxt_urls(exchange))
        try:
            await client.load_markets()
            await client.watch_ohlcv("BTC/USDT", "1m")
            simulator.faults.add(kind="stream_close", exchange=exchange, code=1012, times=1)
            with pytest.raises(ccxt.NetworkError):
                await watch(client, "BTC/USDT", 1_000, {})
            if exchange == "okx":
                await asyncio.sleep(1)  # three connections a second, and not all of them ours
            return await asyncio.wait_for(client.watch_ohlcv("BTC/USDT", "1m"), 10)
        finally:
            await client.close()

    assert run(talk())
    simulator.faults.clear()


def test_rest_lags_for_as_long_as_it_says_by_the_simulated_clock(simulator):
    """At 120 times real time eight seconds are 67 ms: REST shows the old minute as open, then the new one."""
    simulator.faults.add(kind="rest_lag", exchange="binance", lag_s=8)
    market = MARKETS_BY_ID[Market.parse("binance:BTC-USDT").exchange]["BTCUSDT"]
    lagged = settled = 0
    with httpx.Client(base_url=simulator.url_of("binance"), trust_env=False) as client:
        until_s = time.monotonic() + 3
        while time.monotonic() < until_s:
            before_ms = simulator.simulation.clock()
            rows = client.get(
                "/api/v3/klines", params={"symbol": market.market_id, "interval": "1m", "limit": 2}
            ).json()
            after_ms = simulator.simulation.clock()
            if before_ms // 60_000 != after_ms // 60_000:
                continue
            opened_ms = before_ms - before_ms % 60_000
            if after_ms - opened_ms < 8_000:
                lagged += 1
                assert rows[-1][0] == opened_ms - 60_000
                (true,) = true_minutes(
                    simulator.simulation, Market.parse("binance:BTC-USDT"), opened_ms - 60_000, opened_ms
                )
                assert float(rows[-1][5]) <= true[5]
            elif before_ms - opened_ms >= 8_000:
                settled += 1
                assert rows[-1][0] == opened_ms
    simulator.faults.clear()
    assert lagged >= 3
    assert settled >= 20
