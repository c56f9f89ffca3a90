"""The two ways to the data of a backtest: what is stored is read, and what is missing is collected first."""

from __future__ import annotations

import json
from datetime import date, timedelta
from urllib.parse import parse_qs

import pytest

import mdp
from mdp.config.settings import load_settings
from mdp.errors import Incomplete, InputError
from mdp_tests.support.simulator_control import Control
from mdp_tests.support.workplace import Workplace

pytestmark = pytest.mark.slow

BTC = "bybit:BTC-USDT"
START, END = "2024-12-30", "2025-01-01T06:00Z"


@pytest.fixture(scope="module")
def generated(tmp_path_factory, simulator_url):
    """A data directory of which one day was collected by hand, and the days that generation asked for."""
    workplace = Workplace(tmp_path_factory.mktemp("generated"), simulator_url)
    by_hand = workplace.run("backfill", "-m", BTC, "--start", START, "--end", "2024-12-31")
    assert by_hand.returncode == 0, by_hand.stderr
    before = Control(simulator_url).last()
    result = workplace.run("backtest", "-m", BTC, "--start", START, "--end", END, "--generate", "--json")
    assert result.returncode == 0, result.stderr
    return workplace, result, Control(simulator_url).requests("bybit", since=before)


def settings_of(workplace, monkeypatch):
    for name, value in workplace.environment.items():
        if name.startswith("MDP_"):
            monkeypatch.setenv(name, value)
    return load_settings()


def test_exactly_what_was_missing_was_asked_for(generated):
    _, result, requests = generated
    (market,) = json.loads(result.stdout)["markets"]
    assert (market["minutes"], market["missing"]) == (2 * 1440 + 360, 0)
    candles = [one for one in requests if one["path"].endswith("/kline")]
    assert candles
    assert set().union(*map(_days, candles)) == {"2024-12-31", "2025-01-01"}


def _days(request):
    """The UTC days that a request was about."""
    query = parse_qs(request["query"])
    start, end = (int(query[name][0]) // 86_400_000 for name in ("start", "end"))
    return {str(date(1970, 1, 1) + timedelta(days=number)) for number in range(start, end + 1)}


def test_generated_again_nothing_is_asked_for(generated, simulator_url):
    workplace, _, _ = generated
    before = Control(simulator_url).last()
    again = workplace.run("backtest", "-m", BTC, "--start", START, "--end", END, "--generate")
    assert (again.returncode, again.stderr) == (0, "")
    assert "whole" in again.stdout
    assert Control(simulator_url).last() == before


def test_retrieved_it_is_the_same_with_every_exchange_gone(generated, monkeypatch):
    workplace, _, _ = generated
    settings_of(workplace, monkeypatch)
    for name in ("BINANCE", "BYBIT", "OKX", "DERIBIT"):
        monkeypatch.setenv(f"MDP_EXCHANGES__{name}__REST_URL", "http://127.0.0.1:1/gone")
    found = mdp.backtest(BTC, START, END, settings=load_settings(mode="backtest"))
    times = [closed.time_us for closed in found.replay()]
    assert len(times) == 2 * 1440 + 360
    assert times == sorted(times)
    assert found.candles(BTC, "4h").height == 13
    assert found.coverage == ()


def test_what_stays_missing_is_refused_with_why(generated, monkeypatch):
    workplace, _, _ = generated
    settings = settings_of(workplace, monkeypatch)
    with pytest.raises(InputError, match="only days that are over can be generated"):
        mdp.backtest(BTC, "2026-01-01", "2199-01-02", missing="generate", settings=settings)
    control = Control(workplace.simulator_url)
    control.script({"exchange": "bybit", "kind": "status", "status": 403, "body": "geo"})
    try:
        with pytest.raises(Incomplete, match="1440 minutes, unfetched") as left:
            mdp.backtest(BTC, "2025-01-02", "2025-01-03", missing="generate", settings=settings)
    finally:
        control.clear_faults()
    assert "`mdp heal` asks all sources again" in left.value.__notes__[0]


def test_commands_of_a_backtest_say_what_they_cannot_do(generated):
    workplace = generated[0]
    here = Workplace(workplace.data_dir, workplace.simulator_url, {"MDP_MODE": "backtest"})
    asked = (BTC, "1h", "--start", START, "--end", "2024-12-30T23:30Z", "--format", "csv")
    rows = here.run("read", *asked, "--missing", "refuse").stdout.splitlines()
    assert len(rows) - 1 == len(here.run("read", *asked).stdout.splitlines()) - 2 == 23
    refused = here.run("read", *asked[:5], "2025-03-01", "--missing", "refuse")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "unfetched" in refused.stderr
    buffer = here.run("buffer", BTC, "1m")
    assert buffer.returncode == 2
    assert "MDP_MODE: expected live" in buffer.stderr
