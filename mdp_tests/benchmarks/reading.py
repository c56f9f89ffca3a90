"""Benchmarks of reading for people: nine markets, side by side, as of a time, from a snapshot; each beside its floor.

Not here: reading one slice (``data_plane``).
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl

from mdp.config.settings import load_settings
from mdp.domain.market import SPOT_MARKETS, Market
from mdp.domain.resample import resample_all
from mdp.domain.revisions import find_revisions
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.snapshots import create_snapshot
from mdp.ports import OHLCV, REVISIONS, Slice
from mdp.reading import read, read_aligned
from mdp.storage import open_store
from mdp_tests.benchmarks.data_plane import MARKET, YEAR, Work

RESTATED_EVERY = 5_000
"""One minute in so many is given with another volume the second time: a hundred revisions in a year."""


def of_market(candles: pl.DataFrame, market: Market) -> pl.DataFrame:
    return candles.with_columns(exchange=pl.lit(market.exchange.value), symbol=pl.lit(market.symbol_key))


def reading_pairs(minutes: pl.DataFrame, folder: Path) -> dict[str, tuple[Work, Work]]:
    """What ``mdp.read`` and ``mdp.read_aligned`` do, beside bare Parquet files of the same rows."""
    settings = load_settings(data_dir=folder / "data")
    store, bare = open_store(settings), [folder / f"hours-{number}.parquet" for number in range(len(SPOT_MARKETS))]
    hours = resample_all(minutes)[Timeframe.H1]
    for market in SPOT_MARKETS:
        store.replace(OHLCV, Slice(market, (Timeframe.H1,), YEAR), of_market(hours, market))
    for number, market in enumerate(SPOT_MARKETS):
        of_market(hours, market).write_parquet(bare[number], compression="zstd", compression_level=3)

    part, received = Slice(MARKET, (Timeframe.M1,), YEAR), YEAR.end
    restated = (pl.int_range(pl.len()) % RESTATED_EVERY == 0).cast(pl.Float64)
    later = minutes.with_columns(volume=pl.col("volume") + restated)
    store.replace(OHLCV, part, later)
    store.append(REVISIONS, find_revisions(minutes, later, revised_at=received + timedelta(days=2)))
    create_snapshot(store, "bench", [MARKET], [Timeframe.M1], YEAR, lambda: received + timedelta(days=3))
    between, name = received + timedelta(days=1), str(MARKET)

    def year(**how: object) -> pl.DataFrame:
        return read(name, "1m", YEAR.start, YEAR.end, settings=settings, **how)  # type: ignore[arg-type]

    return {
        "nine markets at 1h, a year / nine bare files": (
            lambda: [store.read(OHLCV, Slice(market, (Timeframe.H1,), YEAR)) for market in SPOT_MARKETS],
            lambda: [pl.read_parquet(path) for path in bare]),
        "the same side by side, closes / nine bare files": (
            lambda: read_aligned([*map(str, SPOT_MARKETS)], "1h", YEAR.start, YEAR.end, settings=settings),
            lambda: [pl.read_parquet(path) for path in bare]),
        "a year of 1m as of a time, 106 revisions later / as it is": (lambda: year(as_of=between), year),
        "a year of 1m from a snapshot / as it is": (lambda: year(snapshot="bench"), year),
    }  # fmt: skip
