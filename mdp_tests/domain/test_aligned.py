"""Values stand at their slots, and a slot without a value is empty."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdp.domain.aligned import SlotGrid, whole_slots
from mdp.domain.candles import TIME
from mdp.domain.interval import Interval
from mdp.domain.timeframe import Timeframe
from mdp.errors import InvariantViolation
from mdp_tests.support.builders import at, times, window

HOURS = window("2024-12-30T00:30", "2024-12-30T04:00")


def placed(open_times, *columns, grid=None):
    grid = grid or SlotGrid(HOURS, Timeframe.H1)
    return [column.to_list() for column in grid.place(open_times, [pl.Series(column) for column in columns])]


def test_the_slots_are_those_that_open_inside_the_window():
    grid = SlotGrid(HOURS, Timeframe.H1)
    assert grid.open_times.to_list() == [at(f"2024-12-30T0{hour}:00") for hour in (1, 2, 3)]
    assert grid.open_times.dtype == TIME
    assert whole_slots(HOURS, Timeframe.H1) == window("2024-12-30T01:00", "2024-12-30T04:00")


@pytest.mark.parametrize(
    ("asked", "whole"),
    [
        (("2024-12-30", "2024-12-31"), ("2024-12-30", "2024-12-31")),
        (("2024-12-30T00:00:01", "2024-12-31T00:00:01"), ("2024-12-31", "2025-01-01")),
        (("2024-12-30T00:00:01", "2024-12-30T23:59"), ("2024-12-31", "2024-12-31")),
    ],
)
def test_whole_slots_reach_from_the_first_start_to_the_last_end(asked, whole):
    assert whole_slots(window(*asked), Timeframe.D1) == window(*whole)


def test_a_slot_without_a_value_is_null_and_no_neighbour_is_carried_over():
    (found,) = placed(times("2024-12-30T01:00", "2024-12-30T03:00"), [1.0, 3.0])
    assert found == [1.0, None, 3.0]


def test_a_value_outside_the_window_has_no_slot():
    (found,) = placed(times("2024-12-30T00:00", "2024-12-30T02:00", "2024-12-30T04:00"), [0.0, 2.0, 4.0])
    assert found == [None, 2.0, None]


def test_a_null_stays_null_and_a_whole_number_stays_whole():
    found = placed(times("2024-12-30T03:00", "2024-12-30T01:00"), [None, 7], [3.0, 1.0])
    assert found == [[7, None, None], [1.0, None, 3.0]]


@pytest.mark.parametrize("moments", [("T01:00", "T02:00", "T01:00"), ("T01:00", "T02:00", "T02:00")])
def test_two_values_for_one_slot_are_an_error_and_neither_is_chosen(moments):
    with pytest.raises(InvariantViolation, match="key_is_unique: 1 rows"):
        placed(times(*(f"2024-12-30{moment}" for moment in moments)), [1.0, 2.0, 3.0])


def test_a_value_off_the_grid_is_an_error():
    with pytest.raises(InvariantViolation, match="open_time_is_on_grid: 1 rows"):
        placed(times("2024-12-30T01:00", "2024-12-30T02:01"), [1.0, 2.0])


@given(st.sets(st.integers(0, 19)), st.integers(0, 59), st.integers(0, 1200))
def test_placing_is_looking_each_slot_up(present, offset, length):
    start = at("2024-12-30") + timedelta(minutes=offset)
    grid = SlotGrid(Interval(start, start + timedelta(minutes=length)), Timeframe.H1)
    stored = {at("2024-12-30") + timedelta(hours=hour): float(hour) for hour in present}
    (found,) = placed(times(*stored), pl.Series(list(stored.values()), dtype=pl.Float64), grid=grid)
    assert found == [stored.get(slot) for slot in grid.open_times]
