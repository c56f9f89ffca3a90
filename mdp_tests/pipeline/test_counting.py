"""Each write and each request is counted once, however it ends."""

from __future__ import annotations

from contextlib import suppress

import pytest

from mdp.counts import COUNTS
from mdp.domain.market import Exchange
from mdp.domain.timeframe import Timeframe
from mdp.errors import ExchangeUnavailable, WriteConflict
from mdp.exchanges.counting import Counted, CountedFile
from mdp.pipeline.batches import Batch, Write, keep
from mdp.pipeline.counting import counted_write
from mdp.ports import OHLCV, Slice
from mdp.storage import MemoryStore
from mdp_tests.support.builders import MARKET, candles, every_minute, window

START, END = "2024-12-30T00:00", "2024-12-30T00:05"


@pytest.fixture
def counted():
    """What was counted since it was last asked, without how long it took."""
    COUNTS.take()
    return lambda: {key: value for key, value in COUNTS.take().counters.items() if not key[0].endswith("seconds")}


def test_a_write_is_counted_with_its_rows_and_one_that_changes_nothing_as_such(counted):
    part = Slice(MARKET, (Timeframe.M1,), window(START, END))
    batch = Batch(part, (Write(OHLCV, part, candles(*every_minute(START, END))),), {})
    store = MemoryStore()
    keep(store, batch)
    assert counted() == {("mdp_store_rows", "ohlcv"): 5, ("mdp_store_writes", "ohlcv", "stored"): 1}
    keep(store, batch)
    assert counted() == {("mdp_store_writes", "ohlcv", "unchanged"): 1}


def test_a_write_that_fails_is_counted_by_its_error_and_its_rows_are_not(counted):
    with pytest.raises(WriteConflict), counted_write(OHLCV, 5):
        raise WriteConflict("others won")
    assert counted() == {("mdp_store_writes", "ohlcv", "WriteConflict"): 1}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(None, "answered"), (ExchangeUnavailable("binance", "503"), "ExchangeUnavailable"), (KeyError("x"), "cancelled")],
)
def test_a_request_is_counted_by_how_it_ended(counted, error, outcome):
    with suppress(ExchangeUnavailable, KeyError), Counted(Exchange.BINANCE, 0.0, None) as request:
        request.came("[1,2]")
        if error is not None:
            raise error
    assert counted() == {("mdp_fetch_bytes", "binance"): 5, ("mdp_fetch_requests", "binance", outcome): 1}


def test_waiting_and_asking_again_are_counted(counted):
    with Counted(Exchange.OKX, 1.5, "RateLimited"):
        pass
    taken = COUNTS.take().counters
    assert taken["mdp_fetch_budget_waited_seconds", "okx"] == 1.5
    assert taken["mdp_fetch_retries", "okx", "RateLimited"] == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(None, "answered"), (ExchangeUnavailable("okx", "503"), "ExchangeUnavailable"), (KeyError("x"), "cancelled")],
)
def test_a_file_of_an_archive_is_counted_by_how_it_ended_and_with_all_that_came_of_it(counted, error, outcome):
    with suppress(ExchangeUnavailable, KeyError), CountedFile(Exchange.OKX) as file:
        file.came(700)
        file.came(300)
        if error is not None:
            raise error
    assert counted() == {("mdp_archive_bytes", "okx"): 1_000, ("mdp_archive_requests", "okx", outcome): 1}


def test_a_file_that_is_not_there_is_counted_as_absent(counted):
    with CountedFile(Exchange.OKX) as file:
        file.is_absent()
    assert counted() == {("mdp_archive_requests", "okx", "absent"): 1}
