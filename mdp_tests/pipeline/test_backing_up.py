"""Backups: what is in them, that nothing half-made counts, that damage is found and named, and refused."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from mdp.config.settings import load_settings
from mdp.domain.interval import Interval
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError, LeaseHeld, OutdatedStore, StorageError, StoreCorrupt
from mdp.pipeline.backing_up import copying
from mdp.pipeline.backing_up.places import backup_at, backups_in, working_in
from mdp.pipeline.backing_up.records import MANIFEST, load_manifest, read_records
from mdp.pipeline.backing_up.restoring import restore_backup
from mdp.pipeline.backing_up.verifying import verify_backup
from mdp.ports import OHLCV, Slice
from mdp.storage.delta_pins import at_one_moment
from mdp_tests.pipeline.backup_world import MARKET, NOW, WHOLE, back_up, candles, lake_in, put_back, read, store
from mdp_tests.support import builders


@pytest.fixture
def settings(tmp_path):
    return lake_in(tmp_path / "data")


def database(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("CREATE TABLE IF NOT EXISTS runs (run_id TEXT, status TEXT)")
        made.executemany("INSERT INTO runs VALUES (?, ?)", rows)
        made.commit()
    return path


def test_what_is_put_back_reads_as_what_was_copied_and_can_be_written_to(settings, tmp_path):
    made = back_up(settings, tmp_path / "backups")
    (part,) = made.manifest.parts
    assert (part.table, part.market, part.rows, made.manifest.rows) == ("ohlcv", "binance:BTC-USDT", 60, 60)
    restored = put_back(made.folder, settings, tmp_path / "elsewhere")
    assert read(restored).equals(read(settings))
    assert store(restored).version(OHLCV) == store(settings).version(OHLCV)
    store(restored).replace(OHLCV, WHOLE, candles(200.0))
    assert read(restored)["close"].unique().to_list() == [200.0]
    assert read(settings)["close"].unique().to_list() == [100.0], "the two places share no file"
    assert verify_backup(made.folder).faults == ()


@pytest.mark.slow
def test_a_file_that_did_not_change_takes_no_room_again_and_outlives_the_older_backup(settings, tmp_path):
    first = back_up(settings, tmp_path / "backups")
    second = back_up(settings, tmp_path / "backups", timedelta(days=1))
    held = [record.path for record in read_records(first.folder) if record.path.startswith("lake/")]
    assert all((first.folder / path).samefile(second.folder / path) for path in held)
    assert second.manifest.copied < first.manifest.copied
    assert not any((settings.data_dir / path).samefile(second.folder / path) for path in held), "never the lake's own"
    shutil.rmtree(first.folder)
    assert verify_backup(second.folder).faults == ()
    full = back_up(settings, tmp_path / "backups", timedelta(days=2), is_full=True)
    assert not any((second.folder / path).samefile(full.folder / path) for path in held)


@pytest.mark.slow
def test_a_lake_that_was_begun_anew_under_the_same_names_is_copied_anew(settings, tmp_path):
    back_up(settings, tmp_path / "backups")
    shutil.rmtree(settings.lake_dir)
    store(settings).replace(OHLCV, WHOLE, candles(300.0))
    second = back_up(settings, tmp_path / "backups", timedelta(days=1))
    assert read(put_back(second.folder, settings, tmp_path / "elsewhere")).equals(read(settings))


@pytest.mark.slow
def test_what_is_written_while_it_is_made_is_not_in_it(settings, tmp_path):
    def write(_done, _total):
        store(settings).replace(OHLCV, WHOLE, candles(400.0))

    made = back_up(settings, tmp_path / "backups", advance=write)
    found = read(put_back(made.folder, settings, tmp_path / "elsewhere"))
    assert found["close"].unique().to_list() == [100.0]
    assert not made.manifest.was_quiet


@pytest.mark.slow
def test_a_file_that_is_removed_before_it_was_copied_makes_it_look_again(settings, tmp_path):
    january = Slice(MARKET, (Timeframe.M1,), Interval(NOW, NOW + timedelta(hours=1)))
    prices = {"open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0}
    store(settings).replace(OHLCV, january, builders.candles(builders.candle(NOW, **prices)))
    first, second = (store(settings).directory(OHLCV) / file.path for file in store(settings).live_files(OHLCV))
    looks = []

    def replace_the_second(_done, _total):
        if second.exists():  # the first is copied: now somebody replaces the other, and removes it long before its time
            store(settings).replace(OHLCV, january, builders.candles(builders.candle(NOW, **prices)))
            second.unlink()
            looks.append(first.stat().st_ino)

    made = back_up(settings, tmp_path / "backups", advance=replace_the_second)
    assert len(looks) == 1
    assert verify_backup(made.folder).faults == ()
    assert made.manifest.tables["ohlcv"].version == store(settings).version(OHLCV)
    put_back(made.folder, settings, tmp_path / "elsewhere")


@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_is_missing_is_named_with_what_to_do(settings, tmp_path, which):
    january = Slice(MARKET, (Timeframe.M1,), Interval(NOW, NOW + timedelta(hours=1)))
    store(settings).replace(
        OHLCV, january, builders.candles(builders.candle(NOW, open=1.0, high=1.0, low=1.0, close=1.0))
    )
    missing = [store(settings).directory(OHLCV) / file.path for file in store(settings).live_files(OHLCV)][which]
    missing.unlink()
    with pytest.raises(StorageError, match=rf"{missing.name}: was removed while it was copied.*see `mdp heal`"):
        back_up(settings, tmp_path / "backups")
    assert not any(path.name != ".lock" for path in (tmp_path / "backups").iterdir())


def test_a_backup_of_the_future_is_told_of_and_is_not_taken_for_the_newest(settings, tmp_path, caplog):
    ahead = back_up(settings, tmp_path / "backups", timedelta(days=3650))
    made = back_up(settings, tmp_path / "backups")
    assert f"{ahead.folder} is of the future" in caplog.text
    with pytest.raises(InputError, match=r"backup: expected one of its folders by name, for 2035-.* is of the future"):
        backup_at(tmp_path / "backups", NOW)
    assert backup_at(made.folder, NOW) == made.folder
    assert backup_at(tmp_path / "backups", NOW + timedelta(days=3650)) == ahead.folder


def test_all_tables_are_taken_at_one_moment():
    world = {"raw_ohlcv": 0, "ohlcv": 0}  # a writer raises one, then the other, for as long as it has work
    work = iter(["raw_ohlcv", "ohlcv"] * 5)

    def look(name):
        found = world[name]
        if (next_one := next(work, None)) is not None:
            world[next_one] += 1
        return found

    names = list(world)
    found = at_one_moment({name: lambda name=name: look(name) for name in names}, lambda _seconds: None)
    assert found == {"raw_ohlcv": 5, "ohlcv": 5}, "0 and 1 were seen, and never were at the same time"


def test_a_lake_that_never_rests_is_told_so():
    versions = iter(range(10_000))
    with pytest.raises(StorageError, match="no moment was found"):
        at_one_moment({"ohlcv": lambda: next(versions)}, lambda _seconds: None)


@pytest.mark.slow
def test_a_snapshot_shares_its_files_with_the_lake_in_the_backup_and_after_it(settings, tmp_path):
    with store(settings).draft_snapshot("study") as draft:
        draft.take(OHLCV, [WHOLE])
        draft.publish(b"{}")
    made = back_up(settings, tmp_path / "backups")
    restored = put_back(made.folder, settings, tmp_path / "elsewhere")
    assert store(restored).snapshots() == {"study": b"{}"}
    for root in (made.folder, restored.data_dir):
        files = list(root.rglob("*.parquet"))
        assert (len(files), len({path.stat().st_ino for path in files})) == (2, 1)


def test_databases_are_taken_with_what_was_not_yet_moved_into_them(settings, tmp_path):
    path = database(settings.dagster_dir / "history" / "runs.db", [("ended", "SUCCESS"), ("at-work", "STARTED")])
    (settings.dagster_dir / "storage" / "a-run").mkdir(parents=True)
    (settings.dagster_dir / "storage" / "a-run" / "step.out").write_text("said")
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("INSERT INTO runs VALUES ('in-the-log', 'STARTED')")
        writer.commit()
        made = back_up(settings, tmp_path / "backups")
        restored = restore_backup(made.folder, settings, tmp_path / "elsewhere", lambda: NOW)
    with closing(sqlite3.connect(tmp_path / "elsewhere" / "dagster" / "history" / "runs.db")) as found:
        assert found.execute("SELECT run_id FROM runs").fetchall() == [("ended",), ("at-work",), ("in-the-log",)]
    assert (tmp_path / "elsewhere" / "dagster" / "storage" / "a-run" / "step.out").read_text() == "said"
    assert restored.unfinished_runs == ("at-work", "in-the-log")
    locks = sorted(path.name for path in (tmp_path / "elsewhere" / "run" / "runs").iterdir())
    assert locks == ["at-work.lock", "in-the-log.lock"], "who starts next fails them"


def test_secrets_are_not_in_it(tmp_path):
    address = "postgresql+psycopg2://me:hidden-word@127.0.0.1:9/dagster"
    webhook = "https://hooks.example.com/T0/hidden-word"
    settings = load_settings(data_dir=tmp_path / "data", simulated=True, alerts={"webhook_url": webhook})
    made = back_up(settings, tmp_path / "backups")
    assert "MDP_ALERTS__WEBHOOK_URL" in (made.folder / "settings.json").read_text()
    assert not any(b"hidden-word" in path.read_bytes() for path in made.folder.rglob("*") if path.is_file())
    server = load_settings(
        data_dir=tmp_path / "data", simulated=True, dagster={"instance": "postgres", "postgres_url": address}
    )
    with pytest.raises(StorageError, match=r"pg_dump of postgresql\+psycopg2://\*\*\*@127.0.0.1:9") as failed:
        back_up(server, tmp_path / "others")
    assert "hidden-word" not in str(failed.value)
    assert backups_in(tmp_path / "others") == []


@pytest.mark.parametrize("name", ["lake", ".", ".."])
def test_a_place_that_is_part_of_what_is_backed_up_is_refused(settings, name):
    with pytest.raises(InputError, match="place: expected a folder outside"):
        back_up(settings, settings.data_dir / name)


@pytest.mark.slow
def test_one_that_was_broken_off_does_not_count_and_is_removed_with_the_next(settings, tmp_path):
    def pull_the_plug(_done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(settings, tmp_path / "backups", advance=pull_the_plug)
    left = tmp_path / "backups" / ".2025-01-08T033000.000000Z.unfinished"
    assert not left.exists()
    left.mkdir()  # as a killed process leaves it
    (left / MANIFEST).write_text("{}")
    (tmp_path / "backups" / "2025-01-01T033000.000000Z").mkdir()  # without a manifest
    assert backups_in(tmp_path / "backups") == []
    with pytest.raises(InputError, match="backup: expected the folder of a backup"):
        backup_at(tmp_path / "backups", NOW)
    made = back_up(settings, tmp_path / "backups")
    assert not left.exists()
    assert backup_at(tmp_path / "backups", NOW) == made.folder


def test_a_full_disk_is_noticed_before_anything_is_written(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(copying, "free_bytes_of", lambda _place: 1_000)
    with pytest.raises(StorageError, match=r"expected 67,1\d\d,\d\d\d free bytes, found 1,000; nothing was written"):
        back_up(settings, tmp_path / "backups")
    assert backups_in(tmp_path / "backups") == []


@pytest.mark.slow
def test_a_disk_that_fills_up_meanwhile_leaves_older_backups_as_they_were(settings, tmp_path):
    first = back_up(settings, tmp_path / "backups")

    def full(_done, _total):
        raise OSError(28, "No space left on device", str(tmp_path))

    with pytest.raises(StorageError, match="No space left on device; no backup was made"):
        back_up(settings, tmp_path / "backups", timedelta(days=1), advance=full)
    assert backups_in(tmp_path / "backups") == [first.folder]
    assert verify_backup(first.folder).faults == ()


def test_two_at_once_in_one_place_are_one_too_many(settings, tmp_path):
    with working_in(tmp_path / "backups"), pytest.raises(LeaseHeld, match="expected to be the only one"):
        back_up(settings, tmp_path / "backups")


def data_file(folder):
    return sorted(folder.rglob("lake/**/*.parquet"))[0]


def flip(path):
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


DAMAGES = {
    "a flipped byte": (lambda folder: flip(data_file(folder)), "lake/ohlcv/.*parquet"),
    "a missing file": (lambda folder: data_file(folder).unlink(), "lake/ohlcv/.*parquet"),
    "a missing commit": (lambda folder: next(folder.rglob("_delta_log/*.json")).unlink(), r"\.json"),
    "a cut manifest": (lambda folder: cut(folder / MANIFEST), "manifest.json"),
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), "manifest.json"),
    "a cut list": (lambda folder: cut(folder / "files.jsonl"), "files.jsonl"),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_not_put_back(settings, tmp_path, damage):
    made = back_up(settings, tmp_path / "backups")
    do, named = DAMAGES[damage]
    do(made.folder)
    faults = verify_backup(made.folder).faults
    assert len(faults) == 1
    with pytest.raises(StoreCorrupt, match=named):
        put_back(made.folder, settings, tmp_path / "elsewhere")
    assert not any((tmp_path / "elsewhere").glob("*")), "nothing was put in place, nothing was left"


def test_a_manifest_that_somebody_changed_and_one_of_a_later_format_are_refused(settings, tmp_path):
    made = back_up(settings, tmp_path / "backups")
    told = json.loads((made.folder / MANIFEST).read_text())
    (made.folder / MANIFEST).write_text(json.dumps(told | {"copied": 1}))
    with pytest.raises(StoreCorrupt, match="was changed: expected id"):
        load_manifest(made.folder)
    (made.folder / MANIFEST).write_text(json.dumps(told | {"format": 2, "new": True}))
    with pytest.raises(OutdatedStore, match="is of format 2, this program knows 1; run a newer mdp"):
        load_manifest(made.folder)


def test_a_file_that_is_not_part_of_it_is_named(settings, tmp_path):
    made = back_up(settings, tmp_path / "backups")
    (made.folder / "stranger").write_text("x")
    assert [(fault.path, fault.what) for fault in verify_backup(made.folder).faults] == [
        ("stranger", "is not part of the backup")
    ]


def test_a_damaged_file_of_the_lake_is_named_and_no_backup_is_made_of_it(settings, tmp_path):
    flip(data_file(settings.data_dir))
    with pytest.raises(StoreCorrupt, match=r"parquet: damaged: expected bytes of CRC-32") as failed:
        back_up(settings, tmp_path / "backups")
    assert "mdp heal" in failed.value.__notes__[0]
    assert backups_in(tmp_path / "backups") == []
