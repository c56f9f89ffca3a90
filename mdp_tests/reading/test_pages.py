"""Pages of stored candles and, after them, of those the live buffer holds alone."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from mdp.domain.interval import Interval
from mdp.domain.live import Buffer, CandleState, LiveCandle
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.ports import OHLCV, Slice
from mdp.reading.pages import Wanted, read_page
from mdp.reading.view import View
from mdp.storage import MemoryStore
from mdp_tests.support.builders import MARKET, at, candles, every_minute, window

M1, MINUTE = Timeframe.M1, timedelta(minutes=1)
EVERYTHING = window("2016-01-01", "2025-12-31")


def store_with(*rows):
    store = MemoryStore()
    store.replace(OHLCV, Slice(MARKET, (M1,), EVERYTHING), candles(*rows))
    return store


def live(start, end, *, state=CandleState.CLOSED):
    return [
        LiveCandle((moment - EPOCH) // timedelta(microseconds=1), 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1, 1, state, "stream",
                   (moment + MINUTE - EPOCH) // timedelta(microseconds=1))
        for moment in (at(start) + count * MINUTE for count in range(window(start, end).slots(M1)))
    ]  # fmt: skip


def buffer_of(*candles_):
    return Buffer(MARKET, M1, 500, tuple(candles_), 1, 0, is_stale=False)


def opened(page):
    return [moment.strftime("%H:%M") for moment in page.rows["open_time"]]


def page_of(store, start, end, *, limit=10, buffer=None, is_first=True, **view):
    return read_page(View(store, **view), Wanted(MARKET, M1, window(start, end), limit, is_first), buffer)


TEN = every_minute("2024-12-30T10:00", "2024-12-30T10:05")


def test_pages_together_are_exactly_one_read():
    days = ("2016-02-29", "2020-02-29T23:58", "2024-12-30T10:00", "2025-01-31T23:59")
    store = store_with(*(row for day in days for row in every_minute(day, (at(day) + 3 * MINUTE).isoformat()[:16])))
    whole = store.read(OHLCV, Slice(MARKET, (M1,), EVERYTHING))
    for limit in (5, 12, 13):
        found, start, more = [], EVERYTHING.start, True
        while more:
            page = read_page(View(store), Wanted(MARKET, M1, Interval(start, EVERYTHING.end), limit, not found))
            found.append(page.rows)
            more = page.has_more
            start = page.rows["open_time"][-1] + timedelta(microseconds=1)
        assert pl.concat(found).equals(whole)
        assert len(found) == -(-len(whole) // limit), "no page is empty or short but the last"


def test_no_more_than_the_page_needs_is_read():
    class Counting(MemoryStore):
        asked = timedelta()

        def read(self, table, part, *, columns=None):
            self.asked += part.window.duration
            return super().read(table, part, columns=columns)

    store = Counting()
    store.replace(OHLCV, Slice(MARKET, (M1,), EVERYTHING), candles(*TEN))
    read_page(View(store), Wanted(MARKET, M1, window("2024-12-30T10:00", "2025-12-01"), 4))
    assert store.asked < timedelta(days=2)


def test_closed_candles_that_are_not_stored_yet_follow_the_stored_ones():
    buffer = buffer_of(*live("2024-12-30T10:02", "2024-12-30T10:07"), *live(
        "2024-12-30T10:07", "2024-12-30T10:08", state=CandleState.FORMING))  # fmt: skip
    page = page_of(store_with(*TEN), "2024-12-30T10:01", "2024-12-30T10:09", buffer=buffer)
    assert opened(page) == ["10:01", "10:02", "10:03", "10:04", "10:05", "10:06"]
    assert (page.unstored, page.has_more) == (2, False)
    assert page.rows.filter(source="rest").height == 4, "what is stored counts where both know a candle"


def test_pages_go_on_from_storage_into_the_buffer():
    buffer = buffer_of(*live("2024-12-30T10:02", "2024-12-30T10:08"))
    first = page_of(store_with(*TEN), "2024-12-30T10:03", "2024-12-30T10:30", limit=3, buffer=buffer)
    assert (opened(first), first.unstored, first.has_more) == (["10:03", "10:04", "10:05"], 1, True)
    second = page_of(store_with(*TEN), "2024-12-30T10:06", "2024-12-30T10:30", limit=3, buffer=buffer, is_first=False)
    assert (opened(second), second.unstored, second.has_more) == (["10:06", "10:07"], 2, False)


def test_candles_beyond_a_hole_are_not_given_after_stored_ones():
    buffer = buffer_of(*live("2024-12-30T10:06", "2024-12-30T10:08"))
    page = page_of(store_with(*TEN), "2024-12-30T10:03", "2024-12-30T10:30", buffer=buffer)
    assert (opened(page), page.unstored, page.has_more) == (["10:03", "10:04"], 0, False)
    later = page_of(store_with(*TEN), "2024-12-30T10:05", "2024-12-30T10:30", buffer=buffer, is_first=False)
    assert opened(later) == [], "nor on the page after them"


def test_who_polls_from_where_storage_ends_is_not_led_over_a_hole():
    store, buffer = store_with(*TEN), buffer_of(*live("2024-12-30T10:09", "2024-12-30T10:12"))
    assert opened(page_of(store, "2024-12-30T10:05", "2024-12-30T11:00", buffer=buffer)) == []
    assert opened(page_of(store, "2024-12-30T10:09", "2024-12-30T11:00", buffer=buffer)) == ["10:09", "10:10", "10:11"]


def test_a_hole_inside_the_buffer_is_not_stepped_over_before_it_is_judged():
    store = store_with(*TEN)
    buffer = buffer_of(*live("2024-12-30T10:04", "2024-12-30T10:07"), *live("2024-12-30T10:09", "2024-12-30T10:12"))
    assert opened(page_of(store, "2024-12-30T10:04", "2024-12-30T11:00", buffer=buffer)) == ["10:04", "10:05", "10:06"]
    assert opened(page_of(store, "2024-12-30T10:07", "2024-12-30T11:00", buffer=buffer)) == []
    judged = store_with(
        *TEN,
        *every_minute("2024-12-30T10:05", "2024-12-30T10:07"),
        *every_minute("2024-12-30T10:09", "2024-12-30T10:10"),
    )
    found = opened(page_of(judged, "2024-12-30T10:06", "2024-12-30T11:00", buffer=buffer))
    assert found == ["10:06", "10:09", "10:10", "10:11"]


def test_a_buffer_alone_is_given_where_nothing_is_stored():
    buffer = buffer_of(*live("2024-12-30T10:06", "2024-12-30T10:08"))
    page = page_of(MemoryStore(), "2024-12-30T10:00", "2024-12-30T10:30", buffer=buffer)
    assert opened(page) == ["10:06", "10:07"]


def test_what_storage_left_out_is_not_taken_from_the_buffer():
    rows = [row for row in TEN if row["open_time"] != at("2024-12-30T10:02")]
    buffer = buffer_of(*live("2024-12-30T10:00", "2024-12-30T10:06"))
    page = page_of(
        store_with(*rows), "2024-12-30T10:01", "2024-12-30T10:09", buffer=buffer
    )  # fmt: skip
    assert opened(page) == ["10:01", "10:03", "10:04", "10:05"]
    only_it = page_of(
        store_with(*rows), "2024-12-30T10:02", "2024-12-30T10:03", buffer=buffer
    )  # fmt: skip
    assert opened(only_it) == []


def test_a_candle_stored_between_two_looks_is_given_once_and_leaves_no_hole():
    buffer = buffer_of(*live("2024-12-30T10:02", "2024-12-30T10:09"))

    class Flushing(MemoryStore):
        """Stores two more minutes after each read, as a worker does beside a reader."""

        def read(self, table, part, *, columns=None):
            found = super().read(table, part, columns=columns)
            newest = super().read(OHLCV, Slice(MARKET, (M1,), EVERYTHING))["open_time"][-1]
            until = (newest + 3 * MINUTE).isoformat()[:16]
            self.append_live(OHLCV, candles(*every_minute((newest + MINUTE).isoformat()[:16], until)))
            return found

    store = Flushing()
    store.replace(OHLCV, Slice(MARKET, (M1,), EVERYTHING), candles(*TEN))
    page = page_of(store, "2024-12-30T10:00", "2024-12-30T10:09", limit=20, buffer=buffer)
    assert opened(page) == [f"10:0{minute}" for minute in range(9)]


@pytest.mark.parametrize("view", [{"as_of": at("2026-06-01")}])
def test_an_earlier_state_knows_nothing_of_the_buffer(view):
    buffer = buffer_of(*live("2024-12-30T10:02", "2024-12-30T10:08"))
    page = page_of(store_with(*TEN), "2024-12-30T10:03", "2024-12-30T10:30", buffer=buffer, **view)
    assert (opened(page), page.unstored) == (["10:03", "10:04"], 0)
