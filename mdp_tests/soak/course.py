"""One soak from the toggle that turns live on to the comparison with the truth.

Not here: the parts (``world``, ``chaos``, ``verdict``), the command (``__main__``).
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from mdp.bus import open_live_bus, open_live_reader
from mdp.domain.interval import Interval, format_time
from mdp.domain.live import Buffer
from mdp.domain.market import SPOT_MARKETS, VOLATILITY_MARKETS, Exchange
from mdp.domain.timeframe import Timeframe
from mdp.storage import open_store
from mdp_tests.soak import verdict
from mdp_tests.soak.chaos import Chaos
from mdp_tests.soak.world import World

NOW = "2025-01-07T00:00:20Z"
"""A recorded day, and the generated ones after it."""

SCENARIO = "live_day"
EXTRA = {"MDP_LIVE__PERSIST_EVERY_S": "5", "MDP_LIVE__RUN_MINUTES": "4"}
"""Flushes and ends of runs come often, for time runs fast."""


@dataclass(frozen=True)
class Course:
    """How a soak goes.

    Attributes:
        hours: Simulated ones.
        seed: Of the chaos.
        every_s: Real seconds from one kill to the next.
        warm_up_s: Before the first kill.
        calm_s: After the last one.
    """

    hours: float
    seed: int = 1
    every_s: float = 30.0
    warm_up_s: float = 60.0
    calm_s: float = 90.0


@dataclass
class Verdict:
    """What is wrong in the end.

    Attributes:
        wrong: What is stored or buffered and is not the truth.
        late: Promises about time and memory that were not kept, for whatever reason.
    """

    wrong: list[str]
    late: list[str]


FLAT_MB, STOPPED_S = 10.0, 5.0


async def soak(world: World, course: Course) -> Verdict:
    """Run it and compare."""
    lasts_s = course.hours * 3_600 / world.speed
    world.turn_sensor(on=True)
    since = await _until_full(world)
    with _instance(world) as instance:
        chaos = Chaos(world, instance, course.seed)
        await asyncio.sleep(course.warm_up_s)
        rage_s = max(0.0, lasts_s - course.warm_up_s - course.calm_s)
        await chaos.rage(rage_s, every_s=course.every_s, spared=frozenset({Exchange.OKX}))
        world.forget_faults()
        await asyncio.sleep(course.calm_s)
        stopped_s = await _turn_off(world, instance)
    late = _recovery(chaos) + _memory(chaos)
    if stopped_s > STOPPED_S:
        late.append(f"turned off, the run took {stopped_s:.1f} s to end ({STOPPED_S:g} s)")
    print(f"turned off: ended after {stopped_s:.2f} s")
    for note in chaos.notes:
        print(f"note: {note}")
    return Verdict(await _compare(world, since), late)


async def _until_full(world: World) -> datetime:
    """Wait until every market has its buffers; return from which minute on live must be whole."""
    at, deadline = time.monotonic(), time.monotonic() + 300
    async with open_live_bus(world.settings) as bus:
        while True:
            buffers = [await bus.buffer(market, Timeframe.M1) for market in SPOT_MARKETS]
            if all(buffers):
                break
            world.require_alive()
            assert time.monotonic() < deadline, "the buffers were not filled in five minutes"
            await asyncio.sleep(0.5)
    print(f"all buffers full {time.monotonic() - at:.1f} s after the toggle, at {format_time(world.now())}", flush=True)
    return Timeframe.M1.floor(world.now()) + 2 * Timeframe.M1.duration


async def _turn_off(world: World, instance: dg.DagsterInstance) -> float:
    """Turn the sensor off; return how long the live run took to end."""
    async with open_live_reader(world.settings) as bus:
        while await bus.holder_of("live") is None:  # one run may just have ended, the next not have begun
            await asyncio.sleep(0.2)
    world.turn_sensor(on=False)
    at = time.monotonic()
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    active = [status for status in dg.DagsterRunStatus if status not in ended]
    while instance.get_runs(dg.RunsFilter(job_name="live_job", statuses=active)) and time.monotonic() < at + 60:
        await asyncio.sleep(0.1)
    return time.monotonic() - at


async def _compare(world: World, since: datetime) -> list[str]:
    """Compare store and buffers with the truth, from the first minute that was seen whole to the last stored one."""
    store = open_store(world.settings)
    problems: list[str] = []
    async with open_live_bus(world.settings) as bus:
        backlog = await bus.backlog()
        if backlog.entries:
            problems.append(f"{backlog.entries} entries were not stored")
        for market in SPOT_MARKETS:
            buffers: dict[Timeframe, Buffer | None] = {one: await bus.buffer(market, one) for one in Timeframe}
            window = _window(since, buffers[Timeframe.M1])
            truth = verdict.true_minutes(world.simulator.url, market, window)
            found = [
                *verdict.minutes_differ(store, market, window, truth),
                *verdict.longer_differ(store, market, window),
                *verdict.unexplained(store, market, window),
            ]
            for timeframe, buffer in buffers.items():
                found += verdict.buffer_differs(store, buffer, market, timeframe, verdict.first_whole(since, timeframe))
            print(f"{market}: {len(truth):,} minutes in {window}, {len(found)} differences, "
                  f"{verdict.not_certain(buffers[Timeframe.M1])} closed minutes unconfirmed", flush=True)  # fmt: skip
            problems += found
        for market in VOLATILITY_MARKETS:
            buffer = await bus.buffer(market, Timeframe.M1)
            window = Interval(since - 2 * Timeframe.H1.duration, _window(since, buffer).end)
            problems += verdict.index_differs(buffer, verdict.true_minutes(world.simulator.url, market, window), market)
    return problems


def _window(since: datetime, buffer: Buffer | None) -> Interval:
    closed = buffer.closed if buffer else ()
    assert closed, "no minute ever closed"
    last = max(one.open_us for one in closed) // 60_000_000
    return Interval(since, verdict.moment_of(last * 60_000_000) + Timeframe.M1.duration)


def _recovery(chaos: Chaos) -> list[str]:
    print("| killed | times | back after, median | longest |\n|---|---:|---:|---:|")
    problems = []
    for victim, promised_s in (("feed", 3.0), ("run", 30.0), ("bus", None), ("daemon", None)):
        took = sorted(chaos.recovery_s[victim])
        if not took:
            problems.append(f"{victim}: never killed")
            continue
        print(f"| {victim} | {len(took)} | {took[len(took) // 2]:.2f} s | {took[-1]:.2f} s |", flush=True)
        if promised_s is not None and took[-1] > promised_s:
            late = sum(one > promised_s for one in took)
            problems.append(f"{victim}: {late} of {len(took)} recoveries took longer than {promised_s:g} s")
    return problems


def _memory(chaos: Chaos) -> list[str]:
    """Memory of the feed that was spared, after the first tenth."""
    problems = []
    samples = chaos.memory_mb[Exchange.OKX.value]
    if samples:
        pid = samples[-1][0]
        own = [mb for one, _, mb in samples if one == pid]
        own = own[len(own) // 10 :]
        print(f"memory of a feed that was not killed: {min(own):.1f} to {max(own):.1f} MB in {len(own)} samples")
        if max(own) - min(own) > 2 * FLAT_MB:
            problems.append(f"memory of a feed varied by {max(own) - min(own):.1f} MB")
    return problems


def _instance(world: World) -> dg.DagsterInstance:
    os.environ.update(world.place.dagster_environment)
    return dg.DagsterInstance.get()
