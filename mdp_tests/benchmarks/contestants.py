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
import resource
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial

import polars as pl
import psutil

from mdp.domain.interval import DAY, Interval
from mdp.domain.market import Market

MARKET = Market.parse("binance:BTC-USDT")
PAGE_ROWS, PAGES, IN_FLIGHT = 1_000, 216, 8
REST_START = datetime(2024, 1, 1, tzinfo=UTC)
REST_WINDOW = Interval(REST_START, REST_START + PAGES * PAGE_ROWS * timedelta(minutes=1))
"""150 days."""
YEAR = Interval(datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC))
LOADING = Interval(datetime(2023, 12, 1, tzinfo=UTC), datetime(2023, 12, 2, tzinfo=UTC))


Work = Callable[[Interval], int]
"""Fetches a window; returns how many candles it got."""


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


@contextmanager
def mdp_into_frames(url: str) -> Iterator[Work]:
    """Our source alone, with the shared budget and the spool: exact frames, nothing kept for good."""
    from mdp.domain.timeframe import Timeframe
    from mdp_tests.benchmarks.platform import Platform

    async def run(window: Interval) -> int:
        async with platform.open_source(MARKET.exchange) as source:
            rows = len((await source.fetch(MARKET, Timeframe.M1, window)).rows)
        platform.spool.discard(MARKET, Timeframe.M1, window)
        return rows

    with Platform.at(url, archives=False) as platform:
        yield lambda window: asyncio.run(run(window))


@contextmanager
def mdp_durable(url: str, *, archives: bool = False, resample: bool = False) -> Iterator[Work]:
    """Fetched, judged, durable: raw rows, evidence, candles, rejected rows, gaps, revisions."""
    from mdp_tests.benchmarks.platform import Platform

    with Platform.at(url, archives=archives) as platform:
        yield lambda window: platform.collect_and_judge(MARKET, window, resample=resample)


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


def _plain(function: Callable[[str, Interval], int]) -> Contestant:
    return lambda url: nullcontext(partial(function, url))


Contestant = Callable[[str], AbstractContextManager[Work]]

CONTESTANTS: dict[str, Contestant] = {
    "REST: aiohttp + orjson": _plain(aiohttp_and_orjson),
    "REST: CCXT fetch_ohlcv": _plain(ccxt_fetch_ohlcv),
    "REST: mdp into frames": mdp_into_frames,
    "REST: mdp to durable files": mdp_durable,
    "archive: files to columns": _plain(archive_floor),
    "archive: mdp to durable files": partial(mdp_durable, archives=True),
    "archive: mdp, all timeframes": partial(mdp_durable, archives=True, resample=True),
}


def main(name: str, url: str) -> None:
    """Compete, and print the costs. REST: after one page; the archive: from the start of the process."""
    is_rest = name.startswith("REST")
    with CONTESTANTS[name](url) as work:
        if is_rest:
            work(LOADING)
        cpu, wall = time.process_time(), time.monotonic()
        candles = work(REST_WINDOW if is_rest else YEAR)
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        whole = time.time() - psutil.Process().create_time()
    costs = {
        "candles": candles,
        "cpu_s": cpu,
        "wall_s": wall,
        "process_cpu_s": time.process_time(),
        "wall_since_start_s": whole,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(costs), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
