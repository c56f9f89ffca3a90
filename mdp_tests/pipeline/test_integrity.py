"""What the integrity checks find in what is stored, on which day, and the rows they show."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest

from mdp.domain.digests import digest
from mdp.domain.resample import resample_all
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp.pipeline.checking.verdicts import SAMPLED
from mdp.pipeline.integrity import inspect_candles, inspect_raw_candles, inspect_resampled
from mdp.pipeline.judge import judge_days
from mdp.ports import FETCHES, GAPS, OHLCV, RAW_OHLCV, REJECTED_OHLCV, Slice
from mdp.storage.memory import MemoryStore
from mdp_tests.golden.binance_native.test_resampling_equals_binance import minutes_of
from mdp_tests.support.builders import MARKET, NOW, at, frame, raw, raws, window

TWO_DAYS = Slice(MARKET, (Timeframe.M1,), window("2024-12-29", "2024-12-31"))
FIRST, SECOND = date(2024, 12, 29), date(2024, 12, 30)
NOON = at("2024-12-30T12:00")


@pytest.fixture
def store():
    """Two recorded days and their longer candles."""
    kept = MemoryStore()
    rows = pl.concat([minutes_of("2024-12-29"), minutes_of("2024-12-30")])
    kept.replace(OHLCV, TWO_DAYS, rows)
    kept.replace(OHLCV, Slice(MARKET, RESAMPLED, TWO_DAYS.window), pl.concat(resample_all(rows).values()))
    return kept


def change(store, open_time, **values):
    rows = store.read(OHLCV, TWO_DAYS)
    is_it = pl.col("open_time") == open_time
    changed = rows.with_columns(
        pl.when(is_it).then(value).otherwise(name).alias(name) for name, value in values.items()
    )
    store.replace(OHLCV, TWO_DAYS, changed.cast(OHLCV.schema))


def test_recorded_days_hold_and_nothing_about_them_is_doubtful(store):
    for inspect in (inspect_candles, inspect_resampled):
        for verdict in inspect(store, TWO_DAYS).values():
            assert (verdict.broken, verdict.doubts, verdict.samples) == ({}, {}, ())
    assert [verdict.rows for verdict in inspect_candles(store, TWO_DAYS).values()] == [1440, 1440]
    assert [verdict.rows for verdict in inspect_resampled(store, TWO_DAYS).values()] == [415, 415]


@pytest.mark.parametrize(
    ("values", "promises"),
    [
        ({"open": float("nan")}, {"prices_are_finite", "high_is_highest"}),
        ({"low": -1.0}, {"prices_are_positive"}),
        ({"high": 1.0}, {"high_is_highest"}),
        ({"low": 1e9}, {"low_is_lowest", "high_is_highest"}),
        ({"volume": -1.0}, {"volume_is_not_negative"}),
        ({"quote_volume": -1.0}, {"quote_volume_is_not_negative"}),
        ({"trades": -1}, {"trades_are_not_negative"}),
        ({"ingested_at": NOON + timedelta(seconds=30)}, {"candle_had_closed_when_received"}),
    ],
    ids=lambda value: "+".join(sorted(value)),
)
def test_a_row_that_breaks_a_promise_is_shown_on_its_day_and_spoils_no_other(store, values, promises):
    change(store, NOON, **{name: pl.lit(value) for name, value in values.items()})
    verdicts = inspect_candles(store, TWO_DAYS)
    assert verdicts[FIRST].holds
    assert verdicts[SECOND].broken.keys() == promises
    shown = {sample.what: sample.example for sample in verdicts[SECOND].samples if sample.what in promises}
    assert shown.keys() == promises
    assert {example.open_time for example in shown.values()} == {NOON}


def test_the_example_of_a_broken_rule_says_what_is_there_and_what_should_be(store):
    change(store, NOON, high=pl.lit(1.0))
    (sample,) = [one for one in inspect_candles(store, TWO_DAYS)[SECOND].samples if one.what == "high_is_highest"]
    assert "high=1.0 " in sample.example.found
    assert sample.example.expected == "high is highest"
    assert sample.example.timeframe == "1m"


def test_a_key_that_is_there_twice_is_named(store):
    rows = store.read(OHLCV, TWO_DAYS)
    store._tables["ohlcv"] = pl.concat([store._tables["ohlcv"], rows.filter(open_time=NOON)])
    verdict = inspect_candles(store, TWO_DAYS)[SECOND]
    assert verdict.broken == {"key_is_unique": 1}
    (sample,) = verdict.samples
    assert (sample.example.open_time, sample.example.found, sample.example.expected) == (NOON, "2 rows", "1 row")


def test_minutes_that_are_nowhere_and_gaps_where_candles_are_show_their_stretch(store):
    rows = store.read(OHLCV, TWO_DAYS)
    lost = pl.col("open_time").is_between(NOON, NOON + timedelta(minutes=3), closed="left")
    store.replace(OHLCV, TWO_DAYS, rows.filter(~lost))
    one_hour_on = NOON + timedelta(hours=1)
    gap = {"exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1m", "start": one_hour_on,
           "end": one_hour_on + timedelta(minutes=2), "slots": 2, "cause": "unknown", "source": "rest",
           "seen_at": NOW}  # fmt: skip
    store.replace(GAPS, TWO_DAYS, frame([{**dict.fromkeys(GAPS.schema), **gap}], GAPS.schema))
    verdict = inspect_candles(store, TWO_DAYS)[SECOND]
    assert verdict.broken == {"every_minute_is_stored_or_in_a_gap": 3, "no_gap_holds_a_minute": 2}
    assert verdict.doubts == {"slots_without_candle: unknown": 2}
    assert [(one.what, one.example.open_time, one.example.found) for one in verdict.samples] == [
        ("every_minute_is_stored_or_in_a_gap", NOON, "neither until 2024-12-30T12:03:00Z"),
        ("no_gap_holds_a_minute", one_hour_on, "both until 2024-12-30T13:02:00Z"),
        ("slots_without_candle: unknown", one_hour_on, "no candle until 2024-12-30T13:02:00Z"),
    ]


def test_what_no_market_makes_is_doubted_though_no_promise_is_broken(store):
    rows = store.read(OHLCV, TWO_DAYS)
    is_second = pl.col("open_time") >= at("2024-12-30")
    prices = ("open", "high", "low", "close")
    spliced = rows.with_columns(pl.when(is_second).then(pl.col(name) * 1.2).otherwise(name).alias(name)
                                for name in (*prices, "quote_volume"))  # fmt: skip
    store.replace(OHLCV, TWO_DAYS, spliced)
    verdicts = inspect_candles(store, TWO_DAYS)
    assert not verdicts[FIRST].doubts
    assert verdicts[SECOND].holds
    assert verdicts[SECOND].doubts == {"price_jumps_between_minutes": 1}
    alone = Slice(MARKET, (Timeframe.M1,), window("2024-12-30", "2024-12-31"))
    assert inspect_candles(store, alone)[SECOND].doubts == verdicts[SECOND].doubts, "the minute before is looked at"


@pytest.mark.parametrize("timeframe", RESAMPLED)
def test_a_longer_candle_that_its_minutes_do_not_make_is_shown_beside_what_they_make(store, timeframe):
    part = Slice(MARKET, (timeframe,), TWO_DAYS.window)
    rows = store.read(OHLCV, part)
    last = pl.col("open_time") == rows["open_time"][-1]
    store.replace(OHLCV, part, rows.with_columns(close=pl.when(last).then(1.0).otherwise("close")))
    verdicts = inspect_resampled(store, TWO_DAYS)
    assert verdicts[FIRST].holds
    assert verdicts[SECOND].broken == {"candles_are_those_of_the_minutes": 1}
    (sample,) = verdicts[SECOND].samples
    made = f"close={rows['close'][-1]}"
    assert (sample.example.timeframe, sample.example.found, sample.example.expected) == (timeframe, "close=1.0", made)


def test_a_longer_candle_that_is_missing_or_that_no_minute_makes_is_shown(store):
    hours = Slice(MARKET, (Timeframe.H1,), TWO_DAYS.window)
    rows = store.read(OHLCV, hours)
    store.replace(OHLCV, hours, rows.slice(0, 47))
    (sample,) = inspect_resampled(store, TWO_DAYS)[SECOND].samples
    assert sample.example.found == "no candle"
    assert "close=" in sample.example.expected
    store.replace(OHLCV, hours, rows)
    store.replace(OHLCV, TWO_DAYS, store.read(OHLCV, TWO_DAYS).filter(pl.col("open_time") < at("2024-12-30T23:00")))
    verdict = inspect_resampled(store, TWO_DAYS)[SECOND]
    orphans = [one.example for one in verdict.samples if one.example.expected == "no candle"]
    assert {one.timeframe for one in orphans} == {"5m", "15m", "1h"}
    assert verdict.broken["candles_are_those_of_the_minutes"] == len(verdict.samples) == len(orphans) + 2
    assert len(orphans) == 12 + 4 + 1, "and the 4h and 1d candles hold an hour too much"


def test_only_the_first_rows_of_a_finding_are_shown(store):
    change(store, pl.col("open_time"), high=pl.lit(1.0))
    verdict = inspect_candles(store, TWO_DAYS)[SECOND]
    assert verdict.broken["high_is_highest"] == 1440
    assert len([one for one in verdict.samples if one.what == "high_is_highest"]) == SAMPLED


class TestRejected:
    """A day of three raw rows, two of which are rejected; one of them came twice."""

    PART = Slice(MARKET, (Timeframe.M1,), window("2024-12-30", "2024-12-31"))
    BAD = raw(NOON, close=float("nan"))

    @pytest.fixture
    def judged(self):
        kept = MemoryStore()
        kept.replace(RAW_OHLCV, self.PART, raws(raw("2024-12-30T00:00"), self.BAD, self.BAD, raw(NOON, closed=False)))
        asked = dict.fromkeys(FETCHES.schema) | {
            "exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1m", "window_start": self.PART.window.start,
        }  # fmt: skip
        kept.append(FETCHES, frame([asked], FETCHES.schema))
        kept.replace(REJECTED_OHLCV, self.PART, self.made(kept))
        return kept

    def made(self, kept):
        return judge_days(kept.read(RAW_OHLCV, self.PART), self.PART).rejected

    def broken(self, kept, **how):
        verdict = inspect_candles(kept, self.PART, **how)[SECOND]
        shown = [one.example for one in verdict.samples if one.what == "rejected_rows_are_those_of_the_raw_rows"]
        return verdict.broken.get("rejected_rows_are_those_of_the_raw_rows", 0), shown

    def test_those_that_judging_makes_hold(self, judged):
        assert self.broken(judged) == (0, [])

    @pytest.mark.parametrize("kept_rows", [0, 1, 2])
    def test_lost_ones_are_counted_one_of_two_equal_ones_too(self, judged, kept_rows):
        judged.replace(REJECTED_OHLCV, self.PART, self.made(judged).head(kept_rows))
        count, shown = self.broken(judged)
        assert (count, len(shown)) == (3 - kept_rows, 3 - kept_rows)
        assert {one.found for one in shown} == {"no rejected row"}

    def test_one_that_was_altered_is_shown_beside_what_it_was(self, judged):
        rows = self.made(judged).with_columns(failed_rules=pl.lit(["low_is_lowest"]))
        judged.replace(REJECTED_OHLCV, self.PART, rows)
        count, shown = self.broken(judged)
        assert count == 6
        assert {one.expected for one in shown if "low_is_lowest" in one.found} == {"no rejected row"}

    def test_those_that_may_have_been_dropped_for_their_age_are_not_missed(self, judged):
        judged.replace(REJECTED_OHLCV, self.PART, REJECTED_OHLCV.schema.to_frame())
        assert self.broken(judged, rejected_since=NOW)[0] == 3
        assert self.broken(judged, rejected_since=NOW + timedelta.resolution)[0] == 0


def test_raw_rows_without_a_price_or_not_closed_are_shown_and_lost_ones_counted():
    store, part = MemoryStore(), Slice(MARKET, (Timeframe.M1,), window("2024-12-30", "2024-12-31"))
    rows = raws(raw("2024-12-30T00:00"), raw("2024-12-30T00:01", close=float("nan")), raw(NOON, closed=False))
    store.replace(RAW_OHLCV, part, rows)
    evidence = {"exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1m", "window_start": part.window.start,
                "window_end": part.window.end, "rows": 3, "digest": digest(rows), "requests": 1, "source": "rest",
                "fetched_at": NOW}  # fmt: skip
    store.append(FETCHES, frame([evidence], FETCHES.schema))
    verdict = inspect_raw_candles(store, part)[SECOND]
    assert verdict.holds
    assert verdict.doubts == {"rows_without_a_price": 1, "rows_not_closed": 1}
    assert [(one.what, one.example.open_time) for one in verdict.samples] == [
        ("rows_without_a_price", at("2024-12-30T00:01")),
        ("rows_not_closed", NOON),
    ]
    store.replace(RAW_OHLCV, part, rows.head(2))
    broken = inspect_raw_candles(store, part)[SECOND]
    assert broken.broken == {"rows_are_those_received": 1}
    assert ("2 rows", "those received: 3 rows") in [(one.example.found, one.example.expected) for one in broken.samples]
