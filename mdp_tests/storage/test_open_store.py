"""Which store the settings mean."""

from __future__ import annotations

import pytest

from mdp.config.settings import load_settings
from mdp.errors import ConfigError
from mdp.storage import DeltaStore, open_store


def test_duckdb_means_the_lake_in_the_data_directory_and_makes_nothing(tmp_path):
    store = open_store(load_settings(data_dir=tmp_path, store="duckdb"))
    assert isinstance(store, DeltaStore)
    assert store.lake_dir == tmp_path.resolve() / "lake"
    assert not list(tmp_path.iterdir())


def test_a_store_that_is_not_there_yet_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"MDP_STORE: expected duckdb.*not available in this version.*'bigquery'"):
        open_store(load_settings(data_dir=tmp_path, store="bigquery"))
