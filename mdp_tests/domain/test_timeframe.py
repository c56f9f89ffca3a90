"""The grids of the six candle lengths."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given

from mdp.domain.timeframe import EPOCH, RESAMPLED, Timeframe
from mdp_tests.domain.strategies import moments, timeframes
from mdp_tests.support.builders import at


@pytest.mark.parametrize(
    ("text", "seconds"), [("1m", 60), ("5m", 300), ("15m", 900), ("1h", 3_600), ("4h", 14_400), ("1d", 86_400)]
)
def test_lengths_agree_in_every_unit(text, seconds):
    timeframe = Timeframe(text)
    assert timeframe.seconds == seconds
    assert timeframe.milliseconds == seconds * 1_000
    assert timeframe.microseconds == seconds * 1_000_000
    assert timeframe.minutes * 60 == seconds
    assert timeframe.duration == timedelta(seconds=seconds)
    assert f"{timeframe}" == text


def test_resampled_are_all_but_the_minute_and_each_is_made_of_whole_candles_of_the_one_before():
    assert [Timeframe.M1, *RESAMPLED] == list(Timeframe)
    assert all(longer.seconds % shorter.seconds == 0 for shorter, longer in pairwise([Timeframe.M1, *RESAMPLED]))


@given(timeframes, moments)
def test_a_slot_holds_the_moment_it_was_floored_from(timeframe, moment):
    open_time = timeframe.floor(moment)
    assert open_time <= moment < open_time + timeframe.duration
    assert timeframe.is_on_grid(open_time)
    assert timeframe.is_on_grid(moment) == (open_time == moment)


@given(timeframes, timeframes, moments)
def test_a_longer_slot_is_tiled_by_shorter_ones(one, other, moment):
    longer, shorter = (one, other) if one.seconds > other.seconds else (other, one)
    assert shorter.is_on_grid(longer.floor(moment))


def test_a_day_starts_at_utc_midnight_whatever_the_zone_of_the_question():
    evening = datetime(2024, 3, 9, 23, 30, tzinfo=timezone(-timedelta(hours=5)))
    assert Timeframe.D1.floor(evening) == at("2024-03-10")


def test_one_microsecond_separates_two_slots():
    boundary = at("2024-01-01T04:00")
    assert Timeframe.H4.floor(boundary) == boundary
    assert Timeframe.H4.floor(boundary - timedelta(microseconds=1)) == at("2024-01-01T00:00")
    assert not Timeframe.M1.is_on_grid(boundary + timedelta(microseconds=1))


def test_the_grid_reaches_before_the_epoch():
    assert Timeframe.H1.floor(EPOCH - timedelta(seconds=1)) == datetime(1969, 12, 31, 23, tzinfo=UTC)


def test_a_length_we_do_not_know_is_refused():
    with pytest.raises(ValueError, match="2m"):
        Timeframe("2m")
