"""Disks that do not take what is written: a clear error that names the path and the reason, and a table as it was."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from mdp.errors import StorageError, StoreCorrupt
from mdp.ports import GAPS, OHLCV
from mdp.storage import DeltaStore
from mdp_tests.contracts.rows import part, rows_at
from mdp_tests.storage.test_delta_versions import WIDE, begin_old_lake
from mdp_tests.support.builders import at

YEAR = part("2024-01-01", "2025-01-01")
MONTHS = [f"2024-{month:02d}-05" for month in range(1, 13)]


@pytest.fixture
def store(tmp_path: Path) -> DeltaStore:
    return DeltaStore(tmp_path / "lake")


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Let this process write no longer file: the system refuses it in the middle, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def data_files(store: DeltaStore) -> set[Path]:
    return set(store.lake_dir.rglob("exchange=*/**/*.parquet"))


def assert_not_written(error: StorageError, *words: str) -> None:
    assert not isinstance(error, StoreCorrupt)
    assert "\n" not in str(error)
    for word in words:
        assert word in str(error)


def test_a_lake_that_is_a_file_cannot_be_read_or_written(tmp_path, store):
    (tmp_path / "lake").write_text("a file")
    for action in (lambda: store.read(OHLCV, YEAR), lambda: store.replace(OHLCV, YEAR, rows_at(OHLCV, MONTHS))):
        with pytest.raises(StorageError) as caught:
            action()
        assert_not_written(caught.value, str(tmp_path / "lake" / "ohlcv"), "Not a directory")


def test_a_lake_below_a_place_where_nothing_can_be_made_names_it():
    store = DeltaStore(Path("/proc/mdp-lake"))
    with pytest.raises(StorageError) as caught:
        store.replace(OHLCV, YEAR, rows_at(OHLCV, MONTHS))
    assert_not_written(caught.value, "/proc/mdp-lake/ohlcv: cannot be created: No such file or directory")


NOBODY = 65534


@pytest.fixture
def nobodys_store() -> Iterator[DeltaStore]:
    """A lake that belongs to an ordinary user, and this process as that user: root may write everywhere."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        if os.geteuid() != 0:
            yield DeltaStore(Path(directory) / "lake")
            return
        os.chown(directory, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield DeltaStore(Path(directory) / "lake")
        finally:
            os.seteuid(0)


@pytest.mark.parametrize("where", ["exchange=binance", "_delta_log", "."])
def test_a_directory_that_may_not_be_written_to_is_named_and_nothing_changes(nobodys_store, where):
    store, old = nobodys_store, rows_at(OHLCV, MONTHS[:1])
    store.replace(OHLCV, YEAR, old)
    before, directory = data_files(store), store.directory(OHLCV) / where
    closed = [directory, *(path for path in directory.rglob("*=*") if path.is_dir())]
    for path in closed:
        path.chmod(0o555)
    try:
        with pytest.raises(StorageError) as caught:
            store.replace(OHLCV, YEAR, rows_at(OHLCV, MONTHS))
    finally:
        for path in closed:
            path.chmod(0o755)
    assert_not_written(caught.value, str(store.directory(OHLCV)), "Permission denied")
    assert_frame_equal(DeltaStore(store.lake_dir).read(OHLCV, YEAR), old)
    assert data_files(store) == before


def test_a_lake_that_may_not_be_looked_at_is_no_empty_lake(nobodys_store):
    nobodys_store.replace(OHLCV, YEAR, rows_at(OHLCV, MONTHS))
    nobodys_store.lake_dir.chmod(0o000)
    try:
        for store in (nobodys_store, DeltaStore(nobodys_store.lake_dir)):
            with pytest.raises(StorageError, match="Permission denied"):
                store.read(OHLCV, YEAR)
    finally:
        nobodys_store.lake_dir.chmod(0o755)


def test_an_older_table_that_may_not_be_written_to_is_read_as_it_is(nobodys_store):
    store, old = nobodys_store, begin_old_lake(nobodys_store.lake_dir, GAPS)["gaps"]
    log = store.directory(GAPS) / "_delta_log"
    before = sorted(log.iterdir())
    log.chmod(0o555)
    try:
        assert_frame_equal(store.read(GAPS, WIDE).select(old.columns), old)
        with pytest.raises(StorageError, match="Permission denied"):
            store.append(GAPS, rows_at(GAPS, ["2024-12-30"]))
    finally:
        log.chmod(0o755)
    assert sorted(log.iterdir()) == before
    store.append(GAPS, rows_at(GAPS, ["2024-12-30"]))
    assert DeltaStore(store.lake_dir).read(GAPS, WIDE).height == old.height + 1


def test_no_room_for_the_data_leaves_the_table_and_no_file(store):
    old = rows_at(OHLCV, MONTHS[:2])
    store.replace(OHLCV, YEAR, old)
    before = data_files(store)
    with files_of_at_most(2_000), pytest.raises(StorageError) as caught:
        store.replace(OHLCV, YEAR, rows_at(OHLCV, MONTHS))
    assert_not_written(caught.value, str(store.directory(OHLCV)), ".parquet: cannot be written: File too large")
    with files_of_at_most(2_000), pytest.raises(StorageError, match="File too large"):
        store.append(OHLCV, rows_at(OHLCV, MONTHS))
    assert data_files(store) == before
    assert_frame_equal(DeltaStore(store.lake_dir).read(OHLCV, YEAR), old)


def test_files_that_were_written_before_the_disk_was_full_are_removed(store):
    small_then_large = ["2024-01-05", *(at("2024-02-01") + timedelta(minutes=minute) for minute in range(5_000))]
    rows = rows_at(OHLCV, small_then_large, has_holes=False)
    with files_of_at_most(50_000), pytest.raises(StorageError, match="period=2024-02"):
        store.replace(OHLCV, YEAR, rows)
    assert data_files(store) == set()
    assert store.read(OHLCV, YEAR).is_empty()


def test_no_room_for_the_commit_leaves_the_table_and_no_file(store):
    old = rows_at(OHLCV, MONTHS[:2])
    store.replace(OHLCV, YEAR, old)
    before = data_files(store)
    largest = 5_000  # one file of one row fits; the commit, which names twelve of them, does not
    with files_of_at_most(largest), pytest.raises(StorageError) as caught:
        store.replace(OHLCV, YEAR, rows_at(OHLCV, MONTHS))
    assert_not_written(caught.value, f"{store.directory(OHLCV)}: cannot be written: File too large")
    assert data_files(store) == before
    for reader in (store, DeltaStore(store.lake_dir)):
        assert_frame_equal(reader.read(OHLCV, YEAR), old)
    store.replace(OHLCV, YEAR, rows_at(OHLCV, MONTHS))
    assert store.read(OHLCV, YEAR).height == 12


def test_no_room_for_the_table_leaves_an_empty_one(store):
    with files_of_at_most(100), pytest.raises(StorageError, match="cannot be created: File too large"):
        store.replace(OHLCV, YEAR, rows_at(OHLCV, MONTHS))
    assert store.read(OHLCV, YEAR).is_empty()
    store.replace(OHLCV, YEAR, rows_at(OHLCV, MONTHS))
    assert store.read(OHLCV, YEAR).height == 12
