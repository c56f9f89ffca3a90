"""What a source does with a spool: nothing is asked twice that had settled, and nothing is kept that had not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

import polars as pl
import pytest

from mdp.domain.interval import Interval
from mdp.errors import ExchangeUnavailable
from mdp.exchanges import open_source
from mdp.storage.spool import FileSpool
from mdp_tests.exchanges.harness import (
    QUICK,
    EasyBudget,
    expected_ms,
    fetch,
    recent,
    run,
    settings_for,
    slots_ending,
)
from mdp_tests.exchanges.wires import NOW, BinanceWire, DeribitWire, OkxWire
from mdp_tests.support.scripted_exchange import Reply, ScriptedExchange

# One whose pages are one answer each, and the one whose pages may be several.
both_kinds = pytest.mark.parametrize("wire_class", [BinanceWire, DeribitWire], ids=lambda wire: wire.exchange.value)


@dataclass(slots=True)
class MemorySpool:
    """Keeps pages in memory."""

    pages: dict[tuple, pl.DataFrame] = field(default_factory=dict)

    def load(self, market, timeframe, window):
        return self.pages.get((market, timeframe, window))

    def keep(self, market, timeframe, window, rows):
        self.pages[market, timeframe, window] = rows

    def discard(self, market, timeframe, window):
        raise AssertionError("a source does not know when a slice is stored")


@both_kinds
def test_pages_that_were_answered_before_a_fetch_broke_off_are_not_asked_again(wire_class):
    wire, spool = wire_class(), MemorySpool()
    window = recent(wire, 4 * wire.max_rows)
    with pytest.raises(ExchangeUnavailable):
        fetch(wire, window, [None, None, *[Reply("", status=503)] * 2], spool=spool, attempts=2, pages_in_flight=1)
    assert len(spool.pages) == 2
    seen = fetch(wire, window, spool=spool)
    assert len(seen.asked) == seen.fetched.requests == 2
    assert seen.open_times_ms == expected_ms(window, wire)
    assert seen.fetched.rows.equals(fetch(wire, window).fetched.rows)


@both_kinds
def test_a_page_is_kept_by_its_exact_window_with_all_its_rows(wire_class):
    wire, spool = wire_class(), MemorySpool()
    window = recent(wire, wire.max_rows + 7)
    seen = fetch(wire, window, spool=spool)
    assert {key[:2] for key in spool.pages} == {(wire.market, wire.timeframe)}
    windows = sorted((key[2] for key in spool.pages), key=lambda part: part.start)
    assert [windows[0].start, windows[-1].end] == [window.start, window.end]
    assert [part.slots(wire.timeframe) for part in windows] == [wire.max_rows, 7]
    kept = pl.concat(spool.pages.values()).sort("open_time")
    assert kept.equals(seen.fetched.rows)


@both_kinds
def test_what_a_confirming_answer_added_is_kept_with_the_page(wire_class):
    wire, spool = wire_class(), MemorySpool()
    window = recent(wire, 100)
    slots = expected_ms(window, wire)

    def leave_out(request):
        wire.book.missing = set(slots[20:30])
        try:
            return wire.answer(request)
        finally:
            wire.book.missing = set()

    assert len(fetch(wire, window, [leave_out], spool=spool).asked) == 2
    seen = fetch(wire, window, spool=spool)
    assert seen.asked == []
    assert sorted(seen.open_times_ms) == slots


@both_kinds
def test_a_page_with_a_slot_that_had_not_settled_is_asked_again(wire_class):
    wire, spool = wire_class(), MemorySpool()
    close = wire.timeframe.floor(NOW)
    for end, is_kept in ((close, True), (close + wire.timeframe.duration, False)):
        fetch(wire, slots_ending(wire, end, 5), spool=spool, settle_s=10)
        assert bool(spool.pages) is is_kept
        spool.pages.clear()


def test_the_instant_of_settling_counts():
    wire, close = BinanceWire(), BinanceWire.timeframe.floor(NOW)
    for seconds, is_kept in ((10, True), (9.999, False)):
        spool = MemorySpool()
        wire.book.now_ms = int(close.timestamp() * 1_000 + seconds * 1_000)
        fetch(wire, slots_ending(wire, close, 5), spool=spool, settle_s=10)
        assert bool(spool.pages) is is_kept, seconds


def test_what_settles_while_the_answer_is_on_its_way_had_not_when_it_was_asked():
    wire, spool, ours = BinanceWire(), MemorySpool(), [NOW]
    close = wire.timeframe.floor(NOW) + wire.timeframe.duration

    def late(request):
        reply = wire.answer(request)
        ours[0] = close + timedelta(minutes=5)
        return reply

    fetch(wire, slots_ending(wire, close, 5), [late], spool=spool, clock=lambda: ours[0])
    assert spool.pages == {}


def test_a_page_that_ends_off_the_grid_waits_for_its_last_candle_to_settle():
    wire, spool = BinanceWire(), MemorySpool()
    close = wire.timeframe.floor(NOW)  # half a minute ago
    wire.book.missing = {int(close.timestamp() * 1_000)}  # so that no row says that it is still open
    inside = Interval(close - timedelta(minutes=5), close + timedelta(seconds=1))
    fetch(wire, inside, spool=spool, settle_s=10)
    assert spool.pages == {}


def test_a_candle_that_okx_has_not_finished_is_not_kept_however_old_it_is():
    wire, spool = OkxWire(), MemorySpool()
    wire.spell = lambda row, spell=wire.spell: [*spell(row)[:-1], "0"]
    fetch(wire, recent(wire, 5), spool=spool)
    assert spool.pages == {}


def test_the_pages_of_a_real_spool_survive_a_source_that_was_killed(tmp_path):
    wire = BinanceWire()
    window = recent(wire, 3 * wire.max_rows)
    asked = []

    def answer(request):
        if not wire.is_time(request):
            asked.append(request)
        return wire.answer(request) if len(asked) < 3 else Reply(ending="hang")

    async def killed():
        async with ScriptedExchange(answer) as server:
            settings = settings_for(server.url, wire, pages_in_flight=1)
            spool = FileSpool(tmp_path, lambda: NOW, lambda _exchange: "http://127.0.0.1:1")
            source_ = open_source(
                wire.exchange, settings, clock=lambda: NOW, budget=EasyBudget(), spool=spool, waits=QUICK
            )
            async with source_ as source:
                fetching = asyncio.create_task(source.fetch(wire.market, wire.timeframe, window))
                while len(asked) < 3:
                    await asyncio.sleep(0.001)
                fetching.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await fetching

    run(killed())
    seen = fetch(wire, window, spool=FileSpool(tmp_path, lambda: NOW, lambda _exchange: "http://127.0.0.1:1"))
    assert len(seen.asked) == 1
    assert seen.open_times_ms == expected_ms(window, wire)
    assert seen.fetched.rows.equals(fetch(wire, window).fetched.rows)


@both_kinds
def test_a_source_closes_its_budget_once_and_gives_back_every_leave(wire_class):
    wire, budget = wire_class(), EasyBudget(wait_s=0.5)
    window = recent(wire, 3 * wire.max_rows)
    seen = fetch(wire, window, [Reply("", status=503)], budget=budget)
    assert budget.closed == 1
    assert all(len(leave.ends) == 1 for leave in budget.given)
    assert len(budget.given) == 5  # the clock, three pages, one of them twice
    assert {leave.symbol for leave in budget.given} == {None, wire.market.symbol_key}
    assert seen.fetched.retried == {"ExchangeUnavailable": 1}
    assert seen.fetched.waited_s == 5 * 0.5


def test_a_source_that_gives_up_says_which_requests_failed():
    wire = OkxWire()
    bad = [Reply("", status=503), Reply("<html>"), Reply("", status=503), Reply("", status=503)]
    with pytest.raises(ExchangeUnavailable) as caught:
        fetch(wire, recent(wire, wire.max_rows), bad, attempts=4)
    assert caught.value.failed == {"ExchangeUnavailable": 3, "PayloadError": 1}


def test_a_long_window_takes_no_more_tasks_than_pages_in_flight():
    wire = OkxWire()
    tasks = []

    def answer(request, told=wire.answer):
        tasks.append(len(asyncio.all_tasks()))
        return told(request)

    wire.answer = answer
    seen = fetch(wire, recent(wire, 40 * wire.max_rows), pages_in_flight=3)
    assert seen.fetched.rows.height == 40 * wire.max_rows
    assert max(tasks) <= 12  # three that ask, three that answer, the test's own
