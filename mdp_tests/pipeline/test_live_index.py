from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from mdp.domain import dvol
from mdp.domain.interval import Interval
from mdp.domain.live import CandleState
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.batches import keep as keep_batch
from mdp.pipeline.batches import parts_of
from mdp.pipeline.live_index import IndexRule
from mdp.pipeline.volatility import collect_dvol, judge_dvol
from mdp.ports import DVOL, REJECTED_OHLCV, REVISIONS, Slice
from mdp.storage.memory import MemoryStore
from mdp_tests.pipeline.live_entries import DAY, INDEX, NOTHING_KNOWN, absent, closes, index_minute, keep, moment
from mdp_tests.pipeline.live_entries import told as entries
from mdp_tests.support.scripted_source import ScriptedExchanges

BY_MINUTE, BY_HOUR = IndexRule(Timeframe.M1, 120), IndexRule(Timeframe.H1, 120)
TWO_DAYS = Interval(DAY, DAY + timedelta(days=2))
MINUTES = Slice(INDEX, (Timeframe.M1,), TWO_DAYS)
SAID = ["open_time", "dvol", "hour_open_time", "age_minutes"]


def told(*candles):
    return entries(*candles, market=INDEX)


def stored(store):
    return store.read(DVOL, MINUTES)


def test_a_minute_carries_the_close_of_the_one_before_it():
    store = MemoryStore()
    kept = keep(store, told(index_minute(4, 51.5)), 4, index=BY_MINUTE)
    (row,) = stored(store).rows(named=True)
    assert (row["open_time"], row["dvol"], row["hour_open_time"], row["age_minutes"]) == (moment(5), 51.5, moment(4), 0)
    assert kept.total("stored") == 1


def test_a_minute_is_made_once_the_slot_before_it_is_known():
    store = MemoryStore()
    keep(store, told(index_minute(0), index_minute(2, 52.0)), 3, index=BY_MINUTE)
    assert closes(stored(store), "dvol") == {1: 50.0, 3: 52.0}
    keep(store, [absent(1, market=INDEX)], 4, index=BY_MINUTE)
    assert closes(stored(store), "dvol") == {1: 50.0, 2: 50.0, 3: 52.0}
    assert stored(store)["age_minutes"].to_list() == [0, 1, 0]


def test_a_candle_that_comes_late_speaks_for_the_minutes_after_it():
    store = MemoryStore()
    keep(store, [*told(index_minute(0)), absent(1, 2, 3, market=INDEX)], 4, index=BY_MINUTE)
    keep(store, told(index_minute(1, 51.0)), 5, index=BY_MINUTE)
    assert closes(stored(store), "dvol") == {1: 50.0, 2: 51.0, 3: 51.0, 4: 51.0}
    assert store.read(REVISIONS, MINUTES).is_empty()


def test_a_corrected_candle_of_an_index_is_one_revision_however_many_minutes_carry_it():
    store = MemoryStore()
    keep(store, [*told(index_minute(1438)), absent(1439, 1440, market=INDEX)], 1441, index=BY_MINUTE)
    assert closes(stored(store), "dvol") == {1439: 50.0, 1440: 50.0, 1441: 50.0}  # on both sides of midnight
    for _ in range(2):
        again = told(index_minute(1438, 55.0, state=CandleState.CORRECTED, late_us=90_000_000))
        kept = keep(store, again, 1443, index=BY_MINUTE)
    assert closes(stored(store), "dvol") == {1439: 55.0, 1440: 55.0, 1441: 55.0}
    (revision,) = store.read(REVISIONS, MINUTES).rows(named=True)
    assert (revision["open_time"], revision["old_close"], revision["new_close"]) == (moment(1438), 50.0, 55.0)
    assert kept.total("unchanged") == 1


@pytest.mark.parametrize(
    "rule", [pytest.param(BY_MINUTE, id="1m", marks=pytest.mark.slow), pytest.param(BY_HOUR, id="1h")]
)
def test_what_is_streamed_is_what_the_nightly_job_makes_of_the_same_truth(rule):
    length = rule.length
    store, other, exchanges = MemoryStore(), MemoryStore(), ScriptedExchanges()
    part = parts_of([(INDEX, DAY.date())], length)[0]

    def clock():
        return DAY + timedelta(days=1, minutes=15)

    for target in (other,):
        for batch in collect_dvol([part], exchanges, clock, max_age_minutes=120):
            keep_batch(target, batch)
        for batch in judge_dvol([part], target, NOTHING_KNOWN, clock, max_age_minutes=120):
            keep_batch(target, batch)
    first, last = (moment(1), moment(1440)) if length is Timeframe.M1 else (moment(60), moment(1440))
    truth = other.read(DVOL, MINUTES).filter(pl.col("open_time").is_between(first, last, closed="left"))
    minutes = minutes_of(truth, length)
    for start in range(0, len(minutes), 360):
        keep(store, told(*minutes[start : start + 360]), start + 360, index=rule)
    streamed = stored(store).filter(pl.col("open_time") < last)
    assert streamed.select(SAID).equals(truth.select(SAID))
    for batch in collect_dvol([part], exchanges, clock, max_age_minutes=120):
        keep_batch(store, batch)
    for batch in judge_dvol([part], store, NOTHING_KNOWN, clock, max_age_minutes=120):
        keep_batch(store, batch)
    assert store.read(REVISIONS, Slice(INDEX, dvol.LENGTHS, TWO_DAYS)).is_empty()


def minutes_of(truth, length):
    """Minutes whose last one in each candle closes as the truth says."""
    carried = truth.unique("hour_open_time", keep="first", maintain_order=True)
    made = []
    for opened, close in carried.filter(pl.col("hour_open_time") >= DAY).select("hour_open_time", "dvol").rows():
        first = (opened - DAY) // timedelta(minutes=1)
        last = first + length.minutes - 1
        made += [index_minute(number, close if number == last else 40.0) for number in range(first, last + 1)]
    return made


def test_an_hour_is_made_only_of_sixty_confirmed_minutes():
    minutes = [index_minute(number, 50 + number / 100) for number in range(60)]
    doubtful = minutes[30]._replace(state=CandleState.CLOSED, source="stream")
    store = MemoryStore()
    kept = keep(store, told(*minutes[:30], doubtful, *minutes[31:]), 60, index=BY_HOUR)
    assert stored(store).is_empty()
    assert kept.total("hours_left") == 1
    kept = keep(
        store, told(minutes[30]), 61, index=BY_HOUR, index_minutes={INDEX: [*minutes[:30], doubtful, *minutes[31:]]}
    )
    assert len(stored(store)) == 60
    assert set(stored(store)["dvol"]) == {50.59}
    assert stored(store)["age_minutes"].to_list() == list(range(60))
    assert (kept.total("stored"), kept.total("hours_left")) == (60, 0)


def test_an_hour_is_made_of_what_the_buffer_holds_and_what_was_told_last():
    minutes = [index_minute(number) for number in range(60)]
    store = MemoryStore()
    kept = keep(store, told(minutes[59]), 60, index=BY_HOUR, index_minutes={INDEX: minutes[:59]})
    assert (len(stored(store)), kept.total("hours_left")) == (60, 0)
    again = keep(store, told(minutes[59]), 60, index=BY_HOUR, index_minutes={INDEX: minutes})
    assert (again.total("stored"), again.total("unchanged")) == (0, 1)


def test_a_bad_minute_of_an_index_is_set_aside():
    store = MemoryStore()
    keep(store, told(index_minute(0, high=1.0), index_minute(1)), 2, index=BY_MINUTE)
    assert closes(stored(store), "dvol") == {2: 50.0}
    assert store.read(REJECTED_OHLCV, MINUTES)["failed_rules"].to_list() == [["high_is_highest"]]
