"""What a snapshot of the lake on disk pins, whoever cleans up around it, and what it says when it was damaged.

Not here: the promises of every store (``contracts``).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import deltalake
import pytest
from polars.testing import assert_frame_equal

from mdp.errors import InputError, OutdatedStore, SnapshotExists, SnapshotMissing, StorageError, StoreCorrupt
from mdp.ports import GAPS, OHLCV, REVISIONS
from mdp.storage import DeltaStore
from mdp.storage.delta_table import LakeTable
from mdp.storage.parquet import FileReader
from mdp_tests.contracts.rows import DAY, EVER, part, rows_at
from mdp_tests.contracts.test_candle_store_snapshots import in_bytes, snap
from mdp_tests.support.builders import at

MONTHS = part("2024-11-01", "2025-02-01")
ROWS = rows_at(OHLCV, ["2024-11-30", "2024-12-01", "2024-12-30", "2025-01-02"])
HOUR = timedelta(hours=1)

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> DeltaStore:
    store = DeltaStore(tmp_path / "lake")
    store.replace(OHLCV, MONTHS, ROWS)
    return store


def held(store: DeltaStore, name: str = "pin") -> list[Path]:
    return sorted((store.lake_dir.parent / "snapshots" / name).rglob("*.parquet"))


def remove_all_old_files(store: DeltaStore) -> None:
    """Clean up as harshly as another tool can."""
    table = deltalake.DeltaTable(store.directory(OHLCV))
    table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True)


def test_a_snapshot_takes_no_room_until_the_table_goes_on(store):
    snap(store, "pin", (OHLCV, [MONTHS]))
    assert [path.stat().st_nlink for path in held(store)] == [2, 2, 2]
    assert store.snapshot_bytes() == 0
    before = sum(file.size_bytes for file in store.live_files(OHLCV))
    store.replace(OHLCV, MONTHS, rows_at(OHLCV, ["2024-12-30"]))
    assert store.disk_use(OHLCV).old_bytes == 0  # what a snapshot holds becomes free with the snapshot
    remove_all_old_files(store)
    assert store.snapshot_bytes() == before
    snap(store, "second", (OHLCV, [MONTHS]))
    assert store.snapshot_bytes() == before
    store.delete_snapshot("pin")
    assert store.snapshot_bytes() == 0
    assert [path.name for path in (store.lake_dir.parent / "snapshots").iterdir()] == ["second"]


def test_only_the_files_of_what_was_taken_are_held(store):
    snap(store, "pin", (OHLCV, [DAY]))
    assert [path.parent.name for path in held(store)] == ["period=2024-12"]


def test_no_tool_can_take_away_what_a_snapshot_pins(store):
    with store.draft_snapshot("pin") as draft:
        draft.take(OHLCV, [MONTHS])
        then = in_bytes(draft.read(OHLCV, MONTHS))
        for seed in range(3):
            store.append(OHLCV, rows_at(OHLCV, ["2024-12-30"], seed=seed))
        deltalake.DeltaTable(store.directory(OHLCV)).optimize.compact()
        store.replace(OHLCV, MONTHS, OHLCV.schema.to_frame())
        remove_all_old_files(store)
        draft.publish(b"")
    assert list(store.directory(OHLCV).rglob("exchange=*/**/*.parquet")) == []
    for reader in (store, DeltaStore(store.lake_dir)):
        assert in_bytes(reader.read_snapshot("pin", OHLCV, MONTHS)) == then


def test_a_snapshot_outlives_the_lake_it_was_taken_of(store):
    snap(store, "pin", (OHLCV, [MONTHS]))
    store.lake_dir.rename(store.lake_dir.with_name("elsewhere"))
    fresh = DeltaStore(store.lake_dir)
    assert fresh.read(OHLCV, MONTHS).is_empty()
    assert_frame_equal(fresh.read_snapshot("pin", OHLCV, MONTHS), ROWS)


def test_a_snapshot_may_lie_on_another_file_system(store):
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == store.lake_dir.stat().st_dev:
        pytest.skip("needs a second file system")
    elsewhere = memory / f"mdp-snapshots-{os.getpid()}-{time.time_ns()}"
    store = DeltaStore(store.lake_dir, snapshots_dir=elsewhere)
    try:
        snap(store, "pin", (OHLCV, [MONTHS]))
        assert [path.stat().st_nlink for path in sorted(elsewhere.rglob("*.parquet"))] == [1, 1, 1]
        remove_all_old_files(store)
        assert_frame_equal(store.read_snapshot("pin", OHLCV, MONTHS), ROWS)
        assert store.snapshot_bytes() == sum(file.size_bytes for file in store.live_files(OHLCV))
        store.delete_snapshot("pin")
    finally:
        elsewhere.rmdir()


class Vanishing(LakeTable):
    """A table that changes, and whose old files are removed, right after somebody looked which files are live."""

    def __init__(self, directory: Path, rival: Callable[[], None]) -> None:
        super().__init__(directory, OHLCV, FileReader())
        self.rival: list[Callable[[], None]] = [rival]
        looked = self.log.at_one_version
        self.log.at_one_version = lambda parts: (looked(parts), self.rival and self.rival.pop()())[0]


def test_files_that_vanish_while_they_are_taken_are_taken_anew_at_one_version(store):
    new = ROWS.with_columns(close=1.0)

    def rival() -> None:
        DeltaStore(store.lake_dir).replace(OHLCV, MONTHS, new)
        remove_all_old_files(store)

    taking = DeltaStore(store.lake_dir)
    taking._tables[OHLCV.name] = Vanishing(store.directory(OHLCV), rival)
    with taking.draft_snapshot("pin") as draft:
        assert int(draft.take(OHLCV, [MONTHS])) >= 2
        draft.publish(b"")
    assert_frame_equal(store.read_snapshot("pin", OHLCV, MONTHS), new)
    assert len(held(store)) == 3


def test_files_that_vanish_while_they_are_read_are_read_anew(store):
    new = ROWS.with_columns(close=1.0)
    reading = DeltaStore(store.lake_dir)
    lake = reading._table(OHLCV)
    looked, rivals = lake.log.live_files, [1]

    def look(asked=None):
        files = looked(asked)
        if rivals and rivals.pop():
            DeltaStore(store.lake_dir).replace(OHLCV, MONTHS, new)
            remove_all_old_files(store)
        return files

    lake.log.live_files = look
    assert_frame_equal(reading.read(OHLCV, MONTHS), new)


def test_what_is_damaged_is_not_taken_and_a_damaged_snapshot_is_named(store):
    snap(store, "pin", (OHLCV, [MONTHS]))
    december = held(store)[1]
    body = december.read_bytes()
    december.unlink()
    december.write_bytes(body[:100] + b"x" + body[101:])
    with pytest.raises(StoreCorrupt, match=december.name):
        DeltaStore(store.lake_dir).read_snapshot("pin", OHLCV, MONTHS)
    assert_frame_equal(store.read(OHLCV, MONTHS), ROWS)
    live = store.directory(OHLCV) / store.live_files(OHLCV)[1].path
    live.unlink()
    for damage in (lambda: None, lambda: live.write_bytes(body[:-1])):
        damage()
        with pytest.raises(StoreCorrupt, match=live.name):
            snap(store, "broken", (OHLCV, [MONTHS]))
    assert list(store.snapshots()) == ["pin"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"format": 1}', b'{"format": 1, "tables": {"ohlcv": {}}}'])
def test_a_snapshot_that_does_not_say_what_it_took_is_damaged(store, body):
    snap(store, "pin", (OHLCV, [MONTHS]))
    taken = store.lake_dir.parent / "snapshots" / "pin" / "taken.json"
    taken.write_bytes(body)
    with pytest.raises(StoreCorrupt, match=r"pin/taken\.json"):
        store.read_snapshot("pin", OHLCV, MONTHS)


@pytest.mark.parametrize(
    "newer", [('"format": 1', '"format": 2'), ('"schema_version": 2', '"schema_version": 3')], ids=["form", "schema"]
)
def test_a_snapshot_of_a_later_program_is_refused(store, newer):
    store.append(GAPS, rows_at(GAPS, ["2024-12-30"]))
    snap(store, "pin", (GAPS, [MONTHS]))
    taken = store.lake_dir.parent / "snapshots" / "pin" / "taken.json"
    taken.write_text(taken.read_text().replace(*newer))
    with pytest.raises(OutdatedStore, match="run a newer mdp"):
        store.read_snapshot("pin", GAPS, MONTHS)


def test_a_snapshot_without_its_manifest_is_named_and_left_out_and_can_be_deleted(store, caplog):
    for name in ("good", "pin"):
        snap(store, name, (OHLCV, [DAY]))
    (store.lake_dir.parent / "snapshots" / "pin" / "manifest.json").unlink()
    assert store.snapshots() == {"good": b"about good"}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "snapshot 'pin'" in caplog.text
    assert store.manifest("good") == b"about good"
    with pytest.raises(StoreCorrupt, match=r"snapshot 'pin': .*pin/manifest\.json"):
        store.manifest("pin")
    with pytest.raises(SnapshotExists), store.draft_snapshot("pin"):
        pass
    store.delete_snapshot("pin")
    assert list(store.snapshots()) == ["good"]


def test_what_lies_beside_snapshots_is_none_and_is_left_alone(store, caplog):
    snap(store, "pin", (OHLCV, [DAY]))
    directory = store.lake_dir.parent / "snapshots"
    for place in ("lost+found", "my-notes", "empty"):
        (directory / place).mkdir()
    for note in (directory / "notes.txt", directory / "my-notes" / "a.txt"):
        note.write_text("mine")
    assert store.snapshots() == {"pin": b"about pin"}
    assert caplog.records == []
    for name in ("my-notes", "empty", "notes.txt"):
        for action in (store.manifest, store.delete_snapshot, lambda name: store.read_snapshot(name, OHLCV, DAY)):
            with pytest.raises(SnapshotMissing, match=f"'{name}': expected one of: pin"):
                action(name)
        with pytest.raises(InputError, match=rf"snapshot: .*{name}"), store.draft_snapshot(name):
            pass
    assert (directory / "my-notes" / "a.txt").read_text() == "mine"
    assert len(list(directory.iterdir())) == 5


def test_a_snapshot_that_is_deleted_while_all_are_listed_is_left_out(store, caplog):
    for name in ("gone", "pin"):
        snap(store, name, (OHLCV, [DAY]))
    listing = DeltaStore(store.lake_dir)
    names = listing._snapshots._names
    listing._snapshots._names = lambda: (names(), store.delete_snapshot("gone"))[0]
    assert listing.snapshots() == {"pin": b"about pin"}
    assert caplog.records == []


def test_a_snapshot_that_is_deleted_while_its_manifest_is_read_is_missing_and_not_damaged(store):
    for name in ("gone", "pin"):
        snap(store, name, (OHLCV, [DAY]))
    reading = DeltaStore(store.lake_dir)
    found, rivals = reading._snapshots._existing, [store.delete_snapshot]
    reading._snapshots._existing = lambda name: (found(name), rivals and rivals.pop()(name))[0]
    with pytest.raises(SnapshotMissing, match="'gone': expected one of: pin"):
        reading.manifest("gone")


def test_the_folder_of_the_first_snapshot_is_on_the_disk_itself(store, monkeypatch):
    synced, names = os.fsync, set()
    monkeypatch.setattr(os, "fsync", lambda handle: (names.add(os.fstat(handle).st_ino), synced(handle))[1])
    snap(store, "pin", (OHLCV, [DAY]))
    for path in (store.lake_dir.parent, store.lake_dir.parent / "snapshots"):
        assert path.stat().st_ino in names


def test_drafts_that_nobody_finished_are_removed_after_a_day(store):
    directory = store.lake_dir.parent / "snapshots"
    with store.draft_snapshot("new"), store.draft_snapshot("old") as draft:
        draft.take(OHLCV, [MONTHS])
        new, old = sorted(directory.iterdir())
        yesterday = time.time() - 90_000
        os.utime(old, (yesterday, yesterday))
        store.vacuum(OHLCV, HOUR, dry_run=True)
        assert sorted(directory.iterdir()) == [new, old]
        store.vacuum(OHLCV, HOUR)
        assert list(directory.iterdir()) == [new]
        with pytest.raises(StorageError, match="cannot be written"):
            draft.publish(b"")
    assert list(directory.iterdir()) == []


def test_a_directory_where_nothing_can_be_written_is_named(store, tmp_path):
    (tmp_path / "file").write_text("a file")
    store = DeltaStore(store.lake_dir, snapshots_dir=tmp_path / "file")
    with pytest.raises(StorageError, match=os.strerror(errno.ENOTDIR)), store.draft_snapshot("pin"):
        pass
    with pytest.raises(StorageError, match=os.strerror(errno.ENOTDIR)):
        store.snapshots()


def test_the_bytes_are_the_same_in_many_files_and_many_reads(store):
    for seed in range(6):
        moments = [at("2024-12-30") + timedelta(minutes=minute) for minute in range(50)]
        store.append(REVISIONS, rows_at(REVISIONS, moments, seed=seed))
        store.append(REVISIONS, rows_at(REVISIONS, moments, seed=seed, timeframe="1h"))
    snap(store, "pin", (REVISIONS, [EVER]))
    read = {in_bytes(DeltaStore(store.lake_dir).read_snapshot("pin", REVISIONS, EVER)) for _ in range(3)}
    assert len(read) == 1
    assert store.read_snapshot("pin", REVISIONS, EVER).n_chunks() == 1
