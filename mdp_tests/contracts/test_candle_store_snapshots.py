"""The promises of ``CandleStore`` about snapshots, on every store there is.

Not here: how a store holds what they pin (``storage``), what a manifest says (``pipeline``).
"""

from __future__ import annotations

import io
from datetime import timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mdp.errors import InputError, SnapshotExists, SnapshotMissing
from mdp.ports import GAPS, OHLCV, RAW_OHLCV, REVISIONS
from mdp_tests.contracts.rows import DAY, EVER, OTHER_MARKET, part, rows_at

OTHERS_DAY = part("2024-12-30", "2024-12-31", market=OTHER_MARKET)
MONTHS = part("2024-11-01", "2025-02-01", "1m", "1h")
MOMENTS = ["2024-11-30T23:59", "2024-12-01", "2024-12-30", "2024-12-31", "2025-01-02"]


def in_bytes(rows: pl.DataFrame) -> bytes:
    body = io.BytesIO()
    rows.write_ipc(body)
    return body.getvalue()


def snap(store, name, *taken):
    with store.draft_snapshot(name) as draft:
        for table, parts in taken:
            draft.take(table, parts)
        draft.publish(f"about {name}".encode())


def test_a_snapshot_reads_the_same_bytes_whatever_becomes_of_the_table(store):
    rows = pl.concat(rows_at(OHLCV, MOMENTS, timeframe=name) for name in ("1m", "1h"))
    store.replace(OHLCV, MONTHS, rows)
    store.append(REVISIONS, rows_at(REVISIONS, MOMENTS[:3]))
    store.append(REVISIONS, rows_at(REVISIONS, MOMENTS[:3], seed=1))
    with store.draft_snapshot("before") as draft:
        for table in (OHLCV, REVISIONS):
            draft.take(table, [MONTHS])
        then = {table.name: in_bytes(draft.read(table, MONTHS)) for table in (OHLCV, REVISIONS)}
        draft.publish(b"")
    assert_frame_equal(store.read_snapshot("before", OHLCV, MONTHS), store.read(OHLCV, MONTHS))
    store.replace(OHLCV, MONTHS, rows_at(OHLCV, ["2024-12-30"], seed=2))
    store.append(REVISIONS, rows_at(REVISIONS, MOMENTS, seed=2))
    for table in (OHLCV, REVISIONS):
        store.prune(table, "open_time", DAY.window.end)
        store.compact(table)
        store.vacuum(table, timedelta(hours=1))
        for _ in range(2):
            assert in_bytes(store.read_snapshot("before", table, MONTHS)) == then[table.name]


def test_a_snapshot_holds_only_what_was_taken(store):
    store.replace(OHLCV, MONTHS, rows_at(OHLCV, MOMENTS))
    store.replace(OHLCV, OTHERS_DAY, rows_at(OHLCV, ["2024-12-30"], market=OTHER_MARKET))
    store.replace(GAPS, DAY, rows_at(GAPS, ["2024-12-30"]))
    two = [part("2024-11-30", "2024-12-02"), part("2024-12-31", "2025-01-01"), part("2024-12-31", "2025-01-02")]
    snap(store, "some", (OHLCV, two))
    found = store.read_snapshot("some", OHLCV, EVER)["open_time"]
    assert found.dt.strftime("%F").to_list() == ["2024-11-30", "2024-12-01", "2024-12-31"]
    assert store.read_snapshot("some", OHLCV, DAY).is_empty()
    assert store.read_snapshot("some", OHLCV, part("2024-12-31", "2025-01-01")).height == 1
    assert_frame_equal(store.read_snapshot("some", OHLCV, OTHERS_DAY), OHLCV.schema.to_frame())
    assert_frame_equal(store.read_snapshot("some", GAPS, DAY), GAPS.schema.to_frame())


def test_a_snapshot_is_read_as_the_table_would_be(store):
    ties = rows_at(RAW_OHLCV, ["2024-12-30"] * 60, has_holes=False)
    store.replace(RAW_OHLCV, part("2024-12-30", "2025-01-01"), pl.concat([rows_at(RAW_OHLCV, ["2024-12-31"]), ties]))
    snap(store, "raw", (RAW_OHLCV, [DAY]))
    for columns in (None, ["close"], ["open_time", "symbol"]):
        expected = store.read(RAW_OHLCV, DAY, columns=columns)
        assert_frame_equal(store.read_snapshot("raw", RAW_OHLCV, DAY, columns=columns), expected)
    with pytest.raises(InputError, match=r"columns: .*period"):
        store.read_snapshot("raw", RAW_OHLCV, DAY, columns=["period"])


def test_a_snapshot_of_nothing_is_a_snapshot(store):
    snap(store, "empty", (OHLCV, [DAY]), (GAPS, []))
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))
    assert_frame_equal(store.read_snapshot("empty", OHLCV, DAY), OHLCV.schema.to_frame())
    assert store.snapshots() == {"empty": b"about empty"}


def test_snapshots_are_listed_by_name_with_their_manifests_and_can_be_deleted(store):
    assert store.snapshots() == {}
    for name in ("b-2", "a.1", "C_3"):
        snap(store, name, (OHLCV, [DAY]))
    assert list(store.snapshots().items()) == [(name, f"about {name}".encode()) for name in ("C_3", "a.1", "b-2")]
    store.delete_snapshot("a.1")
    assert list(store.snapshots()) == ["C_3", "b-2"]
    for action in (
        lambda: store.delete_snapshot("a.1"),
        lambda: store.read_snapshot("a.1", OHLCV, DAY),
    ):
        with pytest.raises(SnapshotMissing, match=r"'a.1': expected one of: C_3, b-2"):
            action()
    snap(store, "a.1", (OHLCV, [DAY]))
    assert store.read_snapshot("a.1", OHLCV, DAY).is_empty()


def test_the_manifest_of_one_snapshot_is_given_by_its_name(store):
    for name in ("a", "b"):
        snap(store, name, (OHLCV, [DAY]))
    assert store.manifest("b") == b"about b"
    store.delete_snapshot("b")
    for name in ("b", "c"):
        with pytest.raises(SnapshotMissing, match=f"'{name}': expected one of: a"):
            store.manifest(name)
    assert store.manifest("a") == b"about a"


def test_a_name_that_is_taken_is_refused_at_the_beginning_and_at_the_end(store):
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))
    with store.draft_snapshot("mine") as late:
        late.take(OHLCV, [DAY])
        snap(store, "mine")
        with pytest.raises(SnapshotExists, match="'mine'"):
            late.publish(b"late")
    with pytest.raises(SnapshotExists), store.draft_snapshot("mine"):
        pass
    assert store.snapshots() == {"mine": b"about mine"}
    assert store.read_snapshot("mine", OHLCV, DAY).is_empty()


@pytest.mark.parametrize("name", ["", ".hidden", "../lake", "a/b", "-x", "ü", "a b", "a" * 101, "a\n"])
def test_what_is_no_name_of_a_snapshot_is_refused_by_name(store, name):
    for action in (
        lambda: store.draft_snapshot(name).__enter__(),
        lambda: store.manifest(name),
        lambda: store.read_snapshot(name, OHLCV, DAY),
        lambda: store.delete_snapshot(name),
    ):
        with pytest.raises(InputError) as caught:
            action()
        assert caught.value.field == "snapshot"


def test_a_draft_that_was_not_published_leaves_nothing(store):
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))
    with store.draft_snapshot("never") as draft:
        draft.take(OHLCV, [DAY])
        assert store.snapshots() == {}
        for ask in (lambda: store.read_snapshot("never", OHLCV, DAY), lambda: store.manifest("never")):
            with pytest.raises(SnapshotMissing, match="there are none"):
                ask()
    with pytest.raises(InputError, match="columns"), store.draft_snapshot("never"):
        store.read(OHLCV, DAY, columns=["what breaks off the work"])
    assert store.snapshots() == {}


def test_what_a_draft_took_stays_as_it_was(store):
    old = rows_at(OHLCV, ["2024-12-30"])
    store.replace(OHLCV, DAY, old)
    with store.draft_snapshot("then") as draft:
        version = draft.take(OHLCV, [DAY])
        assert isinstance(version, str)
        assert version
        store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"], seed=1))
        assert_frame_equal(draft.read(OHLCV, DAY), old)
        draft.publish(b"{}")
    assert_frame_equal(store.read_snapshot("then", OHLCV, DAY), old)


def test_a_table_is_taken_once(store):
    with store.draft_snapshot("twice") as draft:
        draft.take(OHLCV, [DAY])
        with pytest.raises(InputError, match=r"table: .*ohlcv"):
            draft.take(OHLCV, [EVER])
