"""Damaged lakes: a broken file or log is named, and never read as fewer or other rows."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from mdp.errors import StorageError, StoreCorrupt
from mdp.ports import OHLCV
from mdp.storage import DeltaStore
from mdp_tests.contracts.rows import DAY, part, rows_at

MONTHS = part("2024-11-01", "2025-01-01")
ROWS = rows_at(OHLCV, ["2024-11-05", "2024-12-05", "2024-12-30", "2024-12-30T00:01"])
EMPTY = OHLCV.schema.to_frame()


@pytest.fixture
def store(tmp_path: Path) -> DeltaStore:
    store = DeltaStore(tmp_path / "lake")
    store.replace(OHLCV, MONTHS, ROWS)
    return store


def december(store: DeltaStore) -> Path:
    return store.directory(OHLCV) / store.live_files(OHLCV)[-1].path


def commit(store: DeltaStore, version: int) -> Path:
    return store.directory(OHLCV) / "_delta_log" / f"{version:020d}.json"


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


DAMAGES = {
    "missing": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: cut(path, path.stat().st_size // 2),
    "cut by a byte": lambda path: cut(path, path.stat().st_size - 1),
    "not parquet": lambda path: path.write_text("<html>not here</html>"),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "grown": lambda path: path.write_bytes(path.read_bytes() * 2),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_named_by_a_store_old_or_new(store, damage):
    assert store.read(OHLCV, MONTHS).height == 4
    damage(december(store))
    for reader in (store, DeltaStore(store.lake_dir)):
        with pytest.raises(StoreCorrupt, match=december(store).name):
            reader.read(OHLCV, MONTHS)
        with pytest.raises(StoreCorrupt, match=december(store).name):
            reader.require_whole(OHLCV)


def test_no_byte_can_change_unnoticed(store):
    whole, chance = december(store).read_bytes(), random.Random(7)
    for _ in range(60):
        body = bytearray(whole)
        body[chance.randrange(len(body))] ^= chance.randrange(1, 256)
        december(store).write_bytes(body)
        with pytest.raises(StoreCorrupt, match="damaged: expected bytes of CRC-32"):
            DeltaStore(store.lake_dir).read(OHLCV, MONTHS)
    december(store).write_bytes(whole)
    assert_frame_equal(DeltaStore(store.lake_dir).read(OHLCV, MONTHS), ROWS)


def test_what_a_damaged_file_does_not_touch_is_still_read(store):
    december(store).unlink()
    assert store.read(OHLCV, part("2024-11-01", "2024-12-01")).height == 1


def test_a_day_of_a_damaged_month_cannot_be_replaced_and_the_month_can(store):
    december(store).write_bytes(b"")
    before = store.version(OHLCV)
    for rows in (rows_at(OHLCV, ["2024-12-30"]), EMPTY):
        with pytest.raises(StoreCorrupt):
            store.replace(OHLCV, DAY, rows)
    assert store.version(OHLCV) == before
    new = rows_at(OHLCV, ["2024-12-30"], seed=1)
    store.replace(OHLCV, part("2024-12-01", "2025-01-01"), new)
    assert_frame_equal(store.read(OHLCV, DAY), new)
    assert store.read(OHLCV, MONTHS).height == 2


def test_a_file_without_a_digest_is_named_when_it_cannot_be_read(store):
    # Another tool's file: only reading it shows that it is broken.
    path = december(store)
    log = commit(store, 1)
    renamed = path.with_name("part-00000-c000.zstd.parquet")
    cut(path, path.stat().st_size - 9)
    path.rename(renamed)
    log.write_text(log.read_text().replace(path.name, renamed.name))
    with pytest.raises(StoreCorrupt, match=renamed.name):
        DeltaStore(store.lake_dir).read(OHLCV, MONTHS)


BROKEN_LOGS = {
    "cut in a line": lambda path: cut(path, path.stat().st_size - 9),
    "cut after a line": lambda path: path.write_text("\n".join(path.read_text().splitlines()[:-1])),
    "emptied": lambda path: path.write_bytes(b""),
    "not JSON": lambda path: path.write_text("<html>not here</html>"),
}


@pytest.mark.parametrize("damage", BROKEN_LOGS.values(), ids=BROKEN_LOGS)
def test_a_damaged_commit_is_never_read_as_a_smaller_one(store, damage):
    store.replace(OHLCV, MONTHS, ROWS)
    damage(commit(store, 2))
    fresh = DeltaStore(store.lake_dir)
    for _ in range(2):
        with pytest.raises(StoreCorrupt, match="_delta_log"):
            fresh.read(OHLCV, MONTHS)
        with pytest.raises(StoreCorrupt, match="_delta_log"):
            fresh.replace(OHLCV, DAY, EMPTY)


def test_a_commit_damaged_before_a_running_store_saw_it_is_found(store):
    assert store.read(OHLCV, MONTHS).height == 4
    DeltaStore(store.lake_dir).replace(OHLCV, MONTHS, ROWS.head(1))
    commit(store, 2).write_bytes(b"")
    for _ in range(2):
        with pytest.raises(StoreCorrupt, match=commit(store, 2).name):
            store.read(OHLCV, MONTHS)


@pytest.mark.parametrize("damage", [shutil.rmtree, lambda log: [path.unlink() for path in log.glob("*.json")]])
def test_data_without_a_log_are_not_an_empty_table(store, damage):
    damage(store.directory(OHLCV) / "_delta_log")
    for reader in (store, DeltaStore(store.lake_dir)):
        with pytest.raises(StoreCorrupt, match="_delta_log"):
            reader.read(OHLCV, MONTHS)
        with pytest.raises(StoreCorrupt, match="_delta_log"):
            reader.replace(OHLCV, MONTHS, ROWS)


def test_a_table_whose_creation_was_interrupted_is_empty_and_can_be_written(tmp_path):
    store = DeltaStore(tmp_path / "lake")
    (store.directory(OHLCV) / "_delta_log").mkdir(parents=True)
    assert store.read(OHLCV, MONTHS).is_empty()
    store.replace(OHLCV, MONTHS, ROWS)
    assert_frame_equal(store.read(OHLCV, MONTHS), ROWS)


@pytest.mark.parametrize("damage", [damage for name, damage in DAMAGES.items() if name != "a directory"])
def test_damaged_files_are_set_aside_and_the_rest_is_read(store, damage):
    broken = december(store)
    damage(broken)
    version = store.version(OHLCV)
    (told,) = store.set_aside_damaged(OHLCV, dry_run=True)
    assert told.startswith(f"ohlcv/{broken.relative_to(store.directory(OHLCV))}: ")
    assert store.version(OHLCV) == version
    was_there = broken.exists()
    assert DeltaStore(store.lake_dir).set_aside_damaged(OHLCV) == (told,)
    assert broken.exists() == was_there, "what is left of it may still be looked at"
    assert store.read(OHLCV, MONTHS).height == 1
    assert store.set_aside_damaged(OHLCV) == ()
    store.require_whole(OHLCV)


def test_a_file_that_cannot_be_looked_at_now_is_not_given_up(store):
    broken = december(store)
    broken.unlink()
    broken.mkdir()
    with pytest.raises(StorageError, match="directory"):
        store.set_aside_damaged(OHLCV)
    assert len(store.live_files(OHLCV)) == 2


def test_a_whole_table_has_nothing_to_set_aside(store):
    version = store.version(OHLCV)
    assert store.set_aside_damaged(OHLCV) == ()
    assert store.version(OHLCV) == version
