from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from mdp.config.reference import Reference
from mdp.domain.interval import Interval
from mdp.domain.live import CandleState
from mdp.domain.market import Market
from mdp.domain.resample import resample_all
from mdp.domain.revisions import rows_as_of
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp.errors import StorageError, StoreCorrupt
from mdp.pipeline.batches import keep as keep_batch
from mdp.pipeline.batches import parts_of
from mdp.pipeline.collect import collect_candles
from mdp.pipeline.healing.ailments import Yardstick, diagnose
from mdp.pipeline.integrity import inspect_candles
from mdp.pipeline.judge import judge_candles
from mdp.pipeline.live import keep_live
from mdp.pipeline.live_report import NotKept
from mdp.pipeline.resampling import resample_candles
from mdp.ports import GAP_SIGHTINGS, GAPS, OHLCV, REJECTED_OHLCV, REVISIONS, TABLES, Slice, Taken
from mdp.storage.memory import MemoryStore
from mdp_tests.pipeline.live_entries import (
    DAY,
    NOTHING_KNOWN,
    absent,
    clock_at,
    closes,
    confirmed,
    keep,
    minute,
    moment,
    told,
    us,
    walk,
)
from mdp_tests.support.builders import MARKET, NOW
from mdp_tests.support.scripted_source import ScriptedExchanges

PART = parts_of([(MARKET, DAY.date())])[0]
LONGER = Slice(MARKET, RESAMPLED, PART.window)
HOUR = 60
EVERYTHING = tuple(Timeframe)


def content(store):
    """All that is stored, without the order in which evidence was appended."""
    part = Slice(MARKET, EVERYTHING, Interval(DAY - timedelta(days=2), DAY + timedelta(days=3)))
    return {table.name: store.read(table, part).rows() for table in TABLES}


def stored(store, part=PART):
    return store.read(OHLCV, part)


def test_a_closed_minute_is_stored_as_it_was_received():
    store = MemoryStore()
    kept = keep(store, told(minute(0, 101.5)), 0)
    (row,) = stored(store).rows(named=True)
    assert (row["close"], row["minutes"], row["source"]) == (101.5, 1, "stream")
    assert row["ingested_at"] == DAY + timedelta(minutes=1, microseconds=50_000)
    (report,) = kept.markets
    assert (report.stored, report.first_open_time, report.lag_s) == (1, DAY, 5.0)
    assert not kept.warnings


def test_what_is_confirmed_with_the_same_values_keeps_the_first_source_and_receipt():
    together, apart = MemoryStore(), MemoryStore()
    keep(together, told(confirmed(0), minute(0)), 1)
    keep(apart, told(minute(0)), 0)
    kept = keep(apart, told(confirmed(0)), 1)
    assert stored(together).rows() == stored(apart).rows()
    assert stored(apart)["source"].item() == "stream"
    assert (kept.total("stored"), kept.total("unchanged"), kept.total("revised")) == (0, 1, 0)


def test_a_correction_is_a_revision_from_stream_to_rest():
    store = MemoryStore()
    keep(store, told(minute(0, 100.0)), 0)
    kept = keep(store, told(confirmed(0, 100.5, state=CandleState.CORRECTED)), 1)
    assert closes(stored(store)) == {0: 100.5}
    (revision,) = store.read(REVISIONS, PART).rows(named=True)
    assert (revision["old_close"], revision["new_close"]) == (100.0, 100.5)
    assert (revision["old_source"], revision["new_source"]) == ("stream", "rest")
    assert revision["revised_at"] == clock_at(1)()
    assert kept.total("revised") == 1
    assert "revised" in kept.warnings[0]


def test_rest_counts_whatever_a_stream_says_later_and_of_two_the_later_one():
    store = MemoryStore()
    late = minute(0, 99.0, late_us=50_000_000)
    again = confirmed(0, 102.0, late_us=30_000_000)
    keep(store, told(late, again, confirmed(0, 101.0), minute(0, 100.0)), 1)
    assert closes(stored(store)) == {0: 102.0}
    for older in (late, confirmed(0, 101.0)):
        kept = keep(store, told(older), 2)
        assert closes(stored(store)) == {0: 102.0}
        assert kept.total("superseded") == 1
    assert store.read(REVISIONS, PART).is_empty()


def test_a_value_that_changes_and_changes_back_is_two_revisions():
    store = MemoryStore()
    for close, late_us in ((100.0, 10), (101.0, 20), (100.0, 30)):
        keep(store, told(confirmed(0, close, late_us=late_us)), 1)
    assert store.read(REVISIONS, PART)["new_close"].to_list() == [101.0, 100.0]
    assert stored(store)["ingested_at"].item() == DAY + timedelta(minutes=1, microseconds=30)


def entries_of_a_day():
    candles = walk(3, range(HOUR))
    again = [
        one._replace(state=CandleState.CONFIRMED, source="rest", received_us=one.received_us + 15_000_000)
        for one in candles
    ]
    corrected = [
        one._replace(close=one.high, state=CandleState.CORRECTED, received_us=one.received_us + 400_000_000)
        for one in again[::9]
    ]
    bad = [one._replace(high=1.0, received_us=one.received_us + 1) for one in candles[::13]]
    there = {one.open_us for one in candles}
    missing = [number for number in range(HOUR) if minute(number).open_us not in there]
    return told(*candles, *again, *corrected, *bad) + [absent(number) for number in missing]


def test_order_and_repetition_inside_a_batch_change_nothing():
    entries = entries_of_a_day()
    orderly, shuffled = MemoryStore(), MemoryStore()
    keep(orderly, entries, HOUR)
    anyhow = entries * 2
    random.Random(5).shuffle(anyhow)
    kept = keep(shuffled, [Taken(str(number), one) for number, one in enumerate(anyhow)], HOUR)
    assert content(orderly) == content(shuffled)
    assert kept.markets[0].entries == len(anyhow)


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 80])
def test_batches_of_any_size_come_to_the_same_candles(size):
    entries = sorted(entries_of_a_day(), key=lambda one: one.told_us)
    whole, piecewise = MemoryStore(), MemoryStore()
    keep(whole, entries, HOUR)
    for start in range(0, len(entries), size):
        keep(piecewise, entries[start : start + size], HOUR)
    values = pl.exclude("ingested_at", "source")
    for part in (PART, LONGER):
        assert stored(piecewise, part).select(values).equals(stored(whole, part).select(values))
    assert (
        piecewise.read(REJECTED_OHLCV, PART)
        .sort("open_time")
        .equals(whole.read(REJECTED_OHLCV, PART).sort("open_time"))
    )


class Dying(MemoryStore):
    """A store whose process is killed at the write of this number."""

    def __init__(self):
        super().__init__()
        self.writes_left = 10**6

    def append(self, table, rows):
        self._count()
        super().append(table, rows)

    def append_live(self, table, rows):
        self._count()
        super().append_live(table, rows)

    def _count(self):
        if not self.writes_left:
            raise KeyboardInterrupt
        self.writes_left -= 1


@pytest.mark.parametrize("writes", [*(pytest.param(one, marks=pytest.mark.slow) for one in range(3)), 3])
def test_killed_at_any_write_and_taken_again_everything_is_stored_once(writes):
    entries = sorted(entries_of_a_day(), key=lambda one: one.told_us)
    first, second = entries[:70], entries[50:]
    calm, dying = MemoryStore(), Dying()
    for store in (calm, dying):
        keep(store, first, HOUR)
    keep(calm, second, HOUR)
    dying.writes_left = writes
    with pytest.raises(KeyboardInterrupt):  # at rejected rows, sightings, revisions, candles
        keep(dying, second, HOUR)
    dying.writes_left = 10**6
    for _ in range(2):
        keep(dying, second, HOUR)
    assert content(dying) == content(calm)


def test_a_repeated_batch_writes_nothing():
    store = Dying()
    entries = entries_of_a_day()
    keep(store, entries, HOUR)
    store.writes_left = 0
    kept = keep(store, entries, HOUR + 1)
    assert (kept.total("stored"), kept.total("revised"), kept.total("absent"), kept.total("rejected")) == (0, 0, 0, 0)


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 50])
def test_longer_candles_are_those_of_a_backfill_once_they_are_over(size):
    store = MemoryStore()
    candles = walk(7, range(250))
    for start in range(0, len(candles), size):
        keep(store, told(*candles[start : start + size]), start)
    minutes = stored(store)
    made = pl.concat(resample_all(minutes, closed_by=minutes["open_time"][-1] + timedelta(minutes=1)).values())
    assert stored(store, LONGER).equals(made.sort("timeframe", "open_time"))


def test_a_longer_candle_is_stored_when_it_is_over_and_not_before():
    store = MemoryStore()
    keep(store, told(*(minute(number) for number in range(4))), 3)
    assert stored(store, LONGER).is_empty()
    # the clock is a second slow: what counts is that the exchange closed the last minute
    keep_live(told(minute(4)), store, NOTHING_KNOWN, lambda: moment(5) - timedelta(seconds=1))
    assert stored(store, LONGER)["minutes"].to_list() == [5]


def test_a_longer_candle_is_not_stored_while_its_last_minute_is_on_its_way():
    store = MemoryStore()
    for clock in (moment(5) + timedelta(seconds=0.3), moment(9)):  # it ended; its close is told half a second later
        keep_live(told(*(minute(number) for number in range(4))), store, NOTHING_KNOWN, lambda clock=clock: clock)
        assert stored(store, LONGER).is_empty(), "four minutes would be told as if they were five"
    keep(store, told(minute(4)), 6)
    assert stored(store, LONGER)["minutes"].to_list() == [5]


def test_a_late_or_corrected_minute_makes_its_longer_candles_again():
    store = MemoryStore()
    keep(store, told(*(minute(number) for number in range(15) if number != 7)), 15)
    assert dict(
        stored(store, LONGER).select("timeframe", pl.col("minutes").alias("n")).filter(timeframe="15m").rows()
    ) == {"15m": 14}
    keep(store, told(confirmed(7, 120.0), confirmed(2, 90.0)), 16)
    (longest,) = stored(store, LONGER).filter(timeframe="15m").rows(named=True)
    assert (longest["minutes"], longest["high"], longest["low"]) == (15, 120.0, 90.0)


@pytest.mark.parametrize("last", [absent(4), told(minute(4, high=1.0))[0]], ids=["absent", "rejected"])
def test_a_longer_candle_whose_last_minute_never_comes_is_stored_all_the_same(last):
    store = MemoryStore()
    keep(store, told(*(minute(number) for number in range(4))), 3)
    keep(store, [last], 5)
    assert stored(store, LONGER)["minutes"].to_list() == [4]


def test_a_bucket_begun_in_the_middle_says_how_many_minutes_it_holds_and_is_made_whole_later():
    store = MemoryStore()
    keep(store, told(*(minute(number) for number in range(37, 60))), 60)
    hour = stored(store, LONGER).filter(timeframe="1h")
    assert hour["minutes"].to_list() == [23]
    keep(store, told(*(confirmed(number) for number in range(37))), 61)
    assert stored(store, LONGER).filter(timeframe="1h")["minutes"].to_list() == [60]


def test_a_bad_row_is_set_aside_once_and_spoils_no_good_one():
    store = MemoryStore()
    entries = told(
        minute(0), confirmed(0, high=1.0), minute(1, close=float("nan")), minute(2, state=CandleState.FORMING)
    )
    for _ in range(2):
        kept = keep(store, entries, 2)
    assert closes(stored(store)) == {0: 100.0}
    rejected = store.read(REJECTED_OHLCV, PART)
    rules = dict(zip(rejected["open_time"].to_list(), rejected["failed_rules"].to_list(), strict=True))
    assert rules[moment(0)] == ["high_is_highest"]
    assert "prices_are_finite" in rules[moment(1)]
    assert rules[moment(2)] == ["candle_is_closed"]
    assert len(rejected) == 3
    assert kept.total("rejected") == 0


def test_an_impossible_time_is_refused_and_does_not_stop_the_rest():
    store = MemoryStore()
    far = minute(0)._replace(open_us=10**17)
    off_grid = replace(absent(3), absent_us=(absent(3).absent_us[0] + 1,))
    never = [replace(absent(3), absent_us=(-5,)), off_grid, replace(absent(3), told_us=10**18)]
    kept = keep(store, [*told(far, minute(0)), *never], 4)
    assert closes(stored(store)) == {0: 100.0}
    assert kept.total("refused") == 4
    assert "impossible" in kept.warnings[0]


def test_an_absent_minute_is_seen_missing_once_and_never_where_a_candle_came():
    store = MemoryStore()
    keep(store, told(minute(0), minute(1)), 1)
    entries = [absent(1, 2, 3, requests=2), *told(confirmed(3))]
    for _ in range(2):
        keep(store, entries, 5)
    (seen,) = store.read(GAP_SIGHTINGS, PART).rows(named=True)
    assert (seen["start"], seen["end"], seen["slots"]) == (moment(2), moment(3), 1)
    assert (seen["finding"], seen["source"], seen["requests"]) == ("absent", "rest", 2)
    assert seen["fetched_at"] == moment(4) + timedelta(seconds=30)


def test_absent_minutes_before_the_listing_are_no_sightings():
    store = MemoryStore()
    keep(store, [absent(1, 2, 3)], 5, reference=Reference({MARKET: moment(3)}, ()))
    assert store.read(GAP_SIGHTINGS, PART)["start"].to_list() == [moment(3)]


def nightly(store, exchanges, at=DAY + timedelta(days=1, minutes=15)):
    """Collect, judge and resample the day, as is done every night."""

    def clock():
        return at

    for batch in collect_candles([PART], exchanges, clock):
        keep_batch(store, batch)
    for batch in judge_candles([PART], store, NOTHING_KNOWN, clock):
        keep_batch(store, batch)
    for batch in resample_candles([PART], store, clock):
        keep_batch(store, batch)


def as_entries(rows, **said):
    """What a feed would have told of the rows an exchange answers."""
    columns = ("open", "high", "low", "close", "volume", "quote_volume", "trades")
    numbers = ((rows["open_time"] - DAY).dt.total_minutes()).to_list()
    return told(
        *(
            minute(n, **dict(zip(columns, row, strict=True)), **said)
            for n, row in zip(numbers, rows.select(columns).rows(), strict=True)
        )
    )


def streamed_day(exchanges, store):
    """The exchange's own day as a feed told it, hour by hour."""
    other = MemoryStore()
    nightly(other, exchanges)
    entries = as_entries(stored(other))
    for start in range(0, len(entries), 240):
        keep(store, entries[start : start + 240], start + 240)
    return other


@pytest.mark.slow
def test_the_nightly_slice_of_the_same_truth_keeps_what_was_streamed():
    store, exchanges = MemoryStore(), ScriptedExchanges()
    other = streamed_day(exchanges, store)
    before = stored(store)
    nightly(store, exchanges)
    assert stored(store).equals(before)
    assert set(before["source"]) == {"stream"}
    values = pl.exclude("ingested_at", "source")
    assert stored(store, LONGER).select(values).equals(stored(other, LONGER).select(values))
    assert store.read(REVISIONS, PART).is_empty()
    assert inspect_candles(store, PART)[DAY.date()].holds
    assert diagnose(store, MARKET, PART.window, Yardstick(NOTHING_KNOWN)) == []


@pytest.mark.slow
def test_the_nightly_slice_wins_over_what_was_streamed_and_tells_what_changed():
    store, exchanges = MemoryStore(), ScriptedExchanges()
    streamed_day(exchanges, store)
    wrong = stored(store).row(100, named=True)
    keep(store, told(confirmed(100, wrong["close"] + 1, late_us=20_000_000)), 1439)
    nightly(store, exchanges)
    assert stored(store)["close"][100] == wrong["close"]
    assert store.read(REVISIONS, PART)["new_close"].to_list()[-1] == wrong["close"]
    assert diagnose(store, MARKET, PART.window, Yardstick(NOTHING_KNOWN)) == []


def test_a_day_that_was_collected_after_it_ended_is_left_to_healing():
    store, exchanges = MemoryStore(), ScriptedExchanges()
    nightly(store, exchanges)
    before = content(store)
    spoken = confirmed(1439, 1.5)._replace(received_us=us(NOW) + 1)
    kept = keep_live(told(spoken), store, NOTHING_KNOWN, lambda: NOW + timedelta(seconds=1))
    assert content(store) == before
    assert kept.total("left") == 1
    assert "heal" in kept.warnings[0]


@pytest.mark.slow
def test_a_sighting_by_the_feed_and_one_by_the_nightly_job_a_day_later_make_a_gap_permanent():
    def holey(_, rows):
        return rows.filter(~pl.col("open_time").is_between(moment(600), moment(603), closed="left"))

    store, exchanges = MemoryStore(), ScriptedExchanges(edit=holey)
    streamed_day(exchanges, store)
    keep(store, [absent(600, 601, 602)], 605)
    nightly(store, exchanges)
    (gap,) = store.read(GAPS, PART).rows(named=True)
    assert (gap["sightings"], gap["first_seen_at"], gap["is_permanent"]) == (
        1,
        moment(603) + timedelta(seconds=30),
        False,
    )
    nightly(store, exchanges, at=DAY + timedelta(days=2))
    (gap,) = store.read(GAPS, PART).rows(named=True)
    assert (gap["sightings"], gap["is_permanent"]) == (2, True)


def test_what_was_stored_at_an_earlier_time_is_told_of_streamed_minutes_too():
    store = MemoryStore()
    keep(store, told(minute(0, 100.0), minute(1, 100.0)), 1)
    keep(store, told(confirmed(0, 101.0)), 2)
    then = rows_as_of(stored(store), store.read(REVISIONS, PART), moment(2) + timedelta(seconds=30))
    assert closes(then) == {0: 100.0, 1: 100.0}
    assert closes(rows_as_of(stored(store), store.read(REVISIONS, PART), moment(1) + timedelta(seconds=1))) == {
        0: 100.0
    }


class HalfBroken(MemoryStore):
    """A store in which one market's candles cannot be written."""

    def append_live(self, table, rows):
        if "BTC-USDT" in set(rows["symbol"]):
            raise StoreCorrupt("part-0.parquet cannot be read")
        super().append_live(table, rows)


def test_a_market_whose_file_is_damaged_does_not_stop_the_others():
    store, ether = HalfBroken(), Market.parse("binance:ETH-USDT")
    with pytest.raises(NotKept, match="BTC-USDT") as caught:
        keep(store, [*told(minute(0)), *told(minute(0), market=ether)], 0)
    assert set(caught.value.failures) == {MARKET}
    assert [one.market for one in caught.value.kept.markets] == [ether]
    assert len(stored(store, Slice(ether, (Timeframe.M1,), PART.window))) == 1


class Full(MemoryStore):
    def append_live(self, table, rows):
        raise StorageError("no space left on device")


def test_a_store_that_takes_nothing_is_an_error_and_no_report():
    with pytest.raises(StorageError, match="no space left"):
        keep(Full(), told(minute(0)), 0)


def test_nothing_told_is_nothing_done():
    kept = keep(MemoryStore(), [], 0)
    assert kept.markets == ()


@pytest.mark.slow
def test_an_outage_that_a_feed_saw_minute_by_minute_is_one_gap():
    def holey(_, rows):
        return rows.filter(~pl.col("open_time").is_between(moment(600), moment(630), closed="left"))

    store, exchanges = MemoryStore(), ScriptedExchanges(edit=holey)
    for number in range(600, 630, 5):
        keep(store, [absent(number + one) for one in range(5)], number + 6)
    assert len(store.read(GAP_SIGHTINGS, PART)) == 6
    nightly(store, exchanges)
    (gap,) = store.read(GAPS, PART).rows(named=True)
    assert (gap["slots"], gap["sightings"], gap["first_seen_at"]) == (30, 1, moment(605) + timedelta(seconds=30))
    nightly(store, exchanges, at=DAY + timedelta(days=3))
    (gap,) = store.read(GAPS, PART).rows(named=True)
    assert (gap["slots"], gap["sightings"], gap["is_permanent"]) == (30, 2, True)


def test_absences_on_both_sides_of_a_month_s_end_are_seen_in_one_batch():
    next_month = (DAY.replace(day=1) + timedelta(days=32)).replace(day=1)
    end = (next_month - DAY) // timedelta(minutes=1)
    store = MemoryStore()
    entries = [*told(minute(end - 5), minute(end + 5)), absent(end - 3), absent(end + 1)]
    keep(store, entries, end + 6)
    part = Slice(MARKET, (Timeframe.M1,), Interval(DAY, next_month + timedelta(days=1)))
    assert store.read(GAP_SIGHTINGS, part)["start"].to_list() == [moment(end - 3), moment(end + 1)]


def test_an_entry_that_trips_over_a_mistake_of_ours_costs_one_market_and_not_all():
    broken = Market.parse("okx:BTC-USDT")

    class Tripping(MemoryStore):
        def read(self, table, part, *, columns=None):
            if part.market == broken:
                raise OverflowError("a mistake of ours")
            return super().read(table, part, columns=columns)

    store = Tripping()
    entries = [*told(minute(0)), *told(minute(0), market=broken)]
    with pytest.raises(NotKept, match="OverflowError: a mistake of ours") as raised:
        keep(store, entries, 0)
    assert set(raised.value.failures) == {broken}
    assert len(stored(store)) == 1
