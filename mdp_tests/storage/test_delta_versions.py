"""Lakes of older and younger versions: an older one is upgraded where it stands, a younger or foreign one is refused.

Not here: damaged logs (``test_delta_damage``).
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import deltalake
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mdp.errors import OutdatedStore, StoreCorrupt
from mdp.ports import GAPS, OHLCV, REVISIONS, TABLES, Table
from mdp.storage import DeltaStore
from mdp.storage.delta_log import DeltaLog
from mdp.storage.sql import query
from mdp_tests.contracts.rows import DAY, EVER, part, rows_at

OLD_COLUMNS = {"gaps": 9, "revisions": 21}
"""How many columns the tables of version 1 had that have more by now."""

WIDE = part("2024-12-01", "2025-02-01")
MOMENTS = ["2024-12-30", "2024-12-30T00:01", "2025-01-02"]


@pytest.fixture
def store(tmp_path: Path) -> DeltaStore:
    return DeltaStore(tmp_path / "lake")


def as_it_was(table: Table) -> Table:
    """The table of version 1, as the program of then knew it."""
    columns = pl.Schema(list(table.schema.items())[: OLD_COLUMNS.get(table.name)])
    return Table(table.name, columns, table.time_column, table.sort_by)


def begin_old_lake(lake_dir: Path, *tables: Table) -> dict[str, pl.DataFrame]:
    """Make tables as they were made before versions were written down, and return their rows."""
    old, store = {}, DeltaStore(lake_dir)
    for table in map(as_it_was, tables):
        old[table.name] = rows_at(table, MOMENTS)
        store.replace(table, WIDE, old[table.name])
        beginning = store.directory(table) / "_delta_log" / f"{0:020d}.json"
        lines = [json.loads(line) for line in beginning.read_text().splitlines()]
        next(line for line in lines if "metaData" in line)["metaData"]["description"] = None
        beginning.write_text("\n".join(map(json.dumps, lines)) + "\n")
        assert deltalake.DeltaTable(store.directory(table)).metadata().description is None
    return old


def with_nulls(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    absent = [name for name in table.schema if name not in rows.columns]
    return rows.with_columns(pl.lit(None, table.schema[name]).alias(name) for name in absent)


def delta(store: DeltaStore, table: Table) -> deltalake.DeltaTable:
    return deltalake.DeltaTable(store.directory(table))


def test_every_version_of_a_table_is_the_one_before_and_columns_at_its_end():
    for table in TABLES:
        assert len(table.added) == table.version - 1
        assert table.schema_at(table.version) == table.schema
        for version in range(1, table.version):
            before, after = list(table.schema_at(version)), list(table.schema_at(version + 1))
            assert after == [*before, *table.added[version - 1]]
    assert {table.name: len(table.schema_at(1)) for table in TABLES if table.version > 1} == OLD_COLUMNS


@pytest.mark.parametrize("table", [GAPS, REVISIONS], ids=lambda table: table.name)
def test_an_older_table_is_upgraded_by_looking_at_it_and_no_file_is_written_anew(store, table):
    old = begin_old_lake(store.lake_dir, table)[table.name]
    before = {path: path.stat().st_mtime_ns for path in store.lake_dir.rglob("*.parquet")}
    assert_frame_equal(store.read(table, WIDE), with_nulls(table, old))
    assert {path: path.stat().st_mtime_ns for path in store.lake_dir.rglob("*.parquet")} == before
    assert delta(store, table).metadata().description == f"{table.name} of mdp, schema version 2"
    assert [field.name for field in delta(store, table).schema().fields] == [*table.schema, "period"]
    assert delta(store, table).version() == 2
    assert DeltaStore(store.lake_dir).version(table) == 2
    assert [path.name for path in store.directory(table).rglob("*.tmp")] == []


@pytest.mark.slow
def test_old_and_new_files_are_read_together_by_everybody(store):
    old = with_nulls(GAPS, begin_old_lake(store.lake_dir, GAPS)["gaps"])
    store.append(GAPS, rows_at(GAPS, ["2024-12-30T12:00", "2025-01-03"], seed=1))
    expected = pl.concat([old, rows_at(GAPS, ["2024-12-30T12:00", "2025-01-03"], seed=1)]).sort("start")
    assert_frame_equal(store.read(GAPS, WIDE), expected)
    for columns in (["sightings"], ["cause"], ["first_seen_at", "end"]):
        found = store.read(GAPS, WIDE, columns=columns)
        assert_frame_equal(found, expected.select(name for name in GAPS.schema if name in columns))
    assert_frame_equal(query(store, "SELECT * FROM gaps ORDER BY start"), expected)
    assert query(store, "SELECT count(*) AS n FROM gaps WHERE sightings IS NULL")["n"].item() >= old.height
    others = pl.read_delta(str(store.directory(GAPS)))
    assert_frame_equal(others.sort("start").select(expected.columns), expected)


@pytest.mark.slow
def test_an_older_table_can_be_replaced_compacted_pruned_and_pinned(store):
    old = with_nulls(REVISIONS, begin_old_lake(store.lake_dir, REVISIONS)["revisions"])
    with store.draft_snapshot("old") as draft:
        draft.take(REVISIONS, [WIDE])
        draft.publish(b"")
    for seed in range(5):
        store.append(REVISIONS, rows_at(REVISIONS, ["2024-12-31"], seed=seed))
    store.compact(REVISIONS)
    store.replace(REVISIONS, DAY, rows_at(REVISIONS, []))
    assert store.read(REVISIONS, WIDE)["old_ingested_at"].to_list()[-1] is None
    assert store.read(REVISIONS, WIDE).height == 6
    assert store.prune(REVISIONS, "open_time", WIDE.window.end) == 6
    assert_frame_equal(store.read_snapshot("old", REVISIONS, WIDE), old)


def test_a_column_that_was_never_added_may_not_be_missing(store):
    # A file of another tool that lacks a column is damaged, however many columns came later.
    begin_old_lake(store.lake_dir, GAPS)
    file = store.live_files(GAPS)[0]
    path = store.directory(GAPS) / file.path
    renamed = path.with_name("part-00000.parquet")
    pl.read_parquet(path).drop("cause").write_parquet(renamed)
    log = store.directory(GAPS) / "_delta_log" / f"{1:020d}.json"
    log.write_text(log.read_text().replace(path.name, renamed.name))
    with pytest.raises(StoreCorrupt, match=r"part-00000\.parquet: .*cause"):
        DeltaStore(store.lake_dir).read(GAPS, WIDE)


@pytest.mark.slow
def test_many_openers_at_once_upgrade_once_and_lose_nothing(store):
    old = with_nulls(GAPS, begin_old_lake(store.lake_dir, GAPS)["gaps"])
    with ThreadPoolExecutor(6) as threads:
        stores = [DeltaStore(store.lake_dir) for _ in range(6)]
        found = list(threads.map(lambda each: each.read(GAPS, WIDE), stores))
        list(threads.map(lambda each: each.append(GAPS, rows_at(GAPS, ["2024-12-31"])), stores))
    for rows in found:
        assert_frame_equal(rows, old)
    assert store.read(GAPS, WIDE).height == old.height + 6
    assert store.version(GAPS) == 1 + 1 + 6


class Overtaken(DeltaLog):
    """A log that an older program writes to right before it is upgraded, once."""

    rows: list[pl.DataFrame]

    def _upgraded(self, delta):
        if self.rows:
            DeltaStore(self.directory.parent).append(as_it_was(GAPS), self.rows.pop())
        return super()._upgraded(delta)


def test_a_commit_that_an_older_program_makes_meanwhile_is_kept_and_the_table_upgraded_after_it(store):
    old = begin_old_lake(store.lake_dir, GAPS)["gaps"]
    theirs = rows_at(as_it_was(GAPS), ["2024-12-31"], seed=1)
    log = Overtaken(store.directory(GAPS), GAPS)
    log.rows = [theirs]
    assert log.version() == 3
    assert delta(store, GAPS).metadata().description == "gaps of mdp, schema version 2"
    expected = with_nulls(GAPS, pl.concat([old, theirs]).sort("start"))
    assert_frame_equal(store.read(GAPS, WIDE), expected)


def mark(store: DeltaStore, table: Table, description: str) -> None:
    delta(store, table).alter.set_table_description(description)


def test_a_table_of_a_later_version_is_refused_with_what_to_do(store):
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))
    other = DeltaStore(store.lake_dir)
    mark(store, OHLCV, "ohlcv of mdp, schema version 7")
    for each in (store, other, DeltaStore(store.lake_dir)):
        with pytest.raises(OutdatedStore, match=r"ohlcv: is of schema version 7, .* up to version 1; run a newer"):
            each.read(OHLCV, DAY)
        with pytest.raises(OutdatedStore, match="schema version 7"):
            each.append(OHLCV, rows_at(OHLCV, ["2024-12-31"]))
    assert not OutdatedStore.retryable


def test_a_foreign_table_is_refused_with_every_difference(store):
    columns = {"exchange": ["binance"], "close": [1.0]}
    deltalake.write_deltalake(store.directory(GAPS), pl.DataFrame(columns))
    with pytest.raises(OutdatedStore, match=r"gaps: is of another form: .*start: missing.*close: not expected"):
        store.read(GAPS, EVER)


def test_a_mark_that_the_columns_belie_is_refused(store):
    begin_old_lake(store.lake_dir, GAPS)
    mark(store, GAPS, "gaps of mdp, schema version 2")
    with pytest.raises(OutdatedStore, match="first_seen_at: missing"):
        store.read(GAPS, EVER)


def test_a_table_without_a_mark_that_has_all_columns_is_marked(store):
    store.replace(GAPS, DAY, rows_at(GAPS, ["2024-12-30"]))
    mark(store, GAPS, "")
    assert DeltaStore(store.lake_dir).read(GAPS, DAY).height == 1
    DeltaStore(store.lake_dir).append(GAPS, rows_at(GAPS, ["2024-12-30"]))
    assert DeltaStore(store.lake_dir).read(GAPS, DAY).height == 2


@pytest.mark.slow
def test_the_mark_survives_commits_and_checkpoints(store):
    for seed in range(25):
        store.append(GAPS, rows_at(GAPS, ["2024-12-30"], seed=seed))
    store.compact(GAPS)
    assert list((store.directory(GAPS) / "_delta_log").glob("*.checkpoint.parquet"))
    assert delta(store, GAPS).metadata().description == "gaps of mdp, schema version 2"
    assert DeltaStore(store.lake_dir).read(GAPS, DAY).height == 25
