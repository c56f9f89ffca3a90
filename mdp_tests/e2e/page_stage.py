"""What the page is shown on: a lake of some days of candles, buffers on a real bus that a keeper keeps, the service.

Prices are a made-up walk. Not here: a browser (``test_page``), a feed and a simulator (``mdp_tests.integration``).
"""

from __future__ import annotations

import asyncio
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import numpy as np
import polars as pl

from mdp.bus.live import open_live_bus
from mdp.cli.processes import free_port
from mdp.config.settings import Settings
from mdp.domain.candles import CANDLE_SCHEMA, DVOL_SCHEMA, FETCH_SCHEMA, GAP_SCHEMA
from mdp.domain.interval import Interval
from mdp.domain.live import CandleState, Change, LiveCandle
from mdp.domain.market import Market
from mdp.domain.resample import resample_all
from mdp.domain.revisions import find_revisions
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.live.health import FeedHealth, MarketHealth
from mdp.ports import DVOL, FETCHES, GAPS, OHLCV, REVISIONS, Slice
from mdp.storage import open_store
from mdp_tests.support.builders import frame
from mdp_tests.support.workplace import Workplace

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
BUFFERED = 100
DAGSTER_URL = "http://127.0.0.1:3999"


def walk(market: Market, window: Interval, *, seed: int) -> pl.DataFrame:
    """Minutes of a market whose price walks at random."""
    random = np.random.default_rng(seed)
    count = window.slots(Timeframe.M1)
    first, wild = (48, 3.0) if market.is_volatility_index else (90_000 / (1 + 25 * (seed % 5)), 1.0)
    close = first * np.exp(wild * np.cumsum(random.normal(0, 4e-4, count)))
    opens = np.append(close[0], close[:-1])
    spread = np.abs(random.normal(0, 2e-4, (2, count)))
    volume = np.round(random.lognormal(2, 0.8, count), 5)
    start = pl.datetime_range(window.start, window.end, "1m", closed="left", time_zone="UTC", eager=True)
    rows = {
        "exchange": market.exchange.value, "symbol": market.symbol_key, "timeframe": "1m", "open_time": start,
        "open": opens.round(2), "high": (np.maximum(opens, close) * (1 + spread[0])).round(2),
        "low": (np.minimum(opens, close) * (1 - spread[1])).round(2), "close": close.round(2), "volume": volume,
        "quote_volume": (volume * close).round(4), "trades": random.integers(10, 900, count), "minutes": 1,
        "source": "rest", "ingested_at": window.end,
    }  # fmt: skip
    return pl.DataFrame(rows).select(pl.col(name).cast(dtype) for name, dtype in CANDLE_SCHEMA.items())


def fill_lake(
    settings: Settings, rows: Mapping[str, pl.DataFrame], window: Interval, *, missing: Sequence[Interval]
) -> None:
    """Store candles of all markets; those of the first lack some stretches, and one of its minutes was revised."""
    store = open_store(settings)
    for number, (text, all_minutes) in enumerate(rows.items()):
        market = Market.parse(text)
        minutes = all_minutes.filter(pl.col("open_time") < window.end)
        if market.is_volatility_index:
            store.replace(DVOL, Slice(market, (Timeframe.M1,), window), _index(minutes))
        else:
            gone = missing if not number else missing[:1] if number % 2 else ()
            _store_market(settings, market, window, minutes, gone)


def _store_market(
    settings: Settings, market: Market, window: Interval, minutes: pl.DataFrame, gone: Sequence[Interval]
) -> None:
    store = open_store(settings)
    days = pl.datetime_range(window.start, window.end - DAY, "1d", time_zone="UTC", eager=True)
    asked = [(market.exchange.value, market.symbol_key, "1m", day, day + DAY, 0, "", 1, "rest", window.end + DAY)
             for day in days]  # fmt: skip
    store.append(FETCHES, pl.DataFrame(asked, schema=FETCH_SCHEMA, orient="row"))
    for one in gone:
        minutes = minutes.filter(~pl.col("open_time").is_between(one.start, one.end, closed="left"))
    middle = minutes["open_time"][len(minutes) // 2]
    new = minutes.with_columns(
        pl.when(pl.col("open_time") == middle).then(pl.col("high")).otherwise("close").alias("close")
    )
    store.append(REVISIONS, find_revisions(minutes, new, revised_at=window.end))
    store.replace(OHLCV, Slice(market, (Timeframe.M1,), window), new)
    made = pl.concat(resample_all(new).values())
    store.replace(OHLCV, Slice(market, tuple(resample_all(new)), window), made)
    rows = [
        {
            "exchange": market.exchange.value, "symbol": market.symbol_key, "timeframe": "1m", "start": one.start,
            "end": one.end, "slots": one.slots(Timeframe.M1), "source": "rest", "seen_at": window.end,
            "cause": "exchange_outage" if number % 2 else "unknown", "first_seen_at": window.end, "sightings": 1,
            "is_permanent": False, "detail": "spot trading suspended" if number % 2 else None,
        }
        for number, one in enumerate(gone)
    ]  # fmt: skip
    store.replace(GAPS, Slice(market, (Timeframe.M1,), window), frame(rows, GAP_SCHEMA))


def _index(minutes: pl.DataFrame) -> pl.DataFrame:
    hour = pl.col("open_time").dt.truncate("1h")
    return minutes.select(
        "exchange", "symbol", "timeframe", "open_time", pl.col("close").alias("dvol"),
        (hour - pl.duration(hours=1)).alias("hour_open_time"),
        (pl.col("open_time") - hour).dt.total_minutes().cast(pl.Int32).alias("age_minutes"), "source", "ingested_at",
    ).select(pl.col(name).cast(dtype) for name, dtype in DVOL_SCHEMA.items())  # fmt: skip


def live(open_time: datetime, close: float, state: CandleState, *, minutes: int = 1, opened: float = 0.0) -> LiveCandle:
    """Return a candle as a feed publishes it."""
    open_us = (open_time - EPOCH) // EPOCH.resolution
    opened = opened or close * 0.9998
    high, low = max(opened, close) * 1.0001, min(opened, close) * 0.9999
    prices = [round(price, 2) for price in (opened, high, low, close)]
    return LiveCandle(open_us, *prices, 12.5, round(12.5 * close, 4), 321, minutes, state, "stream", open_us)


@dataclass
class Keeper:
    """Keeps a bus and the buffers of the markets as feeds would, in a thread of its own."""

    settings: Settings
    rows: Mapping[str, pl.DataFrame]
    until: datetime
    orders: queue.Queue[tuple[str, list[Change]] | None] = field(default_factory=queue.Queue)

    def run(self) -> None:
        asyncio.run(self._keep())

    def publish(self, market: str, *candles: LiveCandle, timeframe: Timeframe = Timeframe.M1) -> None:
        """Tell of changed candles."""
        self.orders.put((market, [Change(timeframe, candle) for candle in candles]))

    def last_close(self, market: str) -> float:
        """Close of the newest minute of a market's first buffer."""
        return float(self.rows[market]["close"][-1])

    async def _keep(self) -> None:
        async with open_live_bus(self.settings) as bus:
            exchanges = sorted({Market.parse(text).exchange for text in self.settings.markets})
            leases = [await bus.lease(f"feed/{one.value}", "stage", for_s=3) for one in exchanges]
            for text in self.settings.markets:
                await bus.rewrite(Market.parse(text), self._buffers(text))
            told = 0.0
            while True:
                if time.monotonic() > told + 1:
                    told = time.monotonic()
                    for one, lease in zip(exchanges, leases, strict=True):
                        await lease.renew()
                        await bus.tell(f"feed/{one.value}", msgspec.json.encode(self._health(one)), for_s=10)
                with suppress(queue.Empty):
                    order = self.orders.get_nowait()
                    if order is None:
                        return
                    await bus.publish(Market.parse(order[0]), order[1])
                await asyncio.sleep(0.05)

    def _buffers(self, market: str) -> dict[Timeframe, list[LiveCandle]]:
        rows = self.rows[market]
        found = {Timeframe.M1: rows} | resample_all(rows, closed_by=self.until)
        return {one: self._candles(made.tail(BUFFERED), market) for one, made in found.items()}

    def _candles(self, rows: pl.DataFrame, market: str) -> list[LiveCandle]:
        is_index = Market.parse(market).is_volatility_index
        kept = []
        for row in rows.iter_rows(named=True):
            open_us = (row["open_time"] - EPOCH) // EPOCH.resolution
            prices = [row[name] for name in ("open", "high", "low", "close")]
            amounts = (None, None, None) if is_index else (row["volume"], row["quote_volume"], row["trades"])
            kept.append(LiveCandle(open_us, *prices, *amounts, row["minutes"], CandleState.CONFIRMED, "rest", open_us))
        return kept

    def _health(self, exchange) -> FeedHealth:
        last_us = (self.until - MINUTE - EPOCH) // EPOCH.resolution
        markets = [text for text in self.settings.markets if text.startswith(exchange.value)]
        health = [MarketHealth(text, "streaming", last_us, last_us, 0.4, 118.0, 42.0) for text in markets]
        return FeedHealth(
            exchange=exchange.value, holder="stage", started_us=last_us - 3_600_000_000, market_us=last_us + 70_000_000,
            markets=tuple(health), rss_mb=81.0, cpu_s=12.0, pid=1, host="stage", is_stopping=False,
        )  # fmt: skip


@dataclass
class Stage:
    """A running service and the keeper behind it."""

    workplace: Workplace
    keeper: Keeper
    port: int
    server: subprocess.Popen[bytes] | None = None
    thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start_keeping(self) -> None:
        """Let the keeper keep buffers."""
        self.thread = threading.Thread(target=self.keeper.run)
        self.thread.start()

    def stop_keeping(self) -> None:
        """End the keeper: nobody holds the buffers then."""
        if self.thread is not None:
            self.keeper.orders.put(None)
            self.thread.join(30)
            self.thread = None

    def start(self) -> None:
        """Start the service and wait until it is ready."""
        self.server = self.workplace.start("serve", "--port", str(self.port))
        began = time.monotonic()
        while not self._is_ready():
            said = (self.workplace.data_dir / "serve.out").read_text(encoding="utf-8")
            assert self.server.poll() is None, said
            assert time.monotonic() < began + 60, said
            time.sleep(0.1)

    @contextmanager
    def with_keys(self) -> Iterator[tuple[Stage, str]]:
        """Give another service over the same data that answers nobody without a key, and a key."""
        extra = {**self.workplace.extra, "MDP_API__KEYS": "always"}
        guarded = Stage(Workplace(self.workplace.data_dir, extra=extra), self.keeper, free_port(0))
        said = guarded.workplace.run("keys", "create", "page", timeout_s=60)
        found = re.search(r"mdp_[0-9a-z]+_[\w-]+", said.stdout + said.stderr)
        assert found, said
        try:
            guarded.start()
            yield guarded, found[0]
        finally:
            guarded.stop()

    def _is_ready(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/readyz", trust_env=False, timeout=5).status_code == 200
        return False

    def stop(self) -> None:
        """End the service."""
        if self.server is not None and self.server.poll() is None:
            self.server.send_signal(signal.SIGTERM)
            self.server.wait(30)


@contextmanager
def running_stage(data_dir, markets: Sequence[str], *, days: int) -> Iterator[Stage]:
    """Give a service with some days of candles until midnight, and buffers until some hours after it."""
    workplace = Workplace(
        data_dir,
        extra={"MDP_MARKETS": msgspec.json.encode(list(markets)).decode(), "MDP_API__DAGSTER_URL": DAGSTER_URL},
    )
    settings = workplace.settings.model_copy(update={"markets": tuple(markets)})
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    window = Interval(midnight - days * DAY, midnight)
    missing = [
        Interval(midnight - DAY + 20 * 60 * MINUTE, midnight - DAY + (20 * 60 + 17) * MINUTE),
        Interval(midnight - 2 * DAY + 300 * MINUTE, midnight - 2 * DAY + 700 * MINUTE),
    ]
    until = midnight + timedelta(hours=1)
    rows = {
        text: walk(Market.parse(text), Interval(window.start, until), seed=number)
        for number, text in enumerate(markets)
    }
    fill_lake(settings, rows, window, missing=missing)
    keeper = Keeper(settings, rows, until)
    stage = Stage(workplace, keeper, free_port(0))
    try:
        stage.start_keeping()
        stage.start()
        yield stage
    finally:
        stage.stop()
        stage.stop_keeping()
