"""The volatility index by the minute."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mdp.domain.candles import DVOL_SCHEMA, RAW_SCHEMA, REVISION_SCHEMA, empty
from mdp.domain.dvol import LENGTHS, candle_minutes, candles_needed, find_revisions, minutes_from_candles
from mdp.domain.interval import Interval
from mdp.domain.rules import Asked
from mdp.domain.timeframe import Timeframe
from mdp_tests.domain.strategies import MINUTE, START, windows
from mdp_tests.support.builders import NOW, at, hour, raws, window

LATER = NOW + timedelta(days=1)
ages = st.sampled_from([1, 59, 60, 61, 90, 119, 120, 121, 180, 1440])


HOUR, MINUTELY = Timeframe.H1, Timeframe.M1
lengths = st.sampled_from(LENGTHS)


@st.composite
def candles(draw, length):
    """Candles of some days around ``START``, some missing, each with a close, a source and a time of its own."""
    reach = range(-48, 48) if length is HOUR else range(-200, 420)
    absent = draw(st.one_of(st.just(set()), st.sets(st.sampled_from(reach)), st.just(set(reach[50:90]))))
    present = [offset for offset in reach if offset not in absent]
    if draw(st.booleans()):
        present = sorted(draw(st.sets(st.sampled_from(reach), max_size=20)))
    offset, is_alike = pl.col("offset"), draw(st.booleans())
    template = raws(candle_of(length, START))
    return (
        pl.DataFrame({"offset": present}, schema={"offset": pl.Int64})
        .join(template, how="cross")
        .with_columns(
            open_time=START + offset * length.duration,
            close=500.0 + offset,
            source=pl.when(pl.lit(is_alike) | (offset % 3 > 0)).then(pl.lit("rest")).otherwise(pl.lit("archive")),
            fetched_at=pl.col("fetched_at") + (0 if is_alike else 1) * offset * MINUTE,
        )
        .select(template.columns)
        .cast(dict(template.schema))
    )


def candle_of(length, open_time, close=50.0, **values):
    return hour(open_time, close, timeframe=length.value, **values)


def minutely(open_time, close=50.0):
    return candle_of(MINUTELY, open_time, close)


def one_by_one(frame, length, asked, max_age_minutes):
    """Minute, value, candle, age, source and time, minute after minute, as plainly as possible."""
    known = [(row["open_time"], row["close"], row["source"], row["fetched_at"]) for row in frame.iter_rows(named=True)]
    made, minute, last = [], asked.start, None
    while minute < asked.end:
        while known and known[0][0] + length.duration <= minute:
            last = known.pop(0)
        if last:
            opened, close, source, fetched_at = last
            age = (minute - opened) // MINUTE - length.minutes
            if age < max_age_minutes:
                made.append((minute, close, opened, age, source, fetched_at))
        minute += MINUTE
    return made


class TestMinutes:
    @given(st.data(), lengths, windows(step=7 * MINUTE, most=60), ages)
    def test_each_minute_has_the_close_of_the_last_closed_candle_unless_it_is_too_old(
        self, data, length, asked, max_age
    ):
        frame = data.draw(candles(length))
        made = minutes_from_candles(frame, length, asked, max_age_minutes=max_age)
        assert made.schema == DVOL_SCHEMA
        found = made.select("open_time", "dvol", "hour_open_time", "age_minutes", "source", "ingested_at").rows()
        assert found == one_by_one(frame, length, asked, max_age)

    @given(st.data(), lengths, windows(step=7 * MINUTE, most=60), ages)
    def test_the_candles_said_to_be_needed_are_enough(self, data, length, asked, max_age):
        frame = data.draw(candles(length))
        needed = candles_needed(asked, length, max_age)
        some = frame.filter(pl.col("open_time").is_between(needed.start, needed.end, closed="left"))
        assert_frame_equal(
            minutes_from_candles(some, length, asked, max_age_minutes=max_age),
            minutes_from_candles(frame, length, asked, max_age_minutes=max_age), check_exact=True,
        )  # fmt: skip

    @given(lengths, windows(step=7 * MINUTE, most=60).filter(lambda asked: not asked.is_empty), ages)
    def test_the_first_of_the_needed_candles_is_needed(self, length, asked, max_age):
        first = candles_needed(asked, length, max_age).start
        assert length.is_on_grid(first)
        alone = minutes_from_candles(raws(candle_of(length, first)), length, asked, max_age_minutes=max_age)
        # it is the last before a long outage: some minute of the window still lives on it, unless it closes later
        assert len(alone) > 0 or first + length.duration >= asked.end
        early = raws(candle_of(length, first - length.duration))
        assert minutes_from_candles(early, length, asked, max_age_minutes=max_age).is_empty()

    @given(st.data(), lengths)
    def test_a_stored_minute_tells_how_long_its_candle_was(self, data, length):
        asked = Interval(START, START + 180 * MINUTE)
        made = minutes_from_candles(data.draw(candles(length)), length, asked, max_age_minutes=1440)
        assert made.filter(candle_minutes() != length.minutes).is_empty()

    def test_minutes_made_of_minutes_show_a_missing_one_by_their_age(self):
        rows = [minutely(f"2024-01-01T00:{minute:02}", float(minute)) for minute in (0, 1, 2, 6, 7)]
        made = minutes_from_candles(
            raws(*rows), MINUTELY, window("2024-01-01T00:00", "2024-01-01T00:09"), max_age_minutes=60
        )
        assert made["open_time"].dt.minute().to_list() == [1, 2, 3, 4, 5, 6, 7, 8]
        assert made["dvol"].to_list() == [0.0, 1.0, 2.0, 2.0, 2.0, 2.0, 6.0, 7.0]
        assert made["age_minutes"].to_list() == [0, 0, 0, 1, 2, 3, 0, 0]

    def test_an_hour_speaks_from_the_minute_it_closes_and_not_before(self):
        frame = raws(hour("2024-01-01T00:00", 50.0), hour("2024-01-01T01:00", 60.0))
        made = minutes_from_candles(frame, HOUR, window("2024-01-01T00:58", "2024-01-01T02:02"), max_age_minutes=120)
        assert made["open_time"][0] == at("2024-01-01T01:00")
        assert made["age_minutes"].to_list() == [*range(60), 0, 1]
        assert made["dvol"].to_list() == [50.0] * 60 + [60.0] * 2

    def test_a_value_is_given_to_the_last_minute_before_it_is_too_old(self):
        made = minutes_from_candles(
            raws(hour("2024-01-01T00:00")), HOUR, window("2024-01-01T00:00", "2024-01-02"), max_age_minutes=90
        )
        assert (made["open_time"][0], made["open_time"][-1]) == (at("2024-01-01T01:00"), at("2024-01-01T02:29"))
        assert made["age_minutes"][-1] == 89

    def test_nothing_is_filled_across_an_outage(self):
        frame = raws(hour("2024-01-01T00:00", 50.0), hour("2024-01-01T10:00", 60.0))
        made = minutes_from_candles(frame, HOUR, window("2024-01-01T00:00", "2024-01-01T12:00"), max_age_minutes=60)
        assert made["open_time"].dt.hour().unique().sort().to_list() == [1, 11]
        assert len(made) == 120

    def test_it_says_whose_minutes_they_are_and_where_their_hour_came_from(self):
        frame = raws(hour("2024-01-01T00:00", source="archive", fetched_at=LATER))
        row = minutes_from_candles(frame, HOUR, window("2024-01-01T01:00", "2024-01-01T01:01"), max_age_minutes=60).row(
            0, named=True
        )
        assert (row["exchange"], row["symbol"], row["timeframe"]) == ("deribit", "BTC-DVOL", "1m")
        assert (row["source"], row["ingested_at"]) == ("archive", LATER)

    def test_no_hours_or_an_empty_window_make_no_minutes(self):
        asked = window("2024-01-01", "2024-01-02")
        for frame, within in (
            (empty(RAW_SCHEMA), asked),
            (raws(hour("2024-01-01")), Interval(asked.start, asked.start)),
        ):
            made = minutes_from_candles(frame, HOUR, within, max_age_minutes=120)
            assert made.schema == DVOL_SCHEMA
            assert made.is_empty()

    def test_hours_that_all_close_after_the_window_make_no_minutes(self):
        asked = window("2024-01-01T00:00", "2024-01-01T01:00")
        assert minutes_from_candles(raws(hour("2024-01-01T00:00")), HOUR, asked, max_age_minutes=120).is_empty()

    @pytest.mark.parametrize(
        "bounds", [("2024-01-01T00:00:30", "2024-01-01T01:00"), ("2024-01-01T00:00", "2024-01-01T01:00:30")]
    )
    def test_a_window_off_the_grid_of_minutes_is_refused(self, bounds):
        with pytest.raises(ValueError, match="window: expected bounds on the grid of minutes, got"):
            minutes_from_candles(raws(hour("2024-01-01")), HOUR, window(*bounds), max_age_minutes=120)

    def test_a_day_needs_the_candles_before_it_that_may_still_speak(self):
        day = window("2024-01-02", "2024-01-03")
        assert candles_needed(day, HOUR, 60) == window("2024-01-01T23:00", "2024-01-03")
        assert candles_needed(day, HOUR, 61) == window("2024-01-01T22:00", "2024-01-03")
        assert candles_needed(day, MINUTELY, 61) == window("2024-01-01T22:59", "2024-01-03")
        assert candles_needed(day, HOUR, 120) == window("2024-01-01T22:00", "2024-01-03")


class TestRevisions:
    DAY = window("2024-01-01T00:00", "2024-01-01T06:00")

    def revised(self, old, new, length=HOUR, was=HOUR, max_age_minutes=120):
        stored = minutes_from_candles(raws(*old), was, self.DAY, max_age_minutes=max_age_minutes)
        asked = Asked(candles_needed(self.DAY, length, 120), length)
        return find_revisions(stored, raws(*new), asked, revised_at=LATER)

    @pytest.mark.parametrize("length", LENGTHS)
    def test_the_same_candles_revise_nothing_though_they_came_later(self, length):
        times = [at("2024-01-01T00:00") + step * length.duration for step in range(3)]
        new = [candle_of(length, time, fetched_at=LATER, source="archive") for time in times]
        assert self.revised([candle_of(length, time) for time in times], new, length, length).is_empty()

    @pytest.mark.parametrize("length", LENGTHS)
    def test_a_candle_with_another_close_is_one_revision_of_that_candle(self, length):
        first, second = at("2024-01-01T00:00"), at("2024-01-01T00:00") + length.duration
        old = [candle_of(length, first, 50.0), candle_of(length, second, 60.0)]
        new = [candle_of(length, first, 50.0), candle_of(length, second, 61.0)]
        found = self.revised(old, new, length, length)
        assert found.schema == REVISION_SCHEMA
        (row,) = found.iter_rows(named=True)
        assert (row["timeframe"], row["open_time"]) == (length.value, second)
        assert (row["old_close"], row["new_close"], row["revised_at"]) == (60.0, 61.0, LATER)
        assert (row["old_source"], row["new_source"]) == ("rest", "rest")
        amounts = ("open", "high", "low", "volume", "quote_volume", "trades")
        assert [row[f"{side}_{name}"] for side in ("old", "new") for name in amounts] == [None] * 12

    @pytest.mark.parametrize(("was", "now"), [(HOUR, MINUTELY), (MINUTELY, HOUR)])
    def test_candles_of_another_length_are_not_compared(self, was, now):
        old = [candle_of(was, self.DAY.start + step * was.duration, 50.0) for step in range(4)]
        new = [candle_of(now, self.DAY.start + step * now.duration, 70.0) for step in range(4)]
        assert self.revised(old, new, now, was).is_empty()
        assert self.revised(old, [], now, was).is_empty()

    def test_an_hour_that_fills_a_gap_is_no_revision_though_it_changes_minutes(self):
        old = [hour("2024-01-01T00:00", 50.0), hour("2024-01-01T02:00", 60.0)]
        assert self.revised(old, [*old, hour("2024-01-01T01:00", 55.0)]).is_empty()

    def test_an_hour_that_only_the_first_minutes_carried_is_not_gone_because_a_later_one_speaks_for_them_now(self):
        old = [hour("2023-12-31T22:00", 50.0), hour("2024-01-01T00:00", 60.0)]
        assert self.revised(old, [*old, hour("2023-12-31T23:00", 55.0)]).is_empty()

    def test_an_hour_of_before_what_is_asked_for_now_is_not_gone(self):
        old = [hour("2023-12-31T19:00", 50.0), hour("2024-01-01T02:00", 60.0)]
        assert self.revised(old, old[1:], max_age_minutes=300).is_empty()
        assert len(self.revised(old, [], max_age_minutes=300)) == 1

    def test_an_hour_that_vanished_is_a_revision_without_a_new_close(self):
        old = [hour("2024-01-01T00:00", 50.0), hour("2024-01-01T02:00", 60.0)]
        (row,) = self.revised(old, old[:1]).iter_rows(named=True)
        assert (row["open_time"], row["old_close"], row["new_close"]) == (at("2024-01-01T02:00"), 60.0, None)

    def test_nothing_stored_yet_revises_nothing(self):
        asked = Asked(self.DAY, HOUR)
        new = raws(hour("2024-01-01T00:00"))
        assert find_revisions(empty(DVOL_SCHEMA), new, asked, revised_at=LATER).is_empty()
