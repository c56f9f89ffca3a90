"""The exchange tells something else than before, or too early: revisions, gaps, and days to be asked again."""

from __future__ import annotations

import json
from datetime import date

import polars as pl
import pytest

from mdp.domain.digests import digest
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.ports import GAPS, OHLCV, REJECTED_OHLCV, REVISIONS, Slice
from mdp.storage import open_store
from mdp_tests.support.builders import at, window
from mdp_tests.support.simulator_control import Control
from mdp_tests.support.simulator_process import running_simulator
from mdp_tests.support.workplace import Workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BTC = Market.parse("binance:BTC-USDT")
NO_ARCHIVES = {f"MDP_EXCHANGES__{name}__ARCHIVES": "false" for name in ("BINANCE", "OKX")}
RESTATED = window("2021-04-22T23:25", "2021-04-23T00:35")
DAYS = Interval.of_days(date(2021, 4, 22), date(2021, 4, 23))


@pytest.fixture(scope="module")
def restated():
    with running_simulator("--scenario", "restated", "--now", "2025-01-08T00:00Z") as simulator:
        yield Control(simulator.url)


def backfill(workplace, markets, days, *more):
    named = [argument for market in markets for argument in ("-m", str(market))]
    bounds = ("--start", str(days.start.date()), "--end", str(days.end.date()))
    return workplace.run("backfill", *named, *bounds, "--json", *more)


def placed(folder, url):
    folder.mkdir()
    return Workplace(folder, url, dict(NO_ARCHIVES))


def read(workplace, table, market, within):
    return open_store(workplace.settings).read(table, Slice(market, (Timeframe.M1,), within))


def test_seventy_restated_minutes_are_seventy_revisions_and_the_new_truth(tmp_path, restated):
    workplace, afterwards = placed(tmp_path / "both", restated.url), placed(tmp_path / "after", restated.url)
    assert backfill(workplace, [BTC], DAYS).returncode == 0
    before = read(workplace, OHLCV, BTC, DAYS)
    assert read(workplace, REVISIONS, BTC, DAYS).is_empty()
    assert backfill(workplace, [BTC], DAYS).returncode == 0
    assert read(workplace, REVISIONS, BTC, DAYS).is_empty(), "the same answer is no revision"

    restated.set_now("2025-01-08T13:00Z")
    assert backfill(workplace, [BTC], DAYS).returncode == 0
    assert backfill(afterwards, [BTC], DAYS).returncode == 0
    revisions = read(workplace, REVISIONS, BTC, DAYS)
    every_minute = [RESTATED.start + minute * Timeframe.M1.duration for minute in range(70)]
    assert revisions["open_time"].sort().to_list() == every_minute
    after = read(workplace, OHLCV, BTC, DAYS)
    same = ["open_time", "open", "high", "low", "close", "volume", "quote_volume", "trades"]
    assert after.join(before, on=same, how="anti", nulls_equal=True)["open_time"].to_list() == every_minute
    assert after["open_time"].to_list() == before["open_time"].to_list()
    assert workplace.digests(str(BTC), DAYS) == afterwards.digests(str(BTC), DAYS)
    print(f"{len(revisions)} revisions of {len(after)} minutes")


def test_an_outage_is_a_gap_and_no_candle_is_invented(tmp_path, restated):
    workplace = placed(tmp_path / "outage", restated.url)
    okx, bybit = Market.parse("okx:BTC-USDT"), Market.parse("bybit:SOL-USDT")
    day, quiet = Interval.of_day(date(2024, 12, 29)), Interval.of_day(date(2024, 12, 30))
    result = backfill(workplace, [okx], day)
    assert result.returncode == 3, "nobody has explained it"
    (missing,) = json.loads(result.stdout)["missing"]
    assert missing == {
        "market": "okx:BTC-USDT", "minutes": 75, "cause": "unknown",
        "window": {"start": "2024-12-29T03:10:00Z", "end": "2024-12-29T04:25:00Z"},
    }  # fmt: skip
    stored, gaps = read(workplace, OHLCV, okx, day), read(workplace, GAPS, okx, day)
    assert gaps.select("start", "end", "slots").rows() == [(at("2024-12-29T03:10"), at("2024-12-29T04:25"), 75)]
    assert len(stored) == 1440 - 75
    assert stored.filter(pl.col("open_time").is_between(gaps["start"][0], gaps["end"][0], closed="left")).is_empty()

    assert backfill(workplace, [bybit], quiet).returncode == 0
    stored = read(workplace, OHLCV, bybit, quiet)
    assert len(stored) == 1440, "a minute without trades is a minute"
    assert len(stored.filter(pl.col("volume") == 0)) >= 30


def test_a_day_asked_for_too_early_is_completed_when_the_exchange_shows_all_of_it(tmp_path):
    markets, day = [Market.parse(f"{name}:BTC-USDT") for name in ("binance", "bybit", "okx")], date(2025, 1, 7)
    within = Interval.of_day(day)
    with running_simulator("--now", "2025-01-08T00:00Z") as simulator:
        control = Control(simulator.url)
        early, late = placed(tmp_path / "early", simulator.url), placed(tmp_path / "late", simulator.url)
        # An answer that lags longer than we wait shows an unfinished minute as if it were over, and no flag tells:
        # half a minute, which no exchange was seen to need, asks for a longer wait than the usual ten seconds.
        early.extra |= {f"MDP_EXCHANGES__{market.exchange.name}__SETTLE_S": "60" for market in markets}
        control.script(*({"kind": "rest_lag", "exchange": market.exchange.value, "lag_s": 30} for market in markets))
        for market in markets:
            control.set_now("2025-01-08T00:00Z")  # what starts takes some seconds of the thirty
            since = control.last()
            result = backfill(early, [market], within)
            struck = [one for one in control.requests(market.exchange.value, since) if one["faults"]]
            print(f"{market}: {len(struck)} answers lagged, code {result.returncode}")
            control.set_now("2025-01-08T00:10Z")
        again = backfill(early, markets, within, "--missing")
        assert again.returncode == 0, again.stdout + again.stderr
        assert backfill(late, markets, within).returncode == 0
        for market in markets:
            stored = read(early, OHLCV, market, within)
            assert len(stored) == 1440
            assert digest(stored) == digest(read(late, OHLCV, market, within))
            assert read(early, REJECTED_OHLCV, market, within).is_empty()


def test_an_answer_of_another_shape_fails_its_days_by_name_and_is_completed_later(tmp_path):
    within = Interval.of_days(date(2025, 1, 1), date(2025, 1, 2))
    markets = [Market.parse(text) for text in ("bybit:BTC-USDT", "okx:BTC-USDT", "deribit:BTC-DVOL")]
    paths = ("*/kline", "*candles", "*/get_volatility_index_data")
    with running_simulator() as simulator:
        control = Control(simulator.url)
        workplace, calm = placed(tmp_path / "rough", simulator.url), placed(tmp_path / "calm", simulator.url)
        for market, path in zip(markets, paths, strict=True):
            control.script({"kind": "json_object", "exchange": market.exchange.value, "path": path, "times": 1})
        result = backfill(workplace, markets, within)
        assert result.returncode == 3
        failed = {one["market"]: one["failed"] for one in json.loads(result.stdout)["coverage"]}
        for market in markets:
            (one,) = failed[str(market)]
            assert (one["error"], one["retryable"]) == ("PayloadError", False), one
            assert "This endpoint has moved." in one["message"]
        assert backfill(workplace, markets, within, "--missing").returncode == 0
        assert backfill(calm, markets, within).returncode == 0
        for market in markets:
            assert workplace.digests(str(market), within) == calm.digests(str(market), within)
