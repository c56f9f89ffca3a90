"""An exchange republishes a bulk file: it is noticed, and the candles that differ become revisions."""

from __future__ import annotations

import json
import urllib.request

import pytest

from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.ports import ARCHIVE_FILES, RAW_OHLCV, REVISIONS, Slice
from mdp.storage import open_store
from mdp_tests.support.builders import at
from mdp_tests.support.simulator_process import running_simulator
from mdp_tests.support.workplace import Workplace

pytestmark = pytest.mark.slow

BTC = Market.parse("binance:BTC-USDT")
DAYS = Interval(at("2024-12-31"), at("2025-01-03"))


@pytest.fixture(scope="module")
def simulator():
    with running_simulator() as running:
        yield running.url


@pytest.fixture(scope="module")
def collected(tmp_path_factory, simulator):
    archive = {"MDP_EXCHANGES__BINANCE__ARCHIVE_URL": f"{simulator}/binance-archive"}
    workplace = Workplace(tmp_path_factory.mktemp("republished"), simulator, archive)
    result = workplace.run("backfill", "-m", str(BTC), "--start", "2024-12-31", "--end", "2025-01-03")
    assert result.returncode == 0, result.stderr
    return workplace


def script(simulator, fault):
    request = urllib.request.Request(
        f"{simulator}/control/faults", json.dumps(fault).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200


def read(workplace, table):
    return open_store(workplace.settings).read(table, Slice(BTC, (Timeframe.M1,), DAYS))


def test_a_republished_file_is_noticed_and_collected_again_as_revisions(collected, simulator):
    assert set(read(collected, RAW_OHLCV)["source"]) == {"archive"}
    assert read(collected, ARCHIVE_FILES)["is_verified"].to_list() == [True] * 3
    before = collected.run("verify-archives", "--json")
    assert (before.returncode, json.loads(before.stdout)["same"]) == (0, 3), before.stderr

    change = {"kind": "restate", "exchange": "binance", "symbol": "BTC-USDT"}
    script(simulator, {**change, "start": "2025-01-01T10:00:00Z", "end": "2025-01-01T11:00:00Z"})
    noticed = collected.run("verify-archives", "-m", str(BTC), "--json")
    (changed,) = json.loads(noticed.stdout)["changed"]
    assert noticed.returncode == 3
    assert changed["days"] == [{"start": "2025-01-01T00:00:00Z", "end": "2025-01-02T00:00:00Z"}]
    assert changed["path"].endswith("BTCUSDT-1m-2025-01-01.zip")
    assert len(read(collected, REVISIONS)) == 0

    again = collected.run("verify-archives", "--refetch")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "collected again" in again.stdout
    revised = read(collected, REVISIONS)
    assert [revised["open_time"].min(), revised["open_time"].max()] == [at("2025-01-01T10:00"), at("2025-01-01T10:59")]
    assert (len(revised), set(revised["new_source"])) == (60, {"archive"})
    assert collected.run("verify-archives").returncode == 0


def test_files_that_cannot_be_asked_for_are_named_and_prove_nothing(collected, simulator):
    dead = {"MDP_EXCHANGES__BINANCE__ARCHIVE_URL": "http://127.0.0.1:9/binance-archive"}
    result = Workplace(collected.data_dir, simulator, dead).run("verify-archives", "--start", "2025-01-01")
    assert result.returncode == 1
    assert "0 files are what they were, 0 are not, 2 could not be asked for" in result.stdout
    assert "NOT VERIFIED binance:BTC-USDT data/spot/daily/" in result.stdout
