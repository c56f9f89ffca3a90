"""What ``mdp live``, ``mdp watch`` and ``mdp backtest`` say, and with which exit code."""

from __future__ import annotations

import json

import pytest

from mdp.cli.backtest import check_range, read_as_backtest
from mdp.cli.watch import as_line, table
from mdp.config.settings import load_settings
from mdp.domain.live import Buffer, CandleState, LiveCandle
from mdp.domain.timeframe import Timeframe
from mdp.live.health import FeedHealth, MarketHealth
from mdp.ports.live import Backlog
from mdp.reading.candle_buffer import CandleBuffer
from mdp.reading.following import Update
from mdp.reading.live_status import Facts, feed_problems, judge, problems_of
from mdp_tests.support.builders import MARKET
from mdp_tests.support.workplace import Workplace

MINUTE_US = 60_000_000
NOW_US = 1_000 * MINUTE_US
NOTHING_WAITS = Backlog(0, None)
BTC, ETH, OKX = "binance:BTC-USDT", "binance:ETH-USDT", "okx:BTC-USDT"


def facts(*, behind_minutes=0, state="streaming", live="run", backlog=NOTHING_WAITS, feeds=True):
    newest_us = NOW_US - (1 + behind_minutes) * MINUTE_US
    market = MarketHealth(market=BTC, state=state, newest_us=newest_us, detail="no such symbol")
    feed = FeedHealth("binance", "host:1:a", 1, "host", 0, NOW_US, False, (market,), 100.0, 1.0)
    return Facts({"feed/binance": "host:1:a", "live": live}, {"binance": feed} if feeds else {}, (), backlog)


@pytest.mark.parametrize(
    ("given", "market", "problem"),
    [
        ({}, BTC, ""),
        ({"behind_minutes": 2}, BTC, ""),
        ({"behind_minutes": 3}, BTC, "late by 180 s"),
        ({"state": "refused"}, BTC, "refused: no such symbol"),
        ({"state": "polling"}, BTC, ""),
        ({}, ETH, "its feed does not know it"),
        ({}, OKX, "no feed: start `mdp feed okx`"),
        ({"feeds": False}, BTC, "no feed: start `mdp feed binance`"),
    ],
)
def test_a_market_is_late_when_nobody_should_trade_on_it(given, market, problem):
    (found,) = judge([market], facts(**given))
    assert found.problem.startswith(problem)
    assert found.is_late is bool(problem)


@pytest.mark.parametrize(
    ("oldest_minutes", "live", "is_a_problem"), [(1, None, False), (4, None, True), (4, "run", False)]
)
def test_what_waits_in_vain_to_be_stored_is_a_problem(tmp_path, oldest_minutes, live, is_a_problem):
    given = facts(live=live, backlog=Backlog(12, NOW_US - oldest_minutes * MINUTE_US))
    found = problems_of(load_settings(data_dir=tmp_path), judge([BTC], given), given)
    assert [problem for problem in found if "12 minutes wait" in problem] == found
    assert bool(found) is is_a_problem


@pytest.mark.parametrize(
    ("given", "exchange", "problem"),
    [
        ({}, "binance", None),
        ({"live": None}, "binance", None),
        ({"behind_minutes": 3}, "binance", "late by 180 s"),
        ({"state": "refused"}, "binance", "no such symbol"),
        ({"feeds": False}, "binance", "no feed"),
        ({}, "okx", "nobody holds the lease"),
    ],
)
def test_a_feed_is_required_by_itself(given, exchange, problem):
    found = feed_problems(exchange, [BTC, OKX], facts(**given))
    assert (problem is None) is not found
    assert problem is None or problem in " ".join(found)
    assert not any(other in " ".join(found) for other in {"binance", "okx"} - {exchange})


def test_a_feed_whose_lease_lapsed_is_not_well_though_its_last_words_are():
    told = facts()
    found = feed_problems("binance", [BTC], Facts({"feed/binance": None, "live": "run"}, told.feeds, (), told.backlog))
    assert found == ["binance: nobody holds the lease of its feed"]


def update(reason="changed", *, is_stale=False):
    first = LiveCandle(0, 1.0, 9.0, 0.5, 4.0, 2.0, None, 3, 1, CandleState.CLOSED, "stream", 1)
    newest = first._replace(open_us=MINUTE_US, close=5.0, state=CandleState.FORMING)
    buffer = CandleBuffer.of(Buffer(MARKET, Timeframe.M1, 100, (first, newest), 7, 0, is_stale))
    return Update(MARKET, Timeframe.M1, None if is_stale else newest, buffer, reason)


def test_a_line_of_watch_is_a_candle_for_machines():
    line = as_line(update())
    assert (line["market"], line["seq"], line["close"], line["state"]) == (BTC, 7, 5.0, "forming")
    assert line["open_time"] == "1970-01-01T00:01:00Z"
    assert json.dumps(line)
    assert "close" not in as_line(update("stale", is_stale=True))


def test_the_table_of_watch_says_what_is_stale_and_how_far_the_price_moved():
    drawn = {name: list(column.cells) for name, column in _columns(update()).items()}
    assert (drawn["market"], drawn["change"], drawn["closed"]) == ([BTC], ["+25.000%"], ["1/100"])
    assert list(_columns(update("stale", is_stale=True))[""].cells) == ["STALE: the bus is away"]


def _columns(one):
    return {column.header: column for column in table({MARKET: one.buffer}).columns}


def test_a_range_that_is_not_whole_is_listed_and_gives_exit_code_3(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MDP_DATA_DIR", str(tmp_path))
    asked = {"timeframes": ["1m"], "as_of": None, "snapshot": None, "generates": False}
    assert check_range([BTC], "2024-12-30", "2024-12-31", **asked, as_json=False) == 3
    assert (
        f"MISSING {BTC} [2024-12-30T00:00:00Z, 2024-12-31T00:00:00Z): 1440 minutes, unfetched" in capfd.readouterr().out
    )
    assert read_as_backtest(BTC, "1m", "2024-12-30", "2024-12-31", "csv", None, missing="refuse") == 3
    assert read_as_backtest(BTC, "1m", "2024-12-30", "2024-12-31", "csv", None, missing="allow") == 0


@pytest.mark.slow
def test_commands_say_what_to_start_where_nothing_runs(tmp_path):
    here = Workplace(tmp_path)
    said = here.run("live", timeout_s=60)
    assert (said.returncode, said.stdout) == (1, "")
    assert "`mdp feed` starts it" in said.stderr
