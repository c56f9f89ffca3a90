"""What is invented: the same for the same seed, connected, plausible, and agreed between exchanges."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.simulator.candles import DAY_MS, MINUTE_MS, UNITS
from mdp.simulator.generator import Generator
from mdp.simulator.history import History
from mdp.simulator.levels import END_DAY
from mdp.simulator.markets import SIMULATED_MARKETS, find_market
from mdp.simulator.noise import key_of, normals, smooth, uniforms
from mdp.simulator.paths import Paths
from mdp.simulator.recorded_days import CARRIED
from mdp_tests.simulator.conftest import RECORDED, SEED

MARKETS = st.sampled_from(SIMULATED_MARKETS)
PATHS = Paths(SEED, RECORDED)
GENERATOR = Generator(SEED, PATHS)
FIRST_DAY = (date(2021, 10, 16) - date(1970, 1, 1)).days
DAYS = st.integers(FIRST_DAY, END_DAY - 2)
EARLY_DAYS = st.integers((date(2017, 8, 18) - date(1970, 1, 1)).days, FIRST_DAY)
BTC_DAYS = st.sampled_from(sorted(RECORDED.by_market["BTCUSDT"]))


def day_of(text):
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def spot(exchange, base):
    return find_market(Market(exchange, base, "USDT"))


class TestNoise:
    @given(st.integers(0, 10**8), st.integers(1, 300), st.integers(0, 300))
    def test_a_number_depends_on_its_position_alone(self, start, count, offset):
        key = key_of("a", 1)
        for draw in (uniforms, normals, lambda *asked: smooth(*asked, 30)):
            long = draw(key, start, count + offset)
            assert np.array_equal(draw(key, start + offset, count), long[offset:])

    def test_the_numbers_are_spread_as_promised(self):
        flat, bell = uniforms(key_of(1), 0, 100_000), normals(key_of(1), 0, 100_000)
        assert 0 <= flat.min() < 0.001 < 0.999 < flat.max() < 1
        assert abs(flat.mean() - 0.5) < 0.005
        assert abs(bell.mean()) < 0.01
        assert abs(bell.std() - 1) < 0.01
        assert np.abs(bell).max() < 3.5

    def test_keys_differ_where_their_parts_differ(self):
        assert len({int(key_of(*parts)) for parts in [(1, "a"), (1, "b"), (2, "a"), ("1a",), (1, "a", "")]}) == 5

    def test_the_numbers_are_the_same_on_every_machine(self):
        assert uniforms(key_of("pinned"), 5, 2).tolist() == PINNED_UNIFORMS
        assert normals(key_of("pinned"), 5, 2).tolist() == PINNED_NORMALS


PINNED_UNIFORMS = [0.032149885402025014, 0.5096603715762781]
PINNED_NORMALS = [-0.6416167824607792, -0.41115592061384615]


class TestGeneratedDays:
    @settings(max_examples=10)
    @given(MARKETS, DAYS)
    def test_the_same_seed_makes_the_same_day_whatever_was_asked_before(self, market, day):
        fresh = Generator(SEED, Paths(SEED, RECORDED))
        fresh.minutes(SIMULATED_MARKETS[0], day + 1)
        assert np.array_equal(fresh.minutes(market, day).values, GENERATOR.minutes(market, day).values)

    @settings(max_examples=10)
    @given(MARKETS, DAYS)
    def test_another_seed_makes_another_day(self, market, day):
        other = Generator(SEED + 1, Paths(SEED + 1, RECORDED)).minutes(market, day)
        assert not np.array_equal(other.column("volume"), GENERATOR.minutes(market, day).column("volume"))

    @given(MARKETS, st.one_of(DAYS, EARLY_DAYS, BTC_DAYS))
    def test_each_minute_opens_where_the_one_before_closed_also_over_midnight(self, market, day):
        minutes = GENERATOR.minutes(market, day)
        following = GENERATOR.minutes(market, day + 1)
        assert minutes.open_ms.tolist() == list(range(day * DAY_MS, (day + 1) * DAY_MS, MINUTE_MS))
        assert np.array_equal(minutes.column("open")[1:], minutes.column("close")[:-1])
        assert following.column("open")[0] == minutes.column("close")[-1]

    @given(MARKETS, st.one_of(DAYS, EARLY_DAYS, BTC_DAYS))
    def test_prices_and_amounts_are_good_candles_on_the_exchange_s_steps(self, market, day):
        minutes = GENERATOR.minutes(market, day)
        open_, high, low, close, volume, quote, trades, taker, taker_quote = minutes.values[2:]
        assert (low > 0).all()
        assert (high >= np.maximum(open_, close)).all()
        assert (low <= np.minimum(open_, close)).all()
        assert (minutes.values[2:6] % (UNITS // 10**market.price_decimals) == 0).all()
        assert (minutes.values[[6, 9]] % (UNITS // 10**market.amount_decimals) == 0).all()
        assert ((volume > 0) == (trades > 0)).all()
        assert (volume >= 0).all()
        assert ((taker >= 0) & (taker <= volume)).all()
        for amount, worth in ((volume, quote), (taker, taker_quote)):
            exact = amount.astype(object)
            assert (exact * low <= (worth.astype(object) + 1) * UNITS).all()
            assert (worth.astype(object) * UNITS <= exact * high).all()

    @example(find_market(Market(Exchange.OKX, "BTC", "USDT")), day_of("2017-09-06"))
    @given(MARKETS, EARLY_DAYS)
    def test_a_minute_without_trades_is_flat_where_the_last_trade_left_it(self, market, day):
        minutes = GENERATOR.minutes(market, day)
        idle = minutes.column("volume") == 0
        assert (minutes.values[2:6, idle] == minutes.column("open")[idle]).all()
        assert not idle[-1]

    @given(st.sampled_from(["BTC", "ETH", "SOL"]), st.one_of(DAYS, BTC_DAYS.filter(lambda day: day > FIRST_DAY)))
    def test_exchanges_differ_by_a_few_basis_points_at_most(self, base, day):
        closes = {
            exchange: GENERATOR.minutes(spot(exchange, base), day).column("close")
            for exchange in (Exchange.BINANCE, Exchange.BYBIT, Exchange.OKX)
        }
        step = max(UNITS // 10 ** spot(exchange, base).price_decimals for exchange in closes)
        reference = closes[Exchange.BINANCE]
        for exchange in (Exchange.BYBIT, Exchange.OKX):
            difference = np.abs(closes[exchange] - reference) - step
            assert (difference <= 7e-4 * reference).all()
            assert np.median(difference / reference) < 2e-4

    @given(st.sampled_from([Exchange.BYBIT, Exchange.OKX]), BTC_DAYS)
    def test_other_exchanges_follow_recorded_bitcoin(self, exchange, day):
        recorded = RECORDED.by_market["BTCUSDT"][day]
        slots = (recorded.open_ms - day * DAY_MS) // MINUTE_MS
        other = GENERATOR.minutes(spot(exchange, "BTC"), day).values[:, slots]
        traded = other[6] > 0  # an idle minute stays at its last price, while the recorded price may have moved on
        open_, high, low, close = other[2:6, traded]
        real_high, real_low, real_close = (recorded.column(name)[traded] for name in ("high", "low", "close"))
        few = 8e-4
        assert (np.abs(close - real_close) <= few * real_close).all()
        # a minute opens where the last one closed, which may lie outside what Binance traded in it
        assert ((high >= real_high * (1 - few)) & (high <= np.maximum(real_high, open_) * (1 + few))).all()
        assert ((low <= real_low * (1 + few)) & (low >= np.minimum(real_low, open_) * (1 - few))).all()

    def test_the_path_passes_a_midnight_between_recorded_days_at_the_close_of_the_earlier_one(self):
        day = day_of("2024-12-25")  # it closed at 99429.60, the next day opened at 99429.61
        before, after = (PATHS.of_day("BTC", number).log_price for number in (day, day + 1))
        assert before[-1] == pytest.approx(after[0], abs=1e-12)
        assert np.exp(after[0]) == pytest.approx(99_429.60, abs=1e-6)

    def test_prices_reach_every_real_level(self):
        closes = pl.read_csv(CARRIED / "binance" / "BTCUSDT" / "levels" / "closes.csv")
        market = SIMULATED_MARKETS[0]
        for time_ms, price in closes.sample(60, seed=1).select("time_ms", "price").iter_rows():
            made = GENERATOR.minutes(market, time_ms // DAY_MS).column("open")[0]
            assert made == round(price * 100) * UNITS // 100

    @pytest.mark.parametrize("text", ["2017-09-05", "2018-02-07", "2020-12-20", "2024-12-24"])
    def test_a_generated_day_ends_where_the_recorded_one_begins(self, text):
        day = day_of(text)
        recorded = RECORDED.by_market["BTCUSDT"][day + 1]
        assert GENERATOR.minutes(SIMULATED_MARKETS[0], day).column("close")[-1] == recorded.column("open")[0]

    @pytest.mark.parametrize("text", ["2017-09-07", "2018-02-10", "2021-04-26", "2025-01-08"])
    def test_a_generated_day_begins_where_the_recorded_one_ended(self, text):
        day = day_of(text)
        recorded = RECORDED.by_market["BTCUSDT"][day - 1]
        assert GENERATOR.minutes(SIMULATED_MARKETS[0], day).column("open")[0] == recorded.column("close")[-1]

    def test_the_world_is_pinned(self):
        """A changed generator is a changed world: whoever changes it says so by changing this digest."""
        history = History(20_170_801, RECORDED)
        assert (
            history.days(SIMULATED_MARKETS[1], Timeframe.M1, 20_000, 20_000)[0].candles.values[:, 700].tolist()
            == PINNED_MINUTE
        )


PINNED_MINUTE = [
    1728042000000,
    1728042059999,
    230461000000,
    230528000000,
    229865000000,
    229889000000,
    51973640000,
    119635523234000,
    2793,
    13514410000,
    31108144658500,
]
