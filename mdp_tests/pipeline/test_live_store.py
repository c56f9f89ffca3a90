"""Keeping what feeds told in real stores: a lake whose writer is killed again and again; the emulated central store."""

from __future__ import annotations

import multiprocessing as mp
import random
import resource
import time
from datetime import timedelta
from pathlib import Path

import pytest

from mdp.config.sections import BigQuerySettings
from mdp.domain.interval import Interval
from mdp.domain.live import CandleState
from mdp.domain.market import SPOT_MARKETS
from mdp.domain.timeframe import Timeframe
from mdp.errors import StorageError
from mdp.ports import GAP_SIGHTINGS, OHLCV, REJECTED_OHLCV, REVISIONS, Slice
from mdp.storage import DeltaStore
from mdp.storage.memory import MemoryStore
from mdp_tests.pipeline.live_entries import DAY, absent, confirmed, keep, minute, told, walk
from mdp_tests.support.builders import MARKET

TABLES = (OHLCV, REJECTED_OHLCV, GAP_SIGHTINGS, REVISIONS)
SPAN = Interval(DAY - timedelta(days=1), DAY + timedelta(days=2))
BATCH, HANDED_ON_AGAIN = 6, 60


def content(store, market=MARKET):
    part = Slice(market, tuple(Timeframe), SPAN)
    return {table.name: sorted(map(repr, store.read(table, part).rows())) for table in TABLES}


def story(seed=11, minutes=110):
    """What a feed tells of some hours, in the order in which it learns it: also late, twice and corrected."""
    entries = []
    candles = walk(seed, range(minutes), gaps=0.03)
    there = {one.open_us for one in candles}
    entries += told(*candles)
    entries += told(
        *(
            one._replace(state=CandleState.CONFIRMED, source="rest", received_us=one.received_us + 15_000_000)
            for one in candles
        )
    )
    for one in candles[::17]:
        values = one._replace(
            close=one.high, state=CandleState.CORRECTED, source="rest", received_us=one.received_us + 400_000_000
        )
        entries += told(values)
    entries += told(*(one._replace(low=1e9, received_us=one.received_us + 7) for one in candles[::50]))
    entries += [absent(number) for number in range(minutes) if minute(number).open_us not in there]
    return sorted(entries, key=lambda one: one.told_us)


def keep_all(store, entries, mark=None):
    """Keep batch after batch, as the live run does; what was acknowledged stands in a file."""
    done = int(mark.read_text()) if mark and mark.exists() else 0
    while done < len(entries):
        keep(store, entries[done : done + BATCH], 240)
        done = min(done + BATCH, len(entries))
        if mark:
            mark.with_suffix(".new").write_text(str(done))
            mark.with_suffix(".new").replace(mark)


def work(lake: Path, mark: Path) -> None:
    keep_all(DeltaStore(lake), story(), mark)


@pytest.mark.slow
def test_killed_again_and_again_a_lake_ends_with_what_an_undisturbed_run_stores(tmp_path):
    calm, context = MemoryStore(), mp.get_context("spawn")
    keep_all(calm, story())
    kills, chance = 0, random.Random(4)
    mark = tmp_path / "acknowledged"
    for _ in range(40):
        before = mark.read_text() if mark.exists() else ""
        process = context.Process(target=work, args=(tmp_path / "lake", mark))
        process.start()
        while process.is_alive() and (mark.read_text() if mark.exists() else "") == before:
            time.sleep(0.01)
        process.join(chance.random() * 1.2)
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        kills += 1
    assert process.exitcode == 0
    print(f"killed {kills} times")
    assert kills > 1
    store = DeltaStore(tmp_path / "lake")
    assert content(store) == content(calm)
    # what a bus hands on again after it was lost changes nothing
    versions = {table.name: store.version(table) for table in TABLES}
    for start in range(0, len(story()), HANDED_ON_AGAIN):
        keep(store, story()[start : start + HANDED_ON_AGAIN], 240)
    assert content(store) == content(calm)
    print(
        {name: (before, store.version(table)) for (name, before), table in zip(versions.items(), TABLES, strict=True)}
    )


@pytest.mark.slow
def test_a_flush_of_nine_markets_is_one_commit_and_takes_a_moment(tmp_path):
    store, took = DeltaStore(tmp_path / "lake"), []
    for number in range(60):
        entries = [one for market in SPOT_MARKETS for one in told(minute(number), market=market)]
        entries += [one for market in SPOT_MARKETS for one in told(confirmed(number - 1), market=market) if number]
        before, began = store.version(OHLCV) or 0, time.perf_counter()
        kept = keep(store, entries, number)
        took.append(time.perf_counter() - began)
        assert kept.total("stored") == 9
        assert store.version(OHLCV) - before == 1
    print(f"flush of nine markets: mean {sum(took) / 60:.3f} s, longest {max(took):.3f} s; goal 1.5 s")
    print(store.disk_use(OHLCV))
    assert store.disk_use(OHLCV).files <= 9 * 6 * 4
    assert sum(took) / 60 < 6  # a machine that is busy with other things


@pytest.mark.slow
def test_a_day_of_backlog_is_stored_at_once_and_in_little_memory(tmp_path):
    entries = [
        one
        for market in SPOT_MARKETS
        for number in range(1440)
        for one in told(minute(number), confirmed(number), market=market)
    ]
    store, before = DeltaStore(tmp_path / "lake"), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    kept = keep(store, entries, 1440)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{len(entries):,} entries: {time.perf_counter() - began:.2f} s, {grown:.0f} MB more")
    assert kept.total("stored") == 9 * 1440
    assert store.version(OHLCV) == 1
    assert grown < 400


def test_a_lake_that_cannot_be_written_is_an_error_and_loses_nothing(tmp_path):
    (tmp_path / "lake").write_text("a file")
    with pytest.raises(StorageError, match="Not a directory"):
        keep(DeltaStore(tmp_path / "lake"), told(minute(0)), 0)
    (tmp_path / "lake").unlink()
    store = DeltaStore(tmp_path / "lake")
    assert keep(store, told(minute(0)), 0).total("stored") == 1


@pytest.mark.slow
def test_the_central_store_ends_with_the_same_rows(bigquery_emulator, bigquery_dataset):
    from mdp.storage.bigquery.store import BigQueryStore  # here: Google's libraries cost the fast tests a second

    settings = BigQuerySettings(
        project=bigquery_emulator.project, dataset=bigquery_dataset,
        api_endpoint=bigquery_emulator.api_endpoint, write_endpoint=bigquery_emulator.write_endpoint,
    )  # fmt: skip
    central, calm = BigQueryStore(settings), MemoryStore()
    entries = story(minutes=65)
    half = len(entries) // 2
    for store in (central, calm):
        for batch in (entries[:half], entries[half:], entries[half:]):
            keep(store, batch, 240)
    assert content(central) == content(calm)
