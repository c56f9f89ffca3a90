"""SQL over the lake: the same rows and types as a read, of the current version, and no way to change anything."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError, StoreCorrupt
from mdp.ports import OHLCV, RAW_OHLCV, REJECTED_OHLCV, TABLES, Slice
from mdp.storage import DeltaStore
from mdp.storage.sql import VIEWS, create_views, query, to_polars
from mdp_tests.contracts.rows import EVER, OTHER_MARKET, everything, part, rows_at
from mdp_tests.support.builders import at

MOMENTS = [at("2024-11-25") + timedelta(hours=hour) for hour in range(0, 24 * 50, 6)]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two markets at all timeframes, over two months and a year's end."""
    store = DeltaStore(tmp_path_factory.mktemp("sql") / "lake")
    for market in (EVER.market, OTHER_MARKET):
        rows = [rows_at(OHLCV, MOMENTS, market=market, timeframe=name.value, seed=3) for name in Timeframe]
        store.replace(OHLCV, Slice(market, EVER.timeframes, EVER.window), pl.concat(rows))
    return store.lake_dir


@pytest.fixture
def store(lake: Path, tmp_path: Path) -> DeltaStore:
    return DeltaStore(Path(shutil.copytree(lake, tmp_path / "lake")))


@pytest.fixture
def connection(store: DeltaStore) -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(duckdb.connect()) as connection:
        create_views(connection, store)
        yield connection


def footprint(store: DeltaStore) -> dict[Path, str]:
    files = (path for path in store.lake_dir.rglob("*") if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_table_has_a_view_with_its_columns_and_types_even_without_rows(tmp_path, table):
    store = DeltaStore(tmp_path / "lake")
    assert_frame_equal(query(store, f"SELECT * FROM {table.name}"), table.schema.to_frame())
    rows = rows_at(table, ["2024-12-30", "2024-12-30T00:01", "2025-01-02"])
    store.replace(table, part("2024-12-30", "2025-01-03"), rows)
    order = ", ".join(f"{name} NULLS FIRST" for name in table.sort_by)
    assert_frame_equal(query(store, f"SELECT * FROM {table.name} ORDER BY {order}"), rows)


def test_ohlcv_has_a_view_for_each_timeframe(store):
    for timeframe in Timeframe:
        found = query(store, f"SELECT * FROM ohlcv_{timeframe.value} ORDER BY exchange, open_time")
        expected = everything(store).filter(pl.col("timeframe") == timeframe.value)
        assert_frame_equal(found, expected.sort("exchange", "open_time"))


def test_the_views_are_those_that_are_listed(store):
    assert set(query(store, "SHOW TABLES")["name"]) == set(VIEWS)


CONDITIONS = [
    "true",
    "exchange = 'okx'",
    "exchange IN ('okx', 'nowhere') AND timeframe = '1h'",
    "symbol LIKE 'SOL%' OR timeframe <> '1m'",
    "open_time >= '2024-12-01' AND open_time < '2024-12-02'",
    "open_time = '2024-12-31T18:00:00Z'",
    "open_time = '2024-12-01'",
    "open_time <= '2025-01-01' AND timeframe = '4h'",
    "open_time < '2024-12-01 00:00:00+05'",
    "open_time::DATE = '2024-12-31'",
    "close > 45000 AND quote_volume IS NOT NULL",
    "NOT (close > 45000)",
    "isnan(close)",
    "trades IS NULL AND minutes IS NULL",
    "source = 'a''b;--'",
]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_chooses_the_rows_it_would_choose_from_a_plain_table(store, connection, condition):
    connection.register("plain", everything(store).to_arrow())
    connection.execute("CREATE TABLE kept AS SELECT * FROM plain").fetchall()
    order = "ORDER BY exchange, timeframe, open_time"
    found = to_polars(connection.sql(f"SELECT * FROM ohlcv WHERE {condition} {order}"))
    assert_frame_equal(found, to_polars(connection.sql(f"SELECT * FROM kept WHERE {condition} {order}")))


def test_views_show_the_version_of_their_making_until_they_are_made_again(store, connection):
    count = "SELECT count(*) AS n FROM ohlcv"
    before = connection.sql(count).fetchall()
    store.replace(OHLCV, part("2024-12-01", "2024-12-02"), OHLCV.schema.to_frame())
    assert connection.sql(count).fetchall() == before
    create_views(connection, store)
    assert connection.sql(count).fetchall() == [(before[0][0] - 4,)]
    assert query(store, count)["n"].to_list() == [before[0][0] - 4]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
def test_the_zone_of_the_machine_changes_nothing(store, monkeypatch, zone):
    columns = "open_time, open_time::VARCHAR AS text, open_time::DATE AS day"
    sql = f"SELECT {columns} FROM ohlcv_1h WHERE open_time >= '2024-12-30'"
    expected = query(store, f"{sql} ORDER BY ALL LIMIT 1")
    assert expected.row(0) == (at("2024-12-30"), "2024-12-30 00:00:00+00", at("2024-12-30").date())
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert_frame_equal(query(store, f"{sql} ORDER BY ALL LIMIT 1"), expected)
        with closing(duckdb.connect()) as connection:
            connection.execute(f"SET TimeZone = '{zone}'")
            found = to_polars(connection.sql("SELECT TIMESTAMPTZ '2024-12-30 00:00:00+00' AS open_time"))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found.schema == {"open_time": pl.Datetime("us", "UTC")}
    assert found["open_time"].to_list() == [at("2024-12-30")]


HARMFUL = [
    "COPY ohlcv TO '{new}'",
    "COPY (SELECT 1) TO '{live}' (FORMAT parquet, USE_TMP_FILE false)",
    "COPY (SELECT 1) TO '{live}' (FORMAT csv)",
    "COPY (SELECT 1) TO '{lake}' (FORMAT parquet, PARTITION_BY (a), OVERWRITE)",
    "EXPORT DATABASE '{new}'",
    "ATTACH '{new}' AS other",
    "ATTACH '{live}' AS other",
    "INSERT INTO ohlcv SELECT * FROM ohlcv",
    "DELETE FROM ohlcv",
    "UPDATE ohlcv SET close = 0",
    "SET enable_external_access = true",
    "RESET enable_external_access",
    "SET lock_configuration = false",
    "SET profiling_output = '{live}'",
    "PRAGMA enable_profiling = 'json'",
    "SET temp_directory = '{lake}'",
    "CALL enable_logging(storage = 'file', storage_path = '{new}')",
    "INSTALL httpfs",
    "LOAD '{live}'",
    "SELECT * FROM read_parquet('{live}')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM glob('{lake}/*')",
    "SELECT * FROM visible",
]


@pytest.mark.slow  # thirty copies of a lake
@pytest.mark.parametrize("sql", HARMFUL)
def test_no_statement_changes_the_lake_or_opens_a_file(store, connection, sql):
    live = store.directory(OHLCV) / store.live_files(OHLCV)[0].path
    text = sql.format(new=store.lake_dir / "new", live=live, lake=store.lake_dir)
    before, visible = footprint(store), pl.DataFrame({"a": [1]})
    with pytest.raises(duckdb.Error):
        connection.execute(text).fetchall()
    with pytest.raises(InputError, match=r"^sql: "):
        query(store, text)
    assert footprint(store) == before
    assert visible.height == 1


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELEC 1", 'Parser Error: syntax error at or near "SELEC"'),
        ("SELECT * FROM candles", "Catalog Error: Table with name candles does not exist!"),
        ("SELECT clos FROM ohlcv", 'Binder Error: Referenced column "clos" not found'),
        ("SELECT 1; SELECT 2", "one statement, not 2"),
        ("", "one statement, not 0"),
        ("-- nothing", "one statement, not 0"),
        ("BEGIN", "a query such as SELECT, not TRANSACTION"),
        ("CREATE TABLE mine AS SELECT 1", "a query such as SELECT, not CREATE"),
        ("SELECT ?", "Values were not provided"),
        ("SELECT 'a'::INTEGER", "Conversion Error"),
        ("SELECT INTERVAL 1 DAY", "cast, such as an INTERVAL to VARCHAR"),
    ],
)
def test_a_query_that_cannot_be_run_says_why_in_one_line(store, sql, said):
    with pytest.raises(InputError) as caught:
        query(store, sql)
    assert caught.value.field == "sql"
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "sql",
    [
        "FROM ohlcv LIMIT 1",
        "DESCRIBE ohlcv",
        "SUMMARIZE ohlcv_1d",
        "EXPLAIN SELECT * FROM ohlcv",
        "VALUES (1)",
        "PIVOT ohlcv ON exchange USING count(*) GROUP BY timeframe",
        "WITH a AS (SELECT 1) FROM a",
        "SELECT 1 ; ",
        "PRAGMA table_info('ohlcv')",
    ],
)
def test_any_statement_that_returns_rows_is_a_query(store, sql):
    assert not query(store, sql).is_empty()


def test_lists_numbers_and_dates_have_our_types(store):
    rows = rows_at(REJECTED_OHLCV, ["2024-12-30"]).with_columns(failed_rules=pl.Series([["a", "b"]]))
    store.replace(REJECTED_OHLCV, part("2024-12-30", "2024-12-31"), rows)
    found = query(
        store, "SELECT failed_rules, unnest(failed_rules) AS rule, window_start::DATE AS day FROM rejected_ohlcv"
    )
    assert found.schema == {"failed_rules": pl.List(pl.String), "rule": pl.String, "day": pl.Date}
    assert found["rule"].to_list() == ["a", "b"]


def test_a_damaged_file_is_named_and_gives_no_rows(store):
    path = store.directory(OHLCV) / store.live_files(OHLCV)[-1].path
    whole = path.read_bytes()
    body = bytearray(whole)
    body[len(body) // 3] ^= 0xFF
    for broken in (body, whole[: len(whole) // 2], b""):
        path.write_bytes(broken)
        with pytest.raises(StoreCorrupt, match=path.name):
            query(store, "SELECT sum(hash(COLUMNS(*))) FROM ohlcv")
    path.unlink()
    with pytest.raises(StoreCorrupt, match=path.name):
        query(store, "SELECT sum(close) FROM ohlcv")


@pytest.mark.slow
def test_a_byte_that_only_a_checksum_can_miss_is_missed(tmp_path):
    store, minutes = (
        DeltaStore(tmp_path / "lake"),
        [at("2024-12-30") + timedelta(minutes=minute) for minute in range(500)],
    )
    store.replace(OHLCV, part("2024-12-30", "2024-12-31"), rows_at(OHLCV, minutes, has_holes=False))
    path = store.directory(OHLCV) / store.live_files(OHLCV)[0].path
    whole = path.read_bytes()
    group = pq.read_metadata(path).row_group(0)
    closes = next(chunk for chunk in map(group.column, range(group.num_columns)) if chunk.path_in_schema == "close")
    for back in range(1, 400, 20):
        body = bytearray(whole)
        body[closes.data_page_offset + closes.total_compressed_size - back] ^= 1
        path.write_bytes(body)
        with pytest.raises(StoreCorrupt, match=path.name):
            query(store, "SELECT sum(close) FROM ohlcv")


def test_a_broken_log_is_no_fault_of_the_query(store):
    (store.directory(OHLCV) / "_delta_log" / f"{1:020d}.json").write_text("")
    with pytest.raises(StoreCorrupt, match="_delta_log"):
        query(DeltaStore(store.lake_dir), "SELECT 1")


def test_a_connections_own_tables_stay_its_own(connection):
    connection.execute("CREATE TABLE mine AS SELECT max(close) AS highest FROM ohlcv WHERE NOT isnan(close)").fetchall()
    assert connection.sql("SELECT count(*) FROM mine").fetchall() == [(1,)]


def test_days_outside_the_asked_ones_are_not_even_opened(store):
    store.replace(RAW_OHLCV, part("2024-11-01", "2025-02-01"), rows_at(RAW_OHLCV, ["2024-11-05", "2025-01-05"]))
    november = store.directory(RAW_OHLCV) / store.live_files(RAW_OHLCV)[0].path
    november.unlink()
    sql = "SELECT count(*) AS n FROM raw_ohlcv WHERE window_start >= '2025-01-01'"
    assert query(store, sql)["n"].to_list() == [1]
