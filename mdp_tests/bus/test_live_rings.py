"""A ring holds what a plain table of slots would, whatever is written in whatever order."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdp.bus import open_live_reader
from mdp.bus.address import socket_path
from mdp.bus.rings import pack_rows, unpack_ring
from mdp.config.settings import load_settings
from mdp.domain.live import CandleState, Change
from mdp.domain.timeframe import Timeframe
from mdp_tests.bus.live_candles import BTC, START_US, candle

M1 = Timeframe.M1
SIZES = (10, 13)

slots = st.one_of(st.integers(0, 25), st.integers(0, 90))
candles = st.builds(candle, slots, st.sampled_from(CandleState), close=st.sampled_from([1.0, 2.0]))
written = st.tuples(st.just("publish"), st.sampled_from(SIZES), st.lists(candles, min_size=1, max_size=4))
rewritten = st.tuples(st.just("rewrite"), st.sampled_from(SIZES), st.lists(candles, max_size=30))
histories = st.lists(st.one_of(written, written, written, rewritten), min_size=1, max_size=12)


class Table:
    """What a ring should hold: the last candle of each slot, and how often anything changed."""

    def __init__(self):
        self.size, self.held, self.newest, self.changes = None, {}, 0, 0

    def oldest(self, size):
        return self.newest - size * M1.microseconds

    def rewrite(self, size, new):
        self.size, self.changes = size, None
        self.held = {one.open_us: one for one in new}
        self.newest = max(self.held, default=0)
        self.forget(size)

    def publish(self, size, new):
        for one in new:
            if self.size not in (None, size):
                self.forget(min(size, self.size))
            self.size = size
            if one.open_us >= self.oldest(size) and self.held.get(one.open_us) != one:
                self.held[one.open_us] = one
                self.newest = max(self.newest, one.open_us)
                self.forget(size)
                self.changes += 1

    def forget(self, size):
        self.held = {open_us: one for open_us, one in self.held.items() if open_us >= self.oldest(size)}

    def candles(self):
        return tuple(self.held[open_us] for open_us in sorted(self.held))


async def play(bus_dir, history):
    url = f"unix://{socket_path(bus_dir)}"
    both = {
        size: open_live_reader(load_settings(data_dir=bus_dir, bus={"url": url}, live={"buffer_size": size}))
        for size in SIZES
    }
    async with both[SIZES[0]], both[SIZES[1]]:
        await both[SIZES[0]].rewrite(BTC, {M1: []})
        table, seq = Table(), (await both[SIZES[0]].buffer(BTC, M1)).seq
        table.rewrite(SIZES[0], [])
        for what, size, new in history:
            table.changes = 0
            if what == "publish":
                await both[size].publish(BTC, [Change(M1, one) for one in new])
            else:
                await both[size].rewrite(BTC, {M1: new})
            getattr(table, what)(size, new)
            found = await both[size].buffer(BTC, M1)
            assert found.candles == table.candles()
            assert found.size == table.size
            assert (found.seq - seq == table.changes) if table.changes is not None else (found.seq > seq)
            seq = found.seq


@pytest.mark.slow
@settings(
    max_examples=250, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=histories)
def test_whatever_is_written_the_ring_holds_what_a_table_would(bus_dir, history):
    asyncio.run(play(bus_dir, history))


@settings(max_examples=6, derandomize=True, deadline=None)
@given(history=histories)
def test_a_few_histories_give_what_a_table_would(bus_dir, history):
    asyncio.run(play(bus_dir, history))


def test_a_late_a_repeated_and_a_corrected_candle_and_a_jump_over_the_whole_ring(bus_dir):
    step = [("publish", 10, [candle(slot)]) for slot in (5, 3, 5, 4, 15, 5, 4, 16, 5, 60, 49, 50, 71, 60)]
    asyncio.run(play(bus_dir, [*step, ("publish", 13, [candle(72)]), ("publish", 10, [candle(62), candle(61)])]))


def test_a_ring_that_becomes_smaller_keeps_its_youngest_candles_and_one_that_grows_all(bus_dir):
    for first in range(14):
        full = [candle(slot) for slot in range(first, first + 14)]
        asyncio.run(play(bus_dir, [("rewrite", 13, full), ("publish", 10, full[-1:]), ("publish", 13, full[-1:])]))


def test_a_ring_without_candles_and_one_that_was_cut():
    rows, newest_us = pack_rows([], 10, M1.microseconds)
    assert (newest_us, set(rows)) == (0, {0})
    assert unpack_ring(None, BTC, M1) is None
    assert unpack_ring(b"MDR1" + bytes(28) + rows[1:], BTC, M1) is None


def test_rows_are_of_the_last_slots_and_of_one_slot_the_last_counts():
    new = [candle(0), candle(-10), candle(-11), candle(0, close=2.0)]
    rows, newest_us = pack_rows(new, 10, M1.microseconds)
    assert newest_us == START_US
    assert len(rows) == 11 * 76
    assert sum(rows[at + 74] > 0 for at in range(0, len(rows), 76)) == 2
