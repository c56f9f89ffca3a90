"""A short or empty page is a suspicion that is confirmed by asking again, and believed the second time."""

from __future__ import annotations

import pytest

from mdp.exchanges.frames import ANSWER_SCHEMA
from mdp_tests.exchanges.harness import expected_ms, fetch, recent, slots_ending
from mdp_tests.exchanges.wires import NOW, WIRES, DeribitWire, row_at
from mdp_tests.support.scripted_exchange import Reply

every_wire = pytest.mark.parametrize("wire_class", WIRES, ids=lambda wire: wire.exchange.value)


@every_wire
def test_an_outage_is_asked_about_twice_and_then_believed(wire_class):
    wire = wire_class()
    window = recent(wire, 100)
    slots = expected_ms(window, wire)
    wire.book.missing = set(slots[40:60])
    seen = fetch(wire, window)
    assert seen.open_times_ms == slots[:40] + slots[60:]
    assert len(seen.asked) == 2


@every_wire
def test_many_holes_in_a_page_are_confirmed_by_one_request(wire_class):
    wire = wire_class()
    window = recent(wire, 100)
    slots = expected_ms(window, wire)
    wire.book.missing = set(slots[3:90:2])
    seen = fetch(wire, window)
    assert seen.open_times_ms == [ms for ms in slots if ms not in wire.book.missing]
    assert len(seen.asked) == 2


@every_wire
def test_rows_that_the_first_answer_left_out_are_asked_for_again_and_used(wire_class):
    wire = wire_class()
    window = recent(wire, 100)
    slots = expected_ms(window, wire)

    def leave_out(request):
        wire.book.missing = set(slots[20:30] + slots[50:51])
        try:
            return wire.answer(request)
        finally:
            wire.book.missing = set()

    seen = fetch(wire, window, [leave_out])
    assert seen.open_times_ms == slots
    assert seen.fetched.requests == len(seen.asked) == 2


@every_wire
def test_an_empty_page_in_the_middle_is_asked_again(wire_class):
    wire = wire_class()
    window = recent(wire, 3 * wire.max_rows)
    seen = fetch(wire, window, [None, Reply(wire.wrap([])), None], pages_in_flight=1)
    assert seen.open_times_ms == expected_ms(window, wire)
    assert len(seen.asked) == 4


@every_wire
def test_an_empty_answer_followed_by_one_that_lacks_rows_is_asked_until_two_agree(wire_class):
    wire = wire_class()
    window = recent(wire, 100)
    slots = expected_ms(window, wire)

    def leave_out(request):
        wire.book.missing = set(slots[48:53])
        try:
            return wire.answer(request)
        finally:
            wire.book.missing = set()

    seen = fetch(wire, window, [Reply(wire.wrap([])), leave_out])
    assert seen.open_times_ms == slots
    assert len(seen.asked) == 3


@every_wire
def test_an_exchange_that_never_answers_alike_is_not_asked_for_ever(wire_class):
    wire = wire_class()
    window = recent(wire, 100)
    slots = expected_ms(window, wire)

    def one_more(number):
        def answer(request):
            wire.book.missing = set(slots[number:])
            return wire.answer(request)

        return answer

    seen = fetch(wire, window, [one_more(number) for number in range(1, 20)])
    assert len(seen.asked) == 5
    assert seen.open_times_ms == slots[: len(seen.open_times_ms)]


@every_wire
def test_a_window_before_the_listing_is_empty_and_costs_two_requests_a_page(wire_class):
    wire = wire_class()
    window = recent(wire, 100)
    wire.book.first_ms = int(NOW.timestamp() * 1_000)
    seen = fetch(wire, window)
    assert seen.fetched.rows.is_empty()
    assert seen.fetched.rows.schema == ANSWER_SCHEMA
    assert len(seen.asked) == 2


@every_wire
def test_a_slot_that_has_not_settled_is_not_asked_for_twice(wire_class):
    wire = wire_class()
    last = wire.timeframe.floor(NOW) - wire.timeframe.duration
    wire.book.missing = {int(last.timestamp() * 1_000)}
    seen = fetch(wire, slots_ending(wire, last + 2 * wire.timeframe.duration, 10), settle_s=31)
    assert len(seen.asked) == 1


@every_wire
def test_a_confirming_answer_that_differs_is_kept_beside_the_first(wire_class):
    wire = wire_class()
    window = recent(wire, 10)
    slots = expected_ms(window, wire)
    first = [row_at(ms) for ms in slots if ms not in (slots[2], slots[6])]
    again = [row_at(ms) for ms in slots[2:7]]
    again[2] = again[2]._replace(close="39999.5")
    bodies = [wire.wrap([wire.spell(row) for row in rows]) for rows in (first, again)]
    seen = fetch(wire, window, [Reply(body) for body in bodies])
    assert seen.open_times_ms == [*slots[:4], slots[4], *slots[4:]]


@pytest.mark.parametrize("wire_class", [wire for wire in WIRES if wire is not DeribitWire])
def test_candles_off_the_grid_that_push_others_out_of_a_full_page_lose_none(wire_class):
    wire = wire_class()
    window = recent(wire, wire.max_rows)
    slots = expected_ms(window, wire)
    wire.book.extra = [row_at(ms + 14_800) for ms in slots[10:200:7]]
    seen = fetch(wire, window)
    assert set(seen.open_times_ms) == set(slots) | {row.open_ms for row in wire.book.extra}
    assert len(seen.open_times_ms) == len(set(seen.open_times_ms))
