"""How a day that was received live, and never collected, looks to whoever reads, counts, explains or heals it."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from mdp.cli.explain import show_explanation
from mdp.config.settings import load_settings
from mdp.domain.interval import Interval
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.coverage import NOT_COLLECTED, shortfalls
from mdp.pipeline.explaining import explain_candle
from mdp.pipeline.explanation import State
from mdp.pipeline.healing.ailments import Reason, Yardstick, diagnose
from mdp.pipeline.live_index import IndexRule
from mdp.ports import DVOL as DVOL_TABLE
from mdp.ports import OHLCV, Slice
from mdp.reading.index_as_of import index_as_of
from mdp.reading.view import View
from mdp.storage import open_store
from mdp.storage.memory import MemoryStore
from mdp_tests.pipeline.live_entries import (
    DAY,
    INDEX,
    NOTHING_KNOWN,
    absent,
    closes,
    confirmed,
    index_minute,
    keep,
    minute,
    moment,
    told,
)
from mdp_tests.support.builders import MARKET

WHOLE = Interval.of_day(DAY.date())
BY_MINUTE = IndexRule(Timeframe.M1, 120)


@pytest.fixture(scope="module")
def store():
    """All of a day but one minute, of which a feed said that it is absent."""
    made = MemoryStore()
    keep(made, [*told(*(minute(number) for number in range(1440) if number != 700)), absent(700)], 1440)
    return made


def ask(store, number):
    later = DAY + timedelta(days=3)
    return explain_candle(
        store, MARKET, Timeframe.M1, moment(number), markets=[str(MARKET)], reference=NOTHING_KNOWN, now=later
    )


def test_a_day_that_was_only_streamed_is_left_to_collect_however_many_minutes_it_has(store):
    reasons = {one.reason: one for one in shortfalls(store, MARKET, WHOLE)}
    assert reasons[NOT_COLLECTED].minutes == 1439
    assert reasons[NOT_COLLECTED].interval == WHOLE
    found = diagnose(store, MARKET, WHOLE, Yardstick(NOTHING_KNOWN))
    assert [(one.reason, one.interval) for one in found] == [(Reason.UNFETCHED, WHOLE)]


def test_a_day_of_an_index_that_was_only_streamed_is_left_to_collect():
    store = MemoryStore()
    keep(store, told(index_minute(0), market=INDEX), 1, index=BY_MINUTE)
    assert NOT_COLLECTED in {one.reason for one in shortfalls(store, INDEX, WHOLE)}


def test_a_streamed_minute_is_explained_as_received_live_and_an_absent_one_as_seen_missing(store):
    there, missing = ask(store, 5), ask(store, 700)
    assert (there.state, there.row["source"], there.is_collected) == (State.STORED, "stream", False)
    assert (missing.state, len(missing.sightings)) == (State.SEEN_MISSING, 1)


@pytest.mark.slow
def test_explain_says_of_a_streamed_minute_that_its_day_is_not_collected(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MDP_DATA_DIR", str(tmp_path))
    keep(open_store(load_settings()), [*told(minute(0), minute(1)), absent(2)], 4)
    show_explanation(str(MARKET), "2025-03-05T00:00Z", "1m", as_json=False)
    show_explanation(str(MARKET), "2025-03-05T00:02Z", "1m", as_json=False)
    said = capsys.readouterr().out
    assert "received live, and its day is not collected yet" in said
    assert "a feed asked for it, and the exchange gave none" in said


def test_streamed_candles_are_read_as_of_when_they_were_received():
    store = MemoryStore()
    keep(store, told(*(minute(number) for number in range(10))), 9)
    keep(store, told(confirmed(3, 120.0)), 10)
    then = View(store, as_of=moment(10) + timedelta(seconds=30))
    assert closes(then.rows(MARKET, Timeframe.M1, WHOLE))[3] == 100.0
    assert then.rows(MARKET, Timeframe.M5, WHOLE)["high"].to_list() == [100.0, 100.0]
    assert closes(View(store).rows(MARKET, Timeframe.M5, WHOLE), "high") == {0: 120.0, 5: 100.0}
    assert len(View(store, as_of=moment(5)).rows(MARKET, Timeframe.M1, WHOLE)) == 4


def test_a_streamed_index_is_read_as_of_when_it_was_received():
    store = MemoryStore()
    for number in range(3):
        keep(store, told(index_minute(number, 50.0 + number), market=INDEX), number, index=BY_MINUTE)
    keep(store, told(index_minute(0, 60.0, late_us=200_000_000), market=INDEX), 4, index=BY_MINUTE)
    assert closes(index_as_of(store, INDEX, WHOLE, moment(2) + timedelta(seconds=30)), "dvol") == {1: 50.0, 2: 51.0}
    assert closes(store.read(DVOL_TABLE, Slice(INDEX, (Timeframe.M1,), WHOLE)), "dvol") == {1: 60.0, 2: 51.0, 3: 52.0}


def test_todays_minutes_are_there_at_once_and_longer_candles_as_they_end(store):
    longest = store.read(OHLCV, Slice(MARKET, (Timeframe.D1,), WHOLE))
    assert longest["minutes"].to_list() == [1439]
    assert store.read(OHLCV, Slice(MARKET, (Timeframe.H1,), WHOLE)).filter(pl.col("minutes") < 60)[
        "open_time"
    ].to_list() == [moment(660)]
