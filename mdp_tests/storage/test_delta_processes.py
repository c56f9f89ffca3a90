"""Real processes on one lake: writers at once, writers killed, readers all the while.

Not here: races moment by moment (``test_delta_races``).
"""

from __future__ import annotations

import multiprocessing as mp
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.ports import OHLCV, Slice
from mdp.storage import DeltaStore
from mdp_tests.contracts.rows import part, rows_at
from mdp_tests.support.builders import MARKET, at

pytestmark = pytest.mark.slow

SPAWN = mp.get_context("spawn")
MARKETS = [Market.parse(f"{exchange}:{base}-USDT") for exchange in ("binance", "okx") for base in ("BTC", "ETH")]
MONTHS = [(f"2024-{month:02d}-01", f"2024-{month + 1:02d}-01") for month in range(1, 7)]

# Three months and a part of two, so that rows are kept, replaced and removed in one commit.
WIDE = part("2024-01-15", "2024-05-15")
MOMENTS = [at("2024-01-15") + timedelta(hours=hour) for hour in range(24 * 100)]


@cache
def minutes() -> pl.DataFrame:
    return rows_at(OHLCV, MOMENTS, has_holes=False)


def generation(number: int) -> pl.DataFrame:
    """The slice as number ``number``; every other one has half of the rows."""
    return minutes().head(len(MOMENTS) // (1 + number % 2)).with_columns(close=pl.lit(float(number)))


def assert_whole(rows: pl.DataFrame) -> int:
    """Check that the slice is what one writer wrote, all of it and once, and return the writer's number."""
    number = int(rows["close"][0])
    assert_frame_equal(rows, generation(number))
    return number


def write_months(lake: Path, market: Market, months: list[tuple[str, str]], start: Barrier) -> None:
    store = DeltaStore(lake)
    start.wait()
    for first, after in months:
        store.replace(OHLCV, part(first, after, market=market), month_rows(market, first))


def begin_lakes(root: Path, market: Market, lakes: int, start: Barrier) -> None:
    for number in range(lakes):
        store = DeltaStore(root / str(number))
        start.wait()
        store.replace(
            OHLCV, part("2024-01-01", "2024-01-02", market=market), rows_at(OHLCV, ["2024-01-01"], market=market)
        )
        assert store.read(OHLCV, part("2024-01-01", "2024-01-02", market=market)).height == 1


def month_rows(market: Market, first: str) -> pl.DataFrame:
    moments = [at(first) + timedelta(minutes=minute) for minute in range(0, 20_000, 10)]
    return rows_at(OHLCV, moments, market=market, seed=int(first[5:7]), has_holes=False)


def write_generations(lake: Path, numbers: list[int], start: Barrier) -> None:
    store = DeltaStore(lake)
    start.wait()
    for number in numbers:
        store.replace(OHLCV, WIDE, generation(number))


def write_for_ever(lake: Path, first: int, is_writing: Event) -> None:
    store = DeltaStore(lake)
    for number in range(first, first + 10_000):
        rows = generation(number)
        is_writing.set()
        store.replace(OHLCV, WIDE, rows)


def read_until_told(lake: Path, is_over: Event, sightings: mp.Queue) -> None:
    store, seen = DeltaStore(lake), 0
    while not is_over.is_set():
        assert_whole((store if seen % 2 else DeltaStore(lake)).read(OHLCV, WIDE))
        seen += 1
    sightings.put(seen)


def run_together(target: Callable[..., None], arguments: list[tuple]) -> None:
    """Run one process for each tuple of arguments, all starting at once; each must end well."""
    start = SPAWN.Barrier(len(arguments))
    writers = [SPAWN.Process(target=target, args=(*each, start)) for each in arguments]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * len(writers)


@contextmanager
def readers(lake: Path, count: int) -> Iterator[None]:
    """Let processes read all the while; none may ever see anything but a whole slice."""
    is_over, sightings = SPAWN.Event(), SPAWN.Queue()
    reading = [SPAWN.Process(target=read_until_told, args=(lake, is_over, sightings)) for _ in range(count)]
    for reader in reading:
        reader.start()
    try:
        yield
    finally:
        is_over.set()
        for reader in reading:
            reader.join(30)
    assert [reader.exitcode for reader in reading] == [0] * count
    assert sum(sightings.get(timeout=5) for _ in reading) > 0


def test_four_writers_of_different_markets_begin_a_lake_and_lose_nothing(tmp_path):
    run_together(write_months, [(tmp_path, market, MONTHS) for market in MARKETS])
    store = DeltaStore(tmp_path)
    for market in MARKETS:
        expected = pl.concat(month_rows(market, first) for first, _ in MONTHS)
        assert_frame_equal(store.read(OHLCV, part("2024-01-01", "2025-01-01", market=market)), expected)
    assert store.version(OHLCV) == len(MARKETS) * len(MONTHS)


def test_a_lake_may_be_begun_by_four_processes_at_the_same_moment(tmp_path):
    run_together(begin_lakes, [(tmp_path, market, 12) for market in MARKETS])
    for number in range(12):
        store = DeltaStore(tmp_path / str(number))
        wheres = [part("2024-01-01", "2024-01-02", market=market) for market in MARKETS]
        assert [store.read(OHLCV, where).height for where in wheres] == [1] * len(MARKETS)
        assert store.version(OHLCV) == len(MARKETS)


def test_four_writers_of_different_months_of_one_market_lose_nothing(tmp_path):
    run_together(write_months, [(tmp_path, MARKET, [month]) for month in MONTHS[:4]])
    expected = pl.concat(month_rows(MARKET, first) for first, _ in MONTHS[:4])
    assert_frame_equal(DeltaStore(tmp_path).read(OHLCV, part("2024-01-01", "2025-01-01")), expected)


def test_four_writers_of_different_days_of_one_month_lose_nothing(tmp_path):
    days = [("2024-01-01", f"2024-01-{day:02d}", f"2024-01-{day + 1:02d}") for day in (1, 9, 17, 25)]
    run_together(write_days, [(tmp_path, int(start[-2:]), 7) for _, start, _ in days])
    found = DeltaStore(tmp_path).read(OHLCV, part("2024-01-01", "2024-02-01"))["open_time"].dt.day().to_list()
    assert found == [day for start in (1, 9, 17, 25) for day in range(start, start + 7)]


def write_days(lake: Path, first: int, count: int, start: Barrier) -> None:
    store = DeltaStore(lake)
    start.wait()
    for day in range(first, first + count):
        store.replace(
            OHLCV, part(f"2024-01-{day:02d}", f"2024-01-{day:02d}T12:00"), rows_at(OHLCV, [f"2024-01-{day:02d}"])
        )


def test_two_writers_of_one_slice_leave_one_copy_and_readers_see_only_whole_ones(tmp_path):
    DeltaStore(tmp_path).replace(OHLCV, WIDE, generation(0))
    with readers(tmp_path, 1):
        run_together(write_generations, [(tmp_path, list(range(first, first + 6))) for first in (10, 20)])
    assert assert_whole(DeltaStore(tmp_path).read(OHLCV, WIDE)) in (15, 25)


def test_a_writer_killed_at_any_moment_leaves_the_old_slice_or_the_new(tmp_path):
    chance, lake = random.Random(2024), tmp_path / "lake"
    store = DeltaStore(lake)
    store.replace(OHLCV, part("2024-01-01", "2024-01-15"), rows_at(OHLCV, ["2024-01-14T23:59"]))
    store.replace(OHLCV, WIDE, generation(0))
    numbers = set()
    with readers(lake, 1):
        for kill in range(1, 17):
            is_writing = SPAWN.Event()
            writer = SPAWN.Process(target=write_for_ever, args=(lake, kill * 1_000, is_writing))
            writer.start()
            assert is_writing.wait(30)
            time.sleep(chance.uniform(0, 0.3))
            writer.kill()
            writer.join(10)
            numbers.add(assert_whole(store.read(OHLCV, WIDE)))
    assert len(numbers) > 4  # some had published, some had not
    assert store.read(OHLCV, part("2024-01-01", "2024-01-15")).height == 1
    store.replace(OHLCV, WIDE, generation(1))
    assert assert_whole(DeltaStore(lake).read(OHLCV, WIDE)) == 1


def test_a_creator_killed_at_any_moment_leaves_no_table_or_a_good_one(tmp_path):
    chance = random.Random(5)
    for kill in range(4):
        lake, is_writing = tmp_path / str(kill), SPAWN.Event()
        writer = SPAWN.Process(target=write_for_ever, args=(lake, 0, is_writing))
        writer.start()
        assert is_writing.wait(30)
        time.sleep(chance.uniform(0, 0.05))
        writer.kill()
        writer.join(10)
        rows = DeltaStore(lake).read(OHLCV, WIDE)
        assert rows.is_empty() or assert_whole(rows) >= 0
        DeltaStore(lake).replace(OHLCV, WIDE, generation(3))
        assert assert_whole(DeltaStore(lake).read(OHLCV, Slice(MARKET, (Timeframe.M1,), WIDE.window))) == 3
