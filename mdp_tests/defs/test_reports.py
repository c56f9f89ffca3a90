"""The report and the checks that look at all markets at once."""

from __future__ import annotations

import shutil

import dagster as dg
import polars as pl
import pytest

from mdp.config.reference import Reference
from mdp.config.settings import load_settings
from mdp.definitions import build
from mdp.defs.failures import StepRetries
from mdp.defs.io_managers import CandleIOManager
from mdp.defs.jobs import RANGE_END, RANGE_START
from mdp.defs.resources import LakeSql
from mdp.domain.market import SPOT_MARKETS, Exchange
from mdp.domain.timeframe import Timeframe
from mdp.errors import ExchangeUnavailable
from mdp.pipeline.batches import keep, parts_of
from mdp.pipeline.collect import Collecting, collect_candles
from mdp.pipeline.judge import judge_candles
from mdp.pipeline.resampling import resample_candles
from mdp.pipeline.rounds import Rounds
from mdp.ports import FAILED_FETCHES
from mdp.storage.delta import DeltaStore
from mdp_tests.defs.conftest import NOBODY_COUNTS
from mdp_tests.pipeline.test_failed_days import failed
from mdp_tests.support.builders import at
from mdp_tests.support.scripted_source import ScriptedExchanges

YESTERDAY = at("2024-12-30")


def own_candles(asked, rows):
    """What an exchange that trades 1.0 for 100.0 each minute says of its longer candles."""
    minutes = asked[1].minutes
    trades = pl.lit(7 * minutes, dtype=pl.Int64)
    return rows.with_columns(volume=1.0 * minutes, quote_volume=100.0 * minutes, trades=trades)


class Night:
    """The night after 2024-12-30, in which the report runs with its checks over what is in the lake."""

    def __init__(self, lake_dir):
        self.lake_dir = lake_dir
        self.store = DeltaStore(lake_dir)
        self.exchanges = ScriptedExchanges(price=lambda market, moment: 100.0, edit=own_candles)
        self.now = at("2024-12-31T00:40")

    def run(self, job, **options):
        resources = {
            "settings": load_settings(),
            "store": self.store,
            "io_manager": CandleIOManager(self.store, StepRetries(delay_s=0)),
            "sources": self.exchanges,
            "native_sources": self.exchanges,
            "collecting": Collecting(Rounds(wait_s=0)),
            "budget_report": lambda: NOBODY_COUNTS,
            "clock": lambda: self.now,
            "reference": Reference({}, ()),
            "duckdb": LakeSql(lake_dir=str(self.lake_dir)),
        }
        with dg.DagsterInstance.ephemeral() as instance:
            return (
                build(resources)
                .resolve_job_def(job)
                .execute_in_process(instance=instance, raise_on_error=False, **options)
            )

    def report(self):
        """Return what each check found, and the table of the report."""
        result = self.run("agreement_job")
        assert result.success
        (made,) = result.asset_materializations_for_node("market_coverage")
        checks = {one.check_name: one for one in result.get_asset_check_evaluations()}
        return checks, made.metadata["coverage"].records


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """A lake that holds yesterday of nine markets, all at the same prices."""
    night = Night(tmp_path_factory.mktemp("collected") / "lake")
    collect(night)
    return night.lake_dir


def collect(night):
    """Bring yesterday into the lake, as the runs of the night would."""
    parts = parts_of([(market, YESTERDAY.date()) for market in SPOT_MARKETS])
    for step in (
        collect_candles(parts, night.exchanges, lambda: night.now),
        judge_candles(parts, night.store, Reference({}, ()), lambda: night.now),
        resample_candles(parts, night.store, lambda: night.now),
    ):
        for batch in step:
            keep(night.store, batch)


@pytest.fixture
def night(tmp_path, collected):
    shutil.copytree(collected, tmp_path / "lake")
    return Night(tmp_path / "lake")


def test_the_checks_over_all_markets_run_beside_the_report(night):
    checks, coverage = night.report()
    assert {name: check.passed for name, check in checks.items()} == {
        "is_fresh": False, "exchanges_agree": True, "matches_native_timeframe": True, "nothing_is_left_failed": True,
    }  # fmt: skip
    assert checks["is_fresh"].metadata["stale"].value == "deribit:BTC-DVOL, deribit:ETH-DVOL", "none was collected"
    assert checks["exchanges_agree"].metadata["markets compared"].value == 9
    assert [row.data["compared"] for row in checks["matches_native_timeframe"].metadata["candles"].records] == [313] * 9
    assert [record.data["present"] for record in coverage] == [1440] * 9 + [0, 0]
    assert [record.data["idle"] for record in coverage] == [0] * 11


@pytest.mark.slow
def test_an_exchange_that_is_away_fails_the_step_after_the_others_have_been_judged(night):
    def away(asked, rows):
        if asked[0].exchange is Exchange.OKX:
            raise ExchangeUnavailable("okx", "503")
        return own_candles(asked, rows)

    night.exchanges.edit = away
    result = night.run("agreement_job")
    assert not result.success
    found = {one.check_name: one.passed for one in result.get_asset_check_evaluations()}
    assert found["matches_native_timeframe"], "those that answered were judged"
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "could not be judged: okx:BTC-USDT" in failure.event_specific_data.user_failure_data.description


def test_where_nothing_can_be_compared_nothing_is_passed_and_what_failed_is_reported(tmp_path):
    night = Night(tmp_path / "empty")
    night.store.append(FAILED_FETCHES, failed("2024-12-30", failed_at=night.now))
    checks, coverage = night.report()
    assert {check.passed for check in checks.values()} == {False}
    counts = {record.data["market"]: (record.data["days_not_collected"], record.data["present"]) for record in coverage}
    assert counts.pop("binance:BTC-USDT") == (1, 0)
    assert set(counts.values()) == {(0, 0)}


def test_a_backfill_never_runs_the_checks_over_all_markets(night):
    tags = {RANGE_START: "2024-12-30|binance:BTC-USDT", RANGE_END: "2024-12-31|binance:BTC-USDT"}
    result = night.run("candles_job", tags=tags)
    assert {one.check_name for one in result.get_asset_check_evaluations()} == {"integrity"}
    assert {asked[1] for asked in night.exchanges.asked} == {Timeframe.M1}
