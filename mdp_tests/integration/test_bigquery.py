"""The platform on BigQuery says the same as on the local lake: collected by Dagster, checked, read by command.

An emulator stands for BigQuery and a simulator for the exchanges; both are asked over the wire. Not here: what a store
promises (``contracts``), faults on the way to it (``storage.test_bigquery_faults``).
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from datetime import date

import dagster as dg
import pytest
from polars.testing import assert_frame_equal

from mdp.config.settings import Settings, load_settings
from mdp.domain.digests import digest
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.ports import DVOL, GAPS, OHLCV, RAW_OHLCV, TABLES, CandleStore, Slice
from mdp.storage import open_store
from mdp_tests.support.workplace import Workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BTC, INDEX = "binance:BTC-USDT", "deribit:BTC-DVOL"
DAYS = {BTC: date(2021, 4, 25), INDEX: date(2024, 12, 30)}
"""A day with an outage, so that there are gaps, and one of the index."""

MINUTES, MISSING = 1440, 284


@dataclass(frozen=True)
class Filled:
    """A store that was filled by the commands, and where they ran."""

    workplace: Workplace
    settings: Settings
    store: CandleStore


def fill(workplace: Workplace) -> Filled:
    workplace.data_dir.mkdir()
    for market, day in DAYS.items():
        after = Interval.of_day(day).end.date()
        result = workplace.run("backfill", "-m", market, "--start", str(day), "--end", str(after), "--json")
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["complete"] is True
    with pytest.MonkeyPatch.context() as patch:
        for name, value in workplace.extra.items():
            patch.setenv(name, value)
        settings = load_settings(data_dir=workplace.data_dir)
    return Filled(workplace, settings, open_store(settings))


@pytest.fixture(scope="module")
def on_bigquery(tmp_path_factory, simulator_url, bigquery_emulator):
    place = tmp_path_factory.mktemp("central") / "data"
    return fill(Workplace(place, simulator_url, bigquery_emulator.environment("market_data_integration")))


@pytest.fixture(scope="module")
def on_delta(tmp_path_factory, simulator_url):
    return fill(Workplace(tmp_path_factory.mktemp("local") / "data", simulator_url))


def whole(market: str) -> Slice:
    return Slice(Market.parse(market), tuple(Timeframe), Interval.of_day(DAYS[market]))


def without_clock(rows):
    """Leave out when a row was collected: the two stores were filled one after the other."""
    said = ("ingested_at", "fetched_at", "failed_at", "seen_at", "first_seen_at", "revised_at", "old_ingested_at")
    return rows.drop(said, strict=False)


@pytest.mark.parametrize("market", DAYS)
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_table_says_the_same_as_the_local_lake(on_bigquery, on_delta, table, market):
    central, local = (one.store.read(table, whole(market)) for one in (on_bigquery, on_delta))
    assert central.schema == local.schema == table.schema
    assert_frame_equal(without_clock(central), without_clock(local), check_exact=True)
    assert digest(central) == digest(local)


def test_what_is_compared_is_not_empty(on_bigquery):
    counts = {table.name: on_bigquery.store.read(table, whole(BTC)).height for table in (RAW_OHLCV, OHLCV, GAPS)}
    assert counts[RAW_OHLCV.name] == MINUTES - MISSING
    assert counts[OHLCV.name] > MINUTES - MISSING, "and the longer timeframes"
    assert counts[GAPS.name] > 0
    assert on_bigquery.store.read(DVOL, whole(INDEX)).height > 0


def test_nothing_of_the_tables_lies_on_the_local_disk(on_bigquery):
    assert not list((on_bigquery.workplace.data_dir / "lake").rglob("*.parquet"))


def evaluations(filled, monkeypatch):
    """Name of each check and partition that was judged, and whether it held."""
    for name, value in filled.workplace.dagster_environment.items():
        if name.startswith(("DAGSTER_", "MDP_")):
            monkeypatch.setenv(name, value)
    found = {}
    with dg.DagsterInstance.get() as instance:
        for run in instance.get_runs():
            for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
                judged = entry.dagster_event.asset_check_evaluation_data
                found[judged.asset_key.to_user_string(), judged.check_name, judged.partition] = judged.passed
    return found


def test_the_checks_are_evaluated_and_green(on_bigquery, on_delta, monkeypatch):
    central, local = evaluations(on_bigquery, monkeypatch), evaluations(on_delta, monkeypatch)
    assert central == local
    assert {"raw_ohlcv", "ohlcv", "ohlcv_resampled", "dvol"} <= {asset for asset, *_ in central}
    assert all(central.values()), [key for key, is_held in central.items() if not is_held]


def said(filled, *arguments):
    result = filled.workplace.run(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_command_reads_the_same(on_bigquery, on_delta):
    arguments = ("read", BTC, "1m", "--start", "2021-04-25", "--end", "2021-04-26", "--format", "csv")
    central, local = (list(csv.DictReader(io.StringIO(said(one, *arguments)))) for one in (on_bigquery, on_delta))
    for row in (*central, *local):
        row.pop("ingested_at", None)
    assert central == local
    assert central


def test_the_coverage_is_the_same(on_bigquery, on_delta):
    central, local = (json.loads(said(one, "coverage", "--json", "-m", BTC)) for one in (on_bigquery, on_delta))
    assert central == local
    assert central[0]["missing"] == {"exchange_outage": MISSING}


def test_a_second_backfill_of_the_day_changes_nothing(on_bigquery):
    before = {table.name: digest(on_bigquery.store.read(table, whole(BTC))) for table in (RAW_OHLCV, OHLCV)}
    said(on_bigquery, "backfill", "-m", BTC, "--start", "2021-04-25", "--end", "2021-04-26", "--json")
    assert {table.name: digest(on_bigquery.store.read(table, whole(BTC))) for table in (RAW_OHLCV, OHLCV)} == before
