"""How many runs are at work at once, and of one exchange."""

from __future__ import annotations

import subprocess
import sys

import dagster as dg
import pytest

from mdp.config.settings import PROJECT_ROOT
from mdp.defs.jobs import RANGE_END, RANGE_START
from mdp.defs.queue import EXCHANGE_TAG, PLACE_TAG, ExchangeQueue, exchange_of, limits
from mdp_tests.support.workplace import Workplace

BTC, ETH = "2024-12-30|binance:BTC-USDT", "2024-12-31|binance:ETH-USDT"


@pytest.mark.parametrize(
    ("tags", "exchange"),
    [
        ({"dagster/partition": BTC}, "binance"),
        ({"dagster/partition": "BTC|2024-12-30"}, "deribit"),
        ({RANGE_START: BTC, RANGE_END: ETH}, "binance"),
        ({RANGE_START: "BTC|2024-12-30", RANGE_END: "ETH|2024-12-31"}, "deribit"),
        ({RANGE_START: BTC, RANGE_END: "2024-12-30|okx:SOL-USDT"}, None),
        ({}, None),
    ],
)
def test_the_exchange_of_a_run_is_read_from_its_partitions(tags, exchange):
    assert exchange_of(tags) == exchange


@pytest.mark.parametrize(("workers", "of_one_exchange"), [(1, 1), (2, 1), (8, 7)])
def test_the_runs_of_one_exchange_leave_a_place_to_the_others(workers, of_one_exchange):
    told = limits(workers)
    assert told["max_concurrent_runs"] == -1, "a limit on all would count the live run"
    assert told["tag_concurrency_limits"] == [
        {"key": PLACE_TAG, "value": "work", "limit": workers},
        {"key": PLACE_TAG, "value": "live", "limit": 1},
        {"key": EXCHANGE_TAG, "value": {"applyLimitPerUniqueValue": True}, "limit": of_one_exchange},
    ]


@pytest.mark.slow
def test_dagster_reads_its_limits_from_our_settings_and_a_queued_run_gets_its_tag(tmp_path, monkeypatch):
    for name, value in Workplace(tmp_path).dagster_environment.items():
        if name.startswith(("DAGSTER_", "MDP_")):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("MDP_WORKERS", "5")

    @dg.job
    def nothing():
        pass

    with dg.DagsterInstance.get() as instance:
        queue = instance.run_coordinator
        assert isinstance(queue, ExchangeQueue)
        told = instance.get_concurrency_config().run_queue_config
        assert [one["limit"] for one in told.tag_concurrency_limits] == [5, 1, 4]
        run = instance.create_run_for_job(nothing, tags={RANGE_START: BTC, RANGE_END: ETH})
        queue.tag(run)
        tags = instance.get_run_by_id(run.run_id).tags
        assert (tags[EXCHANGE_TAG], tags[PLACE_TAG]) == ("binance", "work")


@pytest.mark.slow
def test_the_queue_costs_webserver_and_daemon_no_frames():
    heavy = "print([name for name in ('polars', 'pyarrow', 'deltalake') if name in sys.modules])"
    said = subprocess.run(
        [sys.executable, "-c", f"import sys, mdp.defs.queue; {heavy}"],
        cwd=PROJECT_ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.strip() == "[]"
