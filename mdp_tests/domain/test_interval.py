"""Half-open ranges of time, and reading and writing times."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdp.domain.interval import DAY, Interval, format_time, merge, parse_time, subtract
from mdp.domain.timeframe import Timeframe
from mdp_tests.domain.strategies import START, moments, timeframes, windows
from mdp_tests.support.builders import at, window

MICROSECOND = timedelta(microseconds=1)
STEP = timedelta(hours=7)
small = windows(step=STEP, most=12)


def instants(*intervals):
    """Instants that the intervals hold, of those at which a range of ``small`` can start or end."""
    return {step for step in range(-13, 26) if any(part.contains(START + step * STEP) for part in intervals)}


class TestBounds:
    def test_start_is_inside_and_end_is_not(self):
        asked = window("2024-01-01", "2024-01-02")
        assert asked.contains(at("2024-01-01"))
        assert asked.contains(at("2024-01-02") - MICROSECOND)
        assert not asked.contains(at("2024-01-02"))
        assert not asked.contains(at("2024-01-01") - MICROSECOND)

    def test_an_empty_range_holds_nothing_not_even_its_start(self):
        nothing = window("2024-01-01", "2024-01-01")
        assert nothing.is_empty
        assert not nothing.contains(nothing.start)
        assert not window("2024-01-01T00:00", "2024-01-01T00:01").is_empty

    def test_an_end_before_its_start_is_refused_with_both(self):
        with pytest.raises(ValueError, match=r"end: .* 2024-01-02T00:00:00\+00:00, got 2024-01-01T00:00:00\+00:00"):
            window("2024-01-02", "2024-01-01")

    @pytest.mark.parametrize("name", ["start", "end"])
    @pytest.mark.parametrize(
        "moment", [at("2024-07-01").replace(tzinfo=None), datetime(2024, 7, 1, tzinfo=ZoneInfo("Europe/London")),
                   datetime(2024, 7, 1, tzinfo=timezone(timedelta(hours=8)))]
    )  # fmt: skip
    def test_a_naive_or_foreign_time_is_refused_by_name(self, name, moment):
        bounds = {"start": at("2024-01-01"), "end": at("2024-12-31"), name: moment}
        with pytest.raises(ValueError, match=f"^{name}: expected a UTC time, got datetime"):
            Interval(**bounds)

    def test_a_zone_that_is_at_utc_only_in_winter_becomes_utc(self):
        london = ZoneInfo("Europe/London")
        winter = Interval(datetime(2024, 3, 30, tzinfo=london), datetime(2024, 3, 31, tzinfo=london))
        assert winter.start.tzinfo is UTC
        assert winter.end.tzinfo is UTC
        # in London this would be 23:00 UTC: the clocks go forward in between
        assert (winter.start + 2 * DAY).astimezone(UTC) == at("2024-04-01")

    def test_equal_ranges_are_equal_whatever_zone_object_they_came_with(self):
        etc = ZoneInfo("Etc/UTC")  # what DuckDB hands out
        other = Interval(datetime(2024, 1, 1, tzinfo=etc), datetime(2024, 1, 2, tzinfo=etc))
        assert other == window("2024-01-01", "2024-01-02")
        assert len({other, window("2024-01-01", "2024-01-02")}) == 1

    def test_it_says_itself_with_its_bounds(self):
        assert str(window("2024-01-01", "2024-01-01T00:00:30")) == "[2024-01-01T00:00:00Z, 2024-01-01T00:00:30Z)"


class TestDays:
    def test_a_day_ends_where_the_next_begins(self):
        assert Interval.of_day(date(2024, 2, 29)) == window("2024-02-29", "2024-03-01")

    def test_days_are_given_by_the_first_and_the_last(self):
        assert Interval.of_days(date(2024, 2, 28), date(2024, 3, 1)) == window("2024-02-28", "2024-03-02")
        assert Interval.of_days(date(2024, 2, 28), date(2024, 2, 28)) == Interval.of_day(date(2024, 2, 28))

    def test_a_range_inside_a_day_is_its_own_only_part(self):
        part = window("2024-01-01T01:00", "2024-01-01T02:00")
        assert list(part.days()) == [part]
        assert list(part.months()) == [part]

    def test_months_end_on_the_first_whatever_their_length(self):
        parts = list(window("2023-12-15T12:00", "2024-03-02").months())
        assert [part.start for part in parts] == [
            at("2023-12-15T12:00"),
            at("2024-01-01"),
            at("2024-02-01"),
            at("2024-03-01"),
        ]
        assert parts[-1].end == at("2024-03-02")

    def test_a_range_that_ends_on_a_boundary_has_no_empty_last_part(self):
        assert len(list(window("2024-01-31", "2024-02-01").months())) == 1
        assert len(list(window("2024-01-31", "2024-02-01").days())) == 1

    @given(windows(step=timedelta(hours=5)))
    def test_parts_tile_the_range_and_end_on_their_boundaries(self, whole):
        for parts, is_boundary in (
            (list(whole.days()), lambda moment: Timeframe.D1.is_on_grid(moment)),
            (list(whole.months()), lambda moment: Timeframe.D1.is_on_grid(moment) and moment.day == 1),
            (list(whole.split(timedelta(hours=4))), lambda moment: Timeframe.H4.is_on_grid(moment)),
        ):
            assert not any(part.is_empty for part in parts)
            assert all(earlier.end == later.start for earlier, later in pairwise(parts))
            assert all(is_boundary(part.end) for part in parts[:-1])
            assert (parts[0].start, parts[-1].end) == (whole.start, whole.end) if parts else whole.is_empty
            assert not any(is_boundary(part.start + DAY * n) for part in parts for n in range(1, 32)
                           if part.start + DAY * n < part.end and is_boundary(part.start))  # fmt: skip


class TestSlots:
    @given(timeframes, windows(step=timedelta(seconds=20), most=9_000))
    def test_the_count_is_that_of_the_open_times_inside(self, timeframe, asked):
        candidate, found = timeframe.floor(asked.start), 0
        while candidate < asked.end:
            found += asked.contains(candidate)
            candidate += timeframe.duration
        assert asked.slots(timeframe) == found

    @pytest.mark.parametrize(
        ("start", "end", "expected"),
        [
            ("2024-01-01T00:00", "2024-01-01T00:02", 2),
            ("2024-01-01T00:00", "2024-01-01T00:02:00.000001", 3),
            ("2024-01-01T00:00:00.000001", "2024-01-01T00:02", 1),
            ("2024-01-01T00:00:10", "2024-01-01T00:00:50", 0),
            ("2024-01-01T00:00", "2024-01-01T00:00", 0),
            ("2024-01-01T00:00:10", "2024-01-01T00:00:10", 0),
        ],
    )
    def test_a_microsecond_decides(self, start, end, expected):
        assert window(start, end).slots(Timeframe.M1) == expected


class TestSets:
    @given(small, small)
    def test_what_two_ranges_share_is_in_both(self, one, other):
        shared = one.intersect(other)
        assert instants(shared) == instants(one) & instants(other)
        assert one.covers(shared)

    @given(small, small)
    def test_a_range_covers_what_adds_nothing_to_it(self, one, other):
        if not other.is_empty:
            assert one.covers(other) == (instants(one, other) == instants(one))

    def test_a_range_covers_itself_but_not_a_microsecond_more(self):
        day = window("2024-01-01", "2024-01-02")
        assert day.covers(day)
        assert not day.covers(Interval(day.start, day.end + MICROSECOND))
        assert not day.covers(Interval(day.start - MICROSECOND, day.end))

    @given(st.lists(small, max_size=5))
    def test_merging_keeps_every_instant_and_leaves_nothing_to_merge(self, parts):
        merged = merge(parts)
        assert instants(*merged) == instants(*parts)
        assert all(earlier.end < later.start for earlier, later in pairwise(merged))
        assert not any(part.is_empty for part in merged)

    @given(small, st.lists(small, max_size=5))
    def test_subtracting_leaves_exactly_what_no_part_holds(self, whole, parts):
        left = subtract(whole, parts)
        assert instants(*left) == instants(whole) - instants(*parts)
        assert all(earlier.end < later.start for earlier, later in pairwise(left))
        assert not any(part.is_empty for part in left)
        assert all(whole.covers(part) for part in left)

    def test_ranges_that_touch_become_one(self):
        assert merge([window("2024-01-02", "2024-01-03"), window("2024-01-01", "2024-01-02")]) == [
            window("2024-01-01", "2024-01-03")
        ]

    def test_ranges_a_microsecond_apart_stay_two(self):
        first, second = window("2024-01-01", "2024-01-02"), Interval(at("2024-01-02") + MICROSECOND, at("2024-01-03"))
        assert merge([second, first]) == [first, second]

    def test_a_range_inside_another_does_not_shorten_it(self):
        assert merge([window("2024-01-01", "2024-01-09"), window("2024-01-02", "2024-01-03")]) == [
            window("2024-01-01", "2024-01-09")
        ]

    def test_ranges_that_share_nothing_share_an_empty_range_at_the_nearer_bound(self):
        day = window("2024-01-02", "2024-01-03")
        assert day.intersect(window("2024-01-05", "2024-01-06")) == window("2024-01-03", "2024-01-03")
        assert day.intersect(window("2023-12-05", "2023-12-06")) == window("2024-01-02", "2024-01-02")
        assert day.intersect(window("2024-01-03", "2024-01-04")).is_empty


class TestText:
    @given(moments)
    def test_a_time_that_was_written_reads_the_same(self, moment):
        assert parse_time(format_time(moment)) == moment
        assert format_time(moment).endswith("Z")

    def test_a_fraction_is_written_only_when_there_is_one(self):
        assert format_time(at("2024-12-30T08:15")) == "2024-12-30T08:15:00Z"
        assert format_time(at("2024-12-30T08:15:00.000001")) == "2024-12-30T08:15:00.000001Z"

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2024-12-30", "2024-12-30"),
            (" 2024-12-30\n", "2024-12-30"),
            ("20241230", "2024-12-30"),
            ("2024-12-30T08:15Z", "2024-12-30T08:15"),
            ("2024-12-30 08:15:30+00:00", "2024-12-30T08:15:30"),
            ("2024-12-30T02:00+05:30", "2024-12-29T20:30"),
            ("2024-02-29T23:59:59.999999Z", "2024-02-29T23:59:59.999999"),
        ],
    )
    def test_dates_and_times_with_an_offset_are_read_as_utc(self, text, expected):
        read = parse_time(text)
        assert read == at(expected)
        assert read.tzinfo is UTC

    @pytest.mark.parametrize(
        "text", ["2024-12-30T08:15", "2024-12-30 08:15:30", "20241230T08", "2024W01T08", "2024W01108", "2024-W01-1"]
    )
    def test_a_time_without_an_offset_is_refused_because_nobody_knows_where_it_is(self, text):
        with pytest.raises(ValueError, match=r"^expected a (time with its offset|date such as)") as refused:
            parse_time(text)
        assert repr(text) in str(refused.value)

    @pytest.mark.parametrize(
        "text",
        ["", "yesterday", "2024-02-30", "2023-02-29", "2024-13-01", "30.12.2024", "1735516800", "2024-12-30T25:00Z",
         "2024-12-30T08:15+99:00", "0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00"],
    )  # fmt: skip
    def test_what_is_no_moment_of_the_calendar_is_refused_with_an_example(self, text):
        with pytest.raises(ValueError, match=r"such as 2024-12-30T08:15Z, got ") as refused:
            parse_time(text)
        assert repr(text) in str(refused.value)
