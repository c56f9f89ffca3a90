"""Whoever asks Dagster from outside names partitions, tags and assets as the definitions do."""

from __future__ import annotations

from datetime import date

import pytest

from mdp.api.generations import backfills
from mdp.defs import jobs, queue
from mdp.defs.partitions import key_of
from mdp.domain.market import MARKETS
from mdp.pipeline.partition_keys import assets_of, day_of_key, partition_key

DAY = date(2024, 12, 30)


@pytest.mark.parametrize("market", MARKETS, ids=str)
def test_a_key_is_spelled_as_the_definitions_spell_it_and_gives_its_day_back(market):
    assert partition_key(market, DAY) == str(key_of(market, DAY))
    assert day_of_key(partition_key(market, DAY)) == DAY


@pytest.mark.parametrize(("job", "index"), [(jobs.candles_job, 0), (jobs.dvol_job, -1)])
def test_the_assets_of_a_market_are_those_of_its_job(definitions, job, index):
    selected = job.selection.resolve(definitions.resolve_asset_graph())
    assert {key.to_user_string() for key in selected} == set(assets_of(MARKETS[index]))


def test_tags_are_those_the_queue_and_the_runs_go_by():
    assert backfills.EXCHANGE_TAG == queue.EXCHANGE_TAG
    assert (backfills.MARKET_TAG, backfills.RESUMES_TAG) == (jobs.MARKET_TAG, jobs.RESUMES_TAG)
