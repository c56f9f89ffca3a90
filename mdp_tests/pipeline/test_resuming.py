"""What was collected within a day and is not in doubt is not asked again."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from mdp.domain.candles import FAILED_FETCH_SCHEMA, FETCH_SCHEMA, GAP_SCHEMA
from mdp.domain.gaps import Cause
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.resuming import BELIEVED, left_to_ask
from mdp.ports import FAILED_FETCHES, FETCHES, GAPS, Slice
from mdp.storage.memory import MemoryStore
from mdp_tests.support.builders import MARKET, NOW, at, window

PART = Slice(MARKET, (Timeframe.M1,), window("2024-12-28", "2024-12-31"))
WHO = ("binance", "BTC-USDT", "1m")


def store_with(*fetched, failed=(), gaps=()):
    store = MemoryStore()
    rows = [(*WHO, at(day), at(day) + timedelta(days=1), 1440, "", 2, "rest", when) for day, when in fetched]
    store.append(FETCHES, pl.DataFrame(rows, schema=FETCH_SCHEMA, orient="row"))
    rows = [
        (*WHO, at(day), at(day) + timedelta(days=1), "ExchangeUnavailable", "", True, 1, "run", when)
        for day, when in failed
    ]
    store.append(FAILED_FETCHES, pl.DataFrame(rows, schema=FAILED_FETCH_SCHEMA, orient="row"))
    rows = [
        (*WHO, at(start), at(start) + timedelta(minutes=1), 1, cause, "rest", NOW, NOW, 1, False, None)
        for start, cause in gaps
    ]
    store.append(GAPS, pl.DataFrame(rows, schema=GAP_SCHEMA, orient="row"))
    return store


def asked(store):
    return [str(part.window) for part in left_to_ask([PART], store, lambda: NOW)]


def test_days_collected_within_a_day_are_left_out():
    recent = NOW - timedelta(minutes=5)
    assert asked(store_with()) == [str(PART.window)]
    assert asked(store_with(("2024-12-29", recent))) == [
        str(window("2024-12-28", "2024-12-29")), str(window("2024-12-30", "2024-12-31")),
    ]  # fmt: skip
    assert asked(store_with(*((f"2024-12-{day}", recent) for day in (28, 29, 30)))) == []


@pytest.mark.parametrize("when", [NOW - BELIEVED - timedelta(seconds=1), NOW + timedelta(hours=1)])
def test_what_is_older_than_a_day_or_from_the_future_is_asked_again(when):
    assert asked(store_with(("2024-12-28", when), ("2024-12-29", NOW), ("2024-12-30", NOW))) == [
        str(window("2024-12-28", "2024-12-29"))
    ]
    assert asked(store_with(("2024-12-28", NOW - BELIEVED), ("2024-12-29", NOW), ("2024-12-30", NOW))) == []


def test_a_day_that_failed_since_is_asked_again():
    days = [(f"2024-12-{day}", NOW - timedelta(hours=1)) for day in (28, 29, 30)]
    assert asked(store_with(*days, failed=[("2024-12-29", NOW)])) == [str(window("2024-12-29", "2024-12-30"))]


@pytest.mark.parametrize("cause", list(Cause))
def test_a_day_with_a_gap_that_nothing_explains_is_asked_again(cause):
    days = [(f"2024-12-{day}", NOW) for day in (28, 29, 30)]
    again = [] if cause.is_explained else [str(window("2024-12-30", "2024-12-31"))]
    assert asked(store_with(*days, gaps=[("2024-12-30T12:00", cause.value)])) == again
