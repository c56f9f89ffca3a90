"""Looking after the tables: what is dropped, what stays, and that one table's trouble is not another's."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from mdp.config.sections import MaintenanceSettings
from mdp.config.settings import load_settings
from mdp.domain.candles import FAILED_FETCH_SCHEMA, REJECTED_SCHEMA
from mdp.domain.timeframe import Timeframe
from mdp.errors import StorageError, StoreCorrupt, WriteConflict
from mdp.pipeline.disk import disk_uses, free_bytes, rooms
from mdp.pipeline.maintenance import AGED_BY, Plan, maintain, require_maintained, total_use
from mdp.ports import FAILED_FETCHES, FETCHES, OHLCV, REJECTED_OHLCV, TABLES, DiskUse, Slice
from mdp.storage.memory import MemoryStore
from mdp_tests.support.builders import DVOL, MARKET, NOW, candle, candles, frame, window

DAY = window("2025-10-01", "2025-10-02")
WHOLE = Slice(MARKET, (Timeframe.M1,), DAY)
KEY = {"exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1m", "window_start": DAY.start}
KEEPS = MaintenanceSettings(keep_days={"failed_fetches": 30, "rejected_ohlcv": 10}, retention_hours=24)
EXACTLY_30 = NOW - timedelta(days=30)


@pytest.fixture
def store():
    made = MemoryStore()
    made.replace(OHLCV, WHOLE, candles(candle("2025-10-01T00:00")))
    ages = (EXACTLY_30 - timedelta(microseconds=1), EXACTLY_30, NOW)
    failed = [dict.fromkeys(FAILED_FETCH_SCHEMA) | KEY | {"failed_at": age} for age in ages]
    made.append(FAILED_FETCHES, frame(failed, FAILED_FETCH_SCHEMA))
    rejected = [dict.fromkeys(REJECTED_SCHEMA) | KEY | {"fetched_at": age} for age in ages]
    made.append(REJECTED_OHLCV, frame(rejected, REJECTED_SCHEMA))
    return made


def plan(**more):
    return Plan(**{"settings": KEEPS, "now": NOW, "markets": (MARKET, DVOL)} | more)


def test_rows_older_than_is_said_are_dropped_and_no_others(store):
    done = {one.table: one for one in maintain(store, plan())}
    assert list(done) == [table.name for table in TABLES]
    assert {name: one.pruned for name, one in done.items() if one.pruned} == {"failed_fetches": 1, "rejected_ohlcv": 2}
    assert store.read(FAILED_FETCHES, WHOLE)["failed_at"].to_list() == [EXACTLY_30, NOW]
    assert store.read(REJECTED_OHLCV, WHOLE)["fetched_at"].to_list() == [NOW]
    assert (done["failed_fetches"].before.rows, done["failed_fetches"].after.rows) == (3, 2)
    assert done["ohlcv"].after.rows == 1
    require_maintained(list(done.values()))


def test_files_are_kept_no_longer_than_the_log_remembers_what_was_removed():
    assert MaintenanceSettings(retention_hours=720).retention_hours == 720
    with pytest.raises(ValidationError, match=r"retention_hours\n.*less than or equal to 720"):
        MaintenanceSettings(retention_hours=721)


def test_what_is_not_named_stays_for_ever(store):
    forever = plan(settings=MaintenanceSettings(keep_days={}))
    assert all(one.pruned == 0 for one in maintain(store, forever))
    assert len(store.read(FAILED_FETCHES, WHOLE)) == 3


def test_a_dry_run_counts_the_same_and_changes_nothing(store):
    counted = {one.table: one.pruned for one in maintain(store, plan(is_dry=True))}
    assert len(store.read(FAILED_FETCHES, WHOLE)) == 3
    assert counted == {one.table: one.pruned for one in maintain(store, plan())}


def test_every_table_of_which_the_settings_may_drop_rows_says_how_old_they_are():
    allowed = MaintenanceSettings.model_fields["keep_days"].annotation.__args__[0].__args__
    tables = {table.name: table for table in TABLES}
    assert set(allowed) == set(AGED_BY)
    assert all(column in tables[name].schema for name, column in AGED_BY.items())


class Troubled(MemoryStore):
    """Of some tables it does some things not."""

    def compact(self, table):
        if table is OHLCV:
            raise StoreCorrupt("ohlcv/a.parquet: damaged")
        if table is FETCHES:
            raise WriteConflict("fetches: others kept winning")
        return super().compact(table)

    def vacuum(self, table, keep, *, dry_run=False):
        assert keep == timedelta(hours=24)
        if table is FETCHES:
            raise PermissionError(13, "Permission denied", "fetches/b.parquet")
        return super().vacuum(table, keep, dry_run=dry_run)


def test_a_table_that_fails_stops_no_other_and_is_named_at_the_end():
    done = list(maintain(Troubled(), plan()))
    assert [one.table for one in done] == [table.name for table in TABLES]
    troubles = {(one.table, each.step): each.retryable for one in done for each in one.troubles}
    assert troubles == {("fetches", "compact"): True, ("fetches", "vacuum"): False, ("ohlcv", "compact"): False}
    assert all(one.after is not None for one in done)
    with pytest.raises(
        StorageError, match=r"fetches: compact: .*fetches: vacuum: .*b\.parquet.*ohlcv: compact: .*a\.parquet"
    ) as raised:
        require_maintained(done)
    assert not raised.value.retryable, "one of them does not help itself"


def test_trouble_that_passes_is_worth_another_try():
    done = list(maintain(Troubled(), plan(), [FETCHES]))
    again = [type(one)(one.table, troubles=one.troubles[:1]) for one in done]
    with pytest.raises(StorageError) as raised:
        require_maintained(again)
    assert raised.value.retryable
    assert StorageError.retryable is False, "said of this error, not of all"


def test_a_defect_of_ours_is_not_taken_for_trouble_of_a_table():
    class Defective(MemoryStore):
        def compact(self, table):
            raise TypeError("a defect")

    with pytest.raises(TypeError):
        list(maintain(Defective(), plan()))


def test_totals_leave_out_what_could_not_be_told():
    assert total_use([DiskUse(1, 2, 3, 4), None, DiskUse(10, 20, 30, 40)]) == DiskUse(11, 22, 33, 44)
    assert total_use([]) == DiskUse()


def test_the_room_of_every_table_is_told(store):
    uses = disk_uses(store)
    assert list(uses) == [table.name for table in TABLES]
    assert uses["failed_fetches"].rows == 3


@pytest.fixture
def settings(tmp_path):
    return load_settings(data_dir=tmp_path, simulated=True)


def write(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def test_a_snapshot_takes_the_room_of_what_is_not_in_the_lake(settings):
    shared = write(settings.lake_dir / "ohlcv" / "a.parquet", 1_000)
    gone = write(settings.lake_dir / "ohlcv" / "b.parquet", 200)
    for name in ("one", "two"):
        folder = settings.snapshots_dir / name / "ohlcv"
        folder.mkdir(parents=True)
        for file in (shared, gone):
            os.link(file, folder / file.name)
        write(settings.snapshots_dir / name / "manifest.json", 10)
    assert {one.name: one.size_bytes for one in rooms(settings)}["snapshots, beside the lake"] == 20
    gone.unlink()
    (own,) = [one for one in rooms(settings) if one.name.startswith("snapshots")]
    assert (own.files, own.size_bytes) == (3, 220), "held by two snapshots, it takes its room once"


def test_everything_of_ours_on_the_disk_is_told_and_what_is_not_there_takes_none(settings):
    assert {one.size_bytes for one in rooms(settings)} == {0}
    write(settings.lake_dir / "ohlcv" / "_delta_log" / "0.json", 7)
    write(settings.lake_dir / "ohlcv" / "a.parquet", 1_000)
    write(settings.spool_dir / "binance" / "x.page", 11)
    write(settings.dagster_dir / "storage" / "runs.db", 13)
    write(settings.bus_dir / "bus" / "appendonly.aof", 17)
    assert {one.name: one.size_bytes for one in rooms(settings)} == {
        "snapshots, beside the lake": 0, "logs of the tables": 7, "pages waiting": 11, "Dagster": 13, "bus": 17,
    }  # fmt: skip


def test_the_room_that_is_left_is_told_of_a_directory_that_is_not_there_yet(tmp_path):
    assert free_bytes(tmp_path / "not" / "yet") > 0
