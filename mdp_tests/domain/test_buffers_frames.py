"""Live candles as tables and back."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from polars.testing import assert_frame_equal

from mdp.domain.buffers import MarketBuffers
from mdp.domain.candles import CANDLE_SCHEMA, RAW_SCHEMA, empty
from mdp.domain.live import CandleState, LiveCandle
from mdp.domain.live_frames import from_frame, to_frame
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp.errors import SchemaMismatch
from mdp.simulator.markets import SIMULATED_INDICES
from mdp.simulator.volatility import HOUR_MS, VolatilityHistory
from mdp_tests.domain.strategies import minute_candles
from mdp_tests.support.builders import DVOL, MARKET, NOW, at, candle, candles, hour, raw, raws

FORMING, CLOSED, CONFIRMED, CORRECTED = CandleState
TEN = at("2024-01-01T10:00")


class TestBothWays:
    @given(minute_candles(most=200))
    @settings(max_examples=3, derandomize=True)
    def test_there_and_back_it_is_the_same_table(self, minutes):
        assert_frame_equal(to_frame(MARKET, Timeframe.M1, from_frame(minutes)), minutes, check_exact=True)

    @pytest.mark.parametrize("schema", [CANDLE_SCHEMA, RAW_SCHEMA])
    def test_nothing_becomes_nothing(self, schema):
        assert from_frame(empty(schema)) == []
        assert_frame_equal(to_frame(MARKET, Timeframe.H1, []), empty(CANDLE_SCHEMA))

    def test_what_nobody_gives_stays_unknown(self):
        (made,) = from_frame(raws(hour("2024-01-01T10:00", 51.0, timeframe="1m")))
        assert made[5:8] == (None, None, None)
        assert to_frame(DVOL, Timeframe.M1, [made, made])["trades"].to_list() == [None, None]

    def test_it_says_whose_candles_they_are(self):
        made = to_frame(
            DVOL, Timeframe.H4, [LiveCandle(0, 2.0, 3.0, 1.0, 2.0, None, None, None, 240, CLOSED, "rest", 7)]
        )
        assert made.row(0, named=True) | {"open_time": 0, "ingested_at": 7} == {
            "exchange": "deribit", "symbol": "BTC-DVOL", "timeframe": "4h", "open_time": 0, "open": 2.0, "high": 3.0,
            "low": 1.0, "close": 2.0, "volume": None, "quote_volume": None, "trades": None, "minutes": 240,
            "source": "rest", "ingested_at": 7,
        }  # fmt: skip
        assert made["ingested_at"][0] == at("1970-01-01") + timedelta(microseconds=7)

    def test_rows_keep_their_order(self):
        rows = raws(raw("2024-01-01T10:01"), raw("2024-01-01T10:00"))
        assert [made.open_us for made in from_frame(rows)] == rows["open_time"].to_physical().to_list()


class TestStates:
    @pytest.mark.parametrize(("after_s", "state"), [(9.999999, CLOSED), (10, CONFIRMED)])
    def test_an_answer_counts_from_the_settling_time_on(self, after_s, state):
        came = TEN + timedelta(minutes=1, seconds=after_s)
        for frame in (raws(raw(TEN, fetched_at=came)), candles(candle(TEN, ingested_at=came))):
            (made,) = from_frame(frame, settle_s=10)
            assert made.state is state
            assert from_frame(frame)[0].state is CONFIRMED

    @pytest.mark.parametrize(("source", "state"), [("stream", CLOSED), ("rest", CONFIRMED), ("archive", CONFIRMED),
                                                   ("resampled", CONFIRMED)])  # fmt: skip
    def test_what_came_by_stream_is_closed_and_no_more(self, source, state):
        (made,) = from_frame(candles(candle(TEN, source=source)))
        assert (made.state, made.source) == (state, source)

    @pytest.mark.parametrize("closed", [False, None])
    def test_what_the_exchange_had_not_finished_is_forming(self, closed):
        assert from_frame(raws(raw(TEN, closed=closed)))[0].state is FORMING

    @pytest.mark.parametrize(
        ("minute", "closed", "minutes"),
        [(0, False, 1), (37.9, False, 38), (38, False, 39), (99, False, 60), (60, True, 60), (-1, False, 1)],
    )
    def test_an_exchanges_own_hour_holds_the_minutes_that_had_begun(self, minute, closed, minutes):
        came = TEN + timedelta(minutes=minute)
        (made,) = from_frame(raws(raw(TEN, timeframe="1h", closed=closed, fetched_at=came)))
        assert made.minutes == minutes

    def test_stored_candles_say_themselves_how_many_minutes_they_hold(self):
        assert from_frame(candles(candle(TEN, timeframe="1h", minutes=58)))[0].minutes == 58


class TestBadInput:
    def test_a_row_without_a_price_becomes_one_that_buffers_refuse(self):
        buffers = MarketBuffers(MARKET, 10)
        assert buffers.seed(Timeframe.M1, from_frame(raws(raw(TEN, close=None, open=100.0)))) == ()
        assert buffers.counts.refused == 1
        assert "prices_are_finite" in buffers.refusals[0]

    @pytest.mark.parametrize(("name", "values"), [("open_time", [None]), ("source", [None]), ("fetched_at", [None])])
    def test_a_row_that_is_no_candle_is_an_error_that_names_the_column(self, name, values):
        rows = raws(raw(TEN)).with_columns(pl.Series(name, values, dtype=RAW_SCHEMA[name]))
        with pytest.raises(SchemaMismatch, match=f"{name}: null in 1 rows"):
            from_frame(rows)

    def test_another_table_is_an_error(self):
        with pytest.raises(SchemaMismatch, match="volume: missing"):
            from_frame(candles(candle(TEN)).drop("volume"))

    def test_candles_of_two_lengths_are_an_error(self):
        with pytest.raises(ValueError, match="timeframe: expected candles of one length, got 1h, 1m"):
            from_frame(candles(candle(TEN), candle(TEN, timeframe="1h")))


def test_hours_of_the_index_are_what_the_exchange_makes_of_its_minutes():
    history, index = VolatilityHistory(seed=3), SIMULATED_INDICES["BTC"]
    start = int(at("2024-06-01T06:00").timestamp()) * 1_000
    now = start + 5 * HOUR_MS

    def told(length_ms: int, timeframe: Timeframe) -> list[LiveCandle]:
        rows = history.candles(index, length_ms, start, now - 1, now).T.tolist()
        return [
            LiveCandle(ms * 1_000, *(price / 100 for price in prices), None, None, None, timeframe.minutes, CONFIRMED,
                       "rest", now * 1_000) for ms, *prices in rows
        ]  # fmt: skip

    buffers = MarketBuffers(DVOL, 100)
    buffers.seed(Timeframe.M1, told(60_000, Timeframe.M1))
    assert len(told(HOUR_MS, Timeframe.H1)) == 5
    made = [one._replace(source="rest") for one in buffers.buffer(Timeframe.H1)]
    assert made == told(HOUR_MS, Timeframe.H1)
    buffers.seed(Timeframe.H1, told(HOUR_MS, Timeframe.H1))
    assert (buffers.counts.inconsistent, buffers.counts.corrected) == (0, 0)
    assert [len(buffers.buffer(timeframe)) for timeframe in RESAMPLED] == [60, 20, 5, 2, 1]


def test_frames_are_of_the_time_at_which_the_values_came():
    (made,) = from_frame(candles(candle(TEN, ingested_at=NOW)))
    assert made.received_us == int(NOW.timestamp()) * 1_000_000
