"""Benchmarks of the hot paths: each against the least the hardware allows for the same result, interleaved in one run.

Quote the ratios, since machines differ. Never part of the tests: nothing here fails because a machine is slow.
Not here: fetching (``fetching``).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from mdp.domain.candles import CANDLE_SCHEMA, RAW_SCHEMA, TIME
from mdp.domain.dvol import minutes_from_candles
from mdp.domain.gaps import find_gaps
from mdp.domain.interval import DAY, Interval
from mdp.domain.market import Market
from mdp.domain.resample import resample_all
from mdp.domain.rules import Asked, split_by_rules
from mdp.domain.timeframe import Timeframe
from mdp.ports import OHLCV, Slice
from mdp.storage.delta import DeltaStore

YEAR = Interval(datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC))
WEEK = Interval(datetime(2024, 6, 27, tzinfo=UTC), datetime(2024, 7, 4, tzinfo=UTC))
MARKET = Market.parse("binance:BTC-USDT")
ROUNDS = 15

Work = Callable[[], object]


def market_year() -> pl.DataFrame:
    """A year of minutes of one market: a random walk in cents, every minute traded."""
    slots = YEAR.slots(Timeframe.M1)
    noise = np.random.default_rng(7)
    close = np.round(50_000 + np.cumsum(noise.normal(0, 5, slots)), 2)
    open_ = np.concatenate(([50_000.0], close[:-1]))
    volume = np.round(noise.gamma(2, 5, slots), 5)
    times = pl.datetime_range(YEAR.start, YEAR.end, "1m", closed="left", time_unit="us", eager=True)
    columns = {
        "exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1m", "open_time": times,
        "open": open_, "high": np.maximum(open_, close) + 1, "low": np.minimum(open_, close) - 1, "close": close,
        "volume": volume, "quote_volume": np.round(volume * close, 8), "trades": noise.integers(1, 5_000, slots),
        "minutes": 1, "source": "rest", "ingested_at": YEAR.end,
    }  # fmt: skip
    whole = {name: value for name, value in columns.items() if not isinstance(value, str | int | datetime)}
    same = [pl.lit(value).alias(name) for name, value in columns.items() if name not in whole]
    return pl.DataFrame(whole).with_columns(same).select(CANDLE_SCHEMA.names()).cast(dict(CANDLE_SCHEMA))


def as_raw(candles: pl.DataFrame) -> pl.DataFrame:
    """The same rows as an exchange would have answered them."""
    return candles.with_columns(
        pl.col("open_time").dt.truncate("1d").cast(TIME).alias("window_start"),
        pl.lit(value=True).alias("closed"),
        pl.col("ingested_at").alias("fetched_at"),
    ).select(RAW_SCHEMA.names())


def domain_pairs(candles: pl.DataFrame) -> dict[str, tuple[Work, Work]]:
    """Work of the pure domain over a market-year, beside its floor."""
    raw, times = as_raw(candles), candles["open_time"]
    columns = [candles[name].to_numpy() for name in ("open", "high", "low", "close", "volume", "quote_volume")]
    hours = as_raw(candles.gather_every(60)).with_columns(timeframe=pl.lit("1h"))
    asked = Asked(YEAR, Timeframe.M1)

    def compare() -> None:
        open_, high, low, close = columns[:4]
        for other in (open_, low, close):
            (high >= other).all()
        for other in (open_, close):
            (low <= other).all()
        for column in columns:
            np.isfinite(column).all()

    stamps = times.to_physical().to_numpy()
    return {
        "resample to all five timeframes / sum of the columns": (
            lambda: resample_all(candles), lambda: [column.sum() for column in columns]),
        "judge by all rules / the comparisons alone": (lambda: split_by_rules(raw, asked), compare),
        "find gaps / difference of the open times": (
            lambda: find_gaps(times, Timeframe.M1, YEAR), lambda: np.diff(stamps)),
        "DVOL hour to minute / repeat of the values": (
            lambda: minutes_from_candles(hours, Timeframe.H1, YEAR, max_age_minutes=120),
            lambda: np.repeat(hours["close"].to_numpy(), 60)),
        "DVOL minute to minute / copy of the values": (
            lambda: minutes_from_candles(raw, Timeframe.M1, YEAR, max_age_minutes=120),
            lambda: raw["close"].to_numpy().copy()),
    }  # fmt: skip


def storage_pairs(candles: pl.DataFrame, folder: Path) -> dict[str, tuple[Work, Work]]:
    """Reads and writes of the lake, beside one bare Parquet file."""
    store, part = DeltaStore(folder / "lake"), Slice(MARKET, (Timeframe.M1,), YEAR)
    store.replace(OHLCV, part, candles)
    bare, bare_week = folder / "year.parquet", folder / "week.parquet"
    week, day = Slice(MARKET, (Timeframe.M1,), WEEK), Interval(WEEK.start, WEEK.start + DAY)
    of_day = candles.filter(pl.col("open_time").is_between(day.start, day.end, closed="left"))
    candles.write_parquet(bare, compression="zstd", compression_level=3)
    store.read(OHLCV, week).write_parquet(bare_week, compression="zstd", compression_level=3)
    return {
        "read a year of 1m / one bare file": (lambda: store.read(OHLCV, part), lambda: pl.read_parquet(bare)),
        "read 7 days over two months / a file of just these": (
            lambda: store.read(OHLCV, week), lambda: pl.read_parquet(bare_week)),
        "replace one day in its month / write a file of a month": (
            lambda: store.replace(OHLCV, Slice(MARKET, (Timeframe.M1,), day), of_day),
            lambda: candles.head(43_200).write_parquet(folder / "month.parquet", compression="zstd")),
    }  # fmt: skip


def measure(pairs: dict[str, tuple[Work, Work]]) -> dict[str, dict[str, float]]:
    """Run each pair in turn and print the medians in milliseconds and the median of the ratios."""
    found = {}
    for name, (ours, floor) in pairs.items():
        ours(), floor()
        timed = [(_ms(ours), _ms(floor)) for _ in range(ROUNDS)]
        mine, least = (statistics.median(column) for column in zip(*timed, strict=True))
        ratio = statistics.median(own / other for own, other in timed)
        print(f"| {name} | {mine:.1f} | {least:.2f} | {ratio:.1f} |")
        found[name] = {"ms": mine, "floor_ms": least, "ratio": ratio}
    return found


def _ms(work: Work) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def run() -> dict[str, dict[str, float]]:
    """Measure every pair."""
    year = market_year()
    print("\n| a market-year: work / floor | ms | floor, ms | ratio |\n|---|---:|---:|---:|")
    found = measure(domain_pairs(year))
    with tempfile.TemporaryDirectory() as temporary:
        found |= measure(storage_pairs(year, Path(temporary)))
    with tempfile.TemporaryDirectory() as temporary:
        from mdp_tests.benchmarks.reading import reading_pairs  # which knows this module's year

        return {**found, **measure(reading_pairs(year, Path(temporary)))}
