"""How long 100,000 candles take to become the body of an answer, in each form, beside copying their bytes.

The floor is one copy of the columns out of cold memory into memory that the process did not touch before, as a body's
is; the copy into warm memory is printed too. All are timed in turn, the best of some rounds. Not here: reading the
candles from storage (``data_plane``), sending the body (``serving``).
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import orjson
import polars as pl

from mdp.api.compression import Encoding, compress
from mdp.api.conditional import digest_of_rows
from mdp.api.row_bodies import as_arrow, as_csv, as_json, as_parquet
from mdp.domain.candles import TIME

CANDLES, ROUNDS = 100_000, 15
GOALS = {"Arrow": 8, "JSON rows": 30}
_COLD = 24
"""So many different sources of a copy, more than caches hold."""


def candles() -> pl.DataFrame:
    """Return candles as the history route has them: prices of two decimals, long volumes, collected day by day."""
    random = np.random.default_rng(7)
    minute = np.arange(CANDLES)
    start = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    prices = np.round(random.uniform(20_000, 90_000, (4, CANDLES)), 2)
    return pl.DataFrame(
        {
            "open_time": pl.Series(start + minute * 60_000_000).cast(TIME),
            **dict(zip(("open", "high", "low", "close"), prices, strict=True)),
            "volume": np.round(random.uniform(0, 50, CANDLES), 5),
            "quote_volume": np.round(random.uniform(0, 5e6, CANDLES), 8),
            "trades": random.integers(0, 9_999, CANDLES),
            "minutes": pl.Series(np.ones(CANDLES, dtype=np.int32)),
            "source": pl.Series(["archive"] * CANDLES),
            "ingested_at": pl.Series(start + minute // 1_440 * 1_234_567).cast(TIME),
        }
    )


def _copies(size: int) -> tuple[Callable[[], object], Callable[[], object]]:
    sources = [np.random.default_rng(number).bytes(size) for number in range(_COLD)]
    warm, turn = np.empty(size, dtype=np.uint8), iter(range(10**6))

    def into_new() -> None:
        with mmap.mmap(-1, size) as memory:
            memory[:] = sources[next(turn) % _COLD]

    def into_warm() -> None:
        warm[:] = np.frombuffer(sources[next(turn) % _COLD], dtype=np.uint8)

    return into_new, into_warm


def _orjson_rows(rows: pl.DataFrame) -> bytes:
    return orjson.dumps(rows.rows(), option=orjson.OPT_UTC_Z)


def _to_dicts(rows: pl.DataFrame) -> bytes:
    return orjson.dumps(rows.to_dicts(), option=orjson.OPT_UTC_Z)


def run() -> dict[str, Any]:
    """Measure and print."""
    rows = candles()
    size = len(as_arrow(rows))
    into_new, into_warm = _copies(size)
    json_body = as_json(rows, {})
    works: dict[str, Callable[[], object]] = {
        "a copy into new memory": into_new,
        "a copy into warm memory": into_warm,
        "Arrow": partial(as_arrow, rows),
        "JSON rows": partial(as_json, rows, {}),
        "CSV": partial(as_csv, rows),
        "Parquet": partial(as_parquet, rows),
        "version (ETag)": partial(digest_of_rows, rows),
        "JSON, packed with zstd": partial(compress, json_body, Encoding.ZSTD),
        "JSON, packed with gzip": partial(compress, json_body, Encoding.GZIP),
        "orjson of rows()": partial(_orjson_rows, rows),
        "orjson of to_dicts()": partial(_to_dicts, rows),
    }
    spent: dict[str, list[float]] = {name: [] for name in works}
    for number in range(ROUNDS):
        for name, work in works.items():
            if number >= 3 and ("orjson" in name or "packed" in name):
                continue  # they take most of the time, and three show enough
            began = time.perf_counter()
            work()
            spent[name].append((time.perf_counter() - began) * 1e3)
    best = {name: min(times) for name, times in spent.items()}
    floor, warm = best["a copy into new memory"], best["a copy into warm memory"]
    print(f"\nBodies of {CANDLES:,} candles; {size:,} bytes as Arrow, {len(json_body):,} as JSON")
    print("| | ms | copies into new memory | copies into warm memory | goal |\n|---|---:|---:|---:|---:|")
    for name, took in best.items():
        goal = f"≤ {GOALS[name]}" if name in GOALS else ""
        print(f"| {name} | {took:.1f} | {took / floor:.1f} | {took / warm:.1f} | {goal} |")
    return {"ms": best, "bytes": {"arrow": size, "json": len(json_body)}}


if __name__ == "__main__":
    run()
