"""Which candles there are: of any timeframe, at any time, as of any now."""

from __future__ import annotations

import json
from decimal import Decimal
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp.simulator.binance import print_candles
from mdp.simulator.candles import COLUMNS, DAY_MS, UNITS, to_timeframe
from mdp.simulator.history import History, ranges_of
from mdp.simulator.markets import SIMULATED_MARKETS, find_market
from mdp.simulator.pages import Keep, Request, read_page
from mdp_tests.simulator.conftest import HISTORY, RECORDED, SEED, ms

BITCOIN = SIMULATED_MARKETS[0]
LATE = ms("2026-01-01T00:00Z")
NATIVE = files("mdp_tests") / "golden" / "binance_native"

TIMES = st.one_of(
    st.integers(ms("2021-10-14T00:00Z"), LATE),
    st.integers(ms("2024-12-24T00:00Z"), ms("2025-01-09T00:00Z")),
    st.integers(ms("2018-02-07T00:00Z"), ms("2018-02-11T00:00Z")),
    st.integers(ms("2017-08-16T00:00Z"), ms("2017-08-19T00:00Z")),
)


def slowly(minutes, timeframe):
    """The resampling rule in plain words: minutes without volume set no price where another minute traded."""
    made = []
    for bucket in sorted({time // timeframe.milliseconds for time in minutes.open_ms.tolist()}):
        rows = [row for row in minutes.values.T.tolist() if row[0] // timeframe.milliseconds == bucket]
        counted = [row for row in rows if row[6]] or rows
        end_ms = (bucket + 1) * timeframe.milliseconds - 1
        close_ms = rows[-1][1] if rows[-1][1] < rows[-1][0] + 59_999 else end_ms
        prices = [counted[0][2], max(row[3] for row in counted), min(row[4] for row in counted), counted[-1][5]]
        made.append(
            [
                bucket * timeframe.milliseconds,
                close_ms,
                *prices,
                *(sum(column) for column in list(zip(*rows, strict=True))[6:]),
            ]
        )
    return np.array(made, dtype=np.int64).T.reshape(len(COLUMNS), -1)


class TestTimeframes:
    @pytest.mark.parametrize("path", sorted(path.name for path in NATIVE.iterdir() if path.name.startswith("BTCUSDT_")))
    def test_recorded_days_give_the_exchange_s_own_candles_to_the_last_digit(self, path):
        timeframe = Timeframe(path.split("_")[1])
        recorded = {day * DAY_MS for day in RECORDED.by_market["BTCUSDT"]}
        native = [row for row in json.loads((NATIVE / path).read_text()) if row[0] - row[0] % DAY_MS in recorded]
        assert native
        for day_ms in sorted({row[0] - row[0] % DAY_MS for row in native}):
            rows = [row for row in native if row[0] - row[0] % DAY_MS == day_ms]
            candles = HISTORY.candles(BITCOIN, timeframe, rows[0][0], rows[-1][0], LATE)
            assert [json.loads(text) for text in print_candles(candles)] == rows

    @settings(max_examples=8)
    @given(st.sampled_from(SIMULATED_MARKETS), st.sampled_from(RESAMPLED), TIMES)
    def test_longer_candles_are_made_of_the_same_minutes(self, market, timeframe, moment):
        day_ms = moment // DAY_MS * DAY_MS
        minutes = HISTORY.candles(market, Timeframe.M1, day_ms, day_ms + DAY_MS - 1, LATE)
        longer = HISTORY.candles(market, timeframe, day_ms, day_ms + DAY_MS - 1, LATE)
        assert np.array_equal(longer.values, slowly(minutes, timeframe))

    def test_days_made_together_equal_days_made_alone(self):
        together, alone = History(SEED, RECORDED), History(SEED, RECORDED)
        first = ms("2024-12-20T00:00Z") // DAY_MS
        many = together.days(BITCOIN, Timeframe.H4, first, first + 99)
        for number, made in enumerate(many):
            single = alone.days(BITCOIN, Timeframe.H4, first + number, first + number)[0]
            assert np.array_equal(single.candles.values, made.candles.values)
            assert single.is_recorded == made.is_recorded

    def test_amounts_of_a_day_add_up_exactly(self):
        minutes = HISTORY.candles(BITCOIN, Timeframe.M1, ms("2024-12-30T00:00Z"), ms("2024-12-30T23:59Z"), LATE)
        day = to_timeframe(minutes, BITCOIN.market, Timeframe.D1)
        exact = sum(Decimal(value) for value in minutes.column("quote_volume").tolist())
        assert Decimal(int(day.column("quote_volume")[0])) == exact


class TestTime:
    @given(st.sampled_from(SIMULATED_MARKETS), st.sampled_from(list(Timeframe)), TIMES, st.integers(0, 3 * DAY_MS))
    def test_nothing_opens_after_now_and_all_but_the_last_are_finished(self, market, timeframe, first_ms, ahead):
        now_ms = first_ms + ahead
        candles = HISTORY.candles(market, timeframe, first_ms, first_ms + 4 * DAY_MS, now_ms)
        later = HISTORY.candles(market, timeframe, first_ms, first_ms + 4 * DAY_MS, now_ms + 10 * DAY_MS)
        assert (candles.open_ms <= now_ms).all()
        finished = int((candles.open_ms + timeframe.milliseconds <= now_ms).sum())
        assert finished >= len(candles) - 1
        assert np.array_equal(candles.values[:, :finished], later.values[:, :finished])

    def test_a_candle_is_finished_at_the_very_instant_it_ends(self):
        open_ms = ms("2025-01-07T12:00Z")
        before = HISTORY.candles(BITCOIN, Timeframe.M1, open_ms, open_ms, open_ms + 59_999)
        after = HISTORY.candles(BITCOIN, Timeframe.M1, open_ms, open_ms, open_ms + 60_000)
        assert before.column("volume")[0] < after.column("volume")[0]
        assert len(HISTORY.candles(BITCOIN, Timeframe.M1, open_ms, LATE, open_ms + 60_000)) == 2

    @pytest.mark.parametrize("market", SIMULATED_MARKETS, ids=lambda market: str(market.market))
    def test_nothing_exists_before_the_first_candle(self, market):
        first_ms = market.first_candle_ms
        assert HISTORY.candles(market, Timeframe.M1, 0, first_ms, LATE).open_ms.tolist() == [first_ms]
        for timeframe in RESAMPLED:
            opened = HISTORY.candles(market, timeframe, 0, first_ms + timeframe.milliseconds, LATE).open_ms
            assert opened[0] == first_ms // timeframe.milliseconds * timeframe.milliseconds
        assert not len(HISTORY.candles(market, Timeframe.M1, 0, LATE, first_ms - 1))

    def test_first_candles_are_the_published_or_chosen_ones(self):
        chosen = {
            ("bybit", "SOL"): "2021-10-15T00:00Z",
            ("okx", "ETH"): "2018-01-11T11:32Z",
            ("okx", "SOL"): "2021-01-29T09:00Z",
        }
        observed = {
            ("binance", "BTC"): "2017-08-17T04:00Z",
            ("binance", "ETH"): "2017-08-17T04:00Z",
            ("binance", "SOL"): "2020-08-11T06:00Z",
            ("bybit", "BTC"): "2021-07-05T12:00Z",
            ("bybit", "ETH"): "2021-07-05T12:00Z",
            ("okx", "BTC"): "2018-01-11T11:12Z",
        }
        for kind, expected in (("chosen", chosen), ("observed", observed)):
            for (exchange, base), text in expected.items():
                market = find_market(Market(Exchange(exchange), base, "USDT"))
                assert (market.first_candle_ms, market.first_candle_is) == (ms(text), kind)


class TestPages:
    @given(
        st.sampled_from(SIMULATED_MARKETS),
        st.sampled_from(list(Timeframe)),
        TIMES,
        st.integers(0, 2 * DAY_MS),
        st.integers(-DAY_MS, DAY_MS),
        st.integers(1, 400),
        st.sampled_from(list(Keep)),
        st.booleans(),
    )
    def test_a_page_is_one_side_of_what_there_is(
        self, market, timeframe, first_ms, length, ahead, limit, keep, with_open
    ):
        last_ms = first_ms + length
        now_ms = last_ms + ahead
        everything = HISTORY.candles(market, timeframe, first_ms, last_ms, now_ms)
        if not with_open:
            everything = everything.slice(0, int((everything.open_ms + timeframe.milliseconds <= now_ms).sum()))
        expected = print_candles(everything)
        expected = expected[:limit] if keep is Keep.OLDEST else expected[-limit:]
        request = Request(market, timeframe, first_ms, last_ms, limit, keep)
        assert read_page(HISTORY, request, now_ms, with_open=with_open).texts(print_candles) == expected

    def test_origins_are_said(self):
        origin = {}
        for name, first, last in (
            ("recorded", "2024-12-25T00:00Z", "2024-12-26T05:00Z"),
            ("generated", "2024-12-23T00:00Z", "2024-12-24T23:59Z"),
            ("mixed", "2024-12-24T23:00Z", "2024-12-25T00:00Z"),
            ("none", "2016-12-24T23:00Z", "2016-12-25T00:00Z"),
        ):
            request = Request(BITCOIN, Timeframe.M1, ms(first), ms(last), 9_999, Keep.OLDEST)
            origin[name] = read_page(HISTORY, request, LATE).origin
        assert list(origin) == list(origin.values())

    def test_an_open_candle_has_an_origin_too(self):
        request = Request(BITCOIN, Timeframe.M1, ms("2025-01-07T23:59Z"), LATE, 10, Keep.OLDEST)
        assert read_page(HISTORY, request, ms("2025-01-07T23:59:30Z")).origin == "recorded"
        assert read_page(HISTORY, request, ms("2025-01-08T00:00:30Z")).origin == "mixed"

    def test_memory_is_bounded(self):
        history = History(SEED, RECORDED, kept_candles=5_000)
        for day in range(19_000, 19_020):
            history.days(BITCOIN, Timeframe.M1, day, day)
        assert len(history._kept._days) == 3


def test_ranges_join_adjacent_days():
    assert ranges_of([]) == []
    assert ranges_of([1]) == [(1, 2)]
    assert ranges_of([1, 2, 4, 5, 6, 9]) == [(1, 3), (4, 7), (9, 10)]


def test_prices_keep_their_digits():
    candle = HISTORY.candles(BITCOIN, Timeframe.M1, ms("2024-12-25T00:00Z"), ms("2024-12-25T00:00Z"), LATE)
    assert candle.column("open").tolist() == [98_663_58 * UNITS // 100]
