"""The live bus when servers and processes are killed or hang: nothing half-written or lost, nobody waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from redis import Redis

from mdp.bus import open_budgets, open_live_bus, open_live_reader
from mdp.bus.address import socket_path
from mdp.domain.live import Change
from mdp.domain.market import Exchange
from mdp.domain.quota import Quota
from mdp.domain.timeframe import Timeframe
from mdp.errors import BusUnavailable
from mdp_tests.bus.live_candles import BTC, CLOSED, START_US, candle, entry, minute, settings_of

pytestmark = pytest.mark.slow
M1 = Timeframe.M1


def server_pid(data_dir):
    with Redis(unix_socket_path=str(socket_path(data_dir))) as client:
        return client.info("server")["process_id"]


async def until_it_answers(bus, other_than="", timeout_s=20):
    """Return after how many seconds it answers, as another start of the server than that."""
    began = time.monotonic()
    while time.monotonic() - began < timeout_s:
        with contextlib.suppress(BusUnavailable):
            await bus.holder_of("nothing")
            if bus.epoch != other_than:
                return time.monotonic() - began
        await asyncio.sleep(0.01)
    raise AssertionError("the bus does not come back")


@contextlib.contextmanager
def publishing(data_dir):
    command = [sys.executable, "-m", "mdp_tests.bus.live_candles", str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


class Storing:
    """Takes entries and acknowledges them; notes what comes again although that was written long before.

    The server may answer up to two seconds before it has written, where the disk is slow; `LOST_S` is generous.
    """

    LOST_S = 4.0

    def __init__(self):
        self.seen, self.done_at, self.again, self.epochs = set(), {}, [], set()

    async def once(self, bus):
        taken = await bus.take("me", at_most=200, wait_s=0.05)
        self.epochs.add(bus.epoch)
        self.seen |= {one.entry.told_us for one in taken}
        now = time.monotonic()
        self.again += [one.id for one in taken if self.done_at.get(one.id, now) < now - self.LOST_S]
        await bus.acknowledge(taken)
        self.done_at |= {one.id: time.monotonic() for one in taken}


def slots_of(found):
    return {(buffer.candles[-1].open_us - START_US) // buffer.timeframe.microseconds for buffer in found}


@pytest.mark.parametrize("killed", ["server", "keeper"])
def test_a_kill_in_the_middle_of_publishing_leaves_nothing_half_written_and_loses_no_entry(tmp_path, killed):
    async def act(process):
        storing = Storing()
        async with open_live_bus(settings_of(tmp_path)) as bus:

            async def store_for(seconds):
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    with contextlib.suppress(BusUnavailable):
                        await storing.once(bus)

            await until_it_answers(bus)
            for _ in range(3 if killed == "server" else 1):
                await store_for(1.5)
                epoch = bus.epoch
                os.kill(server_pid(tmp_path) if killed == "server" else process.pid, signal.SIGKILL)
                print(f"the bus answers {await until_it_answers(bus, epoch):.2f} s after the {killed} was killed")
                found = [await bus.buffer(BTC, timeframe) for timeframe in Timeframe]
                if killed == "keeper":
                    assert len(slots_of(found)) == 1
            await store_for(1.0)
            process.kill()
            await store_for(1.5)  # whoever kept the server last: it is settled by then
            await until_it_answers(bus)
            answered = [int(line.split()[0]) for line in process.communicate()[0].splitlines()]
            while (await bus.backlog()).entries:
                await store_for(0.2)
            found = [await bus.buffer(BTC, timeframe) for timeframe in Timeframe]
            return answered, storing, slots_of(found)

    with publishing(tmp_path) as process:
        # the process that publishes comes first, so that it keeps the server
        while not socket_path(tmp_path).exists():
            time.sleep(0.02)
        answered, storing, slots = asyncio.run(asyncio.wait_for(act(process), 60))
    print(f"{len(answered)} published, {len(storing.seen)} stored")
    assert len(answered) > 100
    assert set(answered) <= storing.seen
    assert not storing.again
    assert len(slots) == 1
    assert len(storing.epochs) > 1


def test_budgets_and_buses_of_one_process_share_a_keeper(tmp_path):
    async def act():
        settings = settings_of(tmp_path)
        with open_budgets(settings) as budgets:
            terms = {"host": "h", "rate_share": 1.0, "symbol_shares": {}, "timeout_s": 2.0}
            budget = budgets.of(Exchange.OKX, [Quota("weight", 9, 1)], **terms)
            (await budget.acquire({"weight": 1})).answered()
            async with open_live_bus(settings) as bus:
                async with open_live_bus(settings) as other:
                    assert await other.holder_of("x") is None
                await bus.publish(BTC, [minute()])
                epoch = bus.epoch
                await budget.close()
                budgets.close()
                await asyncio.sleep(0.3)
                await bus.publish(BTC, [minute(1)])
                assert bus.epoch == epoch
                pid = server_pid(tmp_path)
        return pid

    assert not psutil.pid_exists(asyncio.run(act()))


def test_a_lease_that_lapsed_because_the_server_was_away_is_taken_again_if_nobody_has_it(tmp_path):
    async def act():
        async with open_live_bus(settings_of(tmp_path)) as bus:
            free, taken = [await bus.lease(name, "me", for_s=0.02) for name in ("feed/okx", "live")]
            await asyncio.sleep(1.1)  # a server that ends within a second is not started again at once
            free, taken = [await bus.lease(name, "me", for_s=0.02) for name in ("feed/okx", "live")]
            released = await bus.lease("feed/bybit", "me", for_s=20)
            await released.release()
            await asyncio.gather(*(bus.holder_of("many connections") for _ in range(5)))
            os.kill(server_pid(tmp_path), signal.SIGKILL)
            await until_it_answers(bus)
            await asyncio.gather(*(bus.holder_of("all of them new") for _ in range(5)))
            await bus.lease("live", "you", for_s=20)
            assert not await released.renew()
            assert await free.renew()
            assert not await taken.renew()
            return await bus.holder_of("live")

    assert asyncio.run(act()) == "you"


def test_a_server_that_hangs_is_noticed_by_callers_and_by_subscribers(tmp_path, monkeypatch):
    monkeypatch.setattr("mdp.bus.connections.ANSWER_S", 1.0)
    monkeypatch.setattr("mdp.bus.subscription.ANSWER_S", 1.0)

    async def act():
        settings = settings_of(tmp_path)
        async with open_live_bus(settings) as bus, open_live_reader(settings) as reader:
            hearing = reader.subscribe("*")
            await hearing.ready()
            quiet = asyncio.ensure_future(anext(hearing))
            await asyncio.sleep(5)  # quiet is not dead
            assert not quiet.done()
            await bus.publish(BTC, [minute()])
            assert (await quiet).topic == "candles.binance.BTC-USDT.1m"
            pid = server_pid(tmp_path)
            os.kill(pid, signal.SIGSTOP)
            try:
                began = time.monotonic()
                with pytest.raises(BusUnavailable, match="no answer"):
                    await bus.buffer(BTC, M1)
                print(f"callers know after {time.monotonic() - began:.2f} s")
                with pytest.raises(BusUnavailable, match="silent"):
                    await anext(hearing)
                print(f"subscribers know after {time.monotonic() - began:.2f} s")
            finally:
                os.kill(pid, signal.SIGCONT)
            await until_it_answers(bus)
            assert len((await bus.buffer(BTC, M1)).candles) == 1

    asyncio.run(asyncio.wait_for(act(), 60))


def measure(times):
    times = sorted(times)
    return f"p50 {times[len(times) // 2] * 1e6:.0f} us, p99 {times[len(times) * 99 // 100] * 1e6:.0f} us"


async def timed(times, calls, act):
    cpu = time.process_time()
    for number in range(calls):
        began = time.perf_counter()
        await act(number)
        times.append(time.perf_counter() - began)
    return (time.process_time() - cpu) / calls * 1e6


def test_what_a_publish_a_read_and_a_waiting_entry_cost(tmp_path):
    full = {timeframe: [candle(slot, CLOSED, timeframe=timeframe) for slot in range(101)] for timeframe in Timeframe}

    async def act():
        async with open_live_bus(settings_of(tmp_path)) as bus:
            await bus.rewrite(BTC, full)

            async def publish(number):
                forming = [
                    Change(timeframe, candle(101, close=number / 7, timeframe=timeframe)) for timeframe in Timeframe
                ]
                await bus.publish(BTC, forming)

            for what, calls, do in (
                ("publish of six timeframes", 2_000, publish),
                ("read", 2_000, lambda _: bus.buffer(BTC, M1)),
            ):
                times = []
                cpu = await timed(times, calls, do)
                print(f"{what}: {measure(times)}, {cpu:.0f} us of CPU here")
            with Redis(unix_socket_path=str(socket_path(tmp_path))) as client:
                before = client.info("memory")["used_memory"]
                for first in range(0, 20_000, 500):
                    await bus.publish(BTC, [], [entry(number) for number in range(first, first + 500)])
                full_bytes = client.info("memory")["used_memory"]
                began = time.perf_counter()
                while taken := await bus.take("me", at_most=1_000, wait_s=0):
                    await bus.acknowledge(taken)
                seconds = time.perf_counter() - began
                after = client.info("memory")["used_memory"]
            print(f"an entry that waits: {(full_bytes - before) / 20_000:.0f} bytes; 20,000 taken in {seconds:.2f} s")
            return before, after

    before, after = asyncio.run(act())
    assert after - before < 1_000_000
