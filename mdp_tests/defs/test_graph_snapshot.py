"""The asset graph, reviewed as data: whoever changes it reads the diff of ``graph.json``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import dagster as dg
import pytest

from mdp.config.settings import ENVIRONMENTS
from mdp.definitions import defs

SNAPSHOT = Path(__file__).parent / "graph.json"


def graph_of(definitions):
    graph = definitions.resolve_asset_graph()
    repository = definitions.get_repository_def()
    return {
        "assets": {
            key.to_user_string(): {
                "deps": sorted(parent.to_user_string() for parent in graph.get(key).parent_keys),
                "group": graph.get(key).group_name,
                "owners": sorted(graph.get(key).owners),
                "kinds": sorted(graph.get(key).kinds),
                "partitions": sorted(graph.get(key).partitions_def.partition_dimension_names)
                if graph.get(key).partitions_def
                else [],
                "single_run": graph.get(key).backfill_policy == dg.BackfillPolicy.single_run(),
            }
            for key in sorted(graph.get_all_asset_keys())
        },
        "checks": {
            f"{key.asset_key.to_user_string()}:{key.name}": {
                "blocking": graph.get(key).blocking,
                "partitioned": graph.get(key).partitions_def is not None,
            }
            for key in sorted(graph.asset_check_keys, key=str)
        },
        "jobs": {
            job.name: sorted(key.to_user_string() for key in job.asset_layer.executable_asset_keys)
            for job in definitions.resolve_all_job_defs()
            if not job.name.startswith("__")
        },
        "schedules": {one.name: one.cron_schedule for one in repository.schedule_defs},
    }


def test_the_graph_is_the_reviewed_one(definitions):
    found = json.dumps(graph_of(definitions), indent=2, sort_keys=True) + "\n"
    if os.environ.get("WRITE_SNAPSHOT"):
        SNAPSHOT.write_text(found, encoding="utf-8")
    assert found == SNAPSHOT.read_text(encoding="utf-8"), "run `make golden`, then read the diff"


def test_every_asset_says_what_it_is(definitions):
    for spec in definitions.resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.owners, spec.key
        assert spec.kinds, spec.key
        assert spec.group_name != "default", spec.key
        if spec.partitions_def:
            assert spec.description.startswith("One row per "), f"{spec.key}: the description starts with the grain"
            assert spec.metadata["dagster/column_schema"].columns, spec.key


def test_all_partitioned_assets_of_a_chain_share_partitions_and_policy(definitions):
    graph = definitions.resolve_asset_graph()
    for chain in (("raw_ohlcv", "ohlcv", "ohlcv_resampled"), ("raw_dvol", "dvol")):
        nodes = [graph.get(dg.AssetKey(name)) for name in chain]
        assert len({node.partitions_def for node in nodes}) == 1, "blocking checks hold only inside one run"
        assert {node.backfill_policy for node in nodes} == {dg.BackfillPolicy.single_run()}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_loads_the_same_graph_and_resources(definitions, name, monkeypatch):
    monkeypatch.setenv("MDP_ENV", name)
    loaded = defs()
    assert graph_of(loaded) == graph_of(definitions)
    assert set(loaded.resources) == set(definitions.resources)
