"""Recorded Binance days travel the whole platform, from the wire of an exchange to a reader."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

import mdp
from mdp.config.settings import PROJECT_ROOT
from mdp.domain.interval import Interval
from mdp_tests.support.workplace import Workplace

pytestmark = pytest.mark.slow

NATIVE = Path(__file__).parent.parent / "golden" / "binance_native"
BTC = "binance:BTC-USDT"


@pytest.fixture(scope="module")
def collected(tmp_path_factory, simulator_url):
    """A data directory into which the last recorded days were backfilled."""
    workplace = Workplace(tmp_path_factory.mktemp("collected"), simulator_url)
    result = workplace.run("backfill", "-m", BTC, "--start", "2024-12-30", "--end", "2025-01-08", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["complete"] is True
    return workplace


def native(name):
    """The exchange's own candles by open time: open, high, low, close, volume as it wrote them."""
    rows = json.loads((NATIVE / name).read_text())
    return {datetime.fromtimestamp(row[0] / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"): row[1:6] for row in rows}


def hourly_from_native_quarters():
    """The exchange's own 15m candles of 2024-12-30, all traded, four to the hour."""
    quarters = native("BTCUSDT_15m_2024-12-30.json")
    hours = {}
    for hour in range(24):
        four = [quarters[f"2024-12-30T{hour:02}:{minute:02}:00Z"] for minute in (0, 15, 30, 45)]
        prices = [[float(value) for value in row] for row in four]
        hours[f"2024-12-30T{hour:02}:00:00Z"] = [
            prices[0][0], max(row[1] for row in prices), min(row[2] for row in prices), prices[3][3],
            sum(row[4] for row in prices),
        ]  # fmt: skip
    return hours


def read_csv(workplace, timeframe, start, end):
    result = workplace.run("read", BTC, timeframe, "--start", start, "--end", end, "--format", "csv")
    assert result.returncode == 0, result.stderr
    return list(csv.DictReader(io.StringIO(result.stdout)))


def assert_equal_to_exchange(rows, theirs):
    for row in rows:
        own = theirs[row["open_time"]]
        assert [float(row[name]) for name in ("open", "high", "low", "close")] == [float(value) for value in own[:4]]
        assert f"{float(row['volume']):.8f}" == f"{float(own[4]):.8f}"


def test_the_hours_of_2024_12_30_are_those_of_the_exchange(collected):
    rows = read_csv(collected, "1h", "2024-12-30", "2024-12-31")
    assert len(rows) == 24
    assert_equal_to_exchange(rows, hourly_from_native_quarters())


def test_the_quarters_of_2024_12_30_are_those_of_the_exchange(collected):
    rows = read_csv(collected, "15m", "2024-12-30", "2024-12-31")
    assert len(rows) == 96
    assert_equal_to_exchange(rows, native("BTCUSDT_15m_2024-12-30.json"))


def test_the_hours_of_the_first_week_of_2025_are_those_of_the_exchange(collected):
    rows = read_csv(collected, "1h", "2025-01-01", "2025-01-08")
    assert len(rows) == 7 * 24
    assert_equal_to_exchange(rows, native("BTCUSDT_1h_2025-01-01.json"))


def test_a_notebook_reads_the_same_as_the_command(collected, monkeypatch):
    monkeypatch.setenv("MDP_DATA_DIR", str(collected.data_dir))
    frame = mdp.read(BTC, "4h", "2024-12-30", date(2025, 1, 1))
    rows = read_csv(collected, "4h", "2024-12-30", "2025-01-01")
    assert frame["close"].to_list() == [float(row["close"]) for row in rows]
    assert frame["open_time"].dtype == pl.Datetime("us", "UTC")


@pytest.mark.parametrize(
    ("format_", "load"), [("parquet", pl.read_parquet), ("arrow", pl.read_ipc), ("csv", pl.read_csv)]
)
def test_a_file_holds_what_was_read(collected, format_, load, tmp_path):
    target = tmp_path / f"candles.{format_}"
    result = collected.run(
        "read", BTC, "1h", "--start", "2025-01-01", "--end", "2025-01-02", "-f", format_, "-o", str(target)
    )
    assert (result.returncode, result.stdout) == (0, "")
    assert load(target)["close"].len() == 24
    assert sorted(path.name for path in tmp_path.iterdir()) == [target.name], "no half-written file is left"


def test_json_carries_times_with_z(collected):
    result = collected.run("read", BTC, "1d", "--start", "2025-01-01", "--end", "2025-01-03", "-f", "json")
    rows = json.loads(result.stdout)
    assert [row["open_time"] for row in rows] == ["2025-01-01T00:00:00Z", "2025-01-02T00:00:00Z"]
    assert rows[0]["minutes"] == 1440


def test_sql_sees_every_table_and_timeframe(collected):
    result = collected.run("sql", "SELECT count(*) AS rows, min(open_time) AS first FROM ohlcv_1h", "-f", "csv")
    assert result.stdout.splitlines() == ["rows,first", "216,2024-12-30T00:00:00Z"]


def test_coverage_counts_every_asked_minute(collected):
    rows = json.loads(collected.run("coverage", "--json", "-m", BTC).stdout)
    assert rows == [
        {
            "market": BTC, "start": "2024-12-30", "end": "2025-01-08", "days": 9,
            "expected": 12960, "present": 12960, "idle": 0, "coverage": 1.0, "missing": {}, "permanent": 0,
            "failed": [],
        }
    ]  # fmt: skip


def test_nothing_generated_lands_outside_the_data_directory(collected):
    generated = {"bus", "dagster", "lake", "log", "run", "spool", "world.txt"}
    assert {path.name for path in collected.data_dir.iterdir()} <= generated
    generated = {"storage", "history", "schedules", "logs", "lake", ".logs_queue", ".telemetry"}
    assert not generated & {path.name for path in PROJECT_ROOT.iterdir()}


def test_an_outage_that_is_known_is_explained_and_one_that_is_not_is_listed(workplace):
    known = workplace.run("backfill", "-m", BTC, "--start", "2021-04-25", "--end", "2021-04-26", "--json")
    assert known.returncode == 0, known.stderr
    assert json.loads(known.stdout)["coverage"][0]["missing"] == {"exchange_outage": 284}
    day = Interval.of_day(date(2021, 4, 25))
    hours = workplace.run("read", BTC, "1h", "--start", "2021-04-25", "--end", "2021-04-26", "-f", "json")
    minutes = {row["open_time"][11:13]: row["minutes"] for row in json.loads(hours.stdout)}
    assert "05" not in minutes, "an hour without a minute does not exist"
    assert (minutes["04"], minutes["08"]) == (1, 15)
    assert workplace.digests(BTC, day)


def test_an_unexplained_hole_is_exit_code_3_with_the_list(workplace):
    # The listing of this market is not established, so days before its first candle have no known cause.
    market = "bybit:SOL-USDT"
    result = workplace.run("backfill", "-m", market, "--start", "2021-10-14", "--end", "2021-10-16", "--json")
    answer = json.loads(result.stdout)
    assert result.returncode == 3
    assert answer["complete"] is False
    assert answer["missing"] == [
        {
            "market": market,
            "window": {"start": "2021-10-14T00:00:00Z", "end": "2021-10-15T00:00:00Z"},
            "minutes": 1440,
            "cause": "unknown",
        }
    ]


def test_an_exchange_that_is_away_is_exit_code_3_and_names_the_reason(workplace):
    workplace.extra = {
        "MDP_EXCHANGES__OKX__REST_URL": "http://127.0.0.1:9/okx",
        "MDP_EXCHANGES__OKX__ARCHIVES": "false",
        "MDP_EXCHANGES__OKX__ATTEMPTS": "1",
    }
    arguments = ("-m", "okx:BTC-USDT", "-m", BTC, "--start", "2025-01-01", "--end", "2025-01-02")
    result = workplace.run("backfill", *arguments, "--json")
    answer = json.loads(result.stdout)
    assert result.returncode == 3
    assert [one["market"] for one in answer["failed"]] == ["okx:BTC-USDT"]
    assert answer["failed"][0]["error"].startswith("not collected: okx:BTC-USDT [2025-01-01")
    assert ": okx: " in answer["failed"][0]["error"]
    failed = {one["market"]: one["failed"] for one in answer["coverage"]}
    assert [(one["start"], one["end"], one["error"], one["retryable"]) for one in failed["okx:BTC-USDT"]] == [
        ("2025-01-01", "2025-01-02", "ExchangeUnavailable", True)
    ]
    assert failed[BTC] == []
    rows = json.loads(workplace.run("coverage", "--json").stdout)
    assert [row["failed"] for row in rows if row["market"] == "okx:BTC-USDT"] == [failed["okx:BTC-USDT"]]
    assert {one["market"]: one["coverage"] for one in answer["coverage"]} == {"okx:BTC-USDT": 0.0, BTC: 1.0}
