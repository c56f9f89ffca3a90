"""Our sources beside plain CCXT, both asking the simulated exchanges for the same windows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import ccxt.async_support as ccxt
import pytest

from mdp.bus import local_budget
from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.interval import Interval, parse_time
from mdp.domain.market import SPOT_MARKETS, VOLATILITY_MARKETS, Market
from mdp.domain.timeframe import Timeframe
from mdp.exchanges import open_source, quotas_of
from mdp.ports import Fetched

pytestmark = pytest.mark.slow

NOW = datetime(2025, 1, 8, 6, 30, 20, tzinfo=UTC)
READY = "simulator ready on "
SHARE = 0.4
"""Of the quota, for each of the two clients: the simulator counts both as one address."""

PRICES = ("open", "high", "low", "close")


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    """Return the address of a simulator whose clock started at ``NOW``."""
    command = [sys.executable, "-m", "mdp.simulator", "--port", "0", "--now", NOW.isoformat()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ.copy())
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line.startswith(READY), line
        yield line.removeprefix(READY)
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
        process.stdout.close()


def _ours(address: str, market: Market, timeframe: Timeframe, windows: list[Interval]) -> list[Fetched]:
    settings = ExchangeSettings(rest_url=f"{address}/{market.exchange.value}")

    async def work():
        budget = local_budget(market.exchange, quotas_of(market.exchange), rate_share=SHARE)
        async with open_source(market.exchange, settings, clock=lambda: datetime.now(UTC), budget=budget) as source:
            return [await source.fetch(market, timeframe, window) for window in windows]

    return asyncio.run(work())


def _plain_ccxt(address: str, exchange: str) -> ccxt.Exchange:
    base = f"{address}/{exchange}"
    urls = {
        "binance": {"public": f"{base}/api/v3", "sapi": f"{base}/sapi/v1"},
        "bybit": {"public": base},
        "okx": {"rest": base},
        "deribit": {"rest": base},
    }[exchange]
    client = getattr(ccxt, exchange)(
        {
            "urls": {"api": urls},
            "options": {"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot", "fetchMargins": False},
        }
    )
    client.rateLimit = client.rateLimit / SHARE
    client.init_rest_rate_limiter()
    return client


def _theirs(address: str, market: Market, timeframe: Timeframe, windows: list[Interval]) -> list[list[list]]:
    """Return the rows of each window as ``fetch_ohlcv`` gives them, page by page."""
    limit = _page(market)

    async def rows_of(client, window):
        rows, since, end = [], _ms(window.start), _ms(window.end)
        while since < end:
            page = await client.fetch_ohlcv(market.symbol, timeframe.value, since=since, limit=limit)
            rows += [row for row in page if since <= row[0] < min(end, since + limit * timeframe.milliseconds)]
            since += limit * timeframe.milliseconds
        return rows

    async def work():
        client = _plain_ccxt(address, market.exchange.value)
        # CCXT picks OKX's endpoint by this machine's clock, and would take every window for the past.
        client.milliseconds = lambda: _ms(NOW)
        try:
            return [await rows_of(client, window) for window in windows]
        finally:
            await client.close()

    return asyncio.run(work())


def _page(market: Market) -> int:
    return 300 if market.exchange == "okx" else 1_000


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000)


def _windows(market: Market, timeframe: Timeframe, count: int) -> list[Interval]:
    """Choose windows by chance, the same for a market each time: in the past, recorded, and up to just before now."""
    chance = random.Random(f"{market} {timeframe}")
    step = timeframe.duration
    ends = [
        timeframe.floor(NOW) - chance.randrange(2, 1_200) * step,
        datetime(2025, 1, 1, tzinfo=UTC) + chance.randrange(-500, 500) * step,
        *(timeframe.floor(NOW) - chance.randrange(2_000, 900_000) * step for _ in range(count)),
    ]
    return [Interval(end - chance.randrange(1, 2 * _page(market)) * step, end) for end in ends]


def _said(fetched: Fetched) -> list[list]:
    rows = fetched.rows.select("open_time", *PRICES, "volume")
    return [[_ms(moment), *numbers] for moment, *numbers in rows.iter_rows()]


@pytest.mark.parametrize("market", SPOT_MARKETS, ids=str)
def test_every_window_equals_what_plain_ccxt_reads(simulator, market):
    windows = _windows(market, Timeframe.M1, 2)
    ours = _ours(simulator, market, Timeframe.M1, windows)
    theirs = _theirs(simulator, market, Timeframe.M1, windows)
    for window, mine, other in zip(windows, ours, theirs, strict=True):
        assert _said(mine) == other, window
        assert mine.rows.height == window.slots(Timeframe.M1)
        assert mine.rows["closed"].all()


@pytest.mark.parametrize("market", [SPOT_MARKETS[0], SPOT_MARKETS[3], SPOT_MARKETS[6]], ids=str)
@pytest.mark.parametrize("timeframe", [frame for frame in Timeframe if frame is not Timeframe.M1])
def test_every_timeframe_equals_what_plain_ccxt_reads(simulator, market, timeframe):
    last = timeframe.floor(NOW) - timeframe.duration
    windows = [Interval(last - 50 * timeframe.duration, last)]
    ours = _ours(simulator, market, timeframe, windows)
    theirs = _theirs(simulator, market, timeframe, windows)
    assert _said(ours[0]) == theirs[0]
    assert ours[0].rows.height == 50


@pytest.mark.parametrize("market", VOLATILITY_MARKETS, ids=str)
@pytest.mark.parametrize("timeframe", [Timeframe.H1, Timeframe.D1])
def test_the_volatility_index_equals_what_plain_ccxt_reads(simulator, market, timeframe):
    last = timeframe.floor(NOW) - timeframe.duration
    window = Interval(last - 500 * timeframe.duration, last)

    async def work():
        client = _plain_ccxt(simulator, "deribit")
        try:
            question = {
                "currency": market.base,
                "resolution": {"1h": "3600", "1d": "1D"}[timeframe],
                "start_timestamp": _ms(window.start),
                "end_timestamp": _ms(window.end) - 1,
            }
            return await client.public_get_get_volatility_index_data(question)
        finally:
            await client.close()

    theirs = asyncio.run(work())["result"]["data"]
    (ours,) = _ours(simulator, market, timeframe, [window])
    rows = ours.rows.select("open_time", *PRICES)
    assert [[_ms(moment), *prices] for moment, *prices in rows.iter_rows()] == theirs
    assert len(theirs) == 500


@pytest.mark.parametrize("market", [*SPOT_MARKETS[::3], VOLATILITY_MARKETS[0]], ids=str)
def test_the_candle_that_is_forming_is_said_to_be_open_and_those_before_it_closed(simulator, market):
    timeframe = Timeframe.H1 if market.is_volatility_index else Timeframe.M1
    window = Interval(timeframe.floor(NOW) - 5 * timeframe.duration, NOW + timedelta(days=1))
    (ours,) = _ours(simulator, market, timeframe, [window])
    closed = ours.rows["closed"].to_list()
    assert len(closed) >= 6
    assert closed[:5] == [True] * 5
    assert closed[-1] is False


@pytest.mark.parametrize("market", SPOT_MARKETS[::3], ids=str)
def test_a_market_has_no_candles_before_its_listing(simulator, market):
    day = Interval.of_day(parse_time("2015-06-01").date())
    (ours,) = _ours(simulator, market, Timeframe.M1, [day])
    assert ours.rows.is_empty()
    assert ours.requests == 2 * (5 if market.exchange == "okx" else 2)
