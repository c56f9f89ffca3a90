"""Days that could not be collected: which ones those are, what is left out because of them, who lists them."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from mdp.config.reference import Reference
from mdp.domain.candles import FAILED_FETCH_SCHEMA, FETCH_SCHEMA
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import ExchangeUnavailable, RequestRejected
from mdp.pipeline.batches import keep, parts_of
from mdp.pipeline.collect import collect_candles
from mdp.pipeline.coverage import days_to_do, failed_days, shortfalls, stored_days
from mdp.pipeline.failed_days import LeftOut, NotCollected, days_failed, failures_of
from mdp.pipeline.fetching import Ask, Missed
from mdp.pipeline.judge import judge_candles
from mdp.pipeline.resampling import resample_candles
from mdp.ports import FAILED_FETCHES, FETCHES, Slice
from mdp.storage.memory import MemoryStore
from mdp_tests.support.builders import DVOL, MARKET, NOW, at, window
from mdp_tests.support.scripted_source import ScriptedExchanges

PART = Slice(MARKET, (Timeframe.M1,), window("2024-12-29", "2025-01-01"))
LATER = NOW + timedelta(seconds=1)


def failed(day, *, market=MARKET, timeframe="1m", message="503", attempts=3, run_id="a run", failed_at=NOW):
    start = at(day)
    row = (market.exchange.value, market.symbol_key, timeframe, start, start + timedelta(days=1),
           "ExchangeUnavailable", message, True, attempts, run_id, failed_at)  # fmt: skip
    return pl.DataFrame([row], schema=FAILED_FETCH_SCHEMA, orient="row")


def fetched(day, fetched_at):
    start = at(day)
    row = (
        MARKET.exchange.value,
        MARKET.symbol_key,
        "1m",
        start,
        start + timedelta(days=1),
        0,
        "",
        1,
        "rest",
        fetched_at,
    )
    return pl.DataFrame([row], schema=FETCH_SCHEMA, orient="row")


@pytest.mark.parametrize(
    ("got_at", "run_id", "is_failed"),
    [
        (None, "", True),
        (NOW - timedelta(seconds=1), "", True),
        (NOW, "", False),
        (LATER, "", False),
        (NOW, "a run", True),
        (NOW, "another run", False),
        (LATER, "a run", True),  # the clock was set back: a run never gets a day after it wrote that it failed
        (LATER, "another run", False),
    ],
)
def test_a_day_has_failed_when_its_latest_attempt_did_or_that_of_this_run(got_at, run_id, is_failed):
    store = MemoryStore()
    store.append(FAILED_FETCHES, failed("2024-12-30"))
    if got_at is not None:
        store.append(FETCHES, fetched("2024-12-30", got_at))
    assert bool(days_failed(store, PART, run_id)) is is_failed


def test_the_latest_of_several_failures_is_the_one_that_is_told():
    store = MemoryStore()
    store.append(FAILED_FETCHES, failed("2024-12-30", message="first"))
    store.append(FAILED_FETCHES, failed("2024-12-30", message="last", failed_at=LATER))
    (one,) = days_failed(store, PART)
    assert (one.message, one.failed_at) == ("last", LATER)


def test_a_failure_of_this_run_is_told_before_one_of_another_that_looks_later():
    store = MemoryStore()
    store.append(FAILED_FETCHES, failed("2024-12-30", message="mine"))
    store.append(FAILED_FETCHES, failed("2024-12-30", message="before the clock", run_id="another", failed_at=LATER))
    store.append(FETCHES, fetched("2024-12-30", LATER))
    assert [one.message for one in days_failed(store, PART, "a run")] == ["mine"]
    assert days_failed(store, PART, "another run") == []


def test_days_that_failed_in_the_same_way_are_one_stretch():
    store = MemoryStore()
    store.append(FAILED_FETCHES, pl.concat([failed("2024-12-29"), failed("2024-12-30", failed_at=LATER)]))
    assert [(one.window, one.days, one.failed_at) for one in days_failed(store, PART)] == [
        (window("2024-12-29", "2024-12-31"), 2, LATER)
    ]
    store.append(FAILED_FETCHES, failed("2024-12-31", message="451"))
    assert [one.days for one in days_failed(store, PART)] == [2, 1]


def test_what_was_collected_is_passed_on_around_what_was_not():
    store = MemoryStore()
    store.append(FAILED_FETCHES, failed("2024-12-30"))
    left_out = LeftOut(store)
    parts = list(left_out.without([PART]))
    assert [str(part.window) for part in parts] == [
        "[2024-12-29T00:00:00Z, 2024-12-30T00:00:00Z)", "[2024-12-31T00:00:00Z, 2025-01-01T00:00:00Z)",
    ]  # fmt: skip
    assert {part.timeframes for part in parts} == {(Timeframe.M1,)}
    with pytest.raises(NotCollected, match=r"2024-12-30.*503"):
        left_out.require_none()


def test_a_long_list_names_the_first_and_says_how_many_more():
    store = MemoryStore()
    for number in range(30):
        day = (at("2024-01-01") + timedelta(days=number)).date().isoformat()
        store.append(FAILED_FETCHES, failed(day, message=f"error {number}"))
    failures = days_failed(store, Slice(MARKET, (Timeframe.M1,), window("2024-01-01", "2024-02-01")))
    said = str(NotCollected(failures))
    assert len(failures) == 30
    assert "error 19" in said
    assert "error 20" not in said
    assert "and 10 more stretches" in said


def test_every_later_layer_does_the_other_days_and_then_says_so():
    def no_30th(asked, rows):
        if asked[2].start == at("2024-12-30"):
            raise RequestRejected("binance", "no")
        return rows

    store, reference = MemoryStore(), Reference({}, ())
    parts = [Slice(MARKET, (Timeframe.M1,), day) for day in PART.window.days()]
    steps = (
        lambda: collect_candles(parts, ScriptedExchanges(edit=no_30th), lambda: NOW, run_id="a run"),
        lambda: judge_candles(parts, store, reference, lambda: NOW, run_id="a run"),
        lambda: resample_candles(parts, store, lambda: NOW, run_id="a run"),
    )
    for step in steps:
        done = []

        def keep_all(batches, done=done):
            for batch in batches:
                keep(store, batch)
                done += [day.isoformat() for day in batch.days]

        with pytest.raises(NotCollected) as raised:
            keep_all(step())
        # The market was given up at its refusal: the days after it were not asked.
        assert done == ["2024-12-29"]
        assert {str(one.window.start.date()) for one in raised.value.failures} >= {"2024-12-30"}
    assert [one.days for one in failed_days(store, MARKET, PART.window)] == [1, 1], "tried once, and not tried at all"


def test_a_market_of_which_only_failures_are_known_is_known():
    store = MemoryStore()
    store.append(FAILED_FETCHES, failed("2024-12-30"))
    store.append(FAILED_FETCHES, failed("2025-01-02", market=DVOL, timeframe="1h"))
    whole = window("2017-08-01", "2026-01-01")
    assert stored_days(store, MARKET, whole) == window("2024-12-30", "2024-12-31")
    assert stored_days(store, DVOL, whole) == window("2025-01-02", "2025-01-03")
    assert stored_days(store, Market.parse("okx:BTC-USDT"), whole) is None


def test_what_failed_is_to_be_done_although_nothing_of_it_is_missing():
    store = MemoryStore()
    part = Slice(MARKET, (Timeframe.M1,), window("2024-12-30", "2024-12-31"))
    for step in (
        lambda: collect_candles([part], ScriptedExchanges(), lambda: NOW),
        lambda: judge_candles([part], store, Reference({}, ()), lambda: NOW),
        lambda: resample_candles([part], store, lambda: NOW),
    ):
        for batch in step():
            keep(store, batch)
    assert shortfalls(store, MARKET, part.window) == []
    store.append(FAILED_FETCHES, failed("2024-12-30", failed_at=LATER))
    left = days_to_do(shortfalls(store, MARKET, part.window), failed_days(store, MARKET, part.window))
    assert left == [part.window]


def test_adjacent_months_that_failed_alike_are_one_stretch_and_others_stay_apart():
    parts = parts_of((MARKET, day.start.date()) for day in window("2024-10-30", "2025-01-02").days())
    gone = ExchangeUnavailable("binance", "down")
    missed = [Missed(Ask(part, Timeframe.M1, part.window), gone, number == 0, NOW) for number, part in enumerate(parts)]
    (one,) = failures_of(missed)
    assert (one.window, one.attempts) == (window("2024-10-30", "2025-01-02"), 1)
    other = Missed(missed[2].ask, ExchangeUnavailable("binance", "cut"), 1, NOW)
    assert len(failures_of([missed[0], missed[1], other, missed[3]])) == 3
    assert len(failures_of([missed[0], missed[2]])) == 2
