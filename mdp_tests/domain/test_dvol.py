"""The volatility index by the minute."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mdp.domain.candles import DVOL_SCHEMA, RAW_SCHEMA, REVISION_SCHEMA, empty
from mdp.domain.dvol import HOUR, find_revisions, hours_needed, minutes_from_hours
from mdp.domain.interval import Interval
from mdp.domain.timeframe import Timeframe
from mdp_tests.domain.strategies import MINUTE, START, windows
from mdp_tests.support.builders import NOW, at, hour, raws, window

LATER = NOW + timedelta(days=1)
ages = st.sampled_from([1, 59, 60, 61, 90, 119, 120, 121, 180, 1440])


@st.composite
def hours(draw):
    """Hours of four days around ``START``, some missing, each with a close of its own."""
    present = sorted(
        draw(st.sets(st.integers(-48, 47), max_size=96)) | set(draw(st.sampled_from([(), range(-48, 48)])))
    )
    return raws(*(hour(START + offset * HOUR.duration, close=50.0 + offset) for offset in present))


def one_by_one(frame, asked, max_age_minutes):
    """Minute, value, hour and age, as slowly and plainly as possible."""
    known = [(row["open_time"], row["close"]) for row in frame.iter_rows(named=True)]
    made, minute = [], asked.start
    while minute < asked.end:
        closed = [(opened, close) for opened, close in known if opened + timedelta(hours=1) <= minute]
        if closed:
            opened, close = max(closed)
            age = (minute - opened) // MINUTE - 60
            if age < max_age_minutes:
                made.append((minute, close, opened, age))
        minute += MINUTE
    return made


class TestMinutes:
    @given(hours(), windows(step=7 * MINUTE, most=60), ages)
    def test_each_minute_has_the_close_of_the_last_closed_hour_unless_it_is_too_old(self, frame, asked, max_age):
        made = minutes_from_hours(frame, asked, max_age_minutes=max_age)
        assert made.schema == DVOL_SCHEMA
        found = made.select("open_time", "dvol", "hour_open_time", "age_minutes").rows()
        assert found == one_by_one(frame, asked, max_age)

    @given(hours(), windows(step=7 * MINUTE, most=60), ages)
    def test_the_hours_said_to_be_needed_are_enough(self, frame, asked, max_age):
        needed = hours_needed(asked, max_age)
        some = frame.filter(pl.col("open_time").is_between(needed.start, needed.end, closed="left"))
        assert_frame_equal(
            minutes_from_hours(some, asked, max_age_minutes=max_age),
            minutes_from_hours(frame, asked, max_age_minutes=max_age), check_exact=True,
        )  # fmt: skip

    @given(windows(step=7 * MINUTE, most=60).filter(lambda asked: not asked.is_empty), ages)
    def test_the_first_of_the_needed_hours_is_needed(self, asked, max_age):
        first = hours_needed(asked, max_age).start
        assert HOUR.is_on_grid(first)
        alone = minutes_from_hours(raws(hour(first)), asked, max_age_minutes=max_age)
        # it is the last hour before a long outage: some minute of the window still lives on it, unless it closes later
        assert len(alone) > 0 or first + HOUR.duration >= asked.end
        too_early = minutes_from_hours(raws(hour(first - HOUR.duration)), asked, max_age_minutes=max_age)
        assert too_early.is_empty()

    def test_an_hour_speaks_from_the_minute_it_closes_and_not_before(self):
        frame = raws(hour("2024-01-01T00:00", 50.0), hour("2024-01-01T01:00", 60.0))
        made = minutes_from_hours(frame, window("2024-01-01T00:58", "2024-01-01T02:02"), max_age_minutes=120)
        assert made["open_time"][0] == at("2024-01-01T01:00")
        assert made["age_minutes"].to_list() == [*range(60), 0, 1]
        assert made["dvol"].to_list() == [50.0] * 60 + [60.0] * 2

    def test_a_value_is_given_to_the_last_minute_before_it_is_too_old(self):
        made = minutes_from_hours(
            raws(hour("2024-01-01T00:00")), window("2024-01-01T00:00", "2024-01-02"), max_age_minutes=90
        )
        assert (made["open_time"][0], made["open_time"][-1]) == (at("2024-01-01T01:00"), at("2024-01-01T02:29"))
        assert made["age_minutes"][-1] == 89

    def test_nothing_is_filled_across_an_outage(self):
        frame = raws(hour("2024-01-01T00:00", 50.0), hour("2024-01-01T10:00", 60.0))
        made = minutes_from_hours(frame, window("2024-01-01T00:00", "2024-01-01T12:00"), max_age_minutes=60)
        assert made["open_time"].dt.hour().unique().sort().to_list() == [1, 11]
        assert len(made) == 120

    def test_it_says_whose_minutes_they_are_and_where_their_hour_came_from(self):
        frame = raws(hour("2024-01-01T00:00", source="archive", fetched_at=LATER))
        row = minutes_from_hours(frame, window("2024-01-01T01:00", "2024-01-01T01:01"), max_age_minutes=60).row(
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
            made = minutes_from_hours(frame, within, max_age_minutes=120)
            assert made.schema == DVOL_SCHEMA
            assert made.is_empty()

    def test_hours_that_all_close_after_the_window_make_no_minutes(self):
        asked = window("2024-01-01T00:00", "2024-01-01T01:00")
        assert minutes_from_hours(raws(hour("2024-01-01T00:00")), asked, max_age_minutes=120).is_empty()

    @pytest.mark.parametrize(
        "bounds", [("2024-01-01T00:00:30", "2024-01-01T01:00"), ("2024-01-01T00:00", "2024-01-01T01:00:30")]
    )
    def test_a_window_off_the_grid_of_minutes_is_refused(self, bounds):
        with pytest.raises(ValueError, match="window: expected bounds on the grid of minutes, got"):
            minutes_from_hours(raws(hour("2024-01-01")), window(*bounds), max_age_minutes=120)

    def test_a_day_needs_the_hours_before_it_that_may_still_speak(self):
        day = window("2024-01-02", "2024-01-03")
        assert hours_needed(day, 60) == window("2024-01-01T23:00", "2024-01-03")
        assert hours_needed(day, 61) == window("2024-01-01T22:00", "2024-01-03")
        assert hours_needed(day, 120) == window("2024-01-01T22:00", "2024-01-03")


class TestRevisions:
    DAY = window("2024-01-01T00:00", "2024-01-01T06:00")

    def minutes(self, *rows):
        return minutes_from_hours(raws(*rows), self.DAY, max_age_minutes=120)

    def test_the_same_hours_revise_nothing(self):
        made = self.minutes(hour("2024-01-01T00:00"), hour("2024-01-01T01:00"))
        assert find_revisions(made, made.with_columns(ingested_at=LATER), revised_at=LATER).is_empty()

    def test_an_hour_with_another_close_is_one_revision_of_that_hour(self):
        old = self.minutes(hour("2024-01-01T00:00", 50.0), hour("2024-01-01T01:00", 60.0))
        new = self.minutes(hour("2024-01-01T00:00", 50.0), hour("2024-01-01T01:00", 61.0))
        found = find_revisions(old, new, revised_at=LATER)
        assert found.schema == REVISION_SCHEMA
        (row,) = found.iter_rows(named=True)
        assert (row["timeframe"], row["open_time"]) == (Timeframe.H1.value, at("2024-01-01T01:00"))
        assert (row["old_close"], row["new_close"], row["revised_at"]) == (60.0, 61.0, LATER)
        assert [row[f"old_{name}"] for name in ("open", "high", "low", "volume", "quote_volume", "trades")] == [
            None
        ] * 6

    def test_an_hour_that_fills_a_gap_is_no_revision_though_it_changes_minutes(self):
        old = self.minutes(hour("2024-01-01T00:00", 50.0), hour("2024-01-01T02:00", 60.0))
        new = self.minutes(
            hour("2024-01-01T00:00", 50.0), hour("2024-01-01T01:00", 55.0), hour("2024-01-01T02:00", 60.0)
        )
        assert not old["dvol"].equals(new["dvol"])
        assert find_revisions(old, new, revised_at=LATER).is_empty()

    def test_an_hour_that_vanished_is_a_revision_without_a_new_close(self):
        old = self.minutes(hour("2024-01-01T00:00", 50.0), hour("2024-01-01T02:00", 60.0))
        new = self.minutes(hour("2024-01-01T00:00", 50.0))
        (row,) = find_revisions(old, new, revised_at=LATER).iter_rows(named=True)
        assert (row["open_time"], row["old_close"], row["new_close"]) == (at("2024-01-01T02:00"), 60.0, None)

    def test_nothing_stored_yet_revises_nothing(self):
        new = self.minutes(hour("2024-01-01T00:00"))
        assert find_revisions(empty(DVOL_SCHEMA), new, revised_at=LATER).is_empty()
