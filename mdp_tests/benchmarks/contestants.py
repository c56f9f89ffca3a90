"""Who asks in the fetch benchmarks, each in a process of its own that prints what it cost as one line of JSON.

``python -m mdp_tests.benchmarks.contestants NAME URL``. CPU and wall time are of the work alone, after what is loaded
once was loaded by a first page or file; ``wall_since_start_s`` is of the whole process.
Not here: who runs them in turn and compares them (``fetching``).
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import resource
import sys
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from mdp.domain.interval import DAY, Interval
from mdp.domain.market import Market

MARKET = Market.parse("binance:BTC-USDT")
PAGE_ROWS, PAGES, IN_FLIGHT = 1_000, 216, 8
REST_START = datetime(2024, 1, 1, tzinfo=UTC)
REST_WINDOW = Interval(REST_START, REST_START + PAGES * PAGE_ROWS * timedelta(minutes=1))
"""150 days."""
YEAR = Interval(datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC))
LOADING = Interval(datetime(2023, 12, 1, tzinfo=UTC), datetime(2023, 12, 2, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Contestant:
    """Two steps of one way to fetch: what is loaded once, then the work; both return the candles they got."""

    load: Callable[[str], int]
    work: Callable[[str], int]


def _starts(window: Interval) -> list[int]:
    first, last = (int(moment.timestamp() * 1_000) for moment in (window.start, window.end))
    return list(range(first, last, PAGE_ROWS * 60_000))


async def _gather(asked: Iterable[int], ask: Callable[[int], object]) -> int:
    turnstile = asyncio.Semaphore(IN_FLIGHT)

    async def one(start: int) -> int:
        async with turnstile:
            return await ask(start)  # type: ignore[misc]

    return sum(await asyncio.gather(*map(one, asked)))


def aiohttp_and_orjson(url: str, window: Interval) -> int:
    """The floor: ask, decode, throw away. Nothing is checked, converted or kept."""
    import aiohttp
    import orjson

    async def run() -> int:
        async with aiohttp.ClientSession() as session:

            async def ask(start: int) -> int:
                bounds = {"startTime": start, "endTime": start + PAGE_ROWS * 60_000 - 1}
                params = {"symbol": "BTCUSDT", "interval": "1m", "limit": PAGE_ROWS, **bounds}
                async with session.get(f"{url}/binance/api/v3/klines", params=params) as answer:
                    return len(orjson.loads(await answer.read()))

            return await _gather(_starts(window), ask)

    return asyncio.run(run())


def ccxt_fetch_ohlcv(url: str, window: Interval) -> int:
    """CCXT's unified method: lists of six floats."""
    from ccxt.async_support.binance import binance

    options = {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}}
    urls = {"api": {"public": f"{url}/binance/api/v3"}}

    async def run() -> int:
        exchange = binance({"urls": urls, "options": options, "enableRateLimit": False})
        try:
            await exchange.load_markets()

            async def ask(start: int) -> int:
                return len(await exchange.fetch_ohlcv("BTC/USDT", "1m", since=start, limit=PAGE_ROWS))

            return await _gather(_starts(window), ask)
        finally:
            await exchange.close()

    return asyncio.run(run())


def mdp_into_frames(url: str, window: Interval) -> int:
    """Our source alone, with the shared budget and the spool: exact frames, nothing kept for good."""
    from mdp.domain.timeframe import Timeframe
    from mdp.sources import utc_now
    from mdp_tests.benchmarks.platform import Platform

    async def run(platform: Platform) -> int:
        async with platform.open_source(MARKET.exchange) as source:
            rows = len((await source.fetch(MARKET, Timeframe.M1, window)).rows)
        platform.spool.discard(MARKET, Timeframe.M1, Interval(window.start, utc_now()))
        return rows

    with Platform.at(url, archives=False) as platform:
        return asyncio.run(run(platform))


def mdp_durable(url: str, window: Interval) -> int:
    """Fetched by REST, judged, durable: raw rows, evidence, candles, rejected rows, gaps, revisions."""
    from mdp_tests.benchmarks.platform import Platform

    with Platform.at(url, archives=False) as platform:
        return platform.collect_and_judge(MARKET, window)


def archive_floor(url: str, window: Interval) -> int:
    """Download the monthly files, compare the checksums, inflate, read six columns, throw away."""
    import aiohttp

    months = pl.datetime_range(window.start, window.end - DAY, "1mo", eager=True)

    async def run() -> int:
        async with aiohttp.ClientSession() as session:

            async def get(path: str) -> bytes:
                async with session.get(path) as answer:
                    return await answer.read()

            async def ask(number: int) -> int:
                name = f"BTCUSDT-1m-{months[number]:%Y-%m}.zip"
                path = f"{url}/binance-archive/data/spot/monthly/klines/BTCUSDT/1m/{name}"
                content, checksum = await asyncio.gather(get(path), get(f"{path}.CHECKSUM"))
                return await asyncio.to_thread(_read_zip, content, checksum)

            return await _gather(range(len(months)), ask)

    return asyncio.run(run())


def _read_zip(content: bytes, checksum: bytes) -> int:
    assert hashlib.sha256(content).hexdigest() == checksum.split()[0].decode()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        inflated = archive.read(archive.infolist()[0])
    return len(pl.read_csv(inflated, has_header=False, columns=[0, 1, 2, 3, 4, 5, 7, 8]))


def mdp_archive(url: str, window: Interval) -> int:
    """From the archive to the durable lake: raw rows, evidence, candles, gaps, and all longer timeframes."""
    from mdp_tests.benchmarks.platform import Platform

    with Platform.at(url, archives=True) as platform:
        return platform.collect_and_judge(MARKET, window, resample=True)


def _rest(function: Callable[[str, Interval], int]) -> Contestant:
    return Contestant(lambda url: function(url, LOADING), lambda url: function(url, REST_WINDOW))


def _archive(function: Callable[[str, Interval], int]) -> Contestant:
    return Contestant(lambda _url: 0, lambda url: function(url, YEAR))


CONTESTANTS: dict[str, Contestant] = {
    "REST: aiohttp + orjson": _rest(aiohttp_and_orjson),
    "REST: CCXT fetch_ohlcv": _rest(ccxt_fetch_ohlcv),
    "REST: mdp into frames": _rest(mdp_into_frames),
    "REST: mdp to durable files": _rest(mdp_durable),
    "archive: files to columns": _archive(archive_floor),
    "archive: mdp to durable files": _archive(mdp_archive),
}


def main(name: str, url: str) -> None:
    """Compete, and print the costs."""
    contestant = CONTESTANTS[name]
    contestant.load(url)
    cpu, wall = time.process_time(), time.monotonic()
    candles = contestant.work(url)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    print(
        json.dumps(
            {
                "candles": candles,
                "cpu_s": cpu,
                "wall_s": wall,
                "process_cpu_s": time.process_time(),
                "wall_since_start_s": time.time() - _started_at(),
                "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        ),
        flush=True,
    )


def _started_at() -> float:
    import psutil

    return psutil.Process(os.getpid()).create_time()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
