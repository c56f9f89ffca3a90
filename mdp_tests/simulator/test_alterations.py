"""Scripted changes of what was traded: every timeframe and both channels tell the same changed story."""

from __future__ import annotations

import numpy as np
import pytest

from mdp.domain.timeframe import Timeframe
from mdp.simulator.candles import UNITS, Candles, to_timeframe
from mdp.simulator.markets import SIMULATED_MARKETS
from mdp_tests.simulator.conftest import ms

BITCOIN, OKX_SOL = SIMULATED_MARKETS[0], SIMULATED_MARKETS[8]
FIRST, LAST = ms("2024-12-30T00:00Z"), ms("2024-12-30T05:59Z")
WINDOW = {"start": "2024-12-30T01:10Z", "end": "2024-12-30T02:20Z"}
KINDS = ("outage", "flat", "restate")


def true_candles(world, timeframe=Timeframe.M1, market=BITCOIN):
    return world.history.candles(market, timeframe, FIRST, LAST, world.now_ms)


def told(world, timeframe=Timeframe.M1, market=BITCOIN, channel="rest"):
    candles = true_candles(world, timeframe, market)
    return world.simulation.alterations.apply(candles, market, timeframe, channel=channel, now_ms=world.now_ms)


def inside(candles):
    return (candles.open_ms >= ms(WINDOW["start"])) & (candles.open_ms < ms(WINDOW["end"]))


def klines(world, interval="1m", **params):
    params = {"symbol": "BTCUSDT", "interval": interval, "startTime": FIRST, "endTime": LAST, "limit": 1_000, **params}
    return world.ask("/binance/api/v3/klines", **params).json()


def is_sound(candles):
    column = candles.column
    extremes = np.maximum(column("open"), column("close")), np.minimum(column("open"), column("close"))
    prices_hold = (column("high") >= extremes[0]).all() and (column("low") <= extremes[1]).all()
    volume, quote = column("volume") / UNITS, column("quote_volume")
    worth_holds = (quote >= np.floor(volume * column("low"))).all() and (
        quote <= np.ceil(volume * column("high"))
    ).all()
    return prices_hold and worth_holds and (column("taker_volume") <= column("volume")).all()


class TestMinutes:
    def test_an_outage_leaves_the_window_out_and_nothing_else(self, world):
        world.faults.add(kind="outage", exchange="binance", **WINDOW)
        right = true_candles(world)
        assert np.array_equal(told(world).values, right.values[:, ~inside(right)])
        assert len(right) - len(told(world)) == 70

    def test_without_trades_the_price_stays_where_it_was(self, world):
        world.faults.add(kind="flat", exchange="binance", **WINDOW)
        right, flat = true_candles(world), told(world)
        window = flat.values[:, inside(flat)]
        before = right.column("close")[np.flatnonzero(inside(right))[0] - 1]
        assert window.shape[1] == 70
        assert (window[2:6] == before).all()
        assert not window[6:].any()
        assert np.array_equal(flat.values[:, ~inside(flat)], right.values[:, ~inside(right)])

    @pytest.mark.parametrize("market", [BITCOIN, OKX_SOL], ids=str)
    def test_a_restated_window_has_other_amounts_and_prices_and_stays_sound(self, world, market):
        factors = {"volume_factor": 90.0, "price_factor": 1.006}
        world.faults.add(kind="restate", exchange=market.exchange.value, **WINDOW, **factors)
        right, restated = true_candles(world, market=market), told(world, market=market)
        changed = (right.values != restated.values).any(axis=0)
        assert np.array_equal(changed, inside(right))
        ratio = restated.column("close")[changed] / right.column("close")[changed]
        assert np.allclose(ratio, 1.006, atol=1e-3)
        step = UNITS // 10**market.price_decimals
        assert not (restated.column("close") % step).any()
        assert is_sound(restated)

    def test_a_quote_amount_stays_between_the_prices_that_steps_allow(self, world):
        opened, price = ms("2024-12-30T01:10Z"), 10_001 * UNITS // 100
        row = [opened, opened + 59_999, price, price, price, price, UNITS, price, 1, UNITS, price]
        world.faults.add(kind="restate", exchange="binance", volume_factor=1.0, price_factor=1.00003, **WINDOW)
        flat = world.simulation.alterations.apply(
            Candles(np.array(row)[:, None]), BITCOIN, Timeframe.M1, channel="rest", now_ms=world.now_ms
        )
        assert flat.values[:, 0].tolist() == row

    def test_a_correction_shows_from_its_time_on(self, world):
        world.faults.add(kind="restate", exchange="binance", from_time="2025-01-07T13:00Z", **WINDOW)
        right = true_candles(world)
        versions = []
        for time, is_changed in (("2025-01-07T12:59:59Z", False), ("2025-01-07T13:00:00Z", True)):
            world.at(time)
            versions.append(world.simulation.alterations.version)
            assert np.array_equal(told(world).values, right.values) is not is_changed
        assert versions[0] != versions[1]

    def test_a_young_minute_is_corrected_when_it_has_settled(self, world):
        world.faults.add(kind="revision", exchange="binance", settle_s=45)
        rows = {}
        for second in ("00", "44", "45"):
            world.at(f"2025-01-07T12:00:{second}Z")
            rows[second] = klines(world, startTime=ms("2025-01-07T11:58Z"), endTime=ms("2025-01-07T11:59Z"))
        assert rows["00"] == rows["44"]
        assert rows["44"][0] == rows["45"][0]
        assert rows["44"][1] != rows["45"][1]
        minute = ms("2025-01-07T11:59Z")
        assert klines(world.at("2025-01-07T18:00Z"), startTime=minute, endTime=minute) == rows["45"][1:]

    def test_other_markets_and_the_other_channel_are_left_alone(self, world):
        world.faults.add(kind="outage", exchange="binance", symbol="BTC-USDT", channel="archive", **WINDOW)
        assert len(told(world)) == len(told(world, market=SIMULATED_MARKETS[1])) == 360
        assert len(told(world, channel="archive")) == 290


class TestLongerCandles:
    @pytest.mark.parametrize("kind", KINDS)
    def test_they_are_made_of_the_changed_minutes(self, world, kind):
        world.faults.add(kind=kind, exchange="binance", **WINDOW)
        for timeframe in (Timeframe.M5, Timeframe.M15, Timeframe.H1):
            expected = to_timeframe(told(world), BITCOIN.market, timeframe)
            assert np.array_equal(told(world, timeframe).values, expected.values)

    @pytest.mark.parametrize("kind", KINDS)
    def test_pages_show_them_too(self, world, kind):
        unchanged = klines(world, "1h")
        world.faults.add(kind=kind, exchange="binance", **WINDOW)
        for timeframe in (Timeframe.M1, Timeframe.H1):
            rows, candles = klines(world, timeframe.value), told(world, timeframe)
            assert [row[0] for row in rows] == candles.open_ms.tolist()
            assert [round(float(row[5]) * UNITS) for row in rows] == candles.column("volume").tolist()
        world.faults.clear()
        assert klines(world, "1h") == unchanged

    def test_a_page_reaches_over_an_outage_to_be_full(self, world):
        world.faults.add(kind="outage", exchange="binance", start="2024-12-30T00:02Z", end="2025-01-02T00:00Z")
        rows = klines(world, endTime=ms("2025-01-03T00:00Z"), limit=4)
        assert [row[0] for row in rows] == [FIRST, FIRST + 60_000, ms("2025-01-02T00:00Z"), ms("2025-01-02T00:01Z")]

    def test_the_open_day_is_made_of_the_changed_minutes(self, world):
        whole = klines(world, "1d", startTime=ms("2025-01-07T00:00Z"), endTime=world.now_ms)
        world.faults.add(kind="outage", exchange="binance", start="2025-01-07T01:00Z", end="2025-01-07T02:00Z")
        cut = klines(world, "1d", startTime=ms("2025-01-07T00:00Z"), endTime=world.now_ms)
        minutes = klines(world, startTime=ms("2025-01-07T00:00Z"), endTime=world.now_ms)
        assert len(minutes) == 661
        assert float(cut[0][5]) == pytest.approx(sum(float(row[5]) for row in minutes))
        assert float(cut[0][5]) < float(whole[0][5])


class TestFiles:
    def test_rows_of_a_file_repeat_shift_or_are_missing(self, world):
        right = true_candles(world).open_ms.tolist()
        expected = {
            "archive_duplicate_rows": right[:2] + right,
            "archive_off_grid": [right[0] + 14_800, right[1] + 14_800, *right[2:]],
            "archive_missing_rows": right[2:],
        }
        for kind, times in expected.items():
            number = world.faults.add(kind=kind, exchange="binance", rows=2)
            assert told(world).open_ms.tolist() == right
            assert told(world, channel="archive").open_ms.tolist() == times
            world.faults.remove(number)

    def test_a_window_says_which_rows_and_which_file(self, world):
        alterations, window = world.simulation.alterations, {"start": "2024-12-30T01:00Z", "end": "2024-12-31"}
        world.faults.add(kind="archive_missing_rows", exchange="binance", rows=1, **window)
        world.faults.add(kind="archive_header", exchange="binance", symbol="BTC-USDT", **window)
        right = true_candles(world).open_ms.tolist()
        assert told(world, channel="archive").open_ms.tolist() == right[:60] + right[61:]
        day = 86_400_000
        first = ms("2024-12-30T00:00Z")
        assert alterations.has_archive_header(BITCOIN, first, first + day, world.now_ms)
        assert not alterations.has_archive_header(BITCOIN, first + day, first + 2 * day, world.now_ms)
        assert not alterations.has_archive_header(SIMULATED_MARKETS[1], first, first + day, world.now_ms)


class TestVersion:
    def test_it_changes_with_what_was_traded_and_not_with_what_spoils_an_answer(self, world):
        versions = [world.simulation.alterations.version]
        number = world.faults.add(kind="outage", exchange="binance", **WINDOW)
        versions.append(world.simulation.alterations.version)
        spoiling = world.faults.add(kind="reset", exchange="binance")
        assert world.simulation.alterations.version == versions[-1]
        world.faults.remove(spoiling)
        assert world.simulation.alterations.version == versions[-1]
        world.faults.remove(number)
        versions.append(world.simulation.alterations.version)
        world.faults.add(kind="archive_header", exchange="binance")
        versions.append(world.simulation.alterations.version)
        assert len(set(versions)) == 4


class TestIndex:
    def hours(self, world, resolution="3600"):
        params = {"currency": "BTC", "resolution": resolution, "start_timestamp": FIRST, "end_timestamp": LAST}
        rows = world.ask("/deribit/api/v2/public/get_volatility_index_data", **params).json()["result"]["data"]
        return [row[0] for row in rows]

    def test_an_outage_leaves_out_the_candles_that_lie_inside_it(self, world):
        right = self.hours(world)
        world.faults.add(
            kind="outage", exchange="deribit", symbol="BTC-DVOL", start="2024-12-30T01:30Z", end="2024-12-30T04:30Z"
        )
        assert self.hours(world) == right[:2] + right[4:]
        assert len(self.hours(world, "60")) == 360 - 180

    def test_pages_continue_over_an_outage(self, world):
        start = FIRST - 4_000 * 3_600_000
        world.faults.add(kind="outage", exchange="deribit", start="2024-10-01", end="2024-12-29")
        params = {"currency": "BTC", "resolution": "3600", "start_timestamp": start, "end_timestamp": LAST}
        result = world.ask("/deribit/api/v2/public/get_volatility_index_data", **params).json()["result"]
        assert len(result["data"]) == 1_000
        assert result["continuation"] == result["data"][0][0] < ms("2024-10-01T00:00Z")
