"""What becomes of the files of the lake when it is looked after: joined, pruned, added to, counted.

Not here: the promises of every store (``contracts``), what is removed from the disk (``test_delta_vacuum``), processes
(``test_delta_chaos``).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import deltalake
import polars as pl
import pytest
import stamina
from polars.testing import assert_frame_equal

from mdp.errors import StorageError
from mdp.ports import OHLCV, REVISIONS, Compaction
from mdp.storage import DeltaStore
from mdp.storage.delta_live import SMALL_FILE_ROWS
from mdp.storage.layout import Partition
from mdp_tests.contracts.rows import DAY, EVER, part, rows_at
from mdp_tests.storage.test_delta_races import Ambushed, Overtaken, once
from mdp_tests.support.builders import at

HOUR = timedelta(hours=1)

pytestmark = pytest.mark.slow
DECEMBER = Partition("binance", "BTC-USDT", "1m", "2024-12")


@pytest.fixture
def store(tmp_path: Path) -> DeltaStore:
    return DeltaStore(tmp_path / "lake")


@pytest.fixture(autouse=True)
def _without_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3):
        yield


def on_disk(store: DeltaStore, table=OHLCV) -> set[str]:
    root = store.directory(table)
    return {path.relative_to(root).as_posix() for path in root.rglob("exchange=*/**/*.parquet")}


def live(store: DeltaStore, table=OHLCV) -> set[str]:
    return {file.path for file in store.live_files(table)}


def ties(seed: int, rows: int = 2) -> pl.DataFrame:
    """Revisions of one minute at one moment, told apart by their seed."""
    found = rows_at(REVISIONS, ["2024-12-30"] * rows, seed=seed, has_holes=False)
    return found.with_columns(
        revised_at=pl.lit(at("2026-01-01")).cast(found.schema["revised_at"]),
        old_open=pl.lit(float(seed)),
        new_open=pl.arange(rows).cast(pl.Float64),
    )


def order(store: DeltaStore) -> list[tuple[float, float]]:
    return store.read(REVISIONS, EVER).select("old_open", "new_open").rows()


def test_only_partitions_of_more_files_than_allowed_are_joined(tmp_path):
    store = DeltaStore(tmp_path / "lake", compact_files=3)
    for seed in range(3):
        store.append(REVISIONS, rows_at(REVISIONS, ["2024-12-30", "2025-01-02"], seed=seed))
    assert store.compact(REVISIONS) == Compaction()
    store.append(REVISIONS, rows_at(REVISIONS, ["2024-12-30"], seed=3))
    before = {file.path: file.size_bytes for file in store.live_files(REVISIONS)}
    done = store.compact(REVISIONS)
    assert (done.files_before, done.files_after) == (4, 1)
    december = sum(size for path, size in before.items() if "2024-12" in path)
    assert done.bytes_before == december
    assert done.bytes_after == store.live_files(REVISIONS)[0].size_bytes
    assert [file.partition.period for file in store.live_files(REVISIONS)] == ["2024-12", *["2025-01"] * 3]
    version = store.version(REVISIONS)
    assert store.compact(REVISIONS) == Compaction()
    assert store.version(REVISIONS) == version


def test_a_compaction_tells_other_readers_that_no_row_changed(store):
    for seed in range(5):
        store.append(REVISIONS, ties(seed))
    store.compact(REVISIONS)
    commit = store.directory(REVISIONS) / "_delta_log" / f"{store.version(REVISIONS):020d}.json"
    actions = [line for line in commit.read_text().splitlines() if not line.startswith('{"commitInfo"')]
    assert len(actions) == 6
    assert all('"dataChange":false' in line for line in actions)


def test_rows_that_tie_stay_in_their_order_with_those_that_were_written_before_and_published_after(store):
    for seed in range(5):
        store.append(REVISIONS, ties(seed))
    # Written before the compaction, published after it.
    late = Overtaken(store.lake_dir, once(lambda: store.compact(REVISIONS)))
    late.append(REVISIONS, ties(9))
    assert len(live(store, REVISIONS)) == 2
    assert order(store) == [(float(seed), float(row)) for seed in (0, 1, 2, 3, 4, 9) for row in range(2)]


@pytest.mark.parametrize("make", [Overtaken, Ambushed])
def test_a_compaction_that_another_writer_overtook_leaves_the_partition_for_the_next_time(store, make):
    for seed in range(5):
        store.append(REVISIONS, ties(seed))
    new = rows_at(REVISIONS, ["2024-12-30"], seed=7)
    slow = make(store.lake_dir, once(lambda: store.replace(REVISIONS, DAY, new)))
    assert slow.compact(REVISIONS) == Compaction()
    assert_frame_equal(store.read(REVISIONS, EVER), new)
    assert on_disk(store, REVISIONS) >= live(store, REVISIONS)
    assert len(on_disk(store, REVISIONS)) == 6


@pytest.mark.parametrize("make", [Overtaken, Ambushed])
def test_rows_appended_while_a_partition_is_joined_or_pruned_are_not_lost(store, make):
    for seed in range(5):
        store.append(REVISIONS, ties(seed))
    slow = make(store.lake_dir, once(lambda: store.append(REVISIONS, ties(8))))
    assert slow.compact(REVISIONS).files_before == 5
    assert [seed for seed, _ in order(store)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 8, 8]
    slow = make(store.lake_dir, once(lambda: store.append(REVISIONS, ties(9))))
    assert slow.prune(REVISIONS, "revised_at", at("2026-01-02")) == 12
    assert [seed for seed, _ in order(store)] == [9, 9]


def test_pruning_writes_only_the_files_that_shrink_and_keeps_the_order(store):
    for seed in range(3):
        store.append(REVISIONS, ties(seed).with_columns(old_ingested_at=pl.lit(at(f"2026-01-0{seed + 1}"))))
    store.append(REVISIONS, rows_at(REVISIONS, ["2025-01-02"]))
    before = live(store, REVISIONS)
    mixed = ties(4).with_columns(
        old_ingested_at=pl.Series([at("2026-01-01"), None], dtype=REVISIONS.schema["open_time"])
    )
    store.append(REVISIONS, mixed)
    store.append(REVISIONS, ties(5).with_columns(old_ingested_at=pl.lit(at("2026-03-01"))))
    assert store.prune(REVISIONS, "old_ingested_at", at("2026-01-03")) == 5
    assert len(live(store, REVISIONS) & before) == 2
    assert order(store)[:5] == [(2.0, 0.0), (2.0, 1.0), (4.0, 1.0), (5.0, 0.0), (5.0, 1.0)]


@pytest.mark.parametrize("make", [Overtaken, Ambushed])
def test_live_rows_of_two_writers_are_both_there_and_the_later_of_one_key_wins(store, make):
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))
    theirs = rows_at(OHLCV, ["2024-12-30T00:01", "2024-12-30T00:02"], seed=1)
    ours = rows_at(OHLCV, ["2024-12-30T00:02", "2024-12-30T00:03"], seed=2)
    slow = make(store.lake_dir, once(lambda: store.append_live(OHLCV, theirs)))
    slow.append_live(OHLCV, ours)
    expected = pl.concat([rows_at(OHLCV, ["2024-12-30"]), theirs.head(1), ours])
    assert_frame_equal(store.read(OHLCV, DAY), expected)


def test_live_rows_do_not_write_a_whole_month_anew_unless_they_change_it(store):
    minutes = [at("2024-12-01") + timedelta(minutes=minute) for minute in range(SMALL_FILE_ROWS)]
    month = rows_at(OHLCV, minutes, has_holes=False)
    store.replace(OHLCV, part("2024-12-01", "2025-01-01"), month)
    large = live(store)
    for minute in range(3):
        store.append_live(OHLCV, rows_at(OHLCV, [f"2024-12-30T00:0{minute}"], seed=minute))
    assert large < live(store)
    assert len(live(store)) == 2
    changed = rows_at(OHLCV, ["2024-12-01T12:00", "2024-12-30T00:01"], seed=9)
    store.append_live(OHLCV, changed)
    assert len(live(store)) == 1
    found = store.read(OHLCV, EVER)
    assert found.height == SMALL_FILE_ROWS + 3
    assert found["open_time"].is_sorted()
    assert_frame_equal(found.filter(pl.col("open_time").is_in(changed["open_time"])), changed)


def test_a_lake_that_is_a_file_cannot_be_looked_after(tmp_path, store):
    (tmp_path / "lake").write_text("a file")
    for action in (
        lambda: store.vacuum(OHLCV, HOUR),
        lambda: store.disk_use(OHLCV),
        lambda: store.compact(OHLCV),
        lambda: store.prune(OHLCV, "open_time", at("2024-12-30")),
        lambda: store.append_live(OHLCV, rows_at(OHLCV, ["2024-12-30"])),
    ):
        with pytest.raises(StorageError, match="Not a directory"):
            action()


def test_files_that_another_tool_joined_are_counted_and_upserted(store):
    for seed in range(3):
        store.append(OHLCV, rows_at(OHLCV, [f"2024-12-30T00:0{seed}"], seed=seed))
    deltalake.DeltaTable(store.directory(OHLCV)).optimize.compact()
    assert store.disk_use(OHLCV).rows == 3
    new = rows_at(OHLCV, ["2024-12-30T00:01"], seed=9)
    store.append_live(OHLCV, new)
    assert_frame_equal(store.read(OHLCV, DAY).slice(1, 1), new)
    assert store.read(OHLCV, DAY).height == 3
