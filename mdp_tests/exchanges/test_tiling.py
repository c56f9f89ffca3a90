"""Pages tile a window exactly, each within one answer; and which slots an answer left empty."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdp.domain.candles import TIME
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.exchanges.binance import pager as binance
from mdp.exchanges.bybit import pager as bybit
from mdp.exchanges.deribit import pager as deribit
from mdp.exchanges.frames import ANSWER_SCHEMA
from mdp.exchanges.okx import pager as okx
from mdp.exchanges.tiling import (
    Page,
    ceil_to_slot,
    confirming_pages,
    join_answers,
    missing_stretch,
    tile,
    to_milliseconds,
)

MINUTE = timedelta(minutes=1)
START = datetime(2024, 12, 30, tzinfo=UTC)
LATER = START + timedelta(days=400)
MARKET = {exchange: Market.parse(f"{exchange}:BTC-USDT") for exchange in ("binance", "bybit", "okx")}
DVOL = Market.parse("deribit:BTC-DVOL")

moments = st.integers(0, 4_000_000_000_000_000).map(lambda us: EPOCH + timedelta(microseconds=us))


@st.composite
def windows(draw, timeframe, most_slots=5_000):
    start = draw(moments)
    if draw(st.booleans()):
        start = timeframe.floor(start)
    length = draw(st.integers(0, most_slots * timeframe.microseconds))
    if draw(st.booleans()):
        length -= length % timeframe.microseconds
    return Interval(start, start + timedelta(microseconds=length))


@st.composite
def asked(draw):
    timeframe = draw(st.sampled_from(list(Timeframe)))
    return timeframe, draw(windows(timeframe))


def _tiles_exactly(parts, window):
    if window.is_empty:
        return parts == []
    ends = [part.end for part in parts]
    return [part.start for part in parts] == [window.start, *ends[:-1]] and ends[-1] == window.end


@given(asked(), st.integers(1, 1_000))
def test_parts_tile_the_window_and_none_holds_more_slots_than_allowed(question, most):
    timeframe, window = question
    parts = tile(window, timeframe, most)
    assert _tiles_exactly(parts, window)
    assert all(not part.is_empty and part.slots(timeframe) <= most for part in parts)
    assert sum(part.slots(timeframe) for part in parts) == window.slots(timeframe)
    assert len(parts) <= max(1, -(-window.slots(timeframe) // most)) + 1


@given(asked(), moments)
def test_each_exchanges_pages_tile_the_window_each_within_one_answer(question, now):
    timeframe, window = question
    for pages, most in (
        (binance.pages(window, timeframe), 1_000),
        (bybit.pages(window, timeframe), 1_000),
        (okx.pages(window, timeframe, now), 300),
        (deribit.pages(window, timeframe), 1_000),
    ):
        assert _tiles_exactly([page.window for page in pages], window)
        assert all(page.window.slots(timeframe) <= page.max_rows == most for page in pages)


@given(asked(), st.integers(-3_000, 3_000), st.integers(0, 10**9))
def test_okx_asks_candles_only_for_what_it_still_reaches(question, slots_later, microseconds):
    timeframe, window = question
    now = window.end + slots_later * timeframe.duration + timedelta(microseconds=microseconds)
    reach = timeframe.floor(now) - 1_440 * timeframe.duration
    for page in okx.pages(window, timeframe, now):
        if page.endpoint == okx.CANDLES:
            assert page.window.start >= reach + 60 * timeframe.duration
        else:
            # all of this has long been closed, so that history-candles has it
            assert page.window.end <= timeframe.floor(now) - 1_000 * timeframe.duration


def test_okx_splits_exactly_at_the_border():
    now = START + timedelta(seconds=17)
    border = START - okx.NEWEST_SLOTS * MINUTE
    pages = okx.pages(Interval(border - MINUTE, border + MINUTE), Timeframe.M1, now)
    assert [(page.window, page.endpoint) for page in pages] == [
        (Interval(border - MINUTE, border), okx.HISTORY_CANDLES),
        (Interval(border, border + MINUTE), okx.CANDLES),
    ]


def _rows_within(parameters):
    """Which milliseconds an exchange counts as inside, by its own words for the bounds."""
    if "startTime" in parameters:
        return parameters["startTime"], parameters["endTime"]
    if "start" in parameters:
        return parameters["start"], parameters["end"]
    if "before" in parameters:
        return parameters["before"] + 1, parameters["after"] - 1
    return parameters["start_timestamp"], parameters["end_timestamp"]


@given(windows(Timeframe.M1))
def test_the_bounds_that_are_sent_hold_the_milliseconds_of_the_window_and_no_others(window):
    spelled = [
        binance.parameters(MARKET["binance"], Timeframe.M1, Page(window, "", 1)),
        bybit.parameters(MARKET["bybit"], Timeframe.M1, Page(window, "", 1)),
        okx.parameters(MARKET["okx"], Timeframe.M1, Page(window, "", 1)),
        deribit.parameters(DVOL, Timeframe.M1, Page(window, "", 1)),
    ]
    for parameters in spelled:
        first, last = _rows_within(parameters)
        inside = [EPOCH + timedelta(milliseconds=ms) for ms in (first, last) if first <= last]
        outside = [EPOCH + timedelta(milliseconds=ms) for ms in (first - 1, last + 1)]
        assert all(window.contains(moment) for moment in inside)
        assert not any(window.contains(moment) for moment in outside)


@pytest.mark.parametrize(
    ("pager", "market", "timeframe", "expected"),
    [
        (binance, MARKET["binance"], Timeframe.D1, {"symbol": "BTCUSDT", "interval": "1d", "limit": 1_000}),
        (bybit, MARKET["bybit"], Timeframe.H4, {"symbol": "BTCUSDT", "interval": "240", "limit": 1_000}),
        (bybit, MARKET["bybit"], Timeframe.D1, {"category": "spot", "interval": "D"}),
        (okx, MARKET["okx"], Timeframe.H1, {"instId": "BTC-USDT", "bar": "1H", "limit": 300}),
        (okx, MARKET["okx"], Timeframe.D1, {"bar": "1Dutc"}),
        (deribit, DVOL, Timeframe.H1, {"currency": "BTC", "resolution": "3600"}),
        (deribit, DVOL, Timeframe.D1, {"resolution": "1D"}),
    ],
)
def test_a_request_is_spelled_in_the_exchanges_words(pager, market, timeframe, expected):
    page = Page(Interval(START, START + timeframe.duration), "", pager.MAX_ROWS)
    assert expected.items() <= pager.parameters(market, timeframe, page).items()


@pytest.mark.parametrize("pager", [binance, bybit, okx])
def test_every_timeframe_of_ours_has_a_spelling_of_its_own(pager):
    assert set(pager.TIMEFRAMES) == set(Timeframe)
    assert len(set(pager.TIMEFRAMES.values())) == len(Timeframe)


@given(st.integers(0, 4_000_000_000_000_000))
def test_milliseconds_are_those_at_or_after_the_moment(us):
    assert to_milliseconds(EPOCH + timedelta(microseconds=us)) == -(-us // 1_000)


@given(moments, st.sampled_from(list(Timeframe)))
def test_the_slot_at_or_after_a_moment_is_on_the_grid_and_less_than_one_slot_away(moment, timeframe):
    slot = ceil_to_slot(moment, timeframe)
    assert timeframe.is_on_grid(slot)
    assert timedelta() <= slot - moment < timeframe.duration


def _times(*moments_):
    return pl.Series("open_time", list(moments_), dtype=TIME)


def _minutes(*indices):
    return _times(*(START + index * MINUTE for index in indices))


def _span(first, last):
    return Interval(START + first * MINUTE, START + last * MINUTE)


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        (range(10), None),
        ([], (0, 10)),
        ([*range(4), *range(6, 10)], (4, 6)),
        (range(1, 10), (0, 1)),
        (range(9), (9, 10)),
        ([0, 2, 4, 9], (1, 9)),
        ([9, 0, 3, 3, 1, 2, 4, 5, 6, 7, 8], None),
        ([*range(-5, 4), *range(6, 20)], (4, 6)),
    ],
)
def test_the_stretch_from_the_first_to_the_last_empty_slot_is_found(present, missing):
    found = missing_stretch(_minutes(*present), _span(0, 10), Timeframe.M1, LATER)
    assert found == (None if missing is None else _span(*missing))


def test_a_candle_off_the_grid_fills_the_slot_it_opens_in():
    late = _times(*(START + index * MINUTE + timedelta(seconds=14.8) for index in range(10)))
    assert missing_stretch(late, _span(0, 10), Timeframe.M1, LATER) is None
    just_before = _times(*(START + index * MINUTE - timedelta(microseconds=1) for index in range(10)))
    assert missing_stretch(just_before, _span(0, 10), Timeframe.M1, LATER) == _span(9, 10)


def test_a_slot_owes_a_candle_from_the_instant_its_close_has_settled():
    close = START + 10 * MINUTE
    for settled_before, missing in ((close, _span(9, 10)), (close - timedelta(microseconds=1), None)):
        assert missing_stretch(_minutes(*range(9)), _span(0, 10), Timeframe.M1, settled_before) == missing
    assert missing_stretch(_minutes(), _span(0, 10), Timeframe.M1, START - MINUTE) is None


@given(st.sets(st.integers(0, 59)), st.integers(-5, 70))
def test_the_stretch_holds_every_settled_empty_slot_and_starts_and_ends_with_one(present, settled):
    owed = set(range(min(60, max(0, settled)))) - present
    found = missing_stretch(_minutes(*present), _span(0, 60), Timeframe.M1, START + settled * MINUTE)
    assert found == (_span(min(owed), max(owed) + 1) if owed else None)


def test_holes_of_an_answer_that_was_not_full_are_asked_again_in_one_page():
    page = Page(_span(0, 1_000), "klines", 1_000)
    assert confirming_pages(page, _minutes(*range(1_000)), Timeframe.M1, LATER) == []
    assert confirming_pages(page, _minutes(*range(3, 900)), Timeframe.M1, LATER) == [page]
    assert confirming_pages(page, _minutes(*range(900)), Timeframe.M1, LATER) == [
        Page(_span(900, 1_000), "klines", 1_000)
    ]


def test_holes_of_a_full_answer_are_asked_again_in_two_halves_that_cannot_be_full():
    page = Page(_span(0, 10), "klines", 10)
    received = _minutes(0, 0, 0, 0, 0, 0, 0, 0, 0, 9)
    parts = confirming_pages(page, received, Timeframe.M1, LATER)
    assert [part.window for part in parts] == [_span(1, 5), _span(5, 9)]


@given(st.sets(st.integers(0, 99)), st.booleans())
def test_confirming_pages_are_at_most_two_and_cover_what_is_missing(present, is_full):
    page = Page(_span(0, 100), "klines", len(present) if is_full else 1_000)
    parts = confirming_pages(page, _minutes(*present), Timeframe.M1, LATER)
    missing = [START + index * MINUTE for index in range(100) if index not in present]
    assert len(parts) <= 2
    assert all(any(part.window.contains(slot) for part in parts) for slot in missing)


def _frame(*rows):
    filler = dict.fromkeys(ANSWER_SCHEMA)
    records = [{**filler, "open_time": START + index * MINUTE, "close": close} for index, close in rows]
    return pl.DataFrame(records, schema=ANSWER_SCHEMA)


def _said(frame):
    return [((moment - START) // MINUTE, close) for moment, close in frame.select("open_time", "close").iter_rows()]


def test_a_second_answer_adds_what_is_new_and_what_differs_but_no_repetition():
    first = _frame((0, 1.0), (1, 1.0), (1, 1.0))
    again = _frame((1, 1.0), (1, 2.0), (2, 1.0)).with_columns(fetched_at=START)
    assert _said(join_answers(first, [again])) == [(0, 1.0), (1, 1.0), (1, 1.0), (1, 2.0), (2, 1.0)]


def test_rows_that_a_second_answer_repeats_within_itself_are_kept():
    assert _said(join_answers(_frame((0, 1.0)), [_frame((2, 1.0), (2, 1.0))])) == [(0, 1.0), (2, 1.0), (2, 1.0)]


HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("continuation", "expected"),
    [
        (None, None),
        (50 * HOUR_MS, 50 * HOUR_MS),
        (10 * HOUR_MS, 10 * HOUR_MS),
        (10 * HOUR_MS - 1, None),  # before the start
        (99 * HOUR_MS + 5, None),  # no older slot than was asked
        (99 * HOUR_MS - 1, 99 * HOUR_MS - 1),
        (500 * HOUR_MS, None),
    ],
)
def test_a_continuation_is_followed_only_into_older_slots_of_the_page(continuation, expected):
    asked_for = {"start_timestamp": 10 * HOUR_MS, "end_timestamp": 100 * HOUR_MS - 1}
    assert deribit.next_end(continuation, asked_for, Timeframe.H1) == expected
