"""What is removed from the disk of the lake, when, and what never is, however old it looks.

Not here: the promises of every store (``contracts``), what becomes of live files (``test_delta_upkeep``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import stamina
from polars.testing import assert_frame_equal

from mdp.errors import InputError, WriteConflict
from mdp.ports import GAPS, OHLCV, Vacuum
from mdp.storage import DeltaStore
from mdp.storage.delta_table import Piece
from mdp.storage.delta_vacuum import vacuum_files
from mdp.storage.layout import Partition
from mdp_tests.contracts.rows import DAY, EVER, OTHER_MARKET, part, rows_at
from mdp_tests.storage.test_delta_races import Ambushed, Overtaken, once
from mdp_tests.storage.test_delta_upkeep import live, on_disk

HOUR = timedelta(hours=1)
DECEMBER = Partition("binance", "BTC-USDT", "1m", "2024-12")

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> DeltaStore:
    return DeltaStore(tmp_path / "lake")


@pytest.fixture(autouse=True)
def _without_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3):
        yield


def set_back(store: DeltaStore, table, path: str, *, hours: float) -> None:
    moment = time.time() - hours * 3600
    os.utime(store.directory(table) / path, (moment, moment))


def set_removals_back(store: DeltaStore, table, *, hours: float) -> None:
    """Make the log say that all it removed was removed so much earlier."""
    for commit in (store.directory(table) / "_delta_log").glob("*.json"):
        lines = commit.read_text().split("\n")
        for at_, line in enumerate(lines):
            if line.startswith('{"remove"'):
                stated = line.split('"deletionTimestamp":')[1].split(",")[0]
                lines[at_] = line.replace(stated, str(int(stated) - int(hours * 3_600_000)))
        commit.write_text("\n".join(lines))


def test_a_file_goes_once_it_was_removed_from_the_table_longer_ago_than_is_kept(store):
    for seed in range(3):
        store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"], seed=seed))
    old, use = on_disk(store) - live(store), store.disk_use(OHLCV)
    assert (use.rows, use.files) == (1, 1)
    assert use.old_bytes == sum((store.directory(OHLCV) / path).stat().st_size for path in old)
    for path in old:
        set_back(store, OHLCV, path, hours=1_000)  # how old a file is says nothing about when it was removed
    assert store.vacuum(OHLCV, HOUR) == Vacuum()
    set_removals_back(store, OHLCV, hours=1.5)
    fresh = DeltaStore(store.lake_dir)
    assert fresh.vacuum(OHLCV, 2 * HOUR) == Vacuum()
    assert fresh.vacuum(OHLCV, HOUR, dry_run=True) == Vacuum(2, use.old_bytes)
    assert on_disk(store) == old | live(store)
    version = store.version(OHLCV)
    assert fresh.vacuum(OHLCV, HOUR) == Vacuum(2, use.old_bytes)
    assert on_disk(store) == live(store)
    assert store.version(OHLCV) == version
    assert fresh.vacuum(OHLCV, HOUR) == Vacuum()
    assert_frame_equal(fresh.read(OHLCV, DAY), rows_at(OHLCV, ["2024-12-30"], seed=2))


def test_a_file_that_was_never_published_goes_a_day_after_it_was_written_at_the_earliest(store):
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))
    rows = store._table(OHLCV).read(store.live_files(OHLCV))
    lost = store._table(OHLCV).write([Piece(DECEMBER, rows)])[0].path
    for hours, keep, goes in ((0, HOUR, 0), (23, HOUR, 0), (25, 48 * HOUR, 0), (25, HOUR, 1)):
        set_back(store, OHLCV, lost, hours=hours)
        assert store.vacuum(OHLCV, keep, dry_run=True).files == goes
    assert store.vacuum(OHLCV, HOUR).files == 1
    assert on_disk(store) == live(store)


def test_a_time_that_is_longer_than_the_log_remembers_is_refused(store):
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))
    assert store.vacuum(OHLCV, 720 * HOUR) == Vacuum()
    with pytest.raises(InputError, match=r"keep: expected at most 30 days, .*days=30, seconds=1"):
        store.vacuum(OHLCV, 720 * HOUR + timedelta(seconds=1), dry_run=True)


def test_what_is_live_stays_however_old_it_is(store):
    store.replace(OHLCV, part("2024-12-01", "2025-02-01"), rows_at(OHLCV, ["2024-12-30", "2025-01-01"]))
    for path in live(store):
        set_back(store, OHLCV, path, hours=100_000)
    assert vacuum_files(store._table(OHLCV), timedelta(0), dry_run=False) == Vacuum()
    assert store.read(OHLCV, EVER).height == 2


@pytest.mark.parametrize("make", [Overtaken, Ambushed])
def test_a_writer_that_has_not_yet_published_its_files_is_not_robbed_of_them(store, make):
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))
    new = rows_at(OHLCV, ["2024-12-30"], seed=1)
    slow = make(store.lake_dir, lambda: vacuum_files(store._table(OHLCV), timedelta(0), dry_run=False))
    slow.replace(OHLCV, DAY, new)
    assert_frame_equal(store.read(OHLCV, DAY), new)


def rob(store: DeltaStore, table) -> None:
    for path in on_disk(store, table) - live(store, table):
        (store.directory(table) / path).unlink()


def test_a_writer_that_slept_for_days_does_not_publish_files_that_are_gone(store):
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))
    new = rows_at(OHLCV, ["2024-12-30"], seed=1)
    Overtaken(store.lake_dir, once(lambda: rob(store, OHLCV))).replace(OHLCV, DAY, new)
    assert_frame_equal(store.read(OHLCV, DAY), new)
    with pytest.raises(WriteConflict, match="was removed before it was published"):
        Overtaken(store.lake_dir, once(lambda: rob(store, OHLCV))).append(OHLCV, new)
    assert_frame_equal(store.read(OHLCV, DAY), new)


def test_what_is_no_file_of_the_table_is_left_alone(store):
    for seed in range(2):
        store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"], seed=seed))
    root = store.directory(OHLCV)
    notes = [root / "notes.parquet", root / "exchange=binance" / "notes.txt", root / "_delta_log" / "old.parquet"]
    for path in notes:
        path.write_text("mine")
        os.utime(path, (0, 0))
    vacuum_files(store._table(OHLCV), timedelta(0), dry_run=False)
    assert all(path.exists() for path in notes)


def test_the_log_is_summed_up_and_cleaned_and_old_readers_go_on(store):
    readers = [DeltaStore(store.lake_dir) for _ in range(3)]
    log = store.directory(GAPS) / "_delta_log"
    for count in range(22):
        store.append(GAPS, rows_at(GAPS, ["2024-12-30"], seed=count, market=OTHER_MARKET if count % 2 else EVER.market))
        if count < len(readers):
            assert readers[count].version(GAPS) == count + 1
    store.compact(GAPS)
    for path in log.iterdir():
        os.utime(path, (0, 0))
    for count in range(20):
        store.append(GAPS, rows_at(GAPS, ["2024-12-30"], seed=count))
    store.compact(GAPS)
    assert len(list(log.glob("*.checkpoint.parquet"))) == 2
    assert [int(path.stem) for path in sorted(log.glob("*.json"))] == list(range(24, 46))
    expected = store.read(GAPS, EVER)
    assert expected.height == 11 + 20
    for reader in (*readers, DeltaStore(store.lake_dir)):
        assert_frame_equal(reader.read(GAPS, EVER).head(31), expected)
        reader.append(GAPS, rows_at(GAPS, ["2024-12-31"]))
    assert store.read(GAPS, EVER).height == 11 + 20 + 4
    # Tombstones of before are in the checkpoint.
    assert store.vacuum(GAPS, HOUR) == Vacuum()
    assert vacuum_files(store._table(GAPS), timedelta(0), dry_run=True).files == 22 + 21
