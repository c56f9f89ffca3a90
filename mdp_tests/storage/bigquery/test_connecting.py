"""Which credentials and which project: of this machine, of Dagster's resource, none for an emulator."""

from __future__ import annotations

import json

import dagster as dg
import pytest
from polars.testing import assert_frame_equal

from mdp.config.settings import load_settings
from mdp.defs.resources import platform_resources
from mdp.errors import ConfigError
from mdp.ports import OHLCV
from mdp.storage import MemoryStore, open_store
from mdp_tests.contracts.rows import DAY, rows_at

pytestmark = pytest.mark.slow


@pytest.fixture
def credentials(tmp_path, monkeypatch):
    path = tmp_path / "credentials.json"
    path.write_text(
        json.dumps({"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"})
    )
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))


def resources_of(settings):
    made = platform_resources(settings)
    return dg.build_resources({name: made[name] for name in ("store", "bigquery")})


@pytest.mark.filterwarnings("ignore:Your application has authenticated using end user credentials")
def test_dagsters_resource_gives_the_store_its_client(tmp_path, credentials):
    settings = load_settings(data_dir=tmp_path, store="bigquery", bigquery={"project": "ours", "location": "US"})
    with resources_of(settings) as resources:
        assert type(resources.bigquery.__self__).__name__ == "BigQueryResource"
        client = resources.store._jobs.client
        assert (client.project, client.location) == ("ours", "US")


def test_the_lake_has_the_same_resources_and_asks_google_for_nothing(tmp_path):
    with resources_of(load_settings(data_dir=tmp_path, store="duckdb")) as resources:
        assert resources.bigquery is None


def test_dagster_on_an_emulator_keeps_what_it_is_given(tmp_path, settings):
    given = load_settings(data_dir=tmp_path, store="bigquery", bigquery=settings.model_dump())
    rows = rows_at(OHLCV, ["2024-12-30"])
    with resources_of(given) as resources:
        resources.store.replace(OHLCV, DAY, rows)
    assert_frame_equal(open_store(given).read(OHLCV, DAY), rows)


def test_a_machine_without_credentials_is_told_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    settings = load_settings(data_dir=tmp_path, store="bigquery", bigquery={"project": "ours"})
    for action in (
        lambda: open_store(settings).read(OHLCV, DAY),
        lambda: open_store(settings)._live,
    ):
        with pytest.raises(ConfigError, match=r"MDP_BIGQUERY__PROJECT.*gcloud auth application-default login"):
            action()


def test_jobs_are_named_after_their_run(tmp_path, settings, client):
    given = load_settings(data_dir=tmp_path, store="bigquery", bigquery=settings.model_dump())

    @dg.op(required_resource_keys={"store"})
    def write(context):
        context.resources.store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))

    made = platform_resources(given)

    @dg.job(resource_defs={"store": made["store"], "bigquery": made["bigquery"]})
    def writing():
        write()

    run = writing.execute_in_process()
    names = [job.job_id for job in client.list_jobs()]
    assert any(name.startswith(f"mdp-run-{run.run_id}-0-") and "-replace-" in name for name in names)


def test_a_store_of_a_test_needs_no_central_one(tmp_path):
    made = platform_resources(load_settings(data_dir=tmp_path))
    store = MemoryStore()
    with dg.build_resources({"store": store, "io_manager": made["io_manager"]}) as resources:
        assert resources.store is store
