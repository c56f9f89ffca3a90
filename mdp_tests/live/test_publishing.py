"""What a feed writes to the bus: in order, never a closed candle less, nothing lost while the bus is away."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from mdp.domain.buffers import MarketBuffers
from mdp.domain.candles import RAW_SCHEMA
from mdp.domain.live import CandleState, Change, Entry
from mdp.domain.timeframe import Timeframe
from mdp.errors import LeaseHeld
from mdp.live import publishing as publishing_module
from mdp.live.books import Books
from mdp.live.ledger import Ledger
from mdp.live.publishing import MOST_PENDING, Publisher
from mdp.live.rereading import heed_stored
from mdp.live.tenure import Tenure
from mdp.ports import Fetched
from mdp_tests.live.candles import MINUTE, SECOND, START, minute
from mdp_tests.live.scripted_bus import ScriptedBus
from mdp_tests.support.builders import MARKET, at, frame, raw

CONFIRMED, CORRECTED, FORMING = CandleState.CONFIRMED, CandleState.CORRECTED, CandleState.FORMING
SETTLE = 10 * SECOND


@asynccontextmanager
async def publishing(bus, *, is_open=True, lease_s=60.0):
    """A publisher at work, with its tenure and books."""
    tenure = Tenure(bus, "feed/binance", "me", lease_s)
    await tenure.take(waits=False)
    buffers = MarketBuffers(MARKET, 10)
    books = Books(buffers, Ledger(SETTLE), Publisher(bus, buffers, tenure))
    task = asyncio.create_task(books.publisher.run())
    try:
        if is_open:
            books.publisher.open()
            await books.publisher.flushed()
        yield books, tenure
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def run(scene):
    async def limited():
        async with asyncio.timeout(10):
            await scene()

    asyncio.run(limited())


def told(bus):
    return [(entry.candle.open_us - START) // MINUTE for entry in bus.entries if entry.candle]


def test_nothing_is_published_before_the_buffers_are_full():
    async def scene():
        bus = ScriptedBus()
        async with publishing(bus, is_open=False) as (books, _):
            books.take(minute(0), START + MINUTE)
            await asyncio.sleep(0.01)
            assert bus.steps == []
            books.publisher.open()
            await books.publisher.flushed()
        # entries first: a feed that takes over believes that what the rings hold was handed on
        assert [step[0] for step in bus.steps] == ["publish", "rewrite"]
        assert set(bus.steps[1][1]) == set(Timeframe)
        assert bus.steps[1][1][Timeframe.M1] == (minute(0),)
        assert told(bus) == [0]

    run(scene)


def test_while_a_step_is_under_way_forming_values_are_replaced_and_closed_ones_are_not():
    async def scene():
        bus = ScriptedBus(may_answer=asyncio.Event())
        async with publishing(bus) as (books, _):
            for volume in (1.0, 2.0, 3.0):
                books.take(minute(0, FORMING, volume=volume), START + SECOND)
                await asyncio.sleep(0.005)
            books.take(minute(0, volume=4.0), START + MINUTE)
            books.take(minute(0, CONFIRMED, volume=4.0), START + MINUTE)
            bus.may_answer.set()
            await books.publisher.flushed()
        minutes = [one.candle for one in bus.changes if one.timeframe is Timeframe.M1]
        assert [(one.volume, one.state.value) for one in minutes] == [
            (1.0, "forming"),
            (4.0, "closed"),
            (4.0, "confirmed"),
        ]

    run(scene)


def test_entries_survive_a_bus_that_is_away_and_the_last_ones_are_handed_on_again():
    async def scene():
        bus = ScriptedBus()
        async with publishing(bus) as (books, _):
            books.take(minute(0), START + MINUTE)
            await books.publisher.flushed()
            bus.is_away = True
            books.take(minute(1), START + 2 * MINUTE)
            await asyncio.sleep(0.05)
            assert books.publisher.pending_entries == 2
            bus.is_away, bus.steps = False, []
            await books.publisher.flushed()
            assert (bus.steps[1][0], len(bus.steps[1][1][Timeframe.M1])) == ("rewrite", 2)
            assert told(bus) == [0, 1]
            assert books.publisher.bus_losses == 1

    run(scene)


def test_another_start_of_the_server_is_written_to_as_if_it_knew_nothing():
    async def scene():
        bus = ScriptedBus()
        async with publishing(bus) as (books, _):
            books.take(minute(0), START + MINUTE)
            await books.publisher.flushed()
            bus.epoch, bus.steps = "two", []
            books.take(minute(1), START + 2 * MINUTE)
            await books.publisher.flushed()
            assert bus.steps[1][0] == "rewrite"
            assert told(bus) == [0, 1]

    run(scene)


def test_a_server_that_is_another_one_after_a_step_is_written_to_anew_at_once():
    async def scene():
        bus = ScriptedBus(may_answer=asyncio.Event())
        async with publishing(bus) as (books, _):
            books.take(minute(0), START + MINUTE)
            await asyncio.sleep(0.005)  # the step is under way
            bus.epoch = "two"
            bus.may_answer.set()
            await books.publisher.flushed()
        assert [step[0] for step in bus.steps[-2:]] == ["publish", "rewrite"]
        assert told(bus) == [0, 0]
        assert books.publisher.bus_losses == 1

    run(scene)


@pytest.mark.parametrize("is_rewritten", [True, False])
def test_a_feed_that_is_killed_anywhere_leaves_no_minute_in_a_ring_that_was_not_handed_on(is_rewritten, monkeypatch):
    monkeypatch.setattr(publishing_module, "_AT_ONCE", 2)

    async def scene():
        bus = ScriptedBus(may_answer=asyncio.Event())
        async with publishing(bus) as (books, _):
            for number in range(5):
                books.take(minute(number), START + 6 * MINUTE)
            if is_rewritten:
                books.publisher.rewrite(frozenset(Timeframe))
            bus.may_answer.set()
            await books.publisher.flushed()
        handed_on = set()
        for kind, *said in bus.steps[1:]:  # the first one is of the empty buffers
            if kind == "publish":
                shown = {one.candle.open_us for one in said[0] if one.timeframe is Timeframe.M1}
                handed_on |= {entry.candle.open_us for entry in said[1]}
            else:
                shown = {one.open_us for one in said[0][Timeframe.M1]}
            assert shown <= handed_on, "whoever takes over believes that what a ring holds was handed on"
        assert told(bus) == list(range(5))

    run(scene)


def test_a_write_that_another_holder_forbids_ends_the_publisher():
    async def scene():
        class Held(ScriptedBus):
            async def publish(self, market, changes, entries=()):
                raise LeaseHeld("feed/binance", "another")

        books = without_bus(bus := Held())
        await books.publisher._tenure.take(waits=False)
        books.publisher.open()
        books.take(minute(0), START + MINUTE)
        with pytest.raises(LeaseHeld, match="another"):
            await books.publisher.run()
        assert bus.steps == []

    run(scene)


def test_entries_that_wait_are_bounded_and_what_is_given_up_is_counted():
    async def scene():
        publisher = Publisher(ScriptedBus(), MarketBuffers(MARKET, 10), Tenure(ScriptedBus(), "feed/x", "me", 1))
        publisher.push((), [Entry(MARKET, absent_us=(number,)) for number in range(MOST_PENDING + 3)])
        assert (publisher.pending_entries, publisher.lost_entries) == (MOST_PENDING, 3)

    run(scene)


def test_nothing_is_published_once_the_lease_may_have_lapsed():
    async def scene():
        bus = ScriptedBus()
        async with publishing(bus, lease_s=0.05) as (books, tenure):
            await asyncio.sleep(0.06)
            bus.steps.clear()
            books.take(minute(0), START + MINUTE)
            await asyncio.sleep(0.02)
            assert not tenure.is_valid()
            assert bus.steps == []
            bus.holders["feed/binance"] = "another"
            with pytest.raises(LeaseHeld, match="another"):
                await tenure.hold()
            assert bus.steps == []

    run(scene)


def test_a_lease_that_a_new_server_forgot_is_taken_again():
    async def scene():
        bus = ScriptedBus()
        tenure = Tenure(bus, "feed/binance", "me", 0.08)
        await tenure.take(waits=False)
        bus.holders.clear()
        holding = asyncio.create_task(tenure.hold())
        await asyncio.sleep(0.03)
        assert bus.holders == {"feed/binance": "me"}
        assert tenure.is_valid()
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)

    run(scene)


def answer(*rows):
    answered = frame(rows, RAW_SCHEMA).drop("window_start")
    return Fetched(answered, requests=1)


def rest(number, **values):
    return raw(at("2025-03-06") if number == 0 else at(f"2025-03-06T00:{number:02d}"), **values)


def heeded(books, *rows, now=START + 9 * MINUTE):
    books.heed(answer(*rows), START, now - SETTLE, now)


def states(books):
    return [(one.open_us - START) // MINUTE for one in books.buffers.buffer(Timeframe.M1) if one.state is not FORMING]


def without_bus(bus=None):
    buffers = MarketBuffers(MARKET, 10)
    bus = bus or ScriptedBus()
    return Books(buffers, Ledger(SETTLE), Publisher(bus, buffers, Tenure(bus, "feed/x", "me", 1)))


def test_a_minute_between_others_that_rest_lacks_twice_is_told_to_be_absent_once():
    async def scene():
        books = without_bus()
        for later in (0, 10, 20, 30):
            heeded(books, rest(0), rest(2), rest(3), now=START + 9 * MINUTE + later * SECOND)
        entries = list(books.publisher._entries)
        assert [(one.open_us - START) // MINUTE for one in (entry.candle for entry in entries) if one] == [0, 2, 3]
        assert [entry.absent_us for entry in entries if entry.absent_us] == [(START + MINUTE,)]
        assert books.tally.absent == 1

    run(scene)


def test_minutes_after_the_newest_that_rest_has_are_late_and_not_absent():
    async def scene():
        books = without_bus()
        for later in (0, 10, 20):
            heeded(books, rest(0), rest(1), now=START + 9 * MINUTE + later * SECOND)
        assert books.tally.absent == 0

    run(scene)


def test_a_row_that_is_called_closed_before_it_can_have_settled_is_not_believed():
    async def scene():
        books = without_bus()
        heeded(books, rest(0), rest(1, volume=0.5), now=START + 2 * MINUTE + SETTLE - 1)
        assert states(books) == [0]
        heeded(books, rest(0), rest(1), now=START + 2 * MINUTE + SETTLE)
        assert states(books) == [0, 1]
        assert books.tally.corrections == 0

    run(scene)


def test_rest_corrects_what_the_stream_closed_when_it_says_so_twice():
    async def scene():
        books = without_bus()
        books.take(minute(0), START + MINUTE)
        heeded(books, rest(0, volume=3.0), rest(1), now=START + 9 * MINUTE)
        assert books.buffers.buffer(Timeframe.M1)[0].volume == 1.0
        heeded(books, rest(0, volume=3.0), rest(1), now=START + 9 * MINUTE + SETTLE)
        corrected = books.buffers.buffer(Timeframe.M1)[0]
        assert (corrected.volume, corrected.state) == (3.0, CORRECTED)
        assert "volume 1.0 -> 3.0" in books.publisher._entries[-1].detail

    run(scene)


def test_a_row_that_breaks_a_rule_is_handed_on_once_and_never_shown():
    async def scene():
        books = without_bus()
        for later in (0, 10, 20):
            heeded(books, rest(0), rest(1, high=1.0), rest(2), now=START + 9 * MINUTE + later * SECOND)
        broken = [one for one in books.publisher._entries if one.detail.startswith("breaks")]
        assert len(broken) == 1
        assert states(books) == [0, 2]
        assert not [one for one in books.publisher._entries if one.absent_us], "it was given, so it is not absent"

    run(scene)


def test_storage_and_buffer_that_differ_are_settled_by_rest():
    async def scene():
        books = without_bus()
        for number in range(3):
            books.take(minute(number), START + 3 * MINUTE)
        stored = [minute(0, CONFIRMED), minute(1, CONFIRMED, volume=3.0)]
        now = START + 20 * MINUTE
        heed_stored(books, stored, now, taken_until_us=0)
        assert books.tally.stored_differs == 1
        assert books.ledger.doubted() == (START + MINUTE,)
        assert books.buffers.buffer(Timeframe.M1)[1].volume == 1.0
        said = rest(0, volume=1.0, quote_volume=100.0), rest(1, volume=3.0, quote_volume=100.0)
        heeded(books, *said, now=now + SETTLE)
        assert books.buffers.buffer(Timeframe.M1)[1].volume == 1.0, "storage is no witness"
        heeded(books, *said, now=now + 2 * SETTLE)
        assert books.buffers.buffer(Timeframe.M1)[1].volume == 3.0

    run(scene)


def test_storage_alone_overrules_nothing_however_often_it_is_read():
    async def scene():
        books = without_bus()
        books.take(minute(1), START + 3 * MINUTE)
        for later in range(5):
            stored = [minute(1, CONFIRMED, volume=3.0)]
            heed_stored(books, stored, START + (20 + 15 * later) * MINUTE, taken_until_us=0)
        assert books.buffers.buffer(Timeframe.M1)[0].volume == 1.0

    run(scene)


def test_what_storage_holds_otherwise_is_handed_on_again_once_rest_sides_with_the_buffer():
    async def scene():
        books = without_bus()
        books.take(minute(1), START + 3 * MINUTE)
        now = START + 20 * MINUTE
        heed_stored(books, [minute(1, CONFIRMED, volume=3.0)], now, taken_until_us=0)
        for later in (0, 10, 20):
            heeded(books, rest(1, volume=1.0, quote_volume=100.0), rest(2), now=now + later * SECOND)
        (again,) = [one.candle for one in books.publisher._entries if one.detail == "storage held it otherwise"]
        assert (again.volume, again.source) == (1.0, "rest"), "what a stream told does not outweigh what REST stored"
        assert books.ledger.doubted() == ()

    run(scene)


def test_a_doubt_that_rest_cannot_settle_ends():
    async def scene():
        books = without_bus()
        books.take(minute(1, CONFIRMED), START + 3 * MINUTE)
        now = START + 20 * MINUTE
        heed_stored(books, [minute(1, CONFIRMED, volume=3.0)], now, taken_until_us=0)
        for later in (0, 10, 20):
            heeded(books, rest(0), rest(2), rest(3), now=now + later * SECOND)
        assert books.ledger.doubted() == ()
        assert books.buffers.buffer(Timeframe.M1)[1].volume == 1.0

    run(scene)


def test_what_storage_lacks_is_handed_on_again_once_nothing_waits_for_it():
    async def scene():
        books = without_bus()
        for number in range(4):
            books.take(minute(number), START + 4 * MINUTE)
        stored = [minute(0, CONFIRMED), minute(3, CONFIRMED)]
        for taken_until_us, entries in ((0, 4), (START + 20 * MINUTE, 6)):
            heed_stored(books, stored, START + 20 * MINUTE, taken_until_us=taken_until_us)
            assert books.publisher.pending_entries == entries
        again = [entry for entry in books.publisher._entries if entry.detail == "storage lacked it"]
        assert [entry.candle.open_us for entry in again] == [START + MINUTE, START + 2 * MINUTE]

    run(scene)


def test_a_change_of_one_timeframe_is_an_entry_only_at_a_minute():
    async def scene():
        books = without_bus()
        books.publish([Change(Timeframe.M5, minute(0))], START)
        assert books.publisher.pending_entries == 0

    run(scene)
