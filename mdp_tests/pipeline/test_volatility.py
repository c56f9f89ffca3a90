"""A volatility index, from what the exchange answered to stored minutes, made of hours and made of minutes."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest

from mdp.config.reference import Reference
from mdp.domain.timeframe import Timeframe
from mdp.errors import ExchangeUnavailable, SliceMissing
from mdp.pipeline.batches import keep, parts_of
from mdp.pipeline.collect import Collecting
from mdp.pipeline.coverage import coverage_by_day, failed_days, shortfalls
from mdp.pipeline.failed_days import NotCollected
from mdp.pipeline.integrity import inspect_dvol, inspect_raw_dvol
from mdp.pipeline.rounds import Rounds
from mdp.pipeline.volatility import collect_dvol, judge_dvol
from mdp.ports import DVOL as DVOL_TABLE
from mdp.ports import FETCHES, GAPS, RAW_DVOL, REJECTED_OHLCV, REVISIONS, Slice
from mdp.storage.memory import MemoryStore
from mdp_tests.support.builders import DVOL, NOW, at, window
from mdp_tests.support.scripted_source import ScriptedExchanges

DAY = date(2024, 12, 30)
WINDOW = window("2024-12-30", "2024-12-31")
H1, M1 = Timeframe.H1, Timeframe.M1
BY_HOUR, BY_MINUTE = (Slice(DVOL, (length,), WINDOW) for length in (H1, M1))
ALL_GAPS = Slice(DVOL, (M1, H1), WINDOW)
NOTHING_KNOWN = Reference({}, ())
AT_ONCE = Collecting(Rounds(wait_s=0))


def clock():
    return NOW


def through(store, exchanges, part=BY_HOUR, reference=NOTHING_KNOWN, now=NOW):
    """Collect and judge one slice; return the report of its first day."""
    for batch in collect_dvol([part], exchanges, lambda: now, max_age_minutes=120):
        keep(store, batch)
    return judged(store, part, reference, now)


def judged(store, part=BY_HOUR, reference=NOTHING_KNOWN, now=NOW):
    for batch in judge_dvol([part], store, reference, lambda: now, max_age_minutes=120):
        keep(store, batch)
        reports = batch.days
    return reports[DAY]


def without(start, end):
    return ScriptedExchanges(
        edit=lambda _, rows: rows.filter(~pl.col("open_time").is_between(at(start), at(end), closed="left"))
    )


def flat(moment="2000-01-01", close=50.0):
    """Every candle closes at 50 but that of one moment."""
    return ScriptedExchanges(price=lambda market, opened: close if opened == at(moment) else 50.0)


def gaps(store):
    return store.read(GAPS, ALL_GAPS).select("timeframe", "start", "end").rows()


def revisions(store):
    found = store.read(REVISIONS, Slice(DVOL, (H1, M1), window("2024-12-29", "2025-01-02")))
    return found.select("timeframe", "open_time", "old_close", "new_close").rows()


class TestCollecting:
    PART = parts_of([(DVOL, DAY), (DVOL, date(2024, 12, 31))], H1)[0]

    @pytest.mark.parametrize(
        ("length", "rows"), [(H1, 24 + 2), (M1, 1440 + 120)], ids=["made of hours", "made of minutes"]
    )
    def test_each_day_of_an_index_carries_the_candles_its_first_minutes_need(self, length, rows):
        store, part = MemoryStore(), Slice(DVOL, (length,), self.PART.window)
        exchanges = ScriptedExchanges()
        (batch,) = collect_dvol([part], exchanges, clock, max_age_minutes=120)
        keep(store, batch)
        assert exchanges.asked == [(DVOL, length, window("2024-12-29T22:00", "2025-01-01"))]
        by_day = store.read(RAW_DVOL, part).group_by("window_start").agg(pl.col("open_time").min(), pl.len())
        assert sorted(by_day.iter_rows()) == [
            (at("2024-12-30"), at("2024-12-29T22:00"), rows),
            (at("2024-12-31"), at("2024-12-30T22:00"), rows),
        ]
        assert store.read(FETCHES, part)["timeframe"].unique().to_list() == [length.value]
        assert all(verdict.holds for verdict in inspect_raw_dvol(store, part).values())

    def test_rows_of_an_index_that_nobody_asked_for_are_kept_once(self):
        def stray(_, rows):
            late = rows.head(1).with_columns(pl.lit(at("2025-02-01")).cast(pl.Datetime("us", "UTC")).alias("open_time"))
            return pl.concat([rows, late])

        (batch,) = collect_dvol([self.PART], ScriptedExchanges(edit=stray), clock, max_age_minutes=120)
        assert [report.rows for report in batch.days.values()] == [26, 27]


class TestMadeOfHours:
    def test_an_index_has_a_value_for_each_minute_and_the_age_of_its_hour(self):
        store = MemoryStore()
        report = through(store, ScriptedExchanges(price=lambda market, moment: 50.0 + moment.hour))
        rows = store.read(DVOL_TABLE, BY_MINUTE)
        assert report.rows == 1440
        assert rows.select("dvol", "age_minutes").row(0) == (73.0, 0)
        assert rows.select("dvol", "age_minutes").row(-1) == (72.0, 59)
        assert inspect_dvol(store, BY_HOUR)[DAY].holds

    def test_an_index_is_not_filled_across_an_outage_and_says_so(self):
        store = MemoryStore()
        report = through(store, without("2024-12-30T05:00", "2024-12-30T09:00"))
        assert report.rows == 1440 - 180
        assert report.gaps == {"unknown": 180}
        assert gaps(store) == [
            ("1h", at("2024-12-30T05:00"), at("2024-12-30T09:00")),
            ("1m", at("2024-12-30T07:00"), at("2024-12-30T10:00")),
        ]
        assert inspect_dvol(store, BY_HOUR)[DAY].holds

    def test_a_revised_hour_is_one_revision(self):
        store = MemoryStore()
        through(store, flat())
        assert through(store, flat("2024-12-30T05:00", 51.0)).revised == 1
        assert revisions(store) == [("1h", at("2024-12-30T05:00"), 50.0, 51.0)]

    def test_the_revised_hour_before_midnight_is_counted_and_recorded_once(self):
        store = MemoryStore()
        through(store, flat())
        changed = flat("2024-12-29T23:00", 51.0)
        for batch in collect_dvol([BY_HOUR], changed, clock, max_age_minutes=120):
            keep(store, batch)
        (batch,) = judge_dvol([BY_HOUR], store, NOTHING_KNOWN, clock, max_age_minutes=120)
        for write in batch.writes:
            if write.appends:  # the run dies here, before the minutes are stored
                store.append(write.table, write.rows)
        assert batch.days[DAY].revised == 1
        judged(store)
        assert revisions(store) == [("1h", at("2024-12-29T23:00"), 50.0, 51.0)]

    def test_days_that_are_judged_one_by_one_record_the_hour_between_them_once_with_its_receipt(self):
        store, late = MemoryStore(), NOW + timedelta(days=1)
        next_day = Slice(DVOL, (H1,), window("2024-12-31", "2025-01-01"))
        for now, exchanges in ((NOW, flat()), (late, flat("2024-12-30T22:00", 51.0))):
            for number, part in enumerate((BY_HOUR, next_day)):
                moment = now + timedelta(minutes=number)
                received = pl.lit(moment, RAW_DVOL.schema["fetched_at"])
                exchanges.edit = lambda _, rows, received=received: rows.filter(
                    pl.col("open_time") != at("2024-12-30T23:00")
                ).with_columns(fetched_at=received)
                for batch in collect_dvol([part], exchanges, lambda moment=moment: moment, max_age_minutes=120):
                    keep(store, batch)
                for batch in judge_dvol([part], store, NOTHING_KNOWN, lambda now=now: now, max_age_minutes=120):
                    keep(store, batch)
        found = store.read(REVISIONS, BY_HOUR)
        assert len(found) == 1
        assert found["old_ingested_at"].to_list() == [NOW]

    def test_a_revised_hour_that_speaks_on_both_sides_of_midnight_is_one_revision(self):
        store, part = MemoryStore(), Slice(DVOL, (H1,), window("2024-12-30", "2025-01-01"))

        def no_last_hour(close):
            one = flat("2024-12-30T22:00", close)
            one.edit = lambda _, rows: rows.filter(pl.col("open_time") != at("2024-12-30T23:00"))
            return one

        through(store, no_last_hour(50.0), part)
        through(store, no_last_hour(51.0), part)
        assert revisions(store) == [("1h", at("2024-12-30T22:00"), 50.0, 51.0)]

    def test_an_hour_before_midnight_that_came_late_revises_nothing(self):
        """The minutes after midnight leave the hour before it, which is what it was all the same."""
        store = MemoryStore()
        through(store, without("2024-12-29T23:00", "2024-12-30T00:00"))
        assert store.read(DVOL_TABLE, BY_MINUTE)["hour_open_time"][0] == at("2024-12-29T22:00")
        assert through(store, ScriptedExchanges()).revised == 0
        assert revisions(store) == []

    def test_each_day_is_judged_by_its_own_copy_of_an_hour(self):
        store, days = MemoryStore(), [Slice(DVOL, (H1,), day) for day in window("2024-12-30", "2025-01-01").days()]
        for part, exchanges in zip(days, (without("2024-12-30T23:00", "2024-12-31T00:00"), flat()), strict=True):
            for batch in collect_dvol([part], exchanges, clock, max_age_minutes=120):
                keep(store, batch)
        judged(store, Slice(DVOL, (H1,), window("2024-12-30", "2025-01-01")))
        assert gaps(store) == [("1h", at("2024-12-30T23:00"), at("2024-12-31T00:00"))]
        first = store.read(DVOL_TABLE, Slice(DVOL, (M1,), days[1].window))
        assert first.select("hour_open_time", "age_minutes").row(0) == (at("2024-12-30T23:00"), 0)


class TestMadeOfMinutes:
    def test_each_minute_carries_the_close_of_the_minute_before(self):
        store = MemoryStore()
        exchanges = ScriptedExchanges(price=lambda market, moment: 50.0 + moment.hour + moment.minute / 100)
        report = through(store, exchanges, BY_MINUTE)
        rows = store.read(DVOL_TABLE, BY_MINUTE)
        assert (report.rows, report.gaps, report.rejected) == (1440, {}, {})
        assert rows["age_minutes"].unique().to_list() == [0]
        assert (rows["open_time"] - rows["hour_open_time"]).unique().to_list() == [timedelta(minutes=1)]
        closes = rows.filter(pl.col("open_time") == at("2024-12-30T10:15"))["dvol"].to_list()
        assert (rows["dvol"][0], closes, rows["dvol"][-1]) == (73.59, [60.14], 73.58)
        assert inspect_dvol(store, BY_MINUTE)[DAY].holds

    def test_a_short_outage_is_seen_in_the_age_and_is_no_gap(self):
        store = MemoryStore()
        report = through(store, without("2024-12-30T05:00", "2024-12-30T05:03"), BY_MINUTE)
        late = store.read(DVOL_TABLE, BY_MINUTE).filter(pl.col("age_minutes") > 0)
        assert late.select("open_time", "age_minutes").rows() == [
            (at(f"2024-12-30T05:0{minute}"), minute) for minute in (1, 2, 3)
        ]
        assert (report.rows, report.gaps, gaps(store)) == (1440, {}, [])
        assert inspect_dvol(store, BY_MINUTE)[DAY].holds

    def test_a_long_outage_leaves_the_minutes_absent_from_the_greatest_age_to_its_end(self):
        store = MemoryStore()
        report = through(store, without("2024-12-30T05:00", "2024-12-30T09:00"), BY_MINUTE)
        # the last candle closed at 05:00; at 07:00 it is 120 minutes old, at 09:01 the next one has closed
        assert gaps(store) == [("1m", at("2024-12-30T07:00"), at("2024-12-30T09:01"))]
        assert (report.rows, report.gaps) == (1440 - 121, {"unknown": 121})
        assert inspect_dvol(store, BY_MINUTE)[DAY].holds

    def test_the_first_minute_of_all_gives_a_value_when_it_has_closed(self):
        store, listed = MemoryStore(), Reference({DVOL: at("2024-12-30T05:00")}, ())
        exchanges = ScriptedExchanges(listed_at=at("2024-12-30T05:00"))
        assert through(store, exchanges, BY_MINUTE, listed).gaps == {"before_listing": 5 * 60 + 1}
        assert through(store, exchanges, BY_HOUR, listed).gaps == {"before_listing": 6 * 60}
        exchanges.listed_at = at("2024-12-30T05:30")
        assert through(store, exchanges, BY_MINUTE, listed).gaps == {"before_listing": 5 * 60 + 1, "unknown": 30}

    def test_a_revised_minute_is_one_revision_on_the_day_that_shows_it(self):
        store, part = MemoryStore(), Slice(DVOL, (M1,), window("2024-12-30", "2025-01-01"))
        for close in (50.0, 51.0):
            for batch in collect_dvol([part], flat("2024-12-30T23:59", close), clock, max_age_minutes=120):
                keep(store, batch)
            (batch,) = judge_dvol([part], store, NOTHING_KNOWN, clock, max_age_minutes=120)
            keep(store, batch)
        assert revisions(store) == [("1m", at("2024-12-30T23:59"), 50.0, 51.0)]
        assert [report.revised for report in batch.days.values()] == [0, 1]

    def test_bad_and_unfinished_minutes_are_rejected_and_not_carried(self):
        def spoiled(_, rows):
            is_bad, is_open = (pl.col("open_time") == at(f"2024-12-30T0{hour}:00") for hour in (5, 6))
            return rows.with_columns(volume=pl.when(is_bad).then(-1.0), closed=~is_open)

        store = MemoryStore()
        report = through(store, ScriptedExchanges(edit=spoiled), BY_MINUTE)
        assert report.rejected == {"volume_is_not_negative": 1, "candle_is_closed": 1}
        late = store.read(DVOL_TABLE, BY_MINUTE).filter(pl.col("age_minutes") == 1)["open_time"].to_list()
        assert late == [at("2024-12-30T05:01"), at("2024-12-30T06:01")]


class TestChangeOfResolution:
    def test_it_is_no_revision_in_either_direction(self):
        store = MemoryStore()
        for part, close in ((BY_HOUR, 50.0), (BY_MINUTE, 60.0), (BY_HOUR, 70.0), (BY_MINUTE, 80.0)):
            exchanges = ScriptedExchanges(price=lambda market, moment, close=close: close)
            assert through(store, exchanges, part).revised == 0
            assert store.read(DVOL_TABLE, BY_MINUTE)["dvol"].unique().to_list() == [close]
        assert revisions(store) == []

    def test_it_leaves_no_gap_of_the_other_length_behind(self):
        store, outage = MemoryStore(), ("2024-12-30T05:00", "2024-12-30T09:00")
        of_hours = [("1h", at(outage[0]), at(outage[1])), ("1m", at("2024-12-30T07:00"), at("2024-12-30T10:00"))]
        of_minutes = [("1m", at("2024-12-30T07:00"), at("2024-12-30T09:01"))]
        for part, expected in ((BY_HOUR, of_hours), (BY_MINUTE, of_minutes), (BY_HOUR, of_hours)):
            through(store, without(*outage), part)
            assert gaps(store) == expected
            missing = sum(coverage_by_day(store, DVOL, WINDOW)[DAY].missing.values())
            assert missing == sum(
                (end - start) // timedelta(minutes=1) for length, start, end in expected if length == "1m"
            )

    def test_raw_and_rejected_rows_of_both_lengths_stay(self):
        def spoiled(_, rows):
            return rows.with_columns(closed=pl.col("open_time") != at("2024-12-30T05:00"))

        store = MemoryStore()
        for part in (BY_HOUR, BY_MINUTE):
            through(store, ScriptedExchanges(edit=spoiled), part)
        assert store.read(RAW_DVOL, ALL_GAPS)["timeframe"].value_counts().sort("timeframe").rows() == [
            ("1h", 26), ("1m", 1560),
        ]  # fmt: skip
        assert store.read(REJECTED_OHLCV, ALL_GAPS)["timeframe"].to_list() == ["1h", "1m"]

    def test_what_is_stored_is_judged_by_the_length_it_was_made_of(self):
        store = MemoryStore()
        through(store, ScriptedExchanges(), BY_HOUR)
        assert inspect_dvol(store, BY_MINUTE)[DAY].holds, "the setting was changed, the store was not"
        through(store, ScriptedExchanges(), BY_MINUTE)
        assert inspect_dvol(store, BY_HOUR)[DAY].holds

    def test_days_of_the_other_length_were_never_asked_for(self):
        store = MemoryStore()
        through(store, ScriptedExchanges(), BY_HOUR)
        with pytest.raises(
            SliceMissing, match="raw_dvol was never collected for 2024-12-30 at 1m; materialize it first"
        ):
            judged(store, BY_MINUTE)

    def test_the_latest_attempt_counts_whatever_its_length(self):
        def refuse(asked, rows):
            raise ExchangeUnavailable("deribit", "503")

        store, later = MemoryStore(), NOW + timedelta(minutes=5)
        exchanges = ScriptedExchanges(edit=refuse)
        asked = collect_dvol([BY_MINUTE], exchanges, clock, max_age_minutes=120, how=AT_ONCE)
        keep(store, next(asked))
        with pytest.raises(NotCollected):
            next(asked)
        (failed,) = failed_days(store, DVOL, WINDOW)
        assert (failed.window, failed.error) == (WINDOW, "ExchangeUnavailable")

        def fetched_later(_, rows):
            return rows.with_columns(pl.lit(later).cast(rows.schema["fetched_at"]).alias("fetched_at"))

        through(store, ScriptedExchanges(edit=fetched_later), BY_HOUR, now=later)
        assert failed_days(store, DVOL, WINDOW) == []
        assert shortfalls(store, DVOL, WINDOW) == []


class TestInspection:
    @pytest.mark.parametrize("part", [BY_HOUR, BY_MINUTE], ids=["made of hours", "made of minutes"])
    @pytest.mark.parametrize(
        ("change", "broken"),
        [
            ({"dvol": pl.col("dvol") + 1}, {"value_is_close_of_its_candle"}),
            ({"age_minutes": pl.col("age_minutes") + 1}, {"age_is_since_that_close", "value_is_close_of_its_candle"}),
            ({"age_minutes": pl.col("age_minutes") - 100}, {"age_is_since_that_close", "value_is_close_of_its_candle"}),
            ({"hour_open_time": pl.col("hour_open_time") - pl.duration(hours=1)},
             {"age_is_since_that_close", "value_is_close_of_its_candle"}),
        ],
    )  # fmt: skip
    def test_minutes_that_do_not_carry_their_candle_break_a_promise(self, part, change, broken):
        store = MemoryStore()
        through(store, ScriptedExchanges(), part)
        rows = store.read(DVOL_TABLE, BY_MINUTE)
        changed = rows.with_columns(**change).cast(dict(rows.schema))
        store.replace(DVOL_TABLE, BY_MINUTE, changed)
        found = inspect_dvol(store, part)[DAY].broken
        assert found == dict.fromkeys(broken, 1440)

    def test_a_day_made_of_both_lengths_breaks_a_promise(self):
        store = MemoryStore()
        through(store, ScriptedExchanges(), BY_MINUTE)
        of_minutes = store.read(DVOL_TABLE, BY_MINUTE)
        through(store, ScriptedExchanges(), BY_HOUR)
        mixed = pl.concat([of_minutes.head(700), store.read(DVOL_TABLE, BY_MINUTE).tail(740)])
        store.replace(DVOL_TABLE, BY_MINUTE, mixed)
        assert inspect_dvol(store, BY_HOUR)[DAY].broken == {"candles_are_of_one_length": 1}
