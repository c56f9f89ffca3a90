"""Which store the settings mean."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mdp.config.settings import load_settings
from mdp.errors import ConfigError
from mdp.storage import DeltaStore, open_store


def test_duckdb_means_the_lake_in_the_data_directory_and_makes_nothing(tmp_path):
    store = open_store(load_settings(data_dir=tmp_path, store="duckdb"))
    assert isinstance(store, DeltaStore)
    assert store.lake_dir == tmp_path.resolve() / "lake"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_bigquery_means_the_central_store_and_connects_to_nothing(tmp_path):
    store = open_store(load_settings(data_dir=tmp_path, store="bigquery", bigquery={"project": "p"}))
    assert type(store).__name__ == "BigQueryStore"
    assert store.datasets.table("ohlcv_1m") == "p.market_data.ohlcv_1m"


@pytest.mark.slow
def test_bigquery_without_a_project_says_which_setting_is_missing(tmp_path):
    with pytest.raises(ConfigError, match=r"MDP_BIGQUERY__PROJECT: expected the Google Cloud project .*None"):
        open_store(load_settings(data_dir=tmp_path, store="bigquery"))


@pytest.mark.slow
@pytest.mark.parametrize("module", ["mdp.storage", "mdp.definitions"])
def test_who_uses_the_lake_does_not_carry_googles_libraries_and_pandas(module):
    heavy = ("google.cloud", "pandas", "grpc")
    program = f"import {module}, sys; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
