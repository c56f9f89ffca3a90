"""Putting a backup back: only where it may, all of it or nothing, and told what it came to."""

from __future__ import annotations

import errno
import fcntl
import os
import random
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from mdp.config.settings import load_settings
from mdp.domain.interval import Interval, parse_time
from mdp.domain.timeframe import Timeframe
from mdp.errors import ConfigError, InputError, LeaseHeld, OutdatedStore, StorageError
from mdp.pipeline.backing_up import copying, targets
from mdp.pipeline.backing_up.places import name_of
from mdp.pipeline.backing_up.records import MANIFEST, encode, sealed
from mdp.pipeline.backing_up.restoring import Choices, restore_backup
from mdp.ports import OHLCV, Slice
from mdp.storage import DeltaStore
from mdp_tests.pipeline.backup_world import MARKET, NOW, WHOLE, back_up, candles, lake_in, put_back, read, store
from mdp_tests.support import builders


@pytest.fixture
def settings(tmp_path):
    return lake_in(tmp_path / "data")


@pytest.mark.slow
def test_nothing_is_put_over_what_is_there_unless_told_and_then_it_is_set_aside(settings, tmp_path):
    made = back_up(settings, tmp_path / "backups")
    store(settings).replace(OHLCV, WHOLE, candles(700.0))
    with pytest.raises(InputError, match=r"into: expected a data directory without content \(this one has lake/"):
        put_back(made.folder, settings, settings.data_dir)
    assert read(settings)["close"].unique().to_list() == [700.0]
    done = restore_backup(made.folder, settings, settings.data_dir, lambda: NOW, Choices(replaces=True))
    assert read(load_settings(data_dir=settings.data_dir))["close"].unique().to_list() == [100.0]
    assert DeltaStore(done.before / "lake").read(OHLCV, WHOLE)["close"].unique().to_list() == [700.0]


@pytest.mark.slow
def test_a_place_where_something_is_at_work_is_left_alone(settings, tmp_path):
    made = back_up(settings, tmp_path / "backups")
    (tmp_path / "busy" / "run").mkdir(parents=True)
    with (tmp_path / "busy" / "run" / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LeaseHeld, match=r"run/up\.lock"):
            put_back(made.folder, settings, tmp_path / "busy", replaces=True)
    put_back(made.folder, settings, tmp_path / "busy")


@pytest.mark.slow
def test_runs_of_sqlite_are_not_put_where_dagster_would_not_look_for_them(settings, tmp_path):
    made = back_up(settings, tmp_path / "backups")
    server = settings.model_copy(update={"dagster": settings.dagster.model_copy(update={"instance": "postgres"})})
    with pytest.raises(ConfigError, match="MDP_DAGSTER__INSTANCE: expected sqlite"):
        put_back(made.folder, server, tmp_path / "elsewhere")
    put_back(made.folder, server, tmp_path / "elsewhere", leaves_dagster=True)


@pytest.mark.slow
def test_a_restore_that_was_killed_leaves_nothing_that_counts_and_the_next_removes_it(settings, tmp_path):
    made = back_up(settings, tmp_path / "backups")
    left = tmp_path / "elsewhere" / ".restoring-0123abcd" / "lake"
    left.mkdir(parents=True)
    (left / "part").write_text("half")
    restored = put_back(made.folder, settings, tmp_path / "elsewhere")
    assert read(restored).height == 60
    assert not left.parent.exists()


def test_a_schema_that_this_program_does_not_know_is_refused(settings, tmp_path):
    made = back_up(settings, tmp_path / "backups")
    tables = {name: msgspec.structs.replace(held, schema_version=99) for name, held in made.manifest.tables.items()}
    later = sealed(msgspec.structs.replace(made.manifest, tables=tables))
    (made.folder / MANIFEST).write_bytes(encode(later))
    with pytest.raises(OutdatedStore, match=r"ohlcv of schema version 99, this program knows \d; run a newer"):
        put_back(made.folder, settings, tmp_path / "elsewhere")


def with_snapshots(settings, count):
    """Some snapshots of a file that weighs more than all that is said of it."""
    month = Interval(parse_time("2024-11-01T00:00Z"), parse_time("2024-11-08T00:00Z"))
    minutes = (month.start + timedelta(minutes=number) for number in range(7 * 1_440))
    part = Slice(MARKET, (Timeframe.M1,), month)
    chance = random.Random(1)
    rows = [builders.candle(at, close=chance.uniform(100, 200), high=300.0, volume=chance.random()) for at in minutes]
    store(settings).replace(OHLCV, part, builders.candles(*rows))
    for number in range(count):
        with store(settings).draft_snapshot(f"study-{number}") as draft:
            draft.take(OHLCV, [part])
            draft.publish(b"{}")


def bytes_in(folder):
    found = (path.stat() for path in folder.rglob("*") if path.is_file())
    return sum({status.st_ino: status.st_size for status in found}.values())


@pytest.mark.slow
def test_room_is_asked_for_what_it_takes_not_for_each_name_of_a_file(settings, tmp_path, monkeypatch):
    with_snapshots(settings, 4)
    made = back_up(settings, tmp_path / "backups")
    on_disk = bytes_in(made.folder)
    assert made.manifest.size > 2 * on_disk
    monkeypatch.setattr(copying, "_SPARE", 0)
    monkeypatch.setattr(copying, "free_bytes_of", lambda _place: on_disk // 2)
    with pytest.raises(StorageError, match="nothing was written; make room"):
        put_back(made.folder, settings, tmp_path / "elsewhere")
    monkeypatch.setattr(copying, "free_bytes_of", lambda _place: on_disk)
    restored = put_back(made.folder, settings, tmp_path / "elsewhere")
    assert bytes_in(restored.data_dir) <= on_disk


@pytest.mark.slow
def test_a_disk_without_second_names_takes_copies(settings, tmp_path, monkeypatch):
    with_snapshots(settings, 2)
    made = back_up(settings, tmp_path / "backups")

    def refuse(_source, target):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported", str(target))

    monkeypatch.setattr(os, "link", refuse)
    assert read(put_back(made.folder, settings, tmp_path / "elsewhere")).equals(read(settings))


def test_a_folder_that_could_not_be_set_aside_is_refused_before_anything_is_done(monkeypatch, tmp_path):
    targets.require_movable(tmp_path)
    monkeypatch.setattr(targets, "CONTENT", ("proc",))
    with pytest.raises(InputError, match=r"into: expected a folder of the data directory's own disk.*/proc"):
        targets.require_movable(Path("/"))


def test_what_is_said_of_a_restore_that_failed_in_the_end_is_what_is_so(settings, tmp_path):
    made = back_up(settings, tmp_path / "backups")
    (settings.data_dir / f".before-restore-{name_of(NOW)}").write_text("in the way")
    with pytest.raises(StorageError, match="not all of it is in its place: mend that, and run it again with --replace"):
        put_back(made.folder, settings, settings.data_dir, replaces=True)


def test_keys_that_are_read_from_elsewhere_are_told_of(tmp_path):
    keys = tmp_path / "etc" / "keys.json"
    keys.parent.mkdir()
    keys.write_text("{}")
    found = lake_in(tmp_path / "data")
    elsewhere = load_settings(data_dir=found.data_dir, simulated=True, api={"keys_file": keys})
    made = back_up(elsewhere, tmp_path / "backups")

    def restored(settings, into):
        return restore_backup(made.folder, settings, into, lambda: NOW, Choices()).keys_aside

    assert restored(elsewhere, tmp_path / "one") == tmp_path / "one" / "api" / "keys.json"
    assert restored(found, tmp_path / "two") is None
    assert (tmp_path / "two" / "api" / "keys.json").read_text() == "{}"
