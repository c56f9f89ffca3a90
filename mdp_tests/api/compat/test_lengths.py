"""Where the slots of every length open."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mdp.api.compat.lengths import HOUR_US, minutes, months, weeks
from mdp.api.compat.okx import BARS
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp_tests.support.builders import at


def us(text):
    return (at(text) - EPOCH) // EPOCH.resolution


def told(value):
    return (EPOCH + timedelta(microseconds=value)).isoformat()[:16]


@pytest.mark.parametrize(
    ("length", "opened", "next_one"),
    [
        (minutes(3), "2024-12-30T10:12", "2024-12-30T10:15"),
        (minutes(1_440), "2024-12-30T00:00", "2024-12-31T00:00"),
        (weeks(), "2024-12-30T00:00", "2025-01-06T00:00"),
        (months(), "2024-12-01T00:00", "2025-01-01T00:00"),
        (BARS["1D"], "2024-12-29T16:00", "2024-12-30T16:00"),
        (BARS["12H"], "2024-12-30T04:00", "2024-12-30T16:00"),
        (BARS["6H"], "2024-12-30T10:00", "2024-12-30T16:00"),
        (weeks(zone_us=8 * HOUR_US), "2024-12-29T16:00", "2025-01-05T16:00"),
        (BARS["1M"], "2024-11-30T16:00", "2024-12-31T16:00"),
        (minutes(60, zone_us=5 * HOUR_US + HOUR_US * 3 // 4), "2024-12-30T09:15", "2024-12-30T10:15"),
    ],
)
def test_the_slot_that_holds_a_moment_opens_where_its_zone_says(length, opened, next_one):
    found = length.floor(us("2024-12-30T10:14"))
    assert (told(found), told(length.following(found))) == (opened, next_one)
    assert length.ceil(found) == found
    assert told(length.ceil(found + 1)) == next_one


def test_every_month_follows_the_one_before():
    length, month, found = months(), us("2023-12-01"), []
    for _ in range(15):
        month = length.following(month)
        found.append(told(month)[:7])
    assert found == [f"2024-{number:02}" for number in range(1, 13)] + ["2025-01", "2025-02", "2025-03"]


@pytest.mark.parametrize(
    ("length", "native", "made_of"),
    [
        (minutes(60), Timeframe.H1, Timeframe.H1),
        (minutes(3), None, Timeframe.M1),
        (minutes(30), None, Timeframe.M15),
        (minutes(720), None, Timeframe.H4),
        (BARS["6H"], None, Timeframe.H1),
        (BARS["1D"], None, Timeframe.H4),
        (BARS["1Dutc"], Timeframe.D1, Timeframe.D1),
        (weeks(), None, Timeframe.D1),
        (BARS["1M"], None, Timeframe.H4),
        (minutes(1, zone_us=HOUR_US), Timeframe.M1, Timeframe.M1),
    ],
)
def test_a_length_is_made_of_the_longest_stored_one_that_tiles_it(length, native, made_of):
    assert (length.native, length.made_of) == (native, made_of)
