"""How often a gap was seen, and what is recorded of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from mdp.domain.gaps import Cause, Fact, Gap, explain
from mdp.domain.interval import Interval, merge
from mdp.domain.sightings import (
    Finding,
    SeenGap,
    Sighting,
    count_apart,
    facts_of,
    new_rejections,
    new_sightings,
    rejected_last,
    with_history,
)
from mdp.domain.timeframe import Timeframe
from mdp_tests.domain.strategies import MINUTE, windows
from mdp_tests.support.builders import NOW, window

APART = timedelta(hours=1)
RUN = window("2024-01-01T00:00", "2024-01-01T01:00")
stretches = st.lists(windows(step=MINUTE, most=30), max_size=4)
times_asked = st.integers(0, 8).map(lambda number: NOW + number * timedelta(minutes=25))
sightings = st.lists(
    st.builds(
        Sighting, windows(step=MINUTE, most=30), st.sampled_from(Finding), st.sampled_from(["rest", "archive"]),
        times_asked,
    ), max_size=8,
)  # fmt: skip


def slots_of(interval):
    return [interval.start + slot * MINUTE for slot in range(interval.slots(Timeframe.M1))]


def seen(interval, *hours, source="rest", finding=Finding.ABSENT):
    return [Sighting(interval, finding, source, NOW + hour * APART) for hour in hours]


def of_one(gap_sightings):
    (found,) = with_history([Gap(RUN, Cause.UNKNOWN)], gap_sightings, APART)
    return found


@settings(max_examples=40)
@given(stretches, sightings)
def test_gaps_with_their_history_tile_exactly_what_is_missing(missing, recorded):
    missing = merge(missing)
    found = with_history(explain(missing, facts_of(recorded)), recorded, APART)
    assert [slot for one in found for slot in slots_of(one.gap.interval)] == [
        slot for run in missing for slot in slots_of(run)
    ]
    for one, two in pairwise(found):
        if one.gap.interval.end == two.gap.interval.start:
            same = replace(one, gap=two.gap)
            assert same != two or (one.gap.cause, one.gap.detail) != (two.gap.cause, two.gap.detail)


@settings(max_examples=40)
@given(stretches, sightings)
def test_every_slot_has_the_history_of_its_own_sightings(missing, recorded):
    for one in with_history(explain(merge(missing), []), recorded, APART):
        for slot in slots_of(one.gap.interval):
            mine = [
                asked.fetched_at for asked in recorded
                if asked.finding is Finding.ABSENT and asked.interval.contains(slot)
            ]  # fmt: skip
            assert one.sightings == count_apart(mine, APART)
            assert (one.first_seen_at, one.seen_at) == ((min(mine), max(mine)) if mine else (None, None))


@settings(max_examples=40)
@given(stretches, sightings, st.randoms())
def test_the_order_in_which_sightings_arrive_does_not_matter(missing, recorded, random):
    missing = merge(missing)
    shuffled = random.sample(recorded, len(recorded))
    told = [with_history(explain(missing, facts_of(some)), some, APART) for some in (recorded, shuffled)]
    assert told[0] == told[1]


@settings(max_examples=40)
@given(stretches, sightings, times_asked)
def test_what_was_recorded_is_not_new_again_and_counts_at_most_once(missing, recorded, asked_at):
    missing = merge(missing)
    new = new_sightings(missing, asked_at, recorded, APART)
    after = [*recorded, *(Sighting(run, Finding.ABSENT, "rest", asked_at) for run in new)]
    assert new_sightings(missing, asked_at, after, APART) == []
    assert {slot for run in new for slot in slots_of(run)} <= {slot for run in missing for slot in slots_of(run)}
    for run in missing:
        for slot in slots_of(run):
            near = [
                one for one in after
                if one.finding is Finding.ABSENT and one.interval.contains(slot)
                and abs(one.fetched_at - asked_at) < APART
            ]  # fmt: skip
            assert near, "each missing slot has a witness near the time it was asked for"


def test_two_sightings_apart_make_a_gap_permanent_and_two_close_together_do_not():
    assert not of_one(seen(RUN, 0)).is_permanent
    assert not of_one(seen(RUN, 0, 0.99)).is_permanent
    assert of_one(seen(RUN, 0, 1)).is_permanent
    assert of_one(seen(RUN, 0, 0.5, 1)).sightings == 2
    assert of_one(seen(RUN, 0.9, 0, 1.8)).sightings == 2


def test_a_gap_tells_when_it_was_first_and_last_seen_and_what_was_asked_last():
    found = of_one([*seen(RUN, 3, source="archive"), *seen(RUN, 0)])
    assert (found.first_seen_at, found.seen_at, found.source) == (NOW, NOW + 3 * APART, "archive")


def test_a_gap_nobody_was_asked_for_in_time_has_no_history():
    assert of_one([]) == SeenGap(Gap(RUN, Cause.UNKNOWN))
    assert of_one(seen(RUN, 0, 5, finding=Finding.NO_TRADES)).sightings == 0


def test_a_gap_half_of_which_was_seen_twice_is_two():
    half = Interval(RUN.start, RUN.start + timedelta(minutes=30))
    found = with_history([Gap(RUN, Cause.UNKNOWN)], [*seen(RUN, 0), *seen(half, 2)], APART)
    assert [(one.gap.interval.slots(Timeframe.M1), one.sightings) for one in found] == [(30, 2), (30, 1)]


def test_a_clock_that_was_set_back_makes_no_second_witness():
    assert new_sightings([RUN], NOW - APART / 2, seen(RUN, 0), APART) == []
    assert new_sightings([RUN], NOW - APART, seen(RUN, 0), APART) == [RUN]


def test_the_latest_second_opinion_counts():
    opinions = [*seen(RUN, 0, finding=Finding.TRADED), *seen(RUN, 1, finding=Finding.NO_TRADES), *seen(RUN, 2)]
    assert facts_of(opinions) == [Fact(RUN, Cause.NO_TRADES), Fact(RUN, Cause.UNKNOWN)]
    assert explain([RUN], facts_of(opinions)) == [Gap(RUN, Cause.NO_TRADES)]


def test_a_gap_of_which_the_exchange_says_that_it_was_traded_is_never_permanent():
    traded = seen(RUN, 5, finding=Finding.TRADED)
    assert not of_one([*seen(RUN, 0, 9, 30), *traded]).is_permanent
    assert of_one([*seen(RUN, 0, 9, 30), *traded, *seen(RUN, 31, finding=Finding.ABSENT_AT_5M)]).is_permanent
    assert with_history([Gap(RUN, Cause.EXCHANGE_OUTAGE)], [*seen(RUN, 0, 9), *traded], APART)[0].is_permanent


def test_a_row_that_broke_a_rule_is_no_witness_and_speaks_against_those_before_it():
    rejected = seen(RUN, 9, finding=Finding.REJECTED)
    assert of_one(rejected * 3) == SeenGap(Gap(RUN, Cause.UNKNOWN), is_disputed=True)
    assert not of_one([*seen(RUN, 0, 5), *rejected]).is_permanent
    assert of_one([*rejected, *seen(RUN, 0, 20)]).is_permanent
    assert rejected_last([RUN], rejected) == [RUN]
    assert rejected_last([RUN], [*rejected, *seen(RUN, 9)]) == [RUN], "what the same asking was first taken for"
    assert rejected_last([RUN], [*rejected, *seen(RUN, 10)]) == []


def test_no_row_after_a_rejected_one_is_news_and_the_same_broken_rule_again_is_none():
    (rejected,) = seen(RUN, 0.5, finding=Finding.REJECTED)
    assert new_sightings([RUN], NOW + APART * 0.7, [*seen(RUN, 0), rejected], APART) == [RUN]
    assert new_sightings([RUN], NOW + APART * 0.7, seen(RUN, 0), APART) == []
    named = replace(rejected, detail="a rule")
    assert new_rejections([RUN], "a rule", NOW + APART, [named]) == []
    assert new_rejections([RUN], "another rule", NOW + APART, [named]) == [RUN]
    assert new_rejections([RUN], "a rule", NOW + APART, [named, *seen(RUN, 0.7)]) == [RUN]
