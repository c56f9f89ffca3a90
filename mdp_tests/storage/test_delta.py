"""The lake on disk: its layout, its commits, its size, and what happens when it appears and disappears.

Not here: damaged files (``test_delta_damage``), full disks (``test_delta_disk``), writers at the same time
(``test_delta_races``, ``test_delta_processes``).
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import deltalake
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mdp.domain.candles import CANDLE_SCHEMA
from mdp.errors import InputError, StorageError
from mdp.ports import GAPS, OHLCV, RAW_OHLCV, REVISIONS, TABLES
from mdp.storage import DeltaStore
from mdp.storage.sql import query
from mdp_tests.contracts.rows import DAY, EVER, OTHER_MARKET, part, rows_at
from mdp_tests.support.builders import at

RECORDED = Path(__file__).parents[2] / "mdp" / "simulator" / "recorded" / "binance" / "BTCUSDT" / "1m"


@pytest.fixture
def store(tmp_path: Path) -> DeltaStore:
    return DeltaStore(tmp_path / "lake")


def paths(store: DeltaStore, table=OHLCV) -> list[str]:
    return [file.path for file in store.live_files(table)]


def files_on_disk(store: DeltaStore) -> set[Path]:
    return set(store.lake_dir.rglob("*.parquet"))


def test_files_lie_under_their_market_timeframe_and_period(store):
    store.replace(OHLCV, part("2024-12-01", "2025-02-01"), rows_at(OHLCV, ["2024-12-30", "2025-01-02"]))
    store.replace(OHLCV, part("2024-12-01", "2025-02-01", "1h"), rows_at(OHLCV, ["2024-12-30"], timeframe="1h"))
    assert [str(Path(path).parent) for path in paths(store)] == [
        "exchange=binance/symbol=BTC-USDT/timeframe=1h/period=2024",
        "exchange=binance/symbol=BTC-USDT/timeframe=1m/period=2024-12",
        "exchange=binance/symbol=BTC-USDT/timeframe=1m/period=2025-01",
    ]
    assert {path.relative_to(store.directory(OHLCV)).as_posix() for path in files_on_disk(store)} == set(paths(store))


def test_other_delta_readers_see_the_same_rows_and_their_bounds(store):
    rows = rows_at(OHLCV, ["2024-12-30", "2024-12-30T00:01", "2025-01-02"])
    store.replace(OHLCV, part("2024-12-01", "2025-02-01"), rows)
    seen = pl.scan_delta(str(store.directory(OHLCV))).collect()
    assert_frame_equal(seen.sort("open_time").select(rows.columns), rows)
    assert seen["period"].unique().sort().to_list() == ["2024-12", "2025-01"]
    december = pl.scan_delta(str(store.directory(OHLCV))).filter(pl.col("open_time") < at("2025-01-01"))
    assert december.collect().height == 2
    actions = pl.DataFrame(deltalake.DeltaTable(store.directory(OHLCV)).get_add_actions(flatten=True)).sort("path")
    assert actions["num_records"].to_list() == [2, 1]
    assert actions["min.open_time"].to_list() == [at("2024-12-30"), at("2025-01-02")]
    assert actions["max.open_time"].to_list() == [at("2024-12-30T00:01"), at("2025-01-02")]


def test_a_file_stays_sorted_and_its_bounds_right_when_a_part_of_it_is_replaced(store):
    for day in (3, 1, 2):
        rows = rows_at(OHLCV, [f"2024-12-0{day}T12:00", f"2024-12-0{day}"])
        store.replace(OHLCV, part(f"2024-12-0{day}", f"2024-12-0{day + 1}"), rows)
    stored = pl.read_parquet(store.directory(OHLCV) / paths(store)[0])["open_time"]
    assert stored.len() == 6
    assert stored.is_sorted()
    actions = pl.DataFrame(deltalake.DeltaTable(store.directory(OHLCV)).get_add_actions(flatten=True))
    assert actions.select("min.open_time", "max.open_time").row(0) == (at("2024-12-01"), at("2024-12-03T12:00"))


def test_many_months_and_timeframes_are_one_commit(store):
    long = part("2023-12-01", "2024-03-01", "1m", "5m", "1h")
    moments = ["2023-12-31T23:00", "2024-01-01", "2024-02-29"]
    rows = pl.concat(rows_at(OHLCV, moments, timeframe=name) for name in ("1m", "5m", "1h"))
    store.replace(OHLCV, long, rows)
    assert store.version(OHLCV) == 1
    assert len(paths(store)) == 3 + 3 + 2
    store.replace(OHLCV, long, rows.head(1))
    assert store.version(OHLCV) == 2
    assert len(paths(store)) == 1


def test_a_partition_stays_one_file_however_often_a_day_of_it_is_replaced(store):
    for day in range(1, 8):
        rows = rows_at(OHLCV, [f"2024-12-0{day}", f"2024-12-0{day}T12:00"], seed=day)
        store.replace(OHLCV, part(f"2024-12-0{day}", f"2024-12-0{day + 1}"), rows)
    assert len(paths(store)) == 1
    assert store.read(OHLCV, EVER).height == 14


def test_only_the_partitions_that_change_are_written_anew(store):
    store.replace(OHLCV, part("2024-11-01", "2025-02-01"), rows_at(OHLCV, ["2024-11-01", "2024-12-01", "2025-01-01"]))
    before = paths(store)
    store.replace(OHLCV, part("2024-12-01", "2024-12-02"), rows_at(OHLCV, ["2024-12-01T01:00"]))
    assert [old == new for old, new in zip(before, paths(store), strict=True)] == [True, False, True]


def test_replacing_nothing_by_nothing_makes_no_table_no_commit_and_no_file(store):
    store.replace(OHLCV, DAY, OHLCV.schema.to_frame())
    store.append(OHLCV, OHLCV.schema.to_frame())
    assert not store.lake_dir.exists()
    store.replace(OHLCV, part("2024-12-01", "2025-01-01"), rows_at(OHLCV, ["2024-12-29", "2024-12-31"]))
    before = (store.version(OHLCV), files_on_disk(store))
    for empty in (DAY, part("2024-12-30", "2024-12-31", "1h"), part("2023-01-01", "2024-01-01")):
        store.replace(OHLCV, empty, OHLCV.schema.to_frame())
    assert (store.version(OHLCV), files_on_disk(store)) == before


def test_reading_makes_nothing_on_disk(store):
    for table in TABLES:
        assert store.read(table, DAY).is_empty()
        assert store.version(table) is None
        assert store.live_files(table) == []
    assert not store.lake_dir.exists()


def test_the_version_grows_by_one_with_each_write_and_another_store_sees_it(store):
    other = DeltaStore(store.lake_dir)
    for count in range(1, 4):
        rows = rows_at(OHLCV, ["2024-12-30"], seed=count)
        store.replace(OHLCV, DAY, rows)
        assert store.version(OHLCV) == other.version(OHLCV) == count
        assert_frame_equal(other.read(OHLCV, DAY), rows)


def test_a_lake_that_was_deleted_and_begun_anew_is_read_and_written_as_the_new_one(store):
    for seed in range(5):
        store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"], seed=seed))
    shutil.rmtree(store.lake_dir)
    assert store.read(OHLCV, DAY).is_empty()
    assert store.version(OHLCV) is None
    DeltaStore(store.lake_dir).replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30T01:00"]))
    assert store.version(OHLCV) == 1
    store.append(OHLCV, rows_at(OHLCV, ["2024-12-30T02:00"]))
    fresh = DeltaStore(store.lake_dir)
    assert fresh.version(OHLCV) == 2
    assert fresh.read(OHLCV, DAY)["open_time"].to_list() == [at("2024-12-30T01:00"), at("2024-12-30T02:00")]


def test_a_table_of_another_form_is_refused(store):
    other_form = pl.DataFrame({"exchange": ["binance"], "close": [1.0]})
    deltalake.write_deltalake(store.directory(OHLCV), other_form)
    with pytest.raises(StorageError, match=r"ohlcv: is of another form: .*open_time: missing"):
        store.read(OHLCV, DAY)
    with pytest.raises(StorageError, match="is of another form"):
        store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))


def test_files_that_another_tool_compacted_are_read_and_replaced(store):
    for seed in range(3):
        store.append(REVISIONS, rows_at(REVISIONS, ["2024-12-30", "2024-12-31"], seed=seed))
    before = store.read(REVISIONS, EVER)
    deltalake.DeltaTable(store.directory(REVISIONS)).optimize.compact()
    assert len(paths(store, REVISIONS)) == 1
    assert_frame_equal(store.read(REVISIONS, EVER), before)
    store.replace(REVISIONS, DAY, rows_at(REVISIONS, []))
    assert store.read(REVISIONS, EVER).height == 3


def test_files_of_several_appends_are_merged_in_order(store):
    store.append(OHLCV, rows_at(OHLCV, ["2024-12-30T00:01", "2024-12-30T00:03"]))
    store.append(OHLCV, rows_at(OHLCV, ["2024-12-30T00:00", "2024-12-30T00:02"]))
    found = store.read(OHLCV, DAY)["open_time"]
    assert found.len() == 4
    assert all(before < after for before, after in pairwise(found))


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_undoes_nothing(store):
    for seed in range(98):
        store.replace(GAPS, DAY, rows_at(GAPS, ["2024-12-30"], seed=seed))
    (store.directory(GAPS) / "_delta_log" / f"{99:020d}.checkpoint.parquet").mkdir()
    for seed in range(98, 103):
        store.replace(GAPS, DAY, rows_at(GAPS, ["2024-12-30"], seed=seed))
    assert_frame_equal(DeltaStore(store.lake_dir).read(GAPS, DAY), rows_at(GAPS, ["2024-12-30"], seed=102))


@pytest.mark.slow
def test_the_log_is_read_over_many_checkpoints(store):
    other = DeltaStore(store.lake_dir)
    for seed in range(210):
        store.replace(GAPS, DAY, rows_at(GAPS, ["2024-12-30"], seed=seed))
        if seed in (0, 98, 99, 100, 209):
            assert other.version(GAPS) == seed + 1
    fresh = DeltaStore(store.lake_dir)
    for reader in (store, other, fresh):
        assert_frame_equal(reader.read(GAPS, DAY), rows_at(GAPS, ["2024-12-30"], seed=209))


def recorded_minutes() -> pl.DataFrame:
    """The two unbroken recorded weeks, as candles."""
    days = [pl.read_csv(path, has_header=False) for path in sorted(RECORDED.glob("*-202[45]-*.csv.gz"))]
    first = datetime(2024, 12, 25, tzinfo=UTC)
    columns = ("open", "high", "low", "close", "volume", "close_time", "quote_volume", "trades")
    named = pl.concat(days).rename({f"column_{at_}": name for at_, name in enumerate(columns, start=2)})
    return named.with_columns(
        exchange=pl.lit("binance"),
        symbol=pl.lit("BTC-USDT"),
        timeframe=pl.lit("1m"),
        open_time=pl.datetime_range(first, first + timedelta(days=14), "1m", closed="left", time_unit="us"),
        minutes=pl.lit(1, pl.Int32),
        source=pl.lit("archive"),
        ingested_at=pl.lit(datetime(2026, 11, 22, 12, 34, 56, 123456, tzinfo=UTC)),
    ).select(pl.col(name).cast(dtype) for name, dtype in CANDLE_SCHEMA.items())


def test_a_recorded_candle_takes_at_most_31_bytes(store):
    minutes = recorded_minutes()
    where = part("2024-12-25", "2025-01-08")
    store.replace(OHLCV, where, minutes)
    assert_frame_equal(store.read(OHLCV, where), minutes, check_exact=True)
    assert sum(file.size_bytes for file in store.live_files(OHLCV)) / minutes.height <= 31


@pytest.mark.parametrize("name", ["my data", "da[1]ta*?", "100%", "a#b?c=d&e", "Märkte ₿", "it's", "exchange=okx"])
def test_a_lake_may_lie_in_a_directory_of_any_name(tmp_path, name):
    store = DeltaStore(tmp_path / name / "lake")
    for seed in range(2):
        rows = rows_at(OHLCV, ["2024-12-30", "2025-01-02"], seed=seed)
        store.replace(OHLCV, part("2024-12-30", "2025-01-03"), rows)
        assert_frame_equal(DeltaStore(store.lake_dir).read(OHLCV, EVER), rows)
    assert_frame_equal(query(store, "SELECT * FROM ohlcv ORDER BY open_time"), rows)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_directory_whose_name_the_library_would_decode_is_refused_at_once(tmp_path):
    with pytest.raises(InputError, match=r"lake_dir: .*50%20off"):
        DeltaStore(tmp_path / "50%20off" / "lake")
    assert not list(tmp_path.iterdir())


def test_a_lake_may_be_named_relative_to_where_we_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = DeltaStore(Path("data/lake"))
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"], seed=1))
    assert DeltaStore(tmp_path / "data" / "lake").read(OHLCV, DAY).height == 1
    assert query(store, "SELECT * FROM ohlcv").height == 1


def test_markets_and_tables_do_not_share_files(store):
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))
    store.replace(
        OHLCV,
        part("2024-12-30", "2024-12-31", market=OTHER_MARKET),
        rows_at(OHLCV, ["2024-12-30"], market=OTHER_MARKET),
    )
    store.replace(RAW_OHLCV, DAY, rows_at(RAW_OHLCV, ["2024-12-30"]))
    assert len(files_on_disk(store)) == 3
