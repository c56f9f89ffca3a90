"""What the live sensor knows at a tick: the live runs of Dagster, the lease, what feeds tell.

Not here: what is decided from it (``live_decision``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES, RunRecord

from mdp.config.settings import Settings
from mdp.defs.live_decision import OLD_S, Facts, RunFact
from mdp.defs.live_run import ALIVE, LEASE, SEEN
from mdp.defs.live_verdict import waiting_s
from mdp.domain.timeframe import Timeframe
from mdp.errors import BusUnavailable
from mdp.live.health import FeedHealth, read_feeds
from mdp.ports.live import Backlog, LiveBus

LIVE_JOB, HEAL_JOB = "live_job", "heal_job"


@dataclass(frozen=True, slots=True)
class Heard:
    """What the bus says.

    Attributes:
        lease: Who holds the lease ``live``.
        alive: The run that says it is alive.
        seen: The run that was alive last.
        feeds: What feeds tell, by exchange.
        backlog: What waits for storage.
    """

    lease: str | None = None
    alive: str | None = None
    seen: str | None = None
    feeds: Mapping[str, FeedHealth] | None = None
    backlog: Backlog | None = None


def facts_of(instance: dg.DagsterInstance, settings: Settings, heard_before: str | None) -> Facts:
    """Gather what one tick of the sensor goes by."""
    runs = live_runs(instance)
    facts = Facts(settings.mode, runs=runs, heard_before=heard_before)
    if settings.mode != "live":
        return facts
    try:
        heard = asyncio.run(listen(settings, doubtful=[run for run in runs if run.is_at_work]))
    except BusUnavailable as error:
        return replace(facts, bus_problem=str(error))
    feeds = heard.feeds or {}
    heals, healed_s_ago = last_heal(instance)
    return replace(
        facts,
        lease=heard.lease,
        lease_is_left=_has_ended(instance, heard.lease),
        heard=heard.alive,
        heard_before=heard.seen or heard_before,
        missing=missing_markets(feeds),
        backlog_age_s=waiting_s(heard.backlog, feeds),
        heal_runs=heals,
        healed_s_ago=healed_s_ago,
    )


def live_runs(instance: dg.DagsterInstance) -> list[RunFact]:
    """Return the live runs that have not ended, in whatever state."""
    wanted = dg.RunsFilter(job_name=LIVE_JOB, statuses=NOT_FINISHED_STATUSES)
    now = time.time()
    return [
        RunFact(one.dagster_run.run_id, one.dagster_run.status.value, now - _since(one))
        for one in instance.get_run_records(wanted)
    ]


def _since(record: RunRecord) -> float:
    return record.start_time or record.create_timestamp.timestamp()


def last_heal(instance: dg.DagsterInstance) -> tuple[bool, float | None]:
    """Tell whether the job that heals is at work, and how long ago it was made; None: never."""
    records = instance.get_run_records(dg.RunsFilter(job_name=HEAL_JOB), limit=1)
    if not records:
        return False, None
    return not records[0].dagster_run.is_finished, time.time() - records[0].create_timestamp.timestamp()


def _has_ended(instance: dg.DagsterInstance, run_id: str | None) -> bool:
    run = instance.get_run_by_id(run_id) if run_id is not None else None
    return run is not None and run.is_finished


async def listen(settings: Settings, *, doubtful: Sequence[RunFact]) -> Heard:
    """Ask the bus once; again and again for the length of a lease, where a run at work gives no sign of life.

    A bus that was just started again knows of nobody; whoever lives says so within a moment.

    Raises:
        BusUnavailable: it does not answer.
    """
    from mdp.bus import open_live_reader  # when needed: whoever only loads the definitions asks no bus

    async with open_live_reader(settings) as bus:
        deadline = time.monotonic() + max(settings.live.lease_s, 2.0)
        while True:
            is_last = time.monotonic() > deadline
            heard, problem = await _heard(bus)
            silent = [run for run in doubtful if run.run_id not in (heard.lease, heard.alive)]
            if is_last and problem is not None and settings.bus.url is not None:
                raise problem
            # the bus that comes with the package runs as long as anybody uses it: away, nobody does
            if is_last or not (silent or (problem is not None and settings.bus.url is not None)):
                return heard
            await asyncio.sleep(0.2)


async def _heard(bus: LiveBus) -> tuple[Heard, BusUnavailable | None]:
    try:
        return await _ask(bus), None
    except BusUnavailable as error:
        return Heard(), error


async def _ask(bus: LiveBus) -> Heard:
    said = {name: run_id.decode() or None for name, run_id in (await bus.told(ALIVE)).items()}
    feeds, _ = read_feeds(await bus.told("feed/"))
    return Heard(await bus.holder_of(LEASE), said.get(ALIVE), said.get(SEEN), feeds, await bus.backlog())


def missing_markets(feeds: Mapping[str, FeedHealth]) -> list[str]:
    """Return the markets in which minutes of a day that is over are neither confirmed nor known to be absent.

    What is missing on the day that goes on is asked for by the feed itself, and collected whole in the night.
    """
    found = []
    for feed in feeds.values():
        today_us = feed.market_us - feed.market_us % Timeframe.D1.microseconds
        for one in feed.markets:
            since = one.confirmed_until_us
            if since is not None and since < today_us and feed.market_us - since > OLD_S * 1e6:
                found.append(one.market)
    return sorted(found)
