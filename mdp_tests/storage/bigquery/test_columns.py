"""What our columns become in BigQuery, and that nothing is lost on the way there and back."""

from __future__ import annotations

import io
from datetime import timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mdp.config.sections import BigQuerySettings
from mdp.errors import ConfigError, SchemaMismatch
from mdp.ports import OHLCV, REJECTED_OHLCV, TABLES
from mdp.storage.bigquery.columns import ORDINAL, parquet, restored, sql_type, stored
from mdp.storage.bigquery.names import Datasets, JobNames, physical_names, view_name
from mdp_tests.contracts.rows import DAY, rows_at
from mdp_tests.support.builders import at


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_column_has_a_type_and_comes_back_from_parquet(table):
    rows = rows_at(table, [at("2024-12-30") + timedelta(minutes=minute) for minute in range(40)])
    assert {sql_type(dtype) for dtype in table.schema.values()} <= {"STRING", "TIMESTAMP", "FLOAT64", "INT64", "BOOL"}
    there = pl.read_parquet(io.BytesIO(parquet(stored(rows, 7))))
    assert there[ORDINAL].to_list() == list(range(7, 47))
    assert_frame_equal(restored(table, there.drop(ORDINAL).to_arrow(), list(table.schema)), rows, check_exact=True)


def test_a_list_is_kept_as_json_whatever_is_in_it():
    lists = [["a", "b"], [], None, [None, 'it\'s "ünïcode" \\'], ["null"]]
    rows = rows_at(REJECTED_OHLCV, [f"2024-12-30T00:0{minute}" for minute in range(5)])
    kept = stored(rows.with_columns(failed_rules=pl.Series(lists, dtype=pl.List(pl.String))), 0)
    texts = ['["a", "b"]', "[]", None, '[null, "it\'s \\"ünïcode\\" \\\\"]', '["null"]']
    assert kept["failed_rules"].to_list() == texts
    answer = kept.select("failed_rules").to_arrow()
    assert restored(REJECTED_OHLCV, answer, ["failed_rules"])["failed_rules"].to_list() == lists


def test_an_answer_with_other_columns_is_refused():
    with pytest.raises(SchemaMismatch, match=r"open: missing.*close: not expected"):
        restored(OHLCV, pl.DataFrame({"close": [1.0]}).to_arrow(), ["open"])


def test_candles_have_a_table_for_each_timeframe_and_a_view_over_all():
    assert physical_names(OHLCV, ["1m", "1h"]) == ["ohlcv_1h", "ohlcv_1m"]
    assert len(physical_names(OHLCV)) == 6
    assert physical_names(REJECTED_OHLCV, ["1m", "1h"]) == ["rejected_ohlcv"]
    names = [*(name for table in TABLES for name in physical_names(table)), *map(view_name, TABLES)]
    assert len(names) == len(set(names))


def test_a_job_of_one_write_has_one_name_and_no_other_write_has_it():
    names, others = JobNames("run/1"), JobNames("run/1")
    given = [names.begin("ohlcv", DAY), names.begin("ohlcv", DAY), others.begin("ohlcv", DAY), names.begin("ohlcv")]
    assert len(set(given)) == 4
    assert all(name.startswith("mdp-run_1-") and name.replace("-", "").replace("_", "").isalnum() for name in given)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({}, "MDP_BIGQUERY__PROJECT"), ({"project": "p", "dataset": "d", "staging_dataset": "d"}, "STAGING_DATASET")],
)
def test_a_store_without_a_project_or_with_one_dataset_for_everything_is_refused(wrong, named):
    with pytest.raises(ConfigError, match=named):
        Datasets.of(BigQuerySettings(**wrong))


def test_staging_and_snapshots_are_datasets_beside_the_main_one():
    datasets = Datasets.of(BigQuerySettings(project="p", dataset="d"))
    assert (datasets.table("t"), datasets.staged("t"), datasets.held("t")) == (
        "p.d.t",
        "p.d_writing.t",
        "p.d_snapshots.t",
    )
