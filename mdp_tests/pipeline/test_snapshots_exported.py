"""Exported snapshots: anybody can read the folder, it notices every changed byte, and becomes a snapshot elsewhere."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil

import duckdb
import msgspec
import polars as pl
import pytest

from mdp.domain.candles import GAP_SCHEMA
from mdp.domain.digests import digest
from mdp.errors import InputError, OutdatedStore, SnapshotExists, SnapshotMissing, StorageError, StoreCorrupt
from mdp.pipeline.arrow_digest import arrow_sha256
from mdp.pipeline.exported import load_export, read_export, verify_export
from mdp.pipeline.exporting import export_snapshot
from mdp.pipeline.manifests import Part, identity
from mdp.pipeline.snapshots import create_snapshot, manifest_of, manifests, read_snapshot, verify_snapshot
from mdp.ports import GAPS, OHLCV, Slice
from mdp.storage.memory import MemoryStore
from mdp_tests.pipeline.test_snapshots import H1, M1, gap
from mdp_tests.support.builders import MARKET, NOW, candle, candles, frame, window

pytestmark = pytest.mark.slow  # a second or two of commands and files

SPAN = window("2024-12-28", "2025-02-04")
MONTHLY = ("2024-12-31", "2025-01-01", "2025-02-01")
MINUTES = "ohlcv/exchange=binance/symbol=BTC-USDT/timeframe=1m"


@pytest.fixture
def store():
    """Candles of three months on both sides of a turn of the year, of which some lack what an exchange may not give."""
    made = MemoryStore()
    days = [candle(f"{day}T0{hour}:00", trades=None) for day in MONTHLY for hour in range(5)]
    hours = [candle(f"{day}T01:00", timeframe="1h", source="resampled") for day in ("2024-12-31", "2025-01-01")]
    made.replace(OHLCV, Slice(MARKET, (M1, H1), SPAN), candles(*days, *hours))
    made.replace(GAPS, Slice(MARKET, (M1,), SPAN), frame([gap("2024-12-31T05:00", "2024-12-31T06:00")], GAP_SCHEMA))
    create_snapshot(made, "one", [MARKET], [M1, H1], SPAN, lambda: NOW)
    return made


@pytest.fixture
def folder(store, tmp_path):
    export_snapshot(store, "one", tmp_path / "out")
    return tmp_path / "out"


def stored(store, timeframe=M1):
    return read_snapshot(store, "one", OHLCV, Slice(MARKET, (timeframe,), SPAN))


def test_the_folder_holds_files_by_month_and_by_year_from_an_hour_up_and_their_digests(folder):
    export = read_export(folder)
    assert [file.path for file in export.files] == [
        "gaps/exchange=binance/symbol=BTC-USDT/timeframe=1m/2024-12.parquet",
        f"{MINUTES}/2024-12.parquet", f"{MINUTES}/2025-01.parquet", f"{MINUTES}/2025-02.parquet",
        "ohlcv/exchange=binance/symbol=BTC-USDT/timeframe=1h/2024.parquet",
        "ohlcv/exchange=binance/symbol=BTC-USDT/timeframe=1h/2025.parquet",
    ]  # fmt: skip
    for file in export.files:
        body = (folder / file.path).read_bytes()
        assert (file.size, file.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert "polars" in (folder / "README.txt").read_text()
    assert [path.name for path in folder.parent.iterdir()] == ["out"], "nothing unfinished is left"


@pytest.mark.slow
def test_others_read_it_without_us(store, folder):
    rows = pl.read_parquet(folder / MINUTES / "*.parquet", hive_partitioning=False)
    assert rows.equals(stored(store))
    both = pl.read_parquet(folder / "ohlcv/**/*.parquet", hive_partitioning=False)
    assert both.equals(pl.concat([stored(store, H1), stored(store)]))
    with duckdb.connect() as connection:
        (count, volume), = connection.execute(
            "SELECT count(*), sum(volume) FROM read_parquet(?, hive_partitioning=false) WHERE timeframe = '1m'",
            [f"{folder}/ohlcv/**/*.parquet"],
        ).fetchall()  # fmt: skip
    assert (count, volume) == (15, 30.0)


@pytest.mark.slow
def test_it_verifies_wherever_it_is_carried(folder, tmp_path):
    moved = tmp_path / "else" / "where"
    moved.parent.mkdir()
    folder.rename(moved)
    seen = []
    assert verify_export(moved, advance=lambda *of: seen.append(of)).differences == ()
    assert seen[-1] == (3, 3)


def test_it_becomes_a_snapshot_elsewhere(store, folder):
    other = MemoryStore()
    made = load_export(other, folder, "theirs")
    assert made.name == "theirs"
    assert made.id == manifest_of(store, "one").id
    assert manifests(other) == {"theirs": made}
    rows = read_snapshot(other, "theirs", OHLCV, Slice(MARKET, (M1,), SPAN))
    assert (digest(rows), arrow_sha256(rows)) == (digest(stored(store)), arrow_sha256(stored(store)))
    assert verify_snapshot(other, "theirs").differences == ()
    with pytest.raises(SnapshotExists):
        load_export(other, folder, "theirs")
    assert load_export(other, folder).name == "one"


@pytest.mark.slow
def test_an_export_from_before_a_table_gained_a_column_is_as_good(store, folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    gaps, columns = Slice(MARKET, (M1,), SPAN), manifest["snapshot"]["columns"]["gaps"]
    rows = read_snapshot(store, "one", GAPS, gaps).select(columns.pop() and columns)
    (file, *_), (part, *others) = manifest["files"], manifest["snapshot"]["parts"]
    rows.write_parquet(folder / file["path"])
    file["sha256"] = hashlib.sha256((folder / file["path"]).read_bytes()).hexdigest()
    part |= {"digest": digest(rows), "sha256": arrow_sha256(rows)}
    typed = msgspec.convert([part, *others], list[Part])
    manifest["snapshot"]["id"] = identity(SPAN, typed)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert verify_export(folder).differences == ()
    other = MemoryStore()
    load_export(other, folder)
    assert read_snapshot(other, "one", GAPS, gaps).select(columns).equals(rows)
    assert verify_snapshot(other, "one").differences == ()


@pytest.mark.parametrize("byte", [200, *(pytest.param(byte, marks=pytest.mark.slow) for byte in (0, 100, -9, -1))])
def test_a_flipped_byte_is_named_and_nothing_is_loaded(folder, byte):
    path = folder / MINUTES / "2025-01.parquet"
    body = bytearray(path.read_bytes())
    body[byte] ^= 1
    path.write_bytes(body)
    found = verify_export(folder).differences
    assert (found[0].where, found[0].what) == (f"{MINUTES}/2025-01.parquet", "sha256")
    assert found[1].where == "ohlcv binance:BTC-USDT 1m"
    assert len(found) == 2
    other = MemoryStore()
    with pytest.raises(StoreCorrupt, match=r"2025-01\.parquet"):
        load_export(other, folder)
    assert manifests(other) == {}


@pytest.mark.slow
def test_a_missing_file_and_a_foreign_one_are_named(folder):
    (folder / MINUTES / "2024-12.parquet").rename(folder / MINUTES / "2024-11.parquet")
    found = [(one.where, one.what) for one in verify_export(folder).differences]
    assert found == [
        (f"{MINUTES}/2024-12.parquet", "file"), (f"{MINUTES}/2024-11.parquet", "file"),
        ("ohlcv binance:BTC-USDT 1m", "rows"),
    ]  # fmt: skip


def test_what_is_not_of_the_snapshot_is_not_loaded_with_it(folder):
    shutil.copy(folder / MINUTES / "2024-12.parquet", folder / "ohlcv" / "more.parquet")
    other = MemoryStore()
    with pytest.raises(StoreCorrupt, match=r"ohlcv/more\.parquet: file: expected no file of that name"):
        load_export(other, folder)
    assert manifests(other) == {}


@pytest.mark.slow
def test_rows_that_were_changed_together_with_their_digest_are_named_by_the_part(folder):
    path = folder / MINUTES / "2025-01.parquet"
    pl.read_parquet(path).with_columns(close=pl.col("close") + 1).write_parquet(path)
    body, manifest = path.read_bytes(), json.loads((folder / "manifest.json").read_text())
    file = next(file for file in manifest["files"] if file["path"].endswith("1m/2025-01.parquet"))
    file |= {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    found = [(one.where, one.what) for one in verify_export(folder).differences]
    assert found == [("ohlcv binance:BTC-USDT 1m", what) for what in ("digest", "sha256")]


@pytest.mark.slow
def test_a_manifest_that_names_files_outside_the_folder_is_refused(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    for path in ("../secret.parquet", "/etc/passwd", "a\\..\\b"):
        manifest["files"][0]["path"] = path
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(StoreCorrupt, match="below the folder"):
            verify_export(folder)


@pytest.mark.slow
def test_a_folder_that_is_no_export_and_one_of_a_later_format_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"folder: expected .*manifest\.json"):
        verify_export(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 2}))
    with pytest.raises(OutdatedStore, match="format 2"):
        verify_export(folder)


def test_a_folder_that_holds_something_is_left_alone(store, tmp_path):
    (tmp_path / "mine").write_text("precious")
    for folder in (tmp_path, tmp_path / "mine"):
        with pytest.raises(InputError) as raised:
            export_snapshot(store, "one", folder)
        assert raised.value.field == "folder"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    export_snapshot(store, "one", tmp_path / "empty")
    assert verify_export(tmp_path / "empty").differences == ()


def test_an_export_that_fails_leaves_nothing_behind(store, tmp_path):
    class Damaged(MemoryStore):
        def read_snapshot(self, name, table, part, *, columns=None):
            rows = super().read_snapshot(name, table, part, columns=columns)
            return (
                rows.head(3) if part.timeframes == (H1,) else rows.with_columns(close=1.0) if table is OHLCV else rows
            )

    damaged = Damaged()
    damaged.__dict__.update(store.__dict__)
    with pytest.raises(StoreCorrupt, match="ohlcv binance:BTC-USDT 1m"):
        export_snapshot(damaged, "one", tmp_path / "out")
    with pytest.raises(SnapshotMissing):
        export_snapshot(store, "two", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        export_snapshot(store, "one", tmp_path / "file" / "below")


@pytest.mark.slow
def test_a_copy_is_as_good_as_the_folder(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    assert verify_export(tmp_path / "copy").manifest == verify_export(folder).manifest


def test_an_export_removes_what_killed_ones_to_the_same_folder_left_and_nothing_else(store, tmp_path):
    killed, busy, other = (tmp_path / name for name in (".out.9-8e003b0e", ".out.9-00000000", ".outer.9-8e003b0e"))
    for path in (killed, busy, other, tmp_path / ".out.mine"):
        (path / "ohlcv").mkdir(parents=True)
    number = os.open(busy, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        export_snapshot(store, "one", tmp_path / "out")
    finally:
        os.close(number)
    assert sorted(path.name for path in tmp_path.iterdir()) == [busy.name, ".out.mine", other.name, "out"]


def test_an_export_under_way_is_not_taken_for_one_that_was_killed(store, tmp_path):
    def advance(_done, _total):
        if not (tmp_path / "out").exists():
            written = sorted(tmp_path.glob(".out.*/**/*"))
            assert written
            export_snapshot(store, "one", tmp_path / "out")
            assert sorted(tmp_path.glob(".out.*/**/*")) == written

    with pytest.raises(StorageError, match="out: cannot be written: Directory not empty"):
        export_snapshot(store, "one", tmp_path / "out", advance=advance)
    assert not verify_export(tmp_path / "out").differences
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_name_that_differs_from_another_only_in_case_is_refused(store, folder):
    for name in ("ONE", "One"):
        with pytest.raises(InputError, match="name: expected a name that differs from 'one' not only in case"):
            create_snapshot(store, name, [MARKET], [M1], SPAN, lambda: NOW)
        with pytest.raises(InputError, match="name: expected a name that differs from 'one' not only in case"):
            load_export(store, folder, name)
    assert list(store.snapshots()) == ["one"]


def test_a_file_that_is_no_parquet_may_stand_in_the_folder(folder):
    (folder / "notes.md").write_text("mine")
    assert not verify_export(folder).differences
    (folder / "more.parquet").write_bytes(b"")
    assert [one.where for one in verify_export(folder).differences] == ["more.parquet"]
