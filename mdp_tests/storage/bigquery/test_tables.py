"""The tables as BigQuery describes them, older ones, foreign ones, and the views for people."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mdp.errors import OutdatedStore
from mdp.ports import FETCHES, GAPS, OHLCV, REJECTED_OHLCV
from mdp_tests.contracts.rows import DAY, everything, part, rows_at
from mdp_tests.support.builders import MARKET

pytestmark = pytest.mark.slow


def test_a_table_is_partitioned_by_month_clustered_described_and_labelled_with_its_version(store, client, settings):
    store.append(GAPS, rows_at(GAPS, ["2024-12-30"]))
    made = client.get_table(f"{settings.project}.{settings.dataset}.gaps")
    assert (made.time_partitioning.type_, made.time_partitioning.field) == ("MONTH", "start")
    assert made.clustering_fields == ["exchange", "symbol", "start"]
    assert made.labels == {"mdp_schema_version": "2"}
    assert made.description
    described = {field.name: field.description for field in made.schema}
    assert described["cause"] == "Why nothing is there"
    staging = client.get_dataset(f"{settings.project}.{settings.dataset}_writing")
    assert staging.default_table_expiration_ms == 24 * 3600 * 1000


def test_nothing_is_left_in_the_staging_dataset(store, client, settings):
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))
    assert list(client.list_tables(f"{settings.project}.{settings.dataset}_writing")) == []


def test_a_table_of_version_1_is_read_with_nulls_and_widened_by_the_next_write(store, open_another, client, settings):
    old, new = rows_at(GAPS, ["2024-12-30"], has_holes=False), rows_at(GAPS, ["2024-12-30T01:00"], seed=1)
    _make_version_1(store, client, settings, old)
    expected = old.with_columns(pl.lit(None, GAPS.schema[name]).alias(name) for name in GAPS.younger_columns)
    reader = open_another()
    assert_frame_equal(reader.read(GAPS, DAY), expected)
    open_another().append(GAPS, new)
    made = client.get_table(f"{settings.project}.{settings.dataset}.gaps")
    assert made.labels == {"mdp_schema_version": "2"}
    both = pl.concat([expected, new])
    assert_frame_equal(reader.read(GAPS, DAY), both)
    assert_frame_equal(open_another().read(GAPS, DAY), both)


def _make_version_1(store, client, settings, old):
    from google.cloud import bigquery

    store.append(GAPS, old)
    name = f"{settings.project}.{settings.dataset}.gaps"
    client.delete_table(f"{name}_view")
    kept = ", ".join(f"`{column}`" for column in [*GAPS.schema_at(1), "_ordinal"])
    client.query(f"CREATE TABLE `{name}_old` AS SELECT {kept} FROM `{name}`", job_retry=None).result()
    fields = [field for field in client.get_table(name).schema if field.name not in GAPS.younger_columns]
    client.delete_table(name)
    made = bigquery.Table(name, fields)
    made.labels = {"mdp_schema_version": "1"}
    client.create_table(made)
    client.query(f"INSERT INTO `{name}` ({kept}) SELECT {kept} FROM `{name}_old`", job_retry=None).result()


@pytest.mark.parametrize(
    ("labels", "said"),
    [({}, r"no label mdp_schema_version.*MDP_BIGQUERY__DATASET"), ({"mdp_schema_version": "3"}, r"version 3.*newer")],
)
def test_a_table_that_is_newer_or_not_ours_is_left_alone_and_says_what_to_do(
    store, open_another, client, settings, labels, said
):
    from google.cloud import bigquery

    store.append(REJECTED_OHLCV, rows_at(REJECTED_OHLCV, ["2024-12-30"]))  # makes the datasets
    made = bigquery.Table(f"{settings.project}.{settings.dataset}.gaps", [bigquery.SchemaField("theirs", "STRING")])
    made.labels = labels
    client.create_table(made)
    for action in (
        lambda: store.read(GAPS, DAY),
        lambda: store.append(GAPS, rows_at(GAPS, ["2024-12-30"])),
        lambda: open_another().replace(GAPS, DAY, rows_at(GAPS, [])),
    ):
        with pytest.raises(OutdatedStore, match=said):
            action()
    assert [field.name for field in client.get_table(made.reference).schema] == ["theirs"]


def test_a_table_from_which_a_column_was_removed_is_refused(store, open_another, client, settings):
    from google.cloud import bigquery

    store.append(REJECTED_OHLCV, rows_at(REJECTED_OHLCV, ["2024-12-30"]))
    made = bigquery.Table(f"{settings.project}.{settings.dataset}.gaps", [bigquery.SchemaField("cause", "INTEGER")])
    made.labels = {"mdp_schema_version": "2"}
    client.create_table(made)
    with pytest.raises(OutdatedStore, match=r"cause is INTEGER, expected STRING; exchange is missing.*restore"):
        open_another().read(GAPS, DAY)


def test_rows_that_tie_are_read_by_their_ordinal_wherever_bigquery_keeps_them(store, client, settings):
    rows = rows_at(FETCHES, ["2024-12-30"] * 5).with_columns(requests=pl.int_range(5, dtype=pl.Int64))
    store.append(FETCHES, rows)
    client.query(
        f"UPDATE `{settings.dataset}.fetches` SET _ordinal = 100 - requests WHERE TRUE", job_retry=None
    ).result()
    assert store.read(FETCHES, DAY)["requests"].to_list() == [4, 3, 2, 1, 0]


def test_many_writers_may_be_the_first(open_another):
    stores = [open_another() for _ in range(4)]
    slices = [part(f"2024-12-{day}", f"2024-12-{day + 1}") for day in (10, 11, 12, 13)]
    rows = [rows_at(OHLCV, [where.window.start], seed=number) for number, where in enumerate(slices)]
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(store.replace, OHLCV, *job) for store, *job in zip(stores, slices, rows, strict=True)]:
            done.result()
    assert_frame_equal(everything(stores[0]), pl.concat(rows))


def test_the_views_show_what_is_read_with_lists_as_arrays_and_without_our_own_columns(store, client, settings):
    candles = rows_at(OHLCV, ["2024-12-30", "2024-12-30T00:01"], has_holes=False)
    live = rows_at(OHLCV, ["2024-12-30T00:01", "2024-12-30T00:02"], seed=1, has_holes=False)
    store.replace(OHLCV, DAY, candles)
    store.append_live(OHLCV, live)
    rejected = rows_at(REJECTED_OHLCV, ["2024-12-30"]).with_columns(failed_rules=pl.Series([["a", "b"]]))
    store.append(REJECTED_OHLCV, rejected)
    shown = _select(client, f"SELECT * FROM `{settings.dataset}.ohlcv` ORDER BY open_time")
    assert shown.columns == list(OHLCV.schema)
    assert shown["close"].to_list() == [candles["close"][0], *live["close"]]
    shown = _select(client, f"SELECT * FROM `{settings.dataset}.rejected_ohlcv_view`")
    assert shown.columns == list(REJECTED_OHLCV.schema)
    assert shown["failed_rules"].to_list() == [["a", "b"]]
    assert shown["symbol"].to_list() == [MARKET.symbol_key]


def _select(client, sql):
    return pl.from_arrow(client.query(sql).result().to_arrow(create_bqstorage_client=False))
