"""What an exchange refuses for good fails at once and with advice, and costs the other exchanges nothing.

So does an exchange that is down, except that it is asked again a few times, and later again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from mdp.config.settings import PROJECT_ROOT
from mdp.domain.interval import Interval
from mdp.domain.market import SPOT_MARKETS, Market
from mdp.domain.timeframe import Timeframe
from mdp.ports import FAILED_FETCHES, OHLCV, Slice
from mdp.storage import open_store
from mdp_tests.support.simulator_control import Control, archive_urls, outcomes
from mdp_tests.support.simulator_process import running_simulator
from mdp_tests.support.workplace import Workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LAYERS = ("raw_ohlcv", "ohlcv", "ohlcv_resampled")
DAYS = Interval.of_days(date(2025, 1, 1), date(2025, 1, 2))
RANGE = "2025-01-01|binance:BTC-USDT...2025-01-02|okx:SOL-USDT"
NO_ARCHIVES = {f"MDP_EXCHANGES__{name}__ARCHIVES": "false" for name in ("BINANCE", "OKX")}
DAGSTER_VARIABLES = ("DAGSTER_HOME", "DAGSTER_STORAGE_DIR", "DAGSTER_COMPUTE_LOGS_DIR")

REGION = "run from another region"
UNKNOWN = "the request was refused"
REFUSALS = [
    ("binance", {"kind": "status", "status": 451}, REGION),
    ("binance", {"kind": "code", "code": -1121, "path": "*/klines"}, UNKNOWN),
    ("bybit", {"kind": "status", "status": 403, "body": "geo"}, REGION),
    ("bybit", {"kind": "code", "code": 10009}, REGION),
    ("bybit", {"kind": "code", "code": 10024}, REGION),
    ("bybit", {"kind": "code", "code": 10001, "path": "*/kline"}, UNKNOWN),
    ("okx", {"kind": "code", "code": 50051, "channel": "rest"}, REGION),
    ("okx", {"kind": "code", "code": 50121, "channel": "rest"}, REGION),
    ("okx", {"kind": "code", "code": 51001, "path": "*candles"}, UNKNOWN),
]


@pytest.fixture(scope="module")
def running():
    with running_simulator() as simulator:
        yield Control(simulator.url)


@pytest.fixture
def simulator(running):
    yield running
    running.clear_faults()


def names(value):
    if isinstance(value, bool):
        return "archives" if value else "rest"
    return "-".join(str(part) for part in (value[0], *value[1].values()) if "/" not in str(part))


def requests_of(simulator, exchange, since):
    asked = simulator.requests(exchange, since)
    return [one for one in asked if not one["path"].startswith(f"/{exchange}-archive")], asked


@pytest.mark.parametrize(
    ("refusal", "archives"), [*((one, False) for one in REFUSALS), (REFUSALS[0], True), (REFUSALS[7], True)], ids=names
)
def test_a_month_of_a_market_fails_at_once_with_advice(tmp_path, simulator, refusal, archives):
    exchange, fault, advice = refusal
    simulator.script({"exchange": exchange, **fault})
    workplace = Workplace(tmp_path, simulator.url, archive_urls(simulator.url) if archives else NO_ARCHIVES)
    market, since, started = f"{exchange}:BTC-USDT", simulator.last(), time.monotonic()
    result = workplace.run("backfill", "-m", market, "--start", "2024-12-01", "--end", "2025-01-01", "--json")
    api, asked = requests_of(simulator, exchange, since)
    print(f"{market}: {time.monotonic() - started:.1f} s, {outcomes(asked)}")
    assert result.returncode == 3, result.stdout + result.stderr
    answer = json.loads(result.stdout)
    (failed,), (row,) = answer["failed"], answer["coverage"]
    assert advice in failed["error"], failed
    assert "(tried once)" in failed["error"], failed
    assert [(one["error"], one["retryable"], one["attempts"]) for one in row["failed"]] == [
        ("RequestRejected", False, 1)
    ]
    assert answer["retried"] == {}
    assert len(api) <= 2, api


def materialize_range(workplace):
    """Launch days of all spot markets as one run, as the page does when a rectangle is chosen."""
    dagster = Path(sys.executable).parent / "dagster"
    command = [dagster, "asset", "materialize", "--select", ",".join(LAYERS), "--partition-range", RANGE]
    (workplace.data_dir / "dagster").mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [*command, "-m", "mdp.definitions"], cwd=PROJECT_ROOT, env=workplace.dagster_environment, capture_output=True,
        text=True, check=False, timeout=250,
    )  # fmt: skip


def green(workplace, monkeypatch):
    """The partitions of each layer that were materialized."""
    for name in DAGSTER_VARIABLES:
        monkeypatch.setenv(name, workplace.dagster_environment[name])
    with dg.DagsterInstance.get() as instance:
        return [instance.get_materialized_partitions(dg.AssetKey(asset)) for asset in LAYERS]


def partitions(*exchanges):
    markets = [market for market in SPOT_MARKETS if market.exchange in exchanges]
    return {f"{day.start.date()}|{market}" for day in DAYS.days() for market in markets}


def failed_fetches(workplace, exchange):
    store = open_store(workplace.settings)
    markets = [market for market in SPOT_MARKETS if market.exchange == exchange]
    return [
        row for market in markets for row in store.read(FAILED_FETCHES, Slice(market, (Timeframe.M1,), DAYS)).to_dicts()
    ]


@pytest.mark.parametrize("refusal", [REFUSALS[0], REFUSALS[2], REFUSALS[7]], ids=names)
def test_one_run_of_all_exchanges_has_everything_of_those_that_do_not_refuse(tmp_path, simulator, refusal, monkeypatch):
    exchange, fault, advice = refusal
    simulator.script({"exchange": exchange, **fault})
    workplace = Workplace(tmp_path, simulator.url, NO_ARCHIVES)
    since, started = simulator.last(), time.monotonic()
    result = materialize_range(workplace)
    api, _ = requests_of(simulator, exchange, since)
    took_s, asked = time.monotonic() - started, outcomes(simulator.requests("", since))
    print(f"{exchange} refuses, 18 partitions: {took_s:.1f} s, {asked}")
    assert result.returncode != 0
    assert advice in result.stdout + result.stderr
    assert len(api) <= 2, api
    others = {"binance", "bybit", "okx"} - {exchange}
    assert green(workplace, monkeypatch) == [partitions(*others)] * 3
    rows = failed_fetches(workplace, exchange)
    assert len(rows) == 6
    assert {(row["error"], row["retryable"]) for row in rows} == {("RequestRejected", False)}
    assert max(row["attempts"] for row in rows) <= 1, "no second round"


def test_two_exchanges_that_are_down_cost_the_third_nothing_and_are_completed_later(tmp_path, simulator, monkeypatch):
    simulator.script({"kind": "status", "exchange": "binance", "status": 503})
    quick = {f"MDP_EXCHANGES__{name}__PROBE_AFTER_S": "1" for name in ("BINANCE", "OKX")}
    refused = {**NO_ARCHIVES, **quick, "MDP_EXCHANGES__OKX__REST_URL": "http://127.0.0.1:9/okx"}
    workplace, since, started = Workplace(tmp_path, simulator.url, refused), simulator.last(), time.monotonic()
    result = materialize_range(workplace)
    api, _ = requests_of(simulator, "binance", since)
    print(f"binance and okx down: {time.monotonic() - started:.1f} s, {len(api)} requests to binance")
    assert result.returncode != 0
    assert green(workplace, monkeypatch) == [partitions("bybit")] * 3
    assert len(api) <= 2 * 4 + 3, "two markets ask four times, which opens the circuit; then one probe a round"
    for exchange in ("binance", "okx"):
        rows = failed_fetches(workplace, exchange)
        assert len(rows) == 6
        assert {row["retryable"] for row in rows} == {True}
        assert {row["error"] for row in rows} <= {"ExchangeUnavailable", "CircuitOpen"}
    listed = {row["market"]: row["failed"] for row in json.loads(workplace.run("coverage", "--json").stdout)}
    assert {market for market, failed in listed.items() if failed} == {
        str(market) for market in SPOT_MARKETS if market.exchange != "bybit"
    }
    assert all(
        "status 503" in one["message"] or "not asked now" in one["message"] for one in listed["binance:BTC-USDT"]
    )

    simulator.clear_faults()
    back = Workplace(tmp_path, simulator.url, NO_ARCHIVES)
    markets = [argument for market in SPOT_MARKETS for argument in ("-m", str(market))]
    since = simulator.last()
    again = back.run("backfill", *markets, "--start", "2025-01-01", "--end", "2025-01-03", "--missing", "--json")
    assert again.returncode == 0, again.stdout + again.stderr
    assert simulator.requests("bybit", since) == [], "what was there is not asked again"
    assert green(back, monkeypatch) == [partitions("binance", "bybit", "okx")] * 3
    store = open_store(back.settings)
    assert len(store.read(OHLCV, Slice(Market.parse("okx:BTC-USDT"), (Timeframe.M1,), DAYS))) == 2 * 1440
