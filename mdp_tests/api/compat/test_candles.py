"""What one question is answered with, out of stored candles and live ones, however they meet."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from mdp.api.compat.candles import NEVER_US, Asked, Keep, select, usable
from mdp.api.compat.joining import Joined, Source
from mdp.api.compat.lengths import MINUTE_US, minutes, weeks
from mdp.domain.candles import CANDLE_SCHEMA
from mdp.domain.live import Buffer, CandleState, LiveCandle
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp_tests.support.builders import MARKET, at, candle, candles, every_minute

NOW = "2024-12-30T12:00:30"
MINUTE = timedelta(minutes=1)


def us(text):
    return (at(text) - EPOCH) // EPOCH.resolution


def asked(length=None, *, start=None, end=None, limit=500, with_open=True):
    return Asked(
        MARKET,
        length or minutes(1),
        0 if start is None else us(start),
        NEVER_US if end is None else us(end),
        limit,
        Keep.NEWEST if start is None else Keep.OLDEST,
        with_open,
    )


def ask(question, stored=(), live=(), now=NOW, step_us=MINUTE_US, listed=None, excused=()):
    """Answer a question; ``live`` are rows, the last of which is forming if it ends after ``now``.

    ``excused`` are stretches of which it is known that no minute will ever be stored.
    """
    kept = candles(*stored)
    spans = [(us(first), us(end)) for first, end in excused]

    def read(first_us, end_us):
        assert first_us < end_us
        opened = pl.col("open_time").to_physical()
        return kept.filter((opened >= first_us) & (opened < end_us))

    frame = candles(*live) if live else CANDLE_SCHEMA.to_frame()
    frame = frame.with_columns(is_closed=pl.col("open_time").to_physical() + step_us <= us(now))
    joined = Joined(Source(read, frame, step_us, lambda *_: spans), question.length, us(now), listed and us(listed))
    rows = select(question, joined, us(now))
    assert rows["open_time"].is_sorted()
    assert rows["open_time"].is_unique().all()
    return rows


def opened(rows):
    return [moment.strftime("%H:%M") for moment in rows["open_time"]]


def test_past_what_is_stored_come_live_candles_without_hole_or_doubling():
    stored = every_minute("2024-12-30T11:00", "2024-12-30T11:50")
    live = every_minute("2024-12-30T11:40", "2024-12-30T12:01", close=7.0)
    rows = ask(asked(limit=1_000), stored, live)
    assert len(rows) == 61
    assert rows["close"].to_list() == [100.0] * 50 + [7.0] * 11
    assert rows["is_closed"].to_list() == [True] * 60 + [False]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 7, 15, 500])
@pytest.mark.parametrize("start", range(11))
def test_paging_forwards_waits_before_a_hole_between_what_is_stored_and_what_is_live(start, limit):
    stored = every_minute("2024-12-30T11:00", "2024-12-30T11:10")
    live = every_minute("2024-12-30T11:20", "2024-12-30T12:01")
    rows = ask(asked(start=f"2024-12-30T11:{start:02}", limit=limit), stored, live)
    assert opened(rows) == [f"11:{minute:02}" for minute in range(start, 10)][:limit]


def test_a_longer_candle_at_a_hole_is_not_given_half():
    stored = every_minute("2024-12-30T11:00", "2024-12-30T11:10")
    live = every_minute("2024-12-30T11:20", "2024-12-30T12:01")
    assert opened(ask(asked(minutes(3), start="2024-12-30T11:00"), stored, live)) == ["11:00", "11:03", "11:06"]
    after = ask(asked(minutes(3)), stored, live)
    assert (opened(after)[0], after["volume"].to_list()) == ("11:21", [6.0] * 13 + [2.0])
    earlier = every_minute("2024-12-30T08:00", "2024-12-30T10:10")
    rows = ask(
        asked(minutes(120)), earlier, every_minute("2024-12-30T11:20", "2024-12-30T11:51"), "2024-12-30T11:50:30"
    )
    assert opened(rows) == ["08:00"]


def test_live_candles_of_a_market_of_which_nothing_is_stored_are_all_there_is():
    live = every_minute("2024-12-30T11:58", "2024-12-30T12:01")
    for question in (asked(), asked(start="2024-12-30T11:00"), asked(start="1970-01-01")):
        assert opened(ask(question, live=live)) == ["11:58", "11:59", "12:00"]


def test_the_newest_candles_do_not_reach_over_a_hole_before_the_live_ones():
    stored = every_minute("2024-12-30T11:00", "2024-12-30T11:10")
    live = every_minute("2024-12-30T11:58", "2024-12-30T12:01")
    assert opened(ask(asked(), stored, live)) == ["11:58", "11:59", "12:00"]
    # of longer candles only those that hold all of their minutes
    assert opened(ask(asked(minutes(3)), stored, live)) == ["12:00"]


def without(rows, first, end):
    return [row for row in rows if not at(f"2024-12-30T{first}") <= row["open_time"] < at(f"2024-12-30T{end}")]


def excuse(first, end):
    return [(f"2024-12-30T{first}", f"2024-12-30T{end}")]


def test_a_hole_inside_what_is_stored_stays_a_hole_where_nothing_will_ever_fill_it():
    stored = without(every_minute("2024-12-30T11:00", "2024-12-30T11:10"), "11:04", "11:05")
    whole = ["11:00", "11:01", "11:02", "11:03", "11:05", "11:06", "11:07", "11:08", "11:09"]
    for question in (asked(start="2024-12-30T11:00"), asked()):
        assert opened(ask(question, stored, excused=excuse("11:04", "11:05"))) == whole


@pytest.mark.parametrize("excused", [(), excuse("10:09", "10:40"), excuse("10:20", "11:00")])
@pytest.mark.parametrize("limit", [1, 2, 5, 9, 10, 60, 500])
def test_paging_forwards_stops_at_a_hole_in_storage_that_may_still_be_filled(limit, excused):
    stored = without(every_minute("2024-12-30T10:00", "2024-12-30T11:30"), "10:09", "11:00")
    since, found = at("2024-12-30T10:00"), []
    while page := opened(ask(asked(start=since.isoformat()[:16], limit=limit), stored, excused=excused)):
        found += page
        since = at(f"2024-12-30T{page[-1]}") + MINUTE
    assert found == [f"10:0{minute}" for minute in range(9)]


def test_paging_forwards_stops_at_a_hole_inside_the_live_candles():
    stored = every_minute("2024-12-30T11:00", "2024-12-30T11:10")
    live = without(every_minute("2024-12-30T11:05", "2024-12-30T12:01"), "11:35", "11:45")
    assert opened(ask(asked(start="2024-12-30T11:30"), stored, live)) == [f"11:{minute}" for minute in range(30, 35)]
    assert opened(ask(asked(start="2024-12-30T11:35"), stored, live)) == []
    assert opened(ask(asked(minutes(3), start="2024-12-30T11:27"), stored, live)) == ["11:27", "11:30"]
    # the newest begin after it, and what is asked for from a start on, and fits into a page, ends before it
    assert opened(ask(asked(), stored, live))[0] == "11:45"
    window = replace(asked(start="2024-12-30T11:30", end="2024-12-30T11:50"), keep=Keep.NEWEST, from_start=True)
    assert opened(ask(window, stored, live)) == [f"11:{minute}" for minute in range(30, 35)]


@pytest.mark.parametrize("question", [asked(minutes(30), start="2024-12-30T09:30"), asked(minutes(30))])
def test_a_longer_candle_that_lacks_a_minute_which_may_still_come_is_not_given(question):
    stored = without(every_minute("2024-12-30T09:30", "2024-12-30T11:30"), "10:09", "10:20")
    is_forwards = question.keep is Keep.OLDEST
    assert opened(ask(question, stored)) == (["09:30"] if is_forwards else ["10:30", "11:00"])
    rows = ask(question, stored, excused=excuse("10:09", "10:20"))
    assert rows["volume"].to_list() == [60.0, 38.0, 60.0, 60.0]


def test_a_stored_longer_candle_counts_by_its_minutes():
    opens = ("10:00", "10:15", "10:30", "10:45")
    stored = [candle(f"2024-12-30T{open_}", timeframe="15m", minutes=15 - 4 * (open_ == "10:30")) for open_ in opens]
    question, step = asked(minutes(15), start="2024-12-30T10:00"), {"step_us": 15 * MINUTE_US}
    assert opened(ask(question, stored, **step)) == ["10:00", "10:15"]
    assert opened(ask(question, stored, excused=excuse("10:31", "10:35"), **step)) == list(opens)
    half = asked(minutes(30), start="2024-12-30T10:00")
    assert opened(ask(half, stored, **step)) == ["10:00"]


def test_a_minute_before_the_live_ones_that_no_exchange_had_does_not_hide_what_is_before_it():
    stored = every_minute("2024-12-30T10:00", "2024-12-30T11:39")
    live = every_minute("2024-12-30T11:40", "2024-12-30T12:01")
    assert len(ask(asked(limit=100), stored, live)) == 21
    rows = ask(asked(limit=100), stored, live, excused=excuse("11:39", "11:40"))
    assert (len(rows), opened(rows)[0], opened(rows)[-1]) == (100, "10:20", "12:00")
    forwards = ask(asked(start="2024-12-30T11:30"), stored, live, excused=excuse("11:39", "11:40"))
    assert len(forwards) == 30


@pytest.mark.parametrize("start", [None, "2009-01-01"])
def test_no_more_than_two_months_of_minutes_are_read_at_once_and_no_more_than_are_needed(start):
    asked_for = []
    one = candles(*every_minute("2024-12-30T11:59", "2024-12-30T12:00"))

    def read(first_us, end_us):
        asked_for.append(end_us - first_us)
        count = min(end_us - first_us, 120 * 1_440 * MINUTE_US) // MINUTE_US
        opens_us = pl.Series(range(count), dtype=pl.Int64) * MINUTE_US + first_us
        rows = one.drop("open_time").join(
            pl.DataFrame({"open_time": opens_us.cast(one.schema["open_time"])}), how="cross"
        )
        return rows.select(one.columns)

    live = CANDLE_SCHEMA.to_frame().with_columns(is_closed=pl.lit(value=True))
    length = minutes(1_440, zone_us=MINUTE_US)
    rows = select(
        asked(length, start=start, limit=100), Joined(Source(read, live, MINUTE_US), length, us(NOW)), us(NOW)
    )
    assert len(rows) == 100
    assert max(asked_for) <= 60 * 1_440 * MINUTE_US
    assert sum(asked_for) <= 103 * 1_440 * MINUTE_US


@pytest.mark.parametrize("start", ["1970-01-01", "2017-08-17", "2024-12-29"])
def test_a_start_before_everything_gives_the_first_candles(start):
    stored = every_minute("2024-12-30T11:00", "2024-12-30T11:10")
    assert opened(ask(asked(start=start, limit=2), stored)) == ["11:00", "11:01"]


def test_the_newest_are_found_however_long_ago_they_were():
    stored = every_minute("2019-12-30T11:00", "2019-12-30T11:10")
    assert opened(ask(asked(limit=2), stored)) == ["11:08", "11:09"]
    assert opened(ask(asked(limit=2, end="2019-12-30T11:05"), stored)) == ["11:04", "11:05"]


def test_times_far_away_give_nothing():
    stored = every_minute("2024-12-30T11:00", "2024-12-30T11:10")
    for question in (asked(start="2024-12-30T12:01"), asked(start="9990-01-01"), asked(end="2009-01-01")):
        assert ask(question, stored).is_empty()
    assert ask(asked(start="2024-12-30T11:05", end="2024-12-30T11:04"), stored).is_empty()


def test_both_bounds_count_and_need_not_lie_on_the_grid():
    stored = every_minute("2024-12-30T11:00", "2024-12-30T11:10")
    assert opened(ask(asked(start="2024-12-30T11:02", end="2024-12-30T11:04"), stored)) == ["11:02", "11:03", "11:04"]
    between = asked(start="2024-12-30T11:02:00.001", end="2024-12-30T11:03:59.999")
    assert opened(ask(between, stored)) == ["11:03"]


def test_finished_candles_alone_are_as_many_as_were_asked_for():
    live = every_minute("2024-12-30T11:40", "2024-12-30T12:01")
    assert opened(ask(asked(limit=2, with_open=False), live=live)) == ["11:58", "11:59"]


def test_longer_candles_are_made_of_stored_and_live_ones_and_the_last_is_forming():
    stored = every_minute("2024-12-30T11:00", "2024-12-30T11:55")
    live = every_minute("2024-12-30T11:50", "2024-12-30T12:01", close=7.0)
    rows = ask(asked(minutes(3), start="2024-12-30T11:51"), stored, live)
    assert opened(rows) == ["11:51", "11:54", "11:57", "12:00"]
    assert rows["volume"].to_list() == [6.0, 6.0, 6.0, 2.0]
    assert rows["open"].to_list() == [100.0, 100.0, 7.0, 7.0]
    assert rows["is_closed"].to_list() == [True, True, True, False]


@pytest.mark.parametrize(
    ("until", "found"),
    [("11:09", ["11:00", "11:03", "11:06"]), ("11:08", ["11:00", "11:03"]), ("11:10", ["11:00", "11:03", "11:06"])],
)
def test_a_longer_candle_whose_end_is_not_there_yet_is_not_given(until, found):
    stored = every_minute("2024-12-30T11:00", f"2024-12-30T{until}")
    assert opened(ask(asked(minutes(3), start="2024-12-30T11:00"), stored)) == found


def test_a_longer_candle_whose_last_minute_no_exchange_had_is_given_all_the_same():
    stored = without(every_minute("2024-12-30T11:00", "2024-12-30T11:10"), "11:05", "11:06")
    question = asked(minutes(3), start="2024-12-30T11:00", limit=2)
    rows = ask(question, stored, excused=excuse("11:05", "11:06"))
    assert (opened(rows), rows["volume"].to_list()) == (["11:00", "11:03"], [6.0, 4.0])
    assert opened(ask(question, stored)) == ["11:00"]


def days(first, last):
    return [
        candle(day, timeframe="1d") for day in pl.datetime_range(at(first), at(last), "1d", closed="left", eager=True)
    ]


def test_a_week_of_which_a_day_was_never_collected_is_not_given():
    day_us = 1_440 * MINUTE_US
    week = asked(weeks(), start="2024-12-01")
    stored = days("2024-12-02", "2024-12-30")
    assert [row.day for row in ask(week, stored, step_us=day_us)["open_time"]] == [2, 9, 16, 23]
    less = [row for row in stored if row["open_time"].day != 12]
    assert [row.day for row in ask(week, less, step_us=day_us)["open_time"]] == [2]
    newest = asked(weeks(), limit=5)
    assert [row.day for row in ask(newest, less, step_us=day_us)["open_time"]] == [16, 23]


def test_the_first_week_of_a_market_begins_when_the_market_did():
    day_us = 1_440 * MINUTE_US
    week, stored = asked(weeks(), start="2024-12-01"), days("2024-12-05", "2024-12-16")
    assert [row.day for row in ask(week, stored, step_us=day_us)["open_time"]] == [9]
    assert [row.day for row in ask(week, stored, step_us=day_us, listed="2024-12-05T04:00")["open_time"]] == [2, 9]


def live_candle(minute, state):
    open_us = us("2024-12-30T12:00") + minute * MINUTE_US
    return LiveCandle(open_us, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1, 1, state, "stream", open_us)


def test_a_forming_candle_is_never_given_once_its_time_is_over_nor_what_follows_it():
    forming, closed = CandleState.FORMING, CandleState.CLOSED
    given = tuple(live_candle(*one) for one in ((0, closed), (1, forming), (2, forming)))
    buffer = Buffer(MARKET, Timeframe.M1, 10, given, 1, 0)
    assert usable(buffer, us("2024-12-30T12:01:30")) == list(given)
    assert usable(buffer, us("2024-12-30T12:02")) == list(given[:1])
    stale = Buffer(MARKET, Timeframe.M1, 10, given, 1, 0, is_stale=True)
    assert usable(stale, us("2024-12-30T12:01:30")) == list(given[:1])
    assert usable(None, 0) == []
