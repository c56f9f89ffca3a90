"""Our sources with and without the archive, both asking one simulated exchange over its real wire."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.interval import Interval, parse_time
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.exchanges import open_source
from mdp.exchanges.archive_first import with_archive
from mdp_tests.exchanges.archive_world import values
from mdp_tests.exchanges.harness import EasyBudget
from mdp_tests.support.simulator_process import running_simulator

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url():
    with running_simulator() as running:
        yield running.url


def fetch(url, market, window, *, archives):
    settings = ExchangeSettings(
        rest_url=f"{url}/{market.exchange.value}",
        archive_url=f"{url}/{market.exchange.value}-archive",
        archives=archives,
        rate_share=0.5,
    )

    async def work():
        source = open_source(market.exchange, settings, clock=lambda: datetime.now(UTC), budget=EasyBudget())
        async with with_archive(source, market.exchange, settings, clock=lambda: datetime.now(UTC)) as first:
            return await first.fetch(market, Timeframe.M1, window)

    return asyncio.run(work())


@pytest.mark.parametrize(
    ("market", "start", "end", "requests"),
    [
        ("binance:BTC-USDT", "2017-08-16", "2017-08-18", 5),  # the listing
        ("binance:BTC-USDT", "2017-09-06", "2017-09-07", 3),  # seven hours without a candle
        ("binance:BTC-USDT", "2018-02-08", "2018-02-10", 8),  # off the grid, and short
        ("binance:BTC-USDT", "2024-12-25", "2025-01-08", 0),  # milliseconds, then microseconds
        ("binance:ETH-USDT", "2024-02-01", "2024-03-01", 0),  # a whole month
        ("okx:SOL-USDT", "2021-01-29", "2021-01-30", 8),  # the listing, in days of UTC+8
        ("okx:BTC-USDT", "2025-01-01", "2025-01-02", 1),  # the index
    ],
)
def test_files_and_rest_tell_the_same_candles(url, market, start, end, requests):
    one, window = Market.parse(market), Interval(parse_time(start), parse_time(end))
    files, rest = (fetch(url, one, window, archives=archives) for archives in (True, False))
    assert values(files.rows).equals(values(rest.rows))
    assert set(files.rows["source"]) == {"archive"}
    assert set(rest.rows["source"]) == {"rest"}
    assert files.requests <= requests


def test_files_are_read_without_loading_ccxt(url):
    script = f"""
import asyncio, sys
from datetime import UTC, datetime
from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.interval import Interval, parse_time
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.exchanges import open_source
from mdp.exchanges.archive_deferred import DeferredSource
from mdp.exchanges.archive_first import with_archive
market = Market.parse("binance:BTC-USDT")
settings = ExchangeSettings(rest_url="{url}/binance", archive_url="{url}/binance-archive")
clock = lambda: datetime.now(UTC)
rest = DeferredSource(market.exchange, lambda: open_source(market.exchange, settings, clock=clock, budget=None))
async def main():
    async with with_archive(rest, market.exchange, settings, clock=clock) as source:
        day = Interval(parse_time("2025-01-01"), parse_time("2025-01-02"))
        return len((await source.fetch(market, Timeframe.M1, day)).rows)
print(asyncio.run(main()), "ccxt" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout == "1440 False\n", result.stderr
