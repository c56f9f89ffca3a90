"""Snapshots beside damaged ones, manifests that say too little or too much, and what an identity rests on."""

from __future__ import annotations

import os
from datetime import timedelta

import msgspec
import polars as pl
import pytest

from mdp.errors import OutdatedStore, SnapshotMissing, StoreCorrupt
from mdp.pipeline.exported import read_export
from mdp.pipeline.exporting import export_snapshot
from mdp.pipeline.manifests import decode, encode, identity
from mdp.pipeline.snapshots import create_snapshot, delete_snapshot, manifest_of, manifests, read_snapshot, verify
from mdp.ports import OHLCV, Slice
from mdp.storage import DeltaStore
from mdp.storage.memory import MemoryStore
from mdp_tests.pipeline.test_snapshots import H1, M1, OTHER
from mdp_tests.support.builders import MARKET, NOW, candle, candles, window

DAY = window("2024-12-30", "2024-12-31")
WHOLE = Slice(MARKET, (M1,), DAY)


def stocked(store, **values):
    store.replace(OHLCV, WHOLE, candles(candle("2024-12-30T00:00", **values), candle("2024-12-30T07:00", **values)))
    return store


def create(store, name="good", markets=(MARKET,), timeframes=(M1,)):
    return create_snapshot(store, name, markets, timeframes, DAY, lambda: NOW)


def publish(store, name, manifest):
    with store.draft_snapshot(name) as draft:
        draft.take(OHLCV, [WHOLE])
        draft.publish(manifest)


def changed(manifest, **fields):
    return msgspec.json.encode(msgspec.to_builtins(manifest) | fields)


def test_a_damaged_snapshot_is_named_and_stops_neither_the_list_nor_the_reading_of_others(caplog):
    store = stocked(MemoryStore())
    made = create(store)
    publish(store, "bad", b"{")
    publish(store, "later", changed(made, format=2))
    assert manifests(store) == {"good": made}
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "snapshot 'bad'" in caplog.text
    assert "snapshot 'later'" in caplog.text
    assert len(read_snapshot(store, "good", OHLCV, WHOLE)) == 2
    for name, error in (("bad", StoreCorrupt), ("later", OutdatedStore)):
        with pytest.raises(error, match=f"snapshot '{name}'"):
            read_snapshot(store, name, OHLCV, WHOLE)
        assert delete_snapshot(store, name) is None, "what cannot be read can be given up"
    assert list(store.snapshots()) == ["good"]


@pytest.mark.slow
def test_on_disk_neither_a_lost_manifest_nor_somebody_s_folder_stops_the_reading_of_others(tmp_path):
    store = stocked(DeltaStore(tmp_path / "lake"))
    made, _ = create(store), create(store, "bad")
    (tmp_path / "snapshots" / "bad" / "manifest.json").unlink()
    (tmp_path / "snapshots" / "my-notes").mkdir()
    assert manifests(store) == {"good": made}
    assert len(read_snapshot(store, "good", OHLCV, WHOLE)) == 2
    with pytest.raises(StoreCorrupt, match=r"bad/manifest\.json"):
        manifest_of(store, "bad")
    with pytest.raises(SnapshotMissing, match="'my-notes'"):
        manifest_of(store, "my-notes")


def test_a_manifest_that_does_not_say_which_columns_a_table_had_is_refused_by_name():
    made = create(stocked(MemoryStore()))
    names = list(made.columns["ohlcv"])
    for columns, said in (
        ({"gaps": made.columns["gaps"]}, "columns: expected those of ohlcv"),
        ({**made.columns, "ohlcv": []}, "columns: expected those of ohlcv"),
        ({**made.columns, "ohlcv": [name for name in names if name != "close"]}, "ohlcv without close"),
        ({**made.columns, "ohlcv": [*names, "close"]}, "ohlcv with close twice"),
    ):
        with pytest.raises(StoreCorrupt, match=said):
            decode(changed(made, columns=columns), "it")
    younger = {**made.columns, "gaps": made.columns["gaps"][:-4]}
    assert decode(changed(made, columns=younger), "it").columns == younger


def test_a_manifest_that_names_a_part_twice_is_refused():
    made = create(stocked(MemoryStore()))
    parts = [msgspec.to_builtins(part) for part in (*made.parts, made.parts[-1])]
    with pytest.raises(StoreCorrupt, match="parts: ohlcv binance:BTC-USDT 1m is there twice"):
        decode(changed(made, parts=parts), "it")


def test_a_column_that_is_unknown_here_is_never_left_out_in_silence(tmp_path):
    store = stocked(MemoryStore())
    made = create(store)
    export_snapshot(store, "good", tmp_path / "out")
    columns = {**made.columns, "ohlcv": (*made.columns["ohlcv"], "news")}
    publish(store, "later", changed(made, name="later", columns=columns))
    manifest = tmp_path / "out" / "manifest.json"
    said = msgspec.json.decode(manifest.read_bytes())
    said["snapshot"]["columns"] = columns
    manifest.write_bytes(msgspec.json.encode(said))
    for ask in (
        lambda: manifest_of(store, "later"),
        lambda: read_snapshot(store, "later", OHLCV, WHOLE),
        lambda: export_snapshot(store, "later", tmp_path / "later"),
        lambda: read_export(tmp_path / "out"),
    ):
        with pytest.raises(OutdatedStore, match="ohlcv has columns unknown here: news"):
            ask()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_same_rows_have_the_same_identity_whenever_they_came_and_whoever_wrote_their_bytes():
    made = create(stocked(MemoryStore()))
    later = create(stocked(MemoryStore(), ingested_at=NOW + timedelta(days=1)))
    assert later.parts[1].sha256 != made.parts[1].sha256, "the bytes differ"
    assert later.id == made.id
    other = [msgspec.structs.replace(part, sha256="0" * 64) for part in made.parts]
    assert identity(DAY, other) == made.id
    assert create(stocked(MemoryStore(), close=99.0)).id != made.id
    assert create(stocked(MemoryStore(), source="archive")).id != made.id


def test_every_other_word_about_a_part_is_in_the_identity():
    made = create(stocked(MemoryStore()))
    gaps, minutes = made.parts
    for field, value in (
        ("table", "dvol"), ("market", "okx:SOL-USDT"), ("timeframe", H1), ("rows", 3), ("first", NOW), ("last", NOW),
        ("digest", "0" * 64), ("sources", {}), ("expected", 1), ("missing", {}),
    ):  # fmt: skip
        assert identity(DAY, (gaps, msgspec.structs.replace(minutes, **{field: value}))) != made.id, field
    assert identity(window("2024-12-30", "2025-01-01"), made.parts) != made.id


def test_the_order_in_which_markets_were_named_is_not_in_the_identity():
    store = stocked(MemoryStore())
    assert create(store, "one", [MARKET, OTHER]).id == create(store, "two", [OTHER, MARKET]).id


def test_bytes_that_differ_are_still_found_though_the_identity_is_the_same():
    store = stocked(MemoryStore())
    made = create(store)
    stocked(store, ingested_at=NOW + timedelta(days=1))
    assert [(one.where, one.what) for one in verify(made, store.read).differences] == [
        ("ohlcv binance:BTC-USDT 1m", "sha256")
    ]
    assert decode(encode(made), "it").id == identity(DAY, made.parts)


def test_an_export_s_folders_are_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    store, folder = stocked(MemoryStore()), tmp_path / "new" / "out"
    create(store)
    synced, before, after = os.fsync, set(), set()

    def sync(handle):
        synced(handle)
        (after if folder.exists() else before).add(os.fstat(handle).st_ino)

    monkeypatch.setattr(os, "fsync", sync)
    export_snapshot(store, "good", folder)
    paths = [folder, *folder.rglob("*")]
    assert [path for path in paths if path.stat().st_ino not in before] == []
    assert folder.parent.stat().st_ino in after, "the name itself"
    assert tmp_path.stat().st_ino in before | after, "the folder above is new too"
    assert len(pl.read_parquet(folder / "ohlcv/**/*.parquet", hive_partitioning=False)) == 2


def test_a_manifest_of_minutes_without_their_gaps_and_one_beyond_the_calendar_are_refused():
    made = create(stocked(MemoryStore()))
    gaps, minutes = (msgspec.to_builtins(part) for part in made.parts)
    for fields, said in (
        ({"parts": [minutes]}, "parts: expected gaps binance:BTC-USDT 1m"),
        ({"parts": [gaps | {"timeframe": "1h"}, minutes]}, "parts: expected gaps binance:BTC-USDT 1m"),
        ({"end": "9999-12-31T23:59:59Z"}, "start, end: expected years from 2 to 9998"),
        ({"start": "0001-01-01T00:00:00Z"}, "start, end: expected years from 2 to 9998"),
    ):
        with pytest.raises(StoreCorrupt, match=said):
            decode(changed(made, **fields), "it")
