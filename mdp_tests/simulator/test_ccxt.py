"""Unmodified CCXT against the simulator: sync and async, all nine markets, any window."""

from __future__ import annotations

import asyncio
import random
import re
import time

import ccxt
import ccxt.async_support
import httpx
import pytest

from mdp.domain.market import Exchange
from mdp.domain.timeframe import Timeframe
from mdp.simulator.candles import DAY_MS, UNITS
from mdp.simulator.markets import SIMULATED_INDICES, SIMULATED_MARKETS
from mdp.simulator.simulation import build_simulation
from mdp_tests.simulator.conftest import ms
from mdp_tests.support.simulator_process import running_simulator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SEED = 11
PAGE = {Exchange.BINANCE: 1_000, Exchange.BYBIT: 1_000, Exchange.OKX: 300}
SPOT_ONLY = {"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot", "fetchMargins": False}


def config(exchange, url):
    urls = {
        Exchange.BINANCE: {"public": f"{url}/binance/api/v3", "sapi": f"{url}/binance/sapi/v1"},
        Exchange.BYBIT: {"public": f"{url}/bybit"},
        Exchange.OKX: {"rest": f"{url}/okx"},
    }
    return {"urls": {"api": urls[exchange]}, "options": dict(SPOT_ONLY)}


@pytest.fixture(scope="module")
def url():
    """A simulator on the wall clock: CCXT chooses between OKX's two endpoints by its own."""
    with running_simulator("--seed", str(SEED)) as simulator:
        yield simulator.url


@pytest.fixture(scope="module")
def truth():
    """The same world inside this process: what the data layer says, without any page or wire."""
    return build_simulation(seed=SEED)


def windows(market, timeframe, now_ms):
    """Windows to page through: borders of recorded days, months, listing, and anywhere, always the same ones."""
    chance = random.Random(f"{market.market}{timeframe}")
    candles = 650 if market.exchange is Exchange.OKX else 2_100
    longest = min(candles * timeframe.milliseconds, 120 * DAY_MS)
    first = market.first_candle_ms
    starts = [
        first - longest // 2,
        ms("2024-12-24T20:00Z") if first < ms("2024-12-24T20:00Z") else first,
        ms("2025-01-07T18:00Z"),
        ms("2018-02-08T00:00Z"),
        ms("2023-02-28T12:00Z"),
        *(chance.randrange(first, now_ms - longest) for _ in range(2)),
        now_ms - longest // 3,
    ]
    return [(start, start + chance.randrange(timeframe.milliseconds, longest)) for start in starts]


def page_requests(market, timeframe, start, end):
    """Pages that any client of CCXT would ask: forward from the start. Send it what each page brought."""
    exchange, step = market.exchange, timeframe.milliseconds
    rows, since = {}, start
    while since < end:
        page = yield since, PAGE[exchange]
        rows.update({row[0]: row for row in page if row[0] < end})
        if exchange is Exchange.OKX:  # an empty page says only that its own window of 300 is empty
            since += PAGE[exchange] * step
        else:
            since = page[-1][0] + step if page else end
    return [rows[key] for key in sorted(rows)]


def run(pages, fetch):
    """Drive ``page_requests`` with a function that fetches."""
    page = None
    try:
        while True:
            page = fetch(*pages.send(page))
    except StopIteration as done:
        return done.value


async def run_async(pages, fetch):
    page = None
    try:
        while True:
            page = await fetch(*pages.send(page))
    except StopIteration as done:
        return done.value


def expected(truth, market, timeframe, start, end, now_ms):
    candles = truth.history.candles(market, timeframe, start, end - 1, now_ms)
    return [
        [open_ms, *(value / UNITS for value in values)]
        for open_ms, *values in candles.values[[0, 2, 3, 4, 5, 6]].T.tolist()
    ]


def check(truth, market, timeframe, window, rows, asked_ms):
    """Finished rows equal the truth; what was open while it was asked lies between the truth then and now."""
    before, after = (
        expected(truth, market, timeframe, *window, now_ms) for now_ms in (asked_ms, int(time.time() * 1_000))
    )
    finished = [row for row in before if row[0] + timeframe.milliseconds <= asked_ms]
    assert rows[: len(finished)] == finished
    assert len(before) <= len(rows) <= len(after)
    for row, least, most in zip(rows[len(finished) :], before[len(finished) :], after[len(finished) :], strict=False):
        assert row[:2] == least[:2]
        assert least[2] <= row[2] <= most[2]
        assert least[3] >= row[3] >= most[3]
        assert least[5] <= row[5] <= most[5]


def test_the_installed_ccxt_is_the_one_described():
    assert re.match(r"4\.5\.", ccxt.__version__)


@pytest.mark.parametrize("exchange", PAGE)
def test_sync_ccxt_pages_any_window_of_every_market(url, truth, exchange):
    client = getattr(ccxt, exchange.value)(config(exchange, url))
    assert sorted(client.load_markets()) == ["BTC/USDT", "ETH/USDT", "SOL/USDT"]
    assert abs(client.fetch_time() - time.time() * 1_000) < 5_000
    assert client.fetch_status()["status"] == "ok"
    for market in [market for market in SIMULATED_MARKETS if market.exchange is exchange]:
        asked_ms = int(time.time() * 1_000)
        for window in windows(market, Timeframe.M1, asked_ms):
            asked_ms = int(time.time() * 1_000)
            rows = run(
                page_requests(market, Timeframe.M1, *window),
                lambda since, limit, symbol=market.market.symbol: client.fetch_ohlcv(symbol, "1m", since, limit),
            )
            check(truth, market, Timeframe.M1, window, rows, asked_ms)


@pytest.mark.parametrize("exchange", PAGE)
def test_async_ccxt_pages_any_window_of_every_market_and_timeframe(url, truth, exchange):
    async def page_all():
        client = getattr(ccxt.async_support, exchange.value)(config(exchange, url))
        try:
            assert sorted(await client.load_markets()) == ["BTC/USDT", "ETH/USDT", "SOL/USDT"]
            for market in [market for market in SIMULATED_MARKETS if market.exchange is exchange]:
                for timeframe in Timeframe:
                    now_ms = int(time.time() * 1_000)
                    every = slice(1, None, 2) if timeframe is Timeframe.M1 else slice(3, None, 4)
                    for window in windows(market, timeframe, now_ms)[every]:
                        asked_ms = int(time.time() * 1_000)
                        rows = await run_async(
                            page_requests(market, timeframe, *window),
                            lambda since, limit, symbol=market.market.symbol, length=timeframe: client.fetch_ohlcv(
                                symbol, length.value, since, limit
                            ),
                        )
                        check(truth, market, timeframe, window, rows, asked_ms)
        finally:
            await client.close()

    asyncio.run(page_all())


@pytest.mark.parametrize("exchange", PAGE)
def test_without_a_start_the_open_candle_comes_last(url, truth, exchange):
    client = getattr(ccxt, exchange.value)(config(exchange, url))
    client.load_markets()
    for timeframe in Timeframe:
        asked_ms = int(time.time() * 1_000)
        rows = client.fetch_ohlcv("ETH/USDT", timeframe.value, None, 50)
        bucket = timeframe.milliseconds
        assert rows[-1][0] in (asked_ms // bucket * bucket, int(time.time() * 1_000) // bucket * bucket)
        assert len(rows) == 50
        market = next(m for m in SIMULATED_MARKETS if m.exchange is exchange and m.base == "ETH")
        check(truth, market, timeframe, (rows[0][0], rows[-1][0] + bucket), rows, asked_ms)


@pytest.mark.parametrize(
    ("exchange", "method", "params", "error"),
    [
        ("binance", "publicGetKlines", {"symbol": "XRPUSDT", "interval": "1m"}, ccxt.BadSymbol),
        ("binance", "publicGetKlines", {"symbol": "BTCUSDT", "interval": "7m"}, ccxt.BadRequest),
        ("binance", "publicGetKlines", {"symbol": "btc", "interval": "1m"}, ccxt.BadRequest),
        ("bybit", "publicGetV5MarketKline", {"category": "spot", "symbol": "XRPUSDT", "interval": "1"}, ccxt.BadSymbol),
        (
            "bybit",
            "publicGetV5MarketKline",
            {"category": "spot", "symbol": "BTCUSDT", "interval": "7"},
            ccxt.BadRequest,
        ),
        ("okx", "publicGetMarketCandles", {"instId": "XRP-USDT"}, ccxt.BadSymbol),
        ("okx", "publicGetMarketCandles", {"instId": "BTC-USDT", "bar": "7m"}, ccxt.BadRequest),
    ],
)
def test_refusals_become_the_errors_ccxt_knows(url, exchange, method, params, error):
    client = getattr(ccxt, exchange)(config(Exchange(exchange), url))
    with pytest.raises(error):
        getattr(client, method)(params)


def dvol(client, currency, start, end, resolution):
    """The paging loop of a careful client."""
    rows, cursor = {}, end
    while True:
        response = client.get(
            "/public/get_volatility_index_data",
            params={
                "currency": currency, "start_timestamp": start, "end_timestamp": cursor, "resolution": resolution,
            },
        )  # fmt: skip
        body = response.json()
        assert "error" not in body
        for row in body["result"]["data"]:
            rows[row[0]] = row
        following = body["result"]["continuation"]
        if following is None or following < start or following >= cursor:
            return [rows[time_ms] for time_ms in sorted(rows)]
        cursor = following


@pytest.mark.parametrize("currency", ["BTC", "ETH"])
def test_the_volatility_index_is_paged_over_all_its_history(url, truth, currency):
    asked_ms = int(time.time() * 1_000)
    with httpx.Client(base_url=f"{url}/deribit/api/v2", trust_env=False) as client:
        rows = dvol(client, currency, 0, asked_ms, "3600")
    hours = truth.volatility.hours(SIMULATED_INDICES[currency], 0, asked_ms, asked_ms + DAY_MS)
    assert [row[0] for row in rows] == hours[0].tolist()
    finished = [[open_ms, *(value / 100 for value in values)] for open_ms, *values in hours[:, :-1].T.tolist()]
    assert rows[:-1] == finished
