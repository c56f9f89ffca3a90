"""Candles that are still open: they grow into what they will be, and the same moment always shows the same."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp.simulator.candles import COLUMNS, DAY_MS, MINUTE_MS, UNITS, Candles, to_timeframe
from mdp.simulator.forming import Steps, grow
from mdp.simulator.history import History
from mdp.simulator.markets import SIMULATED_INDICES, SIMULATED_MARKETS
from mdp.simulator.recorded_days import RecordedDays
from mdp_tests.simulator.conftest import HISTORY, RECORDED, SEED, ms

MARKETS = st.sampled_from(SIMULATED_MARKETS)
MOMENTS = st.lists(st.integers(0, MINUTE_MS), min_size=2, max_size=8).map(sorted)
MINUTES = st.integers(ms("2021-10-16T00:00Z") // MINUTE_MS, ms("2026-01-01T00:00Z") // MINUTE_MS)
GROWING = [
    COLUMNS.index(name) for name in ("high", "volume", "quote_volume", "trades", "taker_volume", "taker_quote_volume")
]


def steps_of(market):
    return Steps(UNITS // 10**market.price_decimals, UNITS // 10**market.amount_decimals)


def minute_of(market, minute):
    day = HISTORY.days(market, Timeframe.M1, minute * MINUTE_MS // DAY_MS, minute * MINUTE_MS // DAY_MS)[0]
    found = day.candles.opened_between(minute * MINUTE_MS, minute * MINUTE_MS)
    if not len(found):
        assume(False)  # the exchange was down: nothing traded that could be open
    return found


class TestGrowing:
    @given(MARKETS, MINUTES, MOMENTS)
    def test_extremes_widen_and_amounts_grow_until_the_finished_candle_stands(self, market, minute, moments):
        finished = minute_of(market, minute)
        parts = [
            grow(finished, MINUTE_MS, minute * MINUTE_MS + moment, steps_of(market)) for moment in (*moments, MINUTE_MS)
        ]
        states = np.concatenate([part.values for part in parts], axis=1)
        assert (np.diff(states[GROWING], axis=1) >= 0).all()
        assert (np.diff(states[COLUMNS.index("low")]) <= 0).all()
        assert (states[:3] == finished.values[:3]).all()
        assert np.array_equal(states[:, -1:], finished.values)

    @given(MARKETS, MINUTES, st.integers(0, MINUTE_MS - 1))
    def test_at_every_moment_it_is_a_good_candle_on_the_exchange_s_steps(self, market, minute, moment):
        part = grow(minute_of(market, minute), MINUTE_MS, minute * MINUTE_MS + moment, steps_of(market))
        open_, high, low, close, volume, quote, trades, taker, taker_quote = part.values[2:, 0].tolist()
        assert low <= min(open_, close) <= max(open_, close) <= high
        assert (
            close % steps_of(market).price == volume % steps_of(market).amount == taker % steps_of(market).amount == 0
        )
        assert (volume > 0) == (trades > 0)
        assert taker <= volume
        assert low * volume <= quote * UNITS <= high * volume or quote * UNITS - low * volume < UNITS
        if not volume:
            assert open_ == high == low == close
            assert quote == taker == taker_quote == 0

    def test_until_one_lot_has_traded_it_is_flat_whatever_the_price_did(self):
        market = SIMULATED_MARKETS[0]
        finished = minute_of(market, ms("2024-12-30T10:00Z") // MINUTE_MS)
        values = finished.values.copy()
        values[COLUMNS.index("volume")] = steps_of(market).amount
        thin = Candles(values)
        almost = grow(thin, MINUTE_MS, int(values[0, 0]) + MINUTE_MS - 1, steps_of(market))
        assert set(almost.values[2:6, 0].tolist()) == {int(values[2, 0])}
        assert almost.values[6:, 0].tolist() == [0] * 5

    @given(MINUTES)
    def test_it_begins_flat_at_its_open(self, minute):
        market = SIMULATED_MARKETS[0]
        part = grow(minute_of(market, minute), MINUTE_MS, minute * MINUTE_MS, steps_of(market))
        assert len(set(part.values[2:6, 0].tolist())) == 1
        assert part.column("volume")[0] == 0


class TestOpenCandles:
    @given(MARKETS, st.sampled_from(RESAMPLED), MINUTES, st.integers(0, MINUTE_MS - 1))
    def test_a_longer_one_is_its_finished_minutes_and_the_open_one(self, market, timeframe, minute, moment):
        now_ms = minute * MINUTE_MS + moment
        begun_ms = now_ms // timeframe.milliseconds * timeframe.milliseconds
        minutes = HISTORY.candles(market, Timeframe.M1, begun_ms, now_ms, now_ms)
        made = HISTORY.open_candle(market, timeframe, now_ms)
        assert np.array_equal(made.values, to_timeframe(minutes, market.market, timeframe).values)
        assert made.open_ms.tolist() == [begun_ms]

    @settings(max_examples=10)
    @given(MARKETS, st.sampled_from(list(Timeframe)), MINUTES, st.integers(0, MINUTE_MS - 1))
    def test_the_same_moment_shows_the_same_candle_in_another_process(self, market, timeframe, minute, moment):
        now_ms = minute * MINUTE_MS + moment
        fresh = History(SEED, RECORDED)
        assert np.array_equal(
            fresh.open_candle(market, timeframe, now_ms).values, HISTORY.open_candle(market, timeframe, now_ms).values
        )

    def test_nothing_is_open_in_an_outage(self):
        market, now_ms = SIMULATED_MARKETS[0], ms("2021-04-25T05:00:30Z")
        assert not len(HISTORY.open_candle(market, Timeframe.M1, now_ms))
        assert not len(HISTORY.open_candle(market, Timeframe.H1, now_ms))
        day = HISTORY.open_candle(market, Timeframe.D1, now_ms)
        assert day.open_ms.tolist() == [ms("2021-04-25T00:00Z")]

    def test_an_hour_cut_short_stays_open_until_it_ends(self):
        market = SIMULATED_MARKETS[0]  # the last minute before the outage opened at 04:00 and ended at 04:00:58.146
        hour = HISTORY.open_candle(market, Timeframe.H1, ms("2021-04-25T04:30Z"))
        assert hour.open_ms.tolist() == [ms("2021-04-25T04:00Z")]
        assert (
            HISTORY.candles(
                market, Timeframe.H1, ms("2021-04-25T00:00Z"), ms("2021-04-25T04:30Z"), ms("2021-04-25T04:30Z")
            ).open_ms[-1]
            == hour.open_ms[0]
        )

    def test_a_minute_off_the_grid_stays_open_for_a_minute(self):
        day = ms("2018-02-10T00:00Z") // DAY_MS
        minutes = HISTORY.days(SIMULATED_MARKETS[0], Timeframe.M1, day, day)[0].candles.slice(0, 3)
        shifted = minutes.values.copy()
        shifted[:2] += 14_800
        history = History(SEED, RecordedDays({"BTCUSDT": {day: type(minutes)(shifted)}}))
        for offset, opened in ((0, []), (14_800, [0]), (74_799, [0]), (74_800, [1])):
            now_ms = day * DAY_MS + offset
            candles = history.open_candle(SIMULATED_MARKETS[0], Timeframe.M1, now_ms)
            assert candles.open_ms.tolist() == [shifted[0, index] for index in opened]
            everything = history.candles(SIMULATED_MARKETS[0], Timeframe.M1, day * DAY_MS, now_ms, now_ms)
            assert everything.open_ms.tolist() == [time for time in shifted[0].tolist() if time <= now_ms]


class TestOpenHours:
    def test_the_open_hour_of_an_index_widens_until_it_is_finished(self, shared_simulation):
        index, open_ms = SIMULATED_INDICES["BTC"], ms("2025-01-07T12:00Z")
        states = [
            shared_simulation.volatility.hours(index, open_ms, open_ms, open_ms + 60_000 * minute)[:, 0]
            for minute in range(0, 62, 5)
        ]
        assert (np.diff([state[2] for state in states]) >= 0).all()
        assert (np.diff([state[3] for state in states]) <= 0).all()
        assert states[0].tolist() == [open_ms, *[states[0][1]] * 4]
        assert np.array_equal(
            states[-1], shared_simulation.volatility.hours(index, open_ms, open_ms, open_ms + DAY_MS)[:, 0]
        )
