"""The job that heals, in Dagster: what it reports and what it keeps with the run."""

from __future__ import annotations

import dagster as dg
import pytest

from mdp.config.reference import Reference
from mdp.config.settings import load_settings
from mdp.definitions import build
from mdp.defs.heal_launching import launch_heal
from mdp.defs.healing import HealConfig
from mdp.domain.timeframe import Timeframe
from mdp.errors import ExchangeUnavailable
from mdp.pipeline.collect import Collecting
from mdp.pipeline.rounds import Rounds
from mdp.ports import OHLCV, Slice
from mdp.storage.memory import MemoryStore
from mdp_tests.support.builders import MARKET, NOW, window
from mdp_tests.support.scripted_source import ScriptedExchanges

pytestmark = pytest.mark.slow

DAYS = window("2024-12-30", "2025-01-01")
PART = Slice(MARKET, (Timeframe.M1,), DAYS)


def healed(store, exchanges, **config):
    """Run the job over a store in memory; return how it ended and the partitions it reported, as they came."""
    resources = {
        "settings": load_settings(), "store": store, "sources": exchanges, "native_sources": exchanges,
        "collecting": Collecting(Rounds(more=0, wait_s=0)), "clock": lambda: NOW, "reference": Reference({}, ()),
        "budget_report": None, "duckdb": None, "io_manager": dg.mem_io_manager,
    }  # fmt: skip
    told = []
    with dg.DagsterInstance.ephemeral() as instance:
        run = launch_heal(
            build(resources), instance, HealConfig(markets=[str(MARKET)], **config),
            run_id="00000000-0000-4000-8000-000000000001",
            on_materialized=lambda asset, partition: told.append((asset, partition)),
        )  # fmt: skip
    return run, told


def test_every_partition_is_reported_in_each_layer_once_and_the_run_tells_before_and_after():
    store = MemoryStore()
    run, told = healed(store, ScriptedExchanges(), start="2024-12-30", end="2025-01-01")
    assert run.error == ""
    days = [f"2024-12-{day}|{MARKET}" for day in (30, 31)]
    assert told == [(asset, day) for asset in ("raw_ohlcv", "ohlcv", "ohlcv_resampled") for day in days]
    (market,) = run.report["markets"]
    assert (market["before"]["present"], market["after"]["present"], market["expected"]) == (0, 2880, 2880)
    assert [one["reason"] for one in run.report["found"]] == ["never asked for"]
    assert run.report["whole"]
    assert store.read(OHLCV, PART).height == 2880
    again, told = healed(store, ScriptedExchanges())
    assert (again.report["found"], told) == ([], [])


def test_a_run_that_could_not_collect_fails_and_tells_all_the_same():
    def down(asked, rows):
        raise ExchangeUnavailable("binance", "503 from a test")

    run, told = healed(MemoryStore(), ScriptedExchanges(edit=down), start="2024-12-30", end="2025-01-01")
    assert "503 from a test" in run.error
    assert told == []
    assert not run.report["whole"]


def test_half_a_window_is_refused_by_name():
    run, _ = healed(MemoryStore(), ScriptedExchanges(), start="2024-12-30")
    assert "start, end: expected both" in run.error
    assert run.report is None


def test_the_last_days_are_those_that_are_over_whatever_is_stored_of_them():
    store = MemoryStore()
    run, told = healed(store, ScriptedExchanges(), last_days=2)
    assert run.report["whole"]
    assert {day for asset, day in told if asset == "ohlcv"} == {f"2025-12-31|{MARKET}", f"2026-01-01|{MARKET}"}


def test_a_store_of_which_nothing_is_known_is_not_whole():
    run, told = healed(MemoryStore(), ScriptedExchanges())
    assert (run.report["found"], told) == ([], [])
    assert not run.report["whole"]
    assert run.report["markets"][0]["start"] is None
