"""A backtest sees what was over by then, all of it, in one order, and asks nobody."""

from __future__ import annotations

import sys
from datetime import timedelta
from itertools import pairwise

import polars as pl
import pytest

import mdp
from mdp.config.settings import load_settings
from mdp.domain.candles import CANDLE_SCHEMA, GAP_SCHEMA
from mdp.domain.live import CandleState
from mdp.domain.resample import resample, resample_all
from mdp.domain.revisions import find_revisions
from mdp.domain.timeframe import EPOCH, RESAMPLED, Timeframe
from mdp.errors import Incomplete, InputError
from mdp.pipeline.snapshots import create_snapshot
from mdp.ports import GAPS, OHLCV, REVISIONS, Slice
from mdp.reading.backtest_generation import environment_of
from mdp.storage import open_store
from mdp_tests.reading.conftest import NIGHT, OKX
from mdp_tests.support.builders import DVOL, MARKET, NOW, at, candle, candles, every_minute, frame, window

M1, H1 = Timeframe.M1, Timeframe.H1
BINANCE, OKX_TEXT, INDEX = str(MARKET), str(OKX), str(DVOL)
BOTH = [OKX_TEXT, BINANCE]


def us(text):
    return (at(text) - EPOCH) // EPOCH.resolution


def open_times(candles_):
    return [candle_.open_us for candle_ in candles_]


def gap(start, end, cause, *, is_permanent=False, market=OKX):
    asked = window(start, end)
    return {
        "exchange": market.exchange.value, "symbol": market.symbol_key, "timeframe": "1m", "start": asked.start,
        "end": asked.end, "slots": asked.slots(M1), "cause": cause, "source": "rest", "seen_at": NOW,
        "first_seen_at": NOW, "sightings": 2, "is_permanent": is_permanent, "detail": "written somewhere",
    }  # fmt: skip


class TestRange:
    @pytest.mark.parametrize(
        ("timeframe", "end", "last"),
        [
            ("1m", "2024-12-30T21:30Z", "2024-12-30T21:29"),
            ("1h", "2024-12-30T22:00Z", "2024-12-30T21:00"),
            ("1h", "2024-12-30T21:59Z", "2024-12-30T20:00"),
        ],
    )
    def test_the_last_candle_is_the_last_that_has_closed_by_the_end(self, lake, timeframe, end, last):
        lengths = ["1m", "1h"]
        found = mdp.backtest(BINANCE, "2024-12-30T20:00Z", end, timeframes=lengths, settings=lake)
        assert found.candles(BINANCE, timeframe)["open_time"].max() == at(last)
        assert open_times(found.buffer(BINANCE, timeframe, end).candles)[-1] == us(last)
        assert [closed.candle.open_us for closed in found.replay(timeframe)][-1] == us(last)

    def test_candles_are_those_that_are_stored(self, lake):
        found = mdp.backtest(BINANCE, NIGHT.start, NIGHT.end, timeframes=["1m", "1h"], settings=lake)
        for timeframe in ("1m", "1h"):
            stored = mdp.read(BINANCE, timeframe, NIGHT.start, NIGHT.end, settings=lake)
            assert found.candles(BINANCE, timeframe).equals(stored)

    def test_nothing_is_seen_after_the_end_whatever_is_asked_for(self, lake):
        found = mdp.backtest(BINANCE, "2024-12-30T20:00Z", "2024-12-30T21:00Z", timeframes=["1m"], settings=lake)
        with pytest.raises(InputError, match=r"at: expected at most 2024-12-30T21:00:00Z, the end of the range"):
            found.buffer(BINANCE, "1m", "2024-12-30T21:01Z")
        *_, last = found.replay()
        assert last.time == at("2024-12-30T21:00")
        assert open_times(last.buffer(size=3).candles)[-1] == us("2024-12-30T20:59")

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ({"end": "2024-12-30T20:00:30Z"}, "end: expected a whole minute"),
            ({"missing": "fill"}, "missing: expected one of refuse, allow, generate, got 'fill'"),
            ({"missing": "generate", "as_of": "2025-01-01"}, "missing: expected refuse or allow"),
            ({"timeframes": ["2m"]}, "timeframe: expected one of 1m, 5m"),
            ({"markets": ["kraken:BTC-USDT"]}, "market: expected one of"),
        ],
    )
    def test_a_wrong_argument_is_named(self, lake, arguments, complaint):
        asked = {"markets": BINANCE, "start": "2024-12-30T20:00Z", "end": "2024-12-30T21:00Z", "settings": lake}
        with pytest.raises(InputError, match=complaint):
            mdp.backtest(**{**asked, **arguments})

    def test_only_what_the_backtest_was_made_with_may_be_asked_for(self, lake):
        found = mdp.backtest(BINANCE, "2024-12-30T20:00Z", "2024-12-30T21:00Z", timeframes=["1m"], settings=lake)
        with pytest.raises(InputError, match="timeframe: expected one of 1m, which the backtest was made with"):
            found.candles(BINANCE, "1h")
        with pytest.raises(InputError, match=f"market: expected one of {BINANCE}, got"):
            found.buffer(OKX_TEXT, "1m", "2024-12-30T20:30Z")
        with pytest.raises(InputError, match="size: expected a number of slots"):
            found.buffer(BINANCE, "1m", "2024-12-30T20:30Z", size=0)


class TestBuffer:
    def test_it_holds_the_slots_that_were_over_by_then_older_ones_than_the_range_too(self, lake):
        found = mdp.backtest(BINANCE, "2024-12-30T21:00Z", "2024-12-30T22:00Z", timeframes=["1m", "1h"], settings=lake)
        buffer = found.buffer(BINANCE, "1m", "2024-12-30T21:00:59Z", size=5)
        assert open_times(buffer.candles) == [us(f"2024-12-30T20:5{minute}") for minute in range(5, 10)]
        assert (buffer.newest.close, buffer.closed, buffer.size) == (59.0, buffer.candles, 5)
        assert buffer.written_us == us("2024-12-30T21:00")
        assert open_times(found.buffer(BINANCE, "1h", "2024-12-30T21:59Z").candles) == [us("2024-12-30T20:00")]

    def test_its_seq_grows_by_one_with_each_slot(self, lake):
        found = mdp.backtest(BINANCE, "2024-12-30T21:00Z", "2024-12-30T22:00Z", timeframes=["1m"], settings=lake)
        seqs = [closed.buffer(size=2).seq for closed in found.replay()]
        assert [after - before for before, after in pairwise(seqs)] == [1] * 59

    def test_a_missing_slot_is_absent_and_nothing_older_takes_its_place(self, lake):
        found = mdp.backtest(OKX_TEXT, NIGHT.start, NIGHT.end, missing="allow", settings=lake)
        buffer = found.buffer(OKX_TEXT, "1m", "2024-12-31T00:02Z", size=10)
        assert open_times(buffer.candles) == [us("2024-12-31T00:00"), us("2024-12-31T00:01")]
        assert found.buffer(OKX_TEXT, "1m", "2024-12-30T23:59Z", size=10).newest is None

    def test_asking_backwards_and_far_apart_gives_the_same(self, lake):
        moments = ["2024-12-31T03:00Z", "2024-12-30T20:10Z", "2024-12-31T01:00Z", "2024-12-30T20:11Z"]
        found = mdp.backtest(BINANCE, NIGHT.start, NIGHT.end, timeframes=["1m"], settings=lake)
        for moment in moments:
            fresh = mdp.backtest(BINANCE, NIGHT.start, NIGHT.end, timeframes=["1m"], settings=lake)
            assert found.buffer(BINANCE, "1m", moment, size=7) == fresh.buffer(BINANCE, "1m", moment, size=7)

    def test_a_frame_of_it_is_what_is_stored(self, lake):
        found = mdp.backtest(BINANCE, NIGHT.start, NIGHT.end, timeframes=["1m"], settings=lake)
        shown = found.buffer(BINANCE, "1m", "2024-12-30T21:00Z", size=60).frame()
        stored = mdp.read(BINANCE, "1m", "2024-12-30T20:00Z", "2024-12-30T21:00Z", settings=lake)
        assert shown.drop("state").equals(stored)
        assert shown.drop("state").schema == CANDLE_SCHEMA
        assert set(shown["state"]) == {CandleState.CONFIRMED.value}
        assert found.buffer(BINANCE, "1m", "2024-12-30T19:00Z").frame().schema == shown.schema


class TestReplay:
    def test_closes_come_by_time_then_in_the_order_of_the_markets(self, lake):
        found = mdp.backtest(BOTH, NIGHT.start, NIGHT.end, timeframes=["1m"], missing="allow", settings=lake)
        events = [(closed.time_us, BOTH.index(str(closed.market))) for closed in found.replay()]
        assert events == sorted(events)
        assert len(events) == 480 + 360
        assert [closed.candle for closed in found.replay()] == [closed.candle for closed in found.replay()]

    def test_months_follow_each_other_without_a_seam(self, tmp_path):
        settings, span = load_settings(data_dir=tmp_path), window("2024-12-31T23:00", "2025-01-01T01:00")
        rows = candles(*every_minute("2024-12-31T23:00", "2025-01-01T01:00", source="stream"))
        open_store(settings).replace(OHLCV, Slice(MARKET, (M1,), span), rows)
        found = mdp.backtest(BINANCE, span.start, span.end, timeframes=["1m"], settings=settings)
        times = [closed.time for closed in found.replay()]
        assert times == [span.start + timedelta(minutes=number) for number in range(1, 121)]
        assert found.buffer(BINANCE, "1m", span.end).newest.state is CandleState.CLOSED

    def test_an_event_shows_any_market_and_timeframe_as_it_was_then(self, lake):
        lengths = ["1m", "1h"]
        found = mdp.backtest(BOTH, NIGHT.start, NIGHT.end, timeframes=lengths, missing="allow", settings=lake)
        closed = next(one for one in found.replay() if one.time == at("2024-12-30T21:59"))
        assert str(closed.market) == OKX_TEXT
        assert open_times(closed.buffer("1h", market=BINANCE).candles) == [us("2024-12-30T20:00")]
        assert closed.buffer(market=BINANCE, size=1).newest.open_us == closed.candle.open_us


class TestIndex:
    def test_its_candles_are_the_values_known_when_each_minute_opened(self, lake):
        found = mdp.backtest(INDEX, NIGHT.start, "2024-12-30T22:00Z", settings=lake)
        minutes = found.candles(INDEX, "1m")
        assert minutes.select("open", "close", "minutes").row(7) == (7.0, 7.0, 1)
        assert minutes.schema == CANDLE_SCHEMA
        hour = found.buffer(INDEX, "1h", "2024-12-30T21:00Z").newest
        assert hour[1:9] == (0.0, 59.0, 0.0, 59.0, None, None, None, 60)

    def test_its_longer_candles_hold_no_value_of_after_the_end(self, lake):
        found = mdp.backtest(INDEX, NIGHT.start, "2024-12-30T21:59Z", settings=lake)
        assert len(found.candles(INDEX, "1h")) == 1
        assert [closed.candle.close for closed in found.replay("5m")][-1] == 114.0


class TestMissing:
    def test_a_range_that_is_not_whole_is_refused_with_what_is_missing(self, lake):
        with pytest.raises(Incomplete) as refused:
            mdp.backtest(BOTH, NIGHT.start, NIGHT.end, timeframes=["1m"], settings=lake)
        assert refused.value.missing == {
            f"{OKX_TEXT} [2024-12-30T22:00:00Z, 2024-12-31T00:00:00Z)": "120 minutes, unfetched"
        }
        assert not refused.value.retryable
        assert "missing='generate'" in refused.value.__notes__[0]

    def test_allowed_it_is_read_and_told(self, lake):
        found = mdp.backtest(BOTH, NIGHT.start, NIGHT.end, timeframes=["1m"], missing="allow", settings=lake)
        (one,) = found.coverage
        assert (str(one.market), one.minutes, one.cause, one.is_explained) == (OKX_TEXT, 120, "unfetched", False)

    @pytest.mark.parametrize(
        ("recorded", "is_whole"),
        [
            ([gap("2024-12-30T22:00", "2024-12-31T00:00", "exchange_outage")], True),
            ([gap("2024-12-30T22:00", "2024-12-31T00:00", "unknown", is_permanent=True)], True),
            ([gap("2024-12-30T22:00", "2024-12-31T00:00", "unknown")], False),
            ([gap("2024-12-30T22:00", "2024-12-30T23:59", "exchange_outage")], False),
        ],
        ids=["explained", "permanent", "unknown", "a minute short"],
    )
    def test_what_is_explained_is_whole(self, tmp_path, recorded, is_whole):
        settings = load_settings(data_dir=tmp_path)
        store, rows = open_store(settings), every_minute("2024-12-30T21:00", "2024-12-31T01:00", exchange="okx")
        there = candles(*rows[:60], *rows[180:])
        store.replace(OHLCV, Slice(OKX, (M1,), NIGHT), there)
        day = window("2024-12-30", "2025-01-01")
        store.replace(GAPS, Slice(OKX, (M1,), day), frame(recorded, GAP_SCHEMA))
        asked = {"timeframes": ["1m"], "settings": settings}
        if is_whole:
            found = mdp.backtest(OKX_TEXT, "2024-12-30T21:00Z", "2024-12-31T01:00Z", **asked)
            assert [one.detail for one in found.coverage] == ["written somewhere"]
        else:
            with pytest.raises(Incomplete):
                mdp.backtest(OKX_TEXT, "2024-12-30T21:00Z", "2024-12-31T01:00Z", **asked)

    def test_a_longer_candle_that_is_not_that_of_its_minutes_is_missing(self, tmp_path):
        settings = load_settings(data_dir=tmp_path)
        minutes = candles(*every_minute("2024-12-30T20:00", "2024-12-30T23:00"))
        store = open_store(settings)
        store.replace(OHLCV, Slice(MARKET, (M1,), NIGHT), minutes)
        # of 59 minutes, and another one not at all
        store.replace(OHLCV, Slice(MARKET, (H1,), NIGHT), resample(minutes[1:120], H1))
        with pytest.raises(Incomplete, match=r"T20:00:00Z, 2024-12-30T21:00:00Z\): 60 minutes, not resampled; .*T22"):
            mdp.backtest(BINANCE, NIGHT.start, "2024-12-30T23:00Z", timeframes=["1m", "1h"], settings=settings)
        assert mdp.backtest(BINANCE, NIGHT.start, "2024-12-30T23:00Z", timeframes=["1m"], settings=settings)


class TestEarlier:
    @pytest.fixture(scope="class")
    @classmethod
    def restated(cls, tmp_path_factory):
        """Two hours, whose first minute was restated, and a snapshot of before."""
        settings = load_settings(data_dir=tmp_path_factory.mktemp("restated"))
        store, part = open_store(settings), Slice(MARKET, (M1,), NIGHT)
        span = window("2024-12-30T20:00", "2024-12-30T22:00")
        old = candles(*every_minute("2024-12-30T20:00", "2024-12-30T22:00", ingested_at=at("2024-12-31")))
        store.replace(OHLCV, part, old)
        store.replace(OHLCV, Slice(MARKET, RESAMPLED, NIGHT), pl.concat(resample_all(old, closed_by=span.end).values()))
        create_snapshot(store, "before", [MARKET], list(Timeframe), span, lambda: at("2025-01-02"))
        restated = candle("2024-12-30T20:00", close=90.0, ingested_at=at("2025-02-01"))
        new = pl.concat([candles(restated), old[1:]])
        store.append(REVISIONS, find_revisions(old, new, revised_at=at("2025-02-01")))
        store.replace(OHLCV, part, new)
        return settings

    @pytest.mark.parametrize("earlier", [{"as_of": "2025-01-15"}, {"snapshot": "before"}])
    def test_no_later_restatement_is_mixed_in(self, restated, earlier):
        asked = {"settings": restated, "timeframes": ["1m", "1h"]}
        found = mdp.backtest(BINANCE, "2024-12-30T20:00Z", "2024-12-30T21:00Z", **earlier, **asked)
        now = mdp.backtest(BINANCE, "2024-12-30T20:00Z", "2024-12-30T21:00Z", **asked)
        for backtest_, open_ in ((found, 100.0), (now, 90.0)):
            assert next(backtest_.replay()).candle.open == open_
            assert backtest_.buffer(BINANCE, "1m", "2024-12-30T20:01Z").newest.open == open_
        assert found.candles(BINANCE, "1h")["open"].to_list() == [100.0]

    def test_a_buffer_holds_nothing_older_than_its_snapshot_and_the_range_lies_inside_it(self, restated):
        asked = {"settings": restated, "snapshot": "before"}
        found = mdp.backtest(BINANCE, "2024-12-30T21:00Z", "2024-12-30T22:00Z", **asked)
        assert len(found.buffer(BINANCE, "1m", "2024-12-30T21:00Z", size=100).candles) == 60
        with pytest.raises(InputError, match="end: expected a time inside snapshot 'before'"):
            mdp.backtest(BINANCE, "2024-12-30T21:00Z", "2024-12-30T23:00Z", **asked)

    def test_before_it_was_stored_all_of_it_is_missing(self, restated):
        with pytest.raises(Incomplete, match="120 minutes, unfetched"):
            mdp.backtest(
                BINANCE, "2024-12-30T20:00Z", "2024-12-30T22:00Z", settings=restated, as_of="2024-12-30T22:00Z"
            )


_Forbidden = [False]


def _no_connection(event, arguments):
    if _Forbidden[0] and event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen"):
        raise PermissionError(f"{event} {arguments[:2]}: reading what is stored asks nobody")


def test_retrieval_asks_nobody_and_starts_nothing(lake):
    sys.addaudithook(_no_connection)  # it cannot be removed: it is switched
    _Forbidden[0] = True
    try:
        found = mdp.backtest([*BOTH, INDEX], NIGHT.start, NIGHT.end, missing="allow", settings=lake)
        assert sum(bool(closed.buffer("1h").candles) for closed in found.replay()) > 1_000
        assert found.candles(BINANCE, "1h").height == 8
        assert len(found.coverage) > 1
        with pytest.raises(PermissionError, match="reading what is stored asks nobody"):
            mdp.backtest(OKX_TEXT, NIGHT.start, NIGHT.end, missing="generate", settings=lake)
    finally:
        _Forbidden[0] = False


def test_another_process_finds_the_very_settings_of_the_caller(tmp_path, monkeypatch):
    monkeypatch.setenv("MDP_EXCHANGES__BINANCE__REST_URL", "http://127.0.0.1:1/binance")
    ours = load_settings(data_dir=tmp_path, markets=(BINANCE,), simulated=True, mode="backtest")
    monkeypatch.setenv("MDP_EXCHANGES__BINANCE__REST_URL", "http://127.0.0.1:2/binance")
    for name, value in environment_of(ours).items():
        if name.startswith("MDP_"):
            monkeypatch.setenv(name, value)
    monkeypatch.delenv("MDP_EXCHANGES__BINANCE__REST_URL")
    assert load_settings() == ours
    assert "MDP_EXCHANGES__BINANCE__REST_URL" not in environment_of(ours)
