"""The live bus as feeds, the live run and readers see it, over a real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from dataclasses import replace

import msgspec
import pytest

from mdp.bus import open_live_reader, read_all, read_buffer
from mdp.bus.address import socket_path
from mdp.bus.entries import pack_entry, unpack_entry
from mdp.bus.live import ValkeyLiveBus
from mdp.config.settings import load_settings
from mdp.domain.live import Change, Entry
from mdp.domain.timeframe import Timeframe
from mdp.errors import BusUnavailable, InputError, LeaseHeld
from mdp_tests.bus.live_candles import (
    BTC,
    CLOSED,
    CONFIRMED,
    CORRECTED,
    DVOL,
    START_US,
    candle,
    entry,
    minute,
    settings_of,
)

M1 = Timeframe.M1


@pytest.fixture
def bus_settings(bus_dir, redis):
    """Settings of the server of the tests, on which nothing of live trading is left."""
    for key in redis.scan_iter("mdp:live:*"):
        redis.delete(key)
    return load_settings(data_dir=bus_dir, bus={"url": f"unix://{socket_path(bus_dir)}"}, live={"buffer_size": 10})


@pytest.fixture
def on(bus_settings):
    """Run something that takes a bus."""

    def run(act, *, buses=1, **more):
        async def inside():
            async with contextlib.AsyncExitStack() as opened:
                made = [ValkeyLiveBus(bus_settings, keeps=False, **more) for _ in range(buses)]
                return await act(*[await opened.enter_async_context(bus) for bus in made])

        return asyncio.run(asyncio.wait_for(inside(), 30))

    return run


def test_what_is_published_is_read_as_it_was_by_the_loop_and_without_one(on, bus_settings):
    told = [
        candle(0, CLOSED),
        candle(1, CONFIRMED, quote_volume=4.5, trades=None, source="rest"),
        candle(3, CORRECTED, close=-0.1 + 0.3, minutes=1_440, source="resampled"),
        candle(4, volume=None, trades=0, source="archive", received_us=START_US + 1),
    ]

    async def act(bus):
        assert await bus.buffer(BTC, M1) is None
        for one in told:
            await bus.publish(BTC, [Change(M1, one)])
        return await bus.buffer(BTC, M1)

    found = on(act)
    assert found.candles == tuple(told)
    assert (found.market, found.timeframe, found.size, found.written_us) == (BTC, M1, 10, START_US + 1)
    assert found.missing_us == (START_US + 2 * M1.microseconds,)
    unkept = replace(found, is_stale=True)
    assert read_buffer(bus_settings, BTC, M1) == unkept, "no feed holds the lease"
    assert read_all(bus_settings) == [unkept]

    async def while_a_feed_is_there(bus):
        await bus.lease("feed/binance", "me", for_s=5)
        return await asyncio.to_thread(read_buffer, bus_settings, BTC, M1)

    assert on(while_a_feed_is_there) == found


def test_a_change_of_six_timeframes_is_one_step_and_counts_once_in_each(on):
    async def act(bus):
        first = [Change(timeframe, candle(0, timeframe=timeframe)) for timeframe in Timeframe]
        await bus.publish(BTC, first)
        before = [(await bus.buffer(BTC, timeframe)).seq for timeframe in Timeframe]
        await bus.publish(BTC, first)
        await bus.publish(BTC, [minute(close=2.0), minute(1)])
        return [(await bus.buffer(BTC, timeframe)).seq - seq for timeframe, seq in zip(Timeframe, before, strict=True)]

    assert on(act) == [2, 0, 0, 0, 0, 0]


def test_a_rewrite_replaces_everything_and_its_seq_goes_on(on):
    async def act(bus):
        await bus.publish(BTC, [minute(50)])
        before = await bus.buffer(BTC, M1)
        await bus.rewrite(BTC, {M1: [candle(slot, CONFIRMED) for slot in (3, 1, 2, -20)], Timeframe.D1: []})
        return before, await bus.buffer(BTC, M1), await bus.buffer(BTC, Timeframe.D1)

    before, after, empty = on(act)
    assert after.candles == tuple(candle(slot, CONFIRMED) for slot in (1, 2, 3))
    assert after.seq > before.seq
    assert empty.candles == ()


def test_a_seq_never_comes_back_after_the_bus_forgot_and_the_writer_is_told_by_another_epoch(on, redis):
    async def act(bus):
        await bus.rewrite(BTC, {M1: [candle()]})
        epoch = bus.epoch
        await bus.publish(BTC, [minute(), Change(Timeframe.M5, candle())])
        before = await bus.buffer(BTC, M1)
        assert bus.epoch == epoch  # a ring that is written for the first time is no loss
        redis.flushall()
        redis.script_flush()
        await asyncio.sleep(0.002)
        await bus.publish(BTC, [minute(1)])
        after = await bus.buffer(BTC, M1)
        assert bus.epoch != epoch
        epoch = bus.epoch
        await bus.publish(BTC, [minute(2)])
        assert bus.epoch == epoch
        return before.seq, after.seq

    before, after = on(act)
    assert after > before


def test_a_seq_goes_on_at_the_time_of_another_start_of_the_server(on, redis, bus_settings):
    on(lambda bus: bus.publish(BTC, [minute()]))
    before = read_buffer(bus_settings, BTC, M1).seq
    redis.set(f"mdp:live:{{{bus_settings.env}}}:start", "another start:1")
    time.sleep(0.005)

    async def act(bus):
        found = []
        for write in (bus.publish(BTC, [minute(1)]), bus.publish(BTC, [minute(2)]), bus.rewrite(BTC, {M1: []})):
            await write
            found.append((await bus.buffer(BTC, M1)).seq)
        return found

    first, second, third = on(act)
    assert first > before + 1
    assert (second, third) == (first + 1, first + 2)


def test_what_is_no_ring_of_ours_is_made_anew(on, redis, bus_settings):
    key = f"mdp:live:{{{bus_settings.env}}}:ring:{BTC}:1m"
    for nonsense in (b"MDR9" + b"\0" * 900, b"x"):
        redis.set(key, nonsense)
        assert read_buffer(bus_settings, BTC, M1) is None
        on(lambda bus: bus.publish(BTC, [minute()]))
        assert read_buffer(bus_settings, BTC, M1).candles == (candle(),)


@pytest.mark.parametrize(
    "wrong",
    [{"close": float("nan")}, {"volume": float("inf")}, {"source": "gossip"}, {"trades": 2**63}, {"minutes": -1}],
)
def test_figures_that_are_none_are_refused_before_anything_is_written(on, bus_settings, wrong):
    with pytest.raises(InputError, match="candle"):
        on(lambda bus: bus.publish(BTC, [minute(), minute(1, **wrong)]))
    assert read_buffer(bus_settings, BTC, M1) is None


def test_subscribers_hear_what_they_asked_for_with_the_seq_of_the_buffer(on):
    async def act(bus, other):
        hearing = other.subscribe("candles.binance.*.1m", "buffers.*")
        await hearing.ready()
        await bus.publish(BTC, [minute(), Change(Timeframe.M5, candle())])
        await bus.publish(BTC, [minute(0, CLOSED), minute(0, CLOSED)])
        await bus.publish(DVOL, [minute(0, CLOSED, volume=None, trades=None)])
        await bus.rewrite(BTC, {M1: [candle(0, CLOSED)]})
        heard = [await anext(hearing) for _ in range(5)]
        return heard, (await bus.buffer(BTC, M1)).seq

    heard, seq = on(act, buses=2)
    said = [(message.topic, json.loads(message.body)) for message in heard]
    assert [topic for topic, _ in said] == [
        "candles.binance.BTC-USDT.1m",
        "candles.binance.BTC-USDT.1m",
        "buffers.binance.BTC-USDT.1m",
        "buffers.deribit.BTC-DVOL.1m",
        "buffers.binance.BTC-USDT.1m",
    ]
    first, second, closed, _, rewritten = (body for _, body in said)
    assert second["seq"] == first["seq"] + 1 == closed["seq"]
    assert rewritten["seq"] == seq > closed["seq"]
    assert (closed["reason"], rewritten["reason"]) == ("closed", "rewritten")
    assert first == {
        "seq": first["seq"], "exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1m",
        "open_time": "2024-12-30T00:00:00.000000Z", "open": 1.0, "high": 9.0, "low": 0.5, "close": 1.5,
        "volume": 3.25, "quote_volume": None, "trades": 7, "minutes": 1, "state": "forming", "source": "stream",
        "received_at": "2024-12-30T00:00:00.000007Z",
    }  # fmt: skip


def test_environments_on_one_server_do_not_meet(bus_dir, on, bus_settings):
    elsewhere = bus_settings.model_copy(update={"env": "staging"})

    async def act(bus):
        async with open_live_reader(elsewhere) as other:
            hearing = other.subscribe("*")
            await hearing.ready()
            await bus.publish(BTC, [minute()], [entry(1)])
            await bus.lease("live", "a", for_s=5)
            await bus.tell("x", b"y", for_s=5)
            await other.publish(DVOL, [minute()])
            return (
                await other.buffer(BTC, M1),
                (await other.backlog()).entries,
                await other.holder_of("live"),
                dict(await other.told("")),
                (await anext(hearing)).topic,
            )

    assert on(act) == (None, 0, None, {}, "candles.deribit.BTC-DVOL.1m")


def test_entries_are_taken_until_they_are_acknowledged_and_never_again(on):
    async def act(bus):
        await bus.publish(BTC, [], [entry(number) for number in range(5)])
        first = await bus.take("me", at_most=3, wait_s=0)
        again = await bus.take("me", at_most=3, wait_s=0)
        assert [one.entry for one in first] == [entry(number) for number in range(3)]
        assert again == first
        await bus.acknowledge(first[:2])
        await bus.acknowledge(first[:2])
        rest = await bus.take("me", at_most=9, wait_s=0)
        assert [one.entry.told_us for one in rest] == [2, 3, 4]
        waiting = await bus.backlog()
        await bus.acknowledge(rest)
        return waiting, await bus.backlog(), await bus.take("me", at_most=9, wait_s=0)

    waiting, none, empty = on(act)
    assert (waiting.entries, waiting.oldest_us) == (3, 2)
    assert (none.entries, none.oldest_us, empty) == (0, None, [])


def test_what_one_took_nobody_else_gets_unless_it_is_gone_and_both_may_acknowledge(on, monkeypatch):
    async def act(bus, other):
        await bus.publish(BTC, [], [entry(1), entry(2)])
        first = await bus.take("me", at_most=1, wait_s=0)
        second = await other.take("you", at_most=9, wait_s=0)
        assert [one.entry.told_us for one in (*first, *second)] == [1, 2]
        monkeypatch.setattr("mdp.bus.waiting.ABANDONED_MS", 0)
        inherited = await other.take("you", at_most=9, wait_s=0)
        assert [one.entry.told_us for one in inherited] == [1, 2]
        monkeypatch.undo()
        assert await bus.take("me", at_most=9, wait_s=0) == []
        await other.acknowledge(inherited)
        await bus.acknowledge(first)
        return await bus.backlog()

    assert on(act, buses=2).entries == 0


def test_consumers_of_the_past_do_not_pile_up_and_what_they_left_is_still_taken(on, redis, bus_settings):
    async def act(bus):
        await bus.publish(BTC, [], [entry(1)])
        left = await bus.take("run0", at_most=1, wait_s=0)
        for number in range(1, 30):
            await bus.take(f"run{number}", at_most=9, wait_s=0)
        assert await bus.take("run0", at_most=1, wait_s=0) == left

    on(act)
    assert len(redis.xinfo_consumers(f"mdp:live:{{{bus_settings.env}}}:entries", "persister")) <= 9


def test_who_waits_for_entries_gets_them_as_soon_as_they_come(on):
    async def act(bus, other):
        waiting = asyncio.ensure_future(bus.take("me", at_most=9, wait_s=20))
        await asyncio.sleep(0.02)
        await other.publish(BTC, [], [entry(1)])
        return await waiting, await other.take("you", at_most=9, wait_s=0.01)

    found, none = on(act, buses=2)
    assert [one.entry for one in found] == [entry(1)]
    assert none == []


def test_entries_beyond_the_most_are_dropped_oldest_first_and_counted(on, redis, bus_settings):
    async def act(bus):
        await bus.publish(BTC, [], [entry(number) for number in range(150)])
        await bus.take("me", at_most=1, wait_s=0)  # and it is never acknowledged
        await bus.publish(BTC, [], [entry(number) for number in range(150, 450)])
        left = (await bus.backlog()).entries
        lost = int((await bus.told("entries/"))["entries/lost"])
        assert left + lost == 450
        assert 200 <= left < 310
        kept = await bus.take("me", at_most=999, wait_s=0)
        assert [one.entry.told_us for one in kept] == list(range(450 - left, 450))
        await bus.acknowledge(kept)
        return await bus.backlog()

    assert on(act, most_entries=200).entries == 0
    key = f"mdp:live:{{{bus_settings.env}}}:entries"
    assert redis.xpending(key, "persister")["pending"] == 0


def test_an_entry_that_nobody_can_read_is_put_aside_and_stops_nobody(on, redis, bus_settings, caplog):
    key = f"mdp:live:{{{bus_settings.env}}}:entries"
    for body in (b"nonsense", pack_entry(entry(1)).replace(b"binance", b"nowhere")):
        redis.xadd(key, {"e": body})

    async def act(bus):
        assert (await bus.backlog()).oldest_us is None
        await bus.publish(BTC, [], [entry(1)])
        return await bus.take("me", at_most=9, wait_s=0), await bus.backlog()

    taken, left = on(act)
    assert [one.entry for one in taken] == [entry(1)]
    assert left.entries == 1
    assert redis.xlen(f"{key}:unreadable") == 2
    assert caplog.text.count("cannot be read") == 2


def test_an_entry_is_the_same_after_its_journey():
    for one in (
        entry(1),
        Entry(DVOL, candle(volume=None, trades=None), requests=2, told_us=5, detail="two words"),
        Entry(BTC, None, (START_US, START_US + 60_000_000), 1, 9),
    ):
        assert unpack_entry(pack_entry(one)) == one


def test_a_lease_has_one_holder_until_it_is_released_revoked_or_lapses(on):
    async def act(bus, other):
        mine = await bus.lease("live", "me", for_s=30)
        assert await other.lease("live", "you", for_s=30) is None
        assert (await bus.lease("live", "me", for_s=30)).holder == await other.holder_of("live") == "me"
        assert await mine.renew()
        await other.revoke("live", "you")
        assert await bus.holder_of("live") == "me"
        await other.revoke("live", "me")
        assert not await mine.renew()
        yours = await other.lease("live", "you", for_s=30)
        await mine.release()
        assert await bus.holder_of("live") == "you"
        await yours.release()
        assert not await yours.renew()
        short = await bus.lease("live", "me", for_s=0.001)
        await asyncio.sleep(0.01)
        assert not await short.renew()
        return await bus.holder_of("live")

    assert on(act, buses=2) is None


def test_who_lost_the_lease_of_a_feed_to_another_cannot_write_its_buffers_any_more(on):
    async def act(bus, other):
        mine = await bus.lease("feed/binance", "me", for_s=0.001)
        await bus.publish(BTC, [minute(0)])
        await asyncio.sleep(0.01)
        await bus.publish(BTC, [minute(1)])  # lapsed, and nobody else's
        await other.lease("feed/binance", "you", for_s=30)
        for write in (bus.publish(BTC, [minute(2)], [entry(1)]), bus.rewrite(BTC, {M1: []})):
            with pytest.raises(LeaseHeld, match="you does it"):
                await write
        assert not await mine.renew()
        await bus.publish(DVOL, [minute()])  # another exchange
        assert (await other.backlog()).entries == 0
        await other.publish(BTC, [minute(2)])
        return await bus.buffer(BTC, M1)

    assert len(on(act, buses=2).candles) == 3


def test_what_is_said_is_told_by_prefix_and_forgotten_in_time(on, redis, bus_settings):
    async def act(bus):
        await bus.tell("feed/binance", b"well", for_s=30)
        await bus.tell("feed/binance", b"better", for_s=30)
        await bus.tell("feed/okx", b"short", for_s=0.001)
        await bus.tell("wanted/okx", b"", for_s=30)
        await asyncio.sleep(0.01)
        return dict(await bus.told("feed/")), dict(await bus.told(""))

    assert on(act) == ({"feed/binance": b"better"}, {"feed/binance": b"better", "wanted/okx": b""})
    assert redis.scard(f"mdp:live:{{{bus_settings.env}}}:said") == 2
    with pytest.raises(InputError, match="for_s"):
        on(lambda bus: bus.tell("a", b"", for_s=0))


def test_a_wrong_number_is_refused_by_name(on):
    for field, words in (("at_most", (0, 1)), ("wait_s", (1, -1)), ("wait_s", (1, float("nan")))):
        with pytest.raises(InputError, match=field):
            on(lambda bus, words=words: bus.take("me", at_most=words[0], wait_s=words[1]))


def test_without_a_server_a_reader_says_what_to_start_and_starts_nothing(tmp_path):
    settings = settings_of(tmp_path)

    async def act():
        async with open_live_reader(settings) as bus:
            assert bus.epoch == ""
            with pytest.raises(BusUnavailable, match="mdp feed"):
                await bus.holder_of("live")
            with pytest.raises(BusUnavailable, match="mdp feed"):
                await anext(bus.subscribe("*"))

    asyncio.run(act())
    for read in (lambda: read_buffer(settings, BTC, M1), lambda: read_all(settings)):
        with pytest.raises(BusUnavailable, match="mdp feed") as raised:
            read()
        assert raised.value.retryable
    assert not (tmp_path / "bus").exists()


def test_an_answer_that_is_an_error_is_no_answer(on, redis, bus_settings):
    redis.set(f"mdp:live:{{{bus_settings.env}}}:entries", "not a stream")
    with pytest.raises(BusUnavailable, match="WRONGTYPE"):
        on(lambda bus: bus.backlog())


def test_a_call_that_is_cancelled_costs_its_connection_and_no_answer_goes_astray(on):
    async def act(bus):
        await bus.publish(BTC, [minute()])
        waiting = asyncio.ensure_future(bus.take("me", at_most=1, wait_s=20))
        await asyncio.sleep(0.02)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        return [await bus.holder_of("live"), (await bus.buffer(BTC, M1)).candles, (await bus.backlog()).entries]

    assert on(act) == [None, (candle(),), 0]


def test_a_server_that_hangs_is_given_up_by_all_who_wait_at_the_same_time(monkeypatch, bus_settings):
    monkeypatch.setattr("mdp.bus.connections.ANSWER_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        url = f"redis://127.0.0.1:{hanging.getsockname()[1]}/0"
        settings = bus_settings.model_copy(update={"bus": bus_settings.bus.model_copy(update={"url": url})})

        async def act():
            async with open_live_reader(settings) as bus:
                return await asyncio.gather(*(bus.holder_of("x") for _ in range(20)), return_exceptions=True)

        began = time.monotonic()
        found = asyncio.run(act())
    assert {type(error) for error in found} == {BusUnavailable}
    assert time.monotonic() - began < 5


def test_messages_are_what_their_classes_say(on):
    from mdp.bus.topics import BufferMessage, CandleMessage

    async def act(bus):
        hearing = bus.subscribe("*")
        await hearing.ready()
        await bus.publish(BTC, [minute(0, CORRECTED)])
        await bus.rewrite(BTC, {M1: []})
        return [await anext(hearing) for _ in range(3)]

    kinds = (CandleMessage, BufferMessage, BufferMessage)
    for message, kind in zip(on(act), kinds, strict=True):
        msgspec.json.decode(message.body, type=kind)
