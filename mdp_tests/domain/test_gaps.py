"""Which slots are missing, and why."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdp.domain.gaps import Cause, Coverage, Fact, Gap, Tiling, explain, find_gaps, tile
from mdp.domain.interval import Interval, merge
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp_tests.domain.strategies import MINUTE, START, minute_candles, windows
from mdp_tests.support.builders import at, times, window

DAY = Interval(START, START + timedelta(days=1))
HOUR = window("2024-01-01T00:00", "2024-01-01T01:00")


def slots_of(interval, timeframe=Timeframe.M1):
    return [interval.start + slot * timeframe.duration for slot in range(interval.slots(timeframe))]


class TestFindGaps:
    @given(minute_candles(most=1_440), windows(step=MINUTE, most=1_500))
    def test_present_slots_and_gaps_tile_the_window_exactly(self, frame, asked):
        gaps = find_gaps(frame["open_time"], Timeframe.M1, asked)
        present = [moment for moment in frame["open_time"].to_list() if asked.contains(moment)]
        missing = [slot for gap in gaps for slot in slots_of(gap)]
        assert sorted(present + missing) == slots_of(asked)

    @given(minute_candles(most=1_440), windows(step=MINUTE, most=1_500))
    def test_no_two_gaps_touch_and_none_is_empty(self, frame, asked):
        gaps = find_gaps(frame["open_time"], Timeframe.M1, asked)
        assert all(earlier.end < later.start for earlier, later in pairwise(gaps))
        assert not any(gap.is_empty for gap in gaps)
        assert all(asked.covers(gap) for gap in gaps)

    @given(st.lists(st.integers(-900, 4_500)), st.randoms())
    def test_order_repetition_and_times_off_the_grid_change_nothing(self, seconds, random):
        asked = Interval(START, START + timedelta(hours=1))
        clean = sorted({START + timedelta(seconds=second) for second in seconds if second % 60 == 0})
        noisy = [START + timedelta(seconds=second) for second in seconds]
        noisy += random.choices(noisy, k=3) if noisy else []
        random.shuffle(noisy)
        assert find_gaps(times(*noisy), Timeframe.M1, asked) == find_gaps(times(*clean), Timeframe.M1, asked)

    @pytest.mark.parametrize("timeframe", Timeframe)
    def test_every_grid_has_gaps_of_its_own_length(self, timeframe):
        asked = Interval(START, START + 5 * timeframe.duration)
        present = times(*(START + slot * timeframe.duration for slot in (0, 2, 3)))
        assert find_gaps(present, timeframe, asked) == [
            Interval(START + timeframe.duration, START + 2 * timeframe.duration),
            Interval(START + 4 * timeframe.duration, START + 5 * timeframe.duration),
        ]

    def test_nothing_present_is_one_gap_as_long_as_the_window(self):
        assert find_gaps(times(), Timeframe.M1, DAY) == [DAY]

    def test_an_empty_window_has_no_gap(self):
        nothing = Interval(START, START)
        assert find_gaps(times(), Timeframe.M1, nothing) == []
        assert find_gaps(times(START), Timeframe.M1, nothing) == []

    def test_a_candle_on_the_start_counts_and_one_on_the_end_does_not(self):
        one_minute = window("2024-01-01T00:00", "2024-01-01T00:01")
        assert find_gaps(times("2024-01-01T00:00"), Timeframe.M1, one_minute) == []
        assert find_gaps(times("2024-01-01T00:01"), Timeframe.M1, one_minute) == [one_minute]
        assert find_gaps(times("2023-12-31T23:59"), Timeframe.M1, one_minute) == [one_minute]

    def test_the_first_and_the_last_slot_can_be_missing(self):
        inside = times(*slots_of(window("2024-01-01T00:01", "2024-01-01T00:59")))
        assert find_gaps(inside, Timeframe.M1, HOUR) == [
            window("2024-01-01T00:00", "2024-01-01T00:01"), window("2024-01-01T00:59", "2024-01-01T01:00"),
        ]  # fmt: skip

    def test_a_candle_off_the_grid_holds_no_slot(self):
        three = window("2024-01-01T00:00", "2024-01-01T00:03")
        shifted = times("2024-01-01T00:00", "2024-01-01T00:01:00.000001", "2024-01-01T00:02")
        assert find_gaps(shifted, Timeframe.M1, three) == [window("2024-01-01T00:01", "2024-01-01T00:02")]

    def test_a_grid_shifted_as_a_whole_holds_no_slot_at_all(self):
        shifted = times(*(slot + timedelta(seconds=30) for slot in slots_of(HOUR)))
        assert find_gaps(shifted, Timeframe.M1, HOUR) == [HOUR]

    def test_gaps_come_as_utc_times_of_the_standard_library(self):
        (gap,) = find_gaps(times(), Timeframe.M1, HOUR)
        assert gap.start.tzinfo is HOUR.start.tzinfo

    @pytest.mark.parametrize(
        "asked", [window("2024-01-01T00:00", "2024-01-01T00:30"), window("2024-01-01T00:30", "2024-01-01T01:00")]
    )
    def test_a_window_off_the_grid_is_refused(self, asked):
        with pytest.raises(ValueError, match="within: expected bounds on the grid of 1h, got "):
            find_gaps(times(), Timeframe.H1, asked)


def known(listed_at, outages):
    """Facts as the pipeline gives them: the listing before the outages."""
    listing = [] if listed_at is None else [Fact(Interval(EPOCH, listed_at), Cause.BEFORE_LISTING)]
    return [*listing, *(Fact(outage, Cause.EXCHANGE_OUTAGE) for outage in outages)]


class TestExplain:
    stretches = st.lists(windows(step=MINUTE, most=50), max_size=4)

    @given(stretches, stretches, st.one_of(st.none(), st.integers(-60, 60)))
    def test_the_same_slots_are_covered_once_each(self, missing, outages, listed):
        listed_at = None if listed is None else START + listed * MINUTE
        missing = merge(missing)
        gaps = explain(missing, known(listed_at, outages))
        assert Counter(slot for gap in gaps for slot in slots_of(gap.interval)) == Counter(
            slot for stretch in missing for slot in slots_of(stretch)
        )
        assert gaps == sorted(gaps, key=lambda gap: gap.interval)

    @given(stretches, stretches, st.one_of(st.none(), st.integers(-60, 60)))
    def test_every_slot_has_the_cause_that_holds_for_it(self, missing, outages, listed):
        listed_at = None if listed is None else START + listed * MINUTE
        for gap in explain(merge(missing), known(listed_at, outages)):
            for slot in slots_of(gap.interval):
                if listed_at is not None and slot < listed_at:
                    assert gap.cause is Cause.BEFORE_LISTING
                elif any(outage.contains(slot) for outage in outages):
                    assert gap.cause is Cause.EXCHANGE_OUTAGE
                else:
                    assert gap.cause is Cause.UNKNOWN

    @given(stretches, stretches)
    def test_gaps_of_one_cause_never_touch(self, missing, outages):
        gaps = explain(merge(missing), known(START, outages))
        assert not any(one.interval.end == two.interval.start and one.cause == two.cause for one, two in pairwise(gaps))
        assert not any(gap.interval.is_empty for gap in gaps)

    def test_a_stretch_over_a_listing_and_an_outage_has_three_causes(self):
        assert explain([HOUR], known(at("2024-01-01T00:10"), [window("2024-01-01T00:05", "2024-01-01T00:40")])) == [
            Gap(window("2024-01-01T00:00", "2024-01-01T00:10"), Cause.BEFORE_LISTING),
            Gap(window("2024-01-01T00:10", "2024-01-01T00:40"), Cause.EXCHANGE_OUTAGE),
            Gap(window("2024-01-01T00:40", "2024-01-01T01:00"), Cause.UNKNOWN),
        ]

    def test_a_stretch_that_starts_at_the_listing_is_not_before_it(self):
        assert explain([HOUR], known(HOUR.start, [])) == [Gap(HOUR, Cause.UNKNOWN)]
        assert explain([HOUR], known(HOUR.end, [])) == [Gap(HOUR, Cause.BEFORE_LISTING)]

    def test_outages_may_come_from_anything_that_yields_them(self):
        halves = (
            part
            for part in [window("2024-01-01T00:30", "2024-01-01T01:00"), window("2024-01-01T00:00", "2024-01-01T00:30")]
        )
        two = [window("2024-01-01T00:00", "2024-01-01T00:10"), window("2024-01-01T00:50", "2024-01-01T01:00")]
        assert explain(iter(two), known(None, halves)) == [Gap(part, Cause.EXCHANGE_OUTAGE) for part in two]

    def test_what_is_known_of_a_stretch_is_told_with_it_and_the_first_fact_counts(self):
        first, second = window("2024-01-01T00:00", "2024-01-01T00:20"), window("2024-01-01T00:10", "2024-01-01T00:30")
        facts = [Fact(first, Cause.EXCHANGE_OUTAGE, "a"), Fact(second, Cause.UNKNOWN, "b")]
        assert explain([window("2024-01-01T00:05", "2024-01-01T00:40")], facts) == [
            Gap(window("2024-01-01T00:05", "2024-01-01T00:20"), Cause.EXCHANGE_OUTAGE, "a"),
            Gap(window("2024-01-01T00:20", "2024-01-01T00:30"), Cause.UNKNOWN, "b"),
            Gap(window("2024-01-01T00:30", "2024-01-01T00:40"), Cause.UNKNOWN, None),
        ]

    def test_stretches_of_two_days_that_touch_stay_two(self):
        days = [window("2024-01-01", "2024-01-02"), window("2024-01-02", "2024-01-03")]
        assert explain(days, []) == [Gap(day, Cause.UNKNOWN) for day in days]

    def test_nothing_missing_needs_no_explanation(self):
        assert explain([], known(START, [HOUR])) == []


class TestTile:
    stretches = st.lists(windows(step=MINUTE, most=40), max_size=6)

    @given(stretches, stretches)
    def test_it_counts_the_slots_as_one_by_one(self, missing, recorded):
        missing = merge(missing)
        holes, gaps = (Counter(slot for one in some for slot in slots_of(one)) for some in (missing, recorded))
        expected = Tiling(len(holes.keys() - gaps.keys()), gaps.total() - len(gaps.keys() & holes.keys()))
        assert tile(missing, recorded, Timeframe.M1) == expected

    def test_a_gap_that_is_recorded_twice_is_not_exact(self):
        assert tile([HOUR], [HOUR], Timeframe.M1).is_exact
        assert tile([HOUR], [HOUR, HOUR], Timeframe.M1) == Tiling(0, 60)


class TestCoverage:
    def test_its_share_is_present_of_expected_and_whole_for_nothing_expected(self):
        assert Coverage(4, 1, {Cause.UNKNOWN: 3}).share == 0.25
        assert Coverage(0, 0, {}).share == 1.0

    @pytest.mark.parametrize(
        ("cause", "is_explained"),
        [
            ("unfetched", False),
            ("exchange_outage", True),
            ("no_trades", True),
            ("before_listing", True),
            ("unknown", False),
        ],
    )
    def test_only_a_cause_that_leaves_nothing_to_find_out_explains(self, cause, is_explained):
        assert Cause(cause).is_explained is is_explained
        assert Coverage(2, 1, {Cause(cause): 1}).is_explained is is_explained

    def test_it_is_complete_when_what_nobody_explains_is_permanent(self):
        assert Coverage(3, 1, {Cause.EXCHANGE_OUTAGE: 1, Cause.UNKNOWN: 1}, permanent=1).is_complete
        assert not Coverage(3, 1, {Cause.UNKNOWN: 2}, permanent=1).is_complete
        assert not Coverage(3, 1, {Cause.UNKNOWN: 2}, permanent=2).is_explained

    def test_every_cause_was_considered(self):
        assert len(Cause) == 5

    def test_a_cause_of_no_slot_does_not_matter(self):
        assert Coverage(1, 1, {Cause.UNKNOWN: 0}).is_explained
        assert not Coverage(3, 1, {Cause.EXCHANGE_OUTAGE: 1, Cause.UNKNOWN: 1}).is_explained


def test_open_times_in_another_frame_of_the_same_minutes_give_the_same_gaps():
    """A filtered series has several chunks: its memory is not one piece."""
    minutes = pl.concat([times(*slots_of(HOUR)[:10]), times(*slots_of(HOUR)[20:])], rechunk=False)
    assert find_gaps(minutes, Timeframe.M1, HOUR) == [window("2024-01-01T00:10", "2024-01-01T00:20")]
