"""Buffers against the rules written down slowly: whatever comes, in whatever order, ends in the same candles."""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import pairwise, product

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mdp.domain.buffers import MarketBuffers
from mdp.domain.candles import RAW_SCHEMA
from mdp.domain.interval import Interval
from mdp.domain.live import CandleState, LiveCandle
from mdp.domain.live_frames import from_frame, to_frame
from mdp.domain.live_merging import failed_rules
from mdp.domain.market import Market
from mdp.domain.resample import resample_all
from mdp.domain.rules import RULES, Asked, split_by_rules
from mdp.domain.timeframe import EPOCH, RESAMPLED, Timeframe
from mdp_tests.support.builders import MARKET

FORMING, CLOSED, CONFIRMED, CORRECTED = CandleState
MINUTE = 60_000_000
DAY = 1_440 * MINUTE
START = 1_709_164_800_000_000 - 100 * MINUTE  # a hundred minutes before 2024-02-29
INDEX = Market.parse("deribit:BTC-DVOL")

FEW = settings(max_examples=8, derandomize=True)
MANY = settings(max_examples=150)


def traded(noise: random.Random, open_us: int, *, idle: float, index: bool) -> LiveCandle:
    """A finished minute; flat and without volume now and then."""
    corners = [round(noise.uniform(90, 110), 2) for _ in range(2)]
    low, high = round(min(corners) - noise.random(), 2), round(max(corners) + noise.random(), 2)
    amounts = (round(noise.expovariate(0.1), 8), noise.expovariate(0.001), noise.randrange(1, 99))
    if noise.random() < idle:
        corners, low, high, amounts = [corners[0]] * 2, corners[0], corners[0], (0.0, 0.0, 0)
    elif noise.random() < 0.02:
        amounts = (amounts[0], None, None)
    if index:
        amounts = (None, None, None)
    return LiveCandle(open_us, corners[0], high, low, corners[1], *amounts, 1, CLOSED, "stream", open_us + MINUTE)


def story(noise: random.Random, minute: LiveCandle) -> list[LiveCandle]:
    """What is heard of a minute: it grows, closes, is confirmed, is told otherwise; or only some of it."""
    heard = []
    if minute.volume is not None:
        for part in sorted(noise.random() for _ in range(noise.randrange(3))):
            received = minute.open_us + round(part * MINUTE)
            grown = minute._replace(state=FORMING, volume=minute.volume * part, received_us=received)
            heard.append(grown)
    heard += [minute] * noise.randrange(3)
    if noise.random() < 0.5:
        heard.append(minute._replace(state=CONFIRMED, source="rest", received_us=minute.received_us + 5_000_000))
    if noise.random() < 0.1:
        other = minute._replace(high=minute.high + 1, received_us=minute.received_us + noise.randrange(1, 10**7))
        heard.append(other._replace(state=noise.choice([CLOSED, CONFIRMED])))
    return heard


def expected_minute(heard: list[LiveCandle]) -> LiveCandle:
    """The rule for one slot, with all that was heard of it in hand."""
    finished = [candle for candle in heard if candle.state is not FORMING]
    if not finished:
        return max(heard, key=lambda candle: (candle.volume or 0, candle.received_us))
    rest = [candle for candle in finished if candle.state is not CLOSED]
    last = max(rest or finished, key=lambda candle: candle.received_us)
    if any(not one.says_same(other) for one, other in pairwise(finished)):
        return last._replace(state=CORRECTED)
    return last._replace(state=CONFIRMED if rest else CLOSED)


def state_of(parts: list[LiveCandle], slots: int) -> CandleState:
    states = {part.state for part in parts}
    if FORMING in states or len(parts) < slots:
        return FORMING
    return CORRECTED if CORRECTED in states else CLOSED if CLOSED in states else CONFIRMED


@st.composite
def stories(draw: st.DrawFn, most: int = 260):
    """Everything that is heard of some minutes around midnight, in any order, and which of them are absent."""
    noise = random.Random(draw(st.integers(0, 2**32)))
    idle, gaps = draw(st.sampled_from([0.0, 0.3, 0.9])), draw(st.sampled_from([0.0, 0.05, 0.5]))
    index = draw(st.booleans())
    slots = range(START, START + draw(st.integers(1, most)) * MINUTE, MINUTE)
    by_slot = {}
    for slot in slots:
        if noise.random() >= gaps and (heard := story(noise, traded(noise, slot, idle=idle, index=index))):
            by_slot[slot] = heard
    arriving = [candle for heard in by_slot.values() for candle in heard]
    arriving += noise.choices(arriving, k=len(arriving) // 4) if arriving else []
    draw(st.sampled_from([arriving.reverse, lambda: noise.shuffle(arriving), lambda: None]))()
    return by_slot, arriving, [slot for slot in slots if slot not in by_slot]


def values(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.drop("source", "ingested_at")


def check_story(told) -> None:
    by_slot, arriving, absent = told
    buffers = MarketBuffers(MARKET, 100)
    silent = [slot for slot in absent if slot % 3 == 0]
    for slot in absent[: len(absent) // 2]:
        if slot not in silent:
            buffers.absent(slot)
    for candle in arriving:
        buffers.take(candle)
    for slot in absent[len(absent) // 2 :]:
        if slot not in silent:
            buffers.absent(slot)
    minutes = [expected_minute(by_slot[slot]) for slot in sorted(by_slot)]
    held = buffers.buffer(Timeframe.M1)
    assert [candle[:10] for candle in held] == [candle[:10] for candle in minutes if candle.open_us >= held[0].open_us]
    assert buffers.counts.inconsistent == 0
    known_to_be_empty = set(absent) - set(silent)
    for timeframe, frame in resample_all(to_frame(MARKET, Timeframe.M1, minutes)).items():
        shown = buffers.buffer(timeframe)
        assert_frame_equal(values(to_frame(MARKET, timeframe, shown)), values(frame[-len(shown) :]), check_exact=True)
        for bucket in shown:
            slots = range(bucket.open_us, bucket.open_us + timeframe.microseconds, MINUTE)
            parts = [minute for minute in minutes if minute.open_us in slots]
            empty = sum(slot in known_to_be_empty for slot in slots)
            assert bucket.state is state_of(parts, len(slots) - empty), (timeframe, bucket)


class TestWhateverComes:
    @given(stories())
    @FEW
    def test_ends_in_what_resampling_makes_of_the_minutes_and_in_their_states(self, told):
        check_story(told)

    @pytest.mark.slow
    @given(stories(most=1_300))
    @MANY
    def test_ends_in_what_resampling_makes_of_long_stretches_too(self, told):
        check_story(told)

    @given(stories(most=60))
    @FEW
    def test_the_changes_that_were_told_say_what_the_buffers_hold(self, told):
        """Whoever keeps only what changes were told has the same candles."""
        _, arriving, absent = told
        buffers, mirror = MarketBuffers(MARKET, 100), {}
        for candle in arriving:
            for change in buffers.take(candle):
                mirror[change.timeframe, change.candle.open_us] = change.candle
        for slot in absent:
            mirror.update({(change.timeframe, change.candle.open_us): change.candle for change in buffers.absent(slot)})
        assert not buffers.lost()
        for timeframe in Timeframe:
            told_of = sorted(candle for (length, _), candle in mirror.items() if length is timeframe)
            assert [c[:10] for c in told_of] == [c[:10] for c in buffers.buffer(timeframe)]

    @given(stories(most=60))
    @FEW
    def test_all_of_it_again_changes_nothing(self, told):
        _, arriving, absent = told
        buffers = MarketBuffers(MARKET, 100)
        for _ in range(2):
            for slot in absent:
                buffers.absent(slot)
            before = buffers.buffers()
            again = [buffers.take(candle) for candle in arriving]
        assert not any(again)
        assert buffers.buffers() == before


class TestHistory:
    @given(st.integers(0, 2**32), st.sampled_from([10, 30, 100]), st.booleans())
    @settings(max_examples=3, derandomize=True)
    def test_seeded_from_any_start_in_any_order_it_equals_the_whole(self, seed, size, index):
        check_seeding(seed, size, index=index, days=1)

    @pytest.mark.slow
    @given(st.integers(0, 2**32), st.sampled_from([10, 30, 100, 300]), st.booleans())
    @settings(max_examples=40)
    def test_seeded_from_very_many_starts_it_equals_the_whole(self, seed, size, index):
        check_seeding(seed, size, index=index, days=4)


def check_seeding(seed: int, size: int, *, index: bool, days: int) -> None:
    """Only the ring of each timeframe is given, closed candles of the longer ones; then minutes go on.

    Minutes that the exchange does not have are told to be absent, those of the day on which it begins too.
    """
    noise = random.Random(seed)
    gaps = noise.choice([0.0, 0.0, 0.1, 0.7])
    start = START - START % DAY - days * DAY
    until = START + noise.randrange(1, 700) * MINUTE
    now = until - noise.randrange(1, 300) * MINUTE
    slots = [slot for slot in range(start, until, MINUTE) if noise.random() >= gaps]
    minutes = {slot: traded(noise, slot, idle=0.3, index=index) for slot in slots}
    absent = [slot for slot in range(now - now % DAY, now, MINUTE) if slot not in minutes]
    whole = to_frame(MARKET, Timeframe.M1, minutes.values())
    longer = resample_all(whole, closed_by=EPOCH + timedelta(microseconds=now))
    rings = {Timeframe.M1: [minute for slot, minute in minutes.items() if now - (size + 1) * MINUTE <= slot < now]}
    for timeframe in RESAMPLED:
        native = from_frame(longer[timeframe].tail(size + 1))
        rings[timeframe] = [candle._replace(source="rest", received_us=now) for candle in native]
    buffers = MarketBuffers(MARKET, size)
    for timeframe in noise.sample(list(rings), len(rings)):
        candles = rings[timeframe]
        buffers.seed(timeframe, noise.sample(candles, len(candles)), now_us=now)
        told = noise.randrange(len(absent) + 1)
        for slot in absent[told:]:
            buffers.absent(slot)
        del absent[told:]
    for slot in [*absent, *range(now, until, MINUTE)]:
        if slot in minutes:
            buffers.take(minutes[slot], now_us=slot)
        else:
            buffers.absent(slot)
    assert buffers.counts.inconsistent == 0, buffers.inconsistencies
    assert buffers.counts.refused == 0
    for timeframe, frame in resample_all(whole).items():
        shown, step = buffers.buffer(timeframe), timeframe.microseconds
        opened = frame["open_time"].to_physical()
        expected = values(frame.filter(opened >= opened[-1] - size * step))
        assert_frame_equal(values(to_frame(MARKET, timeframe, shown)), expected, rel_tol=1e-12, check_exact=False)
        finished = [candle.state is not FORMING for candle in shown]
        assert finished == [candle.open_us + step <= until for candle in shown], timeframe


ODD = (0.0, -1.0, 1.0, 2.0, float("nan"), float("inf"))


class TestRules:
    def test_a_candle_breaks_by_itself_the_rules_that_storage_says_it_breaks(self):
        prices = [(*corners, 1.0, 2.0, 3) for corners in product(ODD, repeat=4)]
        amounts = [(2.0, 2.5, 1.0, 2.0, *those) for those in product((None, *ODD), (None, *ODD), (None, -1, 0, 1))]
        candles = [
            LiveCandle(START + place * MINUTE + place % 2, *said, 1, CLOSED, "stream", START)
            for place, said in enumerate(prices + amounts)
        ]
        raw = to_frame(MARKET, Timeframe.M1, candles).with_columns(
            window_start="open_time", closed=True, fetched_at="ingested_at"
        )
        first = EPOCH + timedelta(microseconds=START)
        asked = Asked(Interval(first, first + timedelta(days=3)), Timeframe.M1)
        judged = split_by_rules(raw.select(RAW_SCHEMA.names()), asked).rejected
        failed = dict(zip(judged["open_time"].to_physical().to_list(), judged["failed_rules"].to_list(), strict=True))
        assert {c.open_us: list(failed_rules(c, Timeframe.M1)) for c in candles} == {
            c.open_us: failed.get(c.open_us, []) for c in candles
        }
        assert 0 < len(failed) < len(candles)
        assert {name for names in failed.values() for name in names} == RULES.keys() - {
            "candle_is_closed", "open_time_is_inside_window"
        }  # fmt: skip
