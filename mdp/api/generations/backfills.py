"""Backfills as Dagster keeps them: looking for those of generations, launching and canceling one.

A generation lives in the tags of its backfills: nothing else is written down, so a service that starts again knows all.
Not here: the wire (``graphql``), what a generation tells of itself (``resource``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import httpx

from mdp.api.generations.graphql import USUAL, Dagster
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.errors import DagsterUnavailable
from mdp.pipeline.partition_keys import assets_of, day_of_key, partition_key

_log = logging.getLogger(__name__)

GENERATION_TAG = "mdp/generation"
ORIGIN_TAG, ORIGIN = "mdp/origin", "generate"
"""On every backfill of a generation: Dagster finds backfills by the whole of a tag only."""

WINDOW_TAG = "mdp/window"
MISSING_TAG = "mdp/missing_days"
ATTEMPT_TAG = "mdp/attempt"
MARKET_TAG, EXCHANGE_TAG, RESUMES_TAG = "mdp/market", "mdp/exchange", "mdp/resumes"
"""As ``defs`` calls them; a run inherits them of its backfill."""

ACTIVE = frozenset({"REQUESTED", "CANCELING", "FAILING"})
_FINISHED_RUNS = frozenset({"SUCCESS", "FAILURE", "CANCELED"})
_WAITING_RUNS = frozenset({"QUEUED", "NOT_STARTED", "MANAGED"})

_DAEMONS = {"BACKFILL", "QUEUED_RUN_COORDINATOR"}
_HEARTBEAT_S = 180.0
"""A daemon says every 30 s that it is there. Dagster itself believes in one for half an hour."""

_MOST_ACTIVE = 500

_PATIENT = httpx.Timeout(60, connect=2)
"""A launch writes a row for each partition, on a machine that may be busy with runs."""

_LOOKS, _LOOK_S = 10, 1.0
"""How often, and how far apart, a launch that was not answered is looked for; all of it is shorter than the lease."""

_FRAGMENT = """fragment B on PartitionBackfill { id status timestamp endTimestamp partitionNames
  tags { key value } runs(limit: 100) { status }
  assetBackfillData { assetBackfillStatuses { ... on AssetPartitionsStatusCounts {
    assetKey { path } numPartitionsMaterialized } } } }"""
_FIND = (
    """query Generations($tags: [ExecutionTag!]!, $limit: Int!) {
  found: runsFeedOrError(limit: $limit, view: BACKFILLS, filter: {tags: $tags}) { __typename
    ... on RunsFeedConnection { results { ... on PartitionBackfill { ...B } } } } }
"""
    + _FRAGMENT
)
_ACTIVE = (
    """query Active($limit: Int!) {
  instance { daemonHealth { allDaemonStatuses { daemonType lastHeartbeatTime } } }
  found: partitionBackfillsOrError(limit: $limit, filters: {statuses: [REQUESTED, CANCELING, FAILING]}) { __typename
    ... on PartitionBackfills { results { ...B } } } }
"""
    + _FRAGMENT
)
_LAUNCH = """mutation Launch($backfill: LaunchBackfillParams!) {
  done: launchPartitionBackfill(backfillParams: $backfill) { __typename
    ... on LaunchBackfillSuccess { backfillId } ... on Error { message } } }"""
_CANCEL = """mutation Cancel($id: String!) { done: cancelPartitionBackfill(backfillId: $id) {
  __typename ... on Error { message } } }"""


@dataclass(frozen=True, slots=True)
class Backfill:
    """A backfill of a generation.

    Attributes:
        id: Dagster's.
        generation: Whose.
        market: Whose days.
        window: What was asked for: whole UTC days.
        days: Those that this backfill collects.
        missing: How many days of the window were missing when it began, those that another one collects included.
        attempt: 1 for the first of its generation.
        status: Dagster's word.
        done: How many days passed the last asset.
        begun_at: When it was launched, UTC.
        ended_at: When Dagster saw its end.
        runs: States of its runs, Dagster's words.
    """

    id: str
    generation: str
    market: Market
    window: Interval
    days: tuple[date, ...]
    missing: int
    attempt: int
    status: str
    done: int
    begun_at: datetime
    ended_at: datetime | None
    runs: tuple[str, ...]

    @property
    def is_active(self) -> bool:
        """Tell whether Dagster still has something to do for it."""
        return self.status in ACTIVE

    @property
    def is_queued(self) -> bool:
        """Tell whether none of its runs began."""
        return self.status == "REQUESTED" and all(run in _WAITING_RUNS for run in self.runs)

    @property
    def are_runs_over(self) -> bool:
        """Tell whether it has runs and all of them ended; Dagster itself looks only every half minute."""
        return bool(self.runs) and all(run in _FINISHED_RUNS for run in self.runs)


async def find(dagster: Dagster, tags: Mapping[str, str], limit: int) -> list[Backfill]:
    """Return the backfills of generations that have these tags, newest first.

    Raises:
        DagsterUnavailable: it does not answer.
    """
    wanted = [{"key": key, "value": value} for key, value in tags.items()]
    data = await dagster.ask(_FIND, {"tags": wanted, "limit": limit})
    return _read(data["found"])


async def find_active(dagster: Dagster) -> list[Backfill]:
    """Return the backfills of generations that are not over, newest first.

    Raises:
        DagsterUnavailable: it does not answer.
    """
    return _read((await dagster.ask(_ACTIVE, {"limit": _MOST_ACTIVE}))["found"])


async def find_active_or_refuse(dagster: Dagster) -> list[Backfill]:
    """Return the same, if the daemon is there that would do the work of another one.

    Raises:
        DagsterUnavailable: it does not answer, or its daemon does not run.
    """
    data = await dagster.ask(_ACTIVE, {"limit": _MOST_ACTIVE})
    since = time.time() - _HEARTBEAT_S
    alive = {
        one["daemonType"]
        for one in data["instance"]["daemonHealth"]["allDaemonStatuses"]
        if (one["lastHeartbeatTime"] or 0) >= since
    }
    if not alive >= _DAEMONS:
        raise DagsterUnavailable(
            "Dagster's webserver answers, but its daemon does not run, and nothing would begin: start it with "
            "`mdp up`, `dagster dev` or `dagster-daemon run`"
        )
    return _read(data["found"])


@dataclass(frozen=True, slots=True)
class Order:
    """A backfill that is to be launched; see ``Backfill``."""

    generation: str
    market: Market
    window: Interval
    days: Sequence[date]
    missing: int
    attempt: int


async def launch(dagster: Dagster, order: Order) -> None:
    """Launch a backfill of exactly some days.

    An answer that does not come in time may still have launched it: then Dagster is asked whether it knows of it, for
    who asks again must not begin a second one.

    Raises:
        DagsterUnavailable: it does not answer, or not yet: its code is not loaded.
    """
    market = order.market
    tags = {
        GENERATION_TAG: order.generation,
        ORIGIN_TAG: ORIGIN,
        WINDOW_TAG: f"{order.window.start:%Y-%m-%d}_{order.window.end:%Y-%m-%d}",
        MISSING_TAG: str(order.missing),
        ATTEMPT_TAG: str(order.attempt),
        MARKET_TAG: str(market).replace(":", "_"),
        EXCHANGE_TAG: market.exchange.value,
        RESUMES_TAG: "true",  # what another run collected meanwhile is not asked for again
    }
    params = {
        "assetSelection": [{"path": [name]} for name in assets_of(market)],
        "partitionNames": [partition_key(market, day) for day in order.days],
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
        "title": f"{market} {len(order.days)} days",
        "description": f"Asked for through the service: {market} {order.window}",
    }
    try:
        await _do(dagster, _LAUNCH, {"backfill": params}, "LaunchBackfillSuccess", _PATIENT)
    except DagsterUnavailable as error:
        if not isinstance(error.__cause__, httpx.ReadTimeout | httpx.ReadError | httpx.RemoteProtocolError):
            raise
        if not await _is_known(dagster, order):
            raise


async def _is_known(dagster: Dagster, order: Order) -> bool:
    for _ in range(_LOOKS):
        await asyncio.sleep(_LOOK_S)
        with suppress(DagsterUnavailable):
            found = await find(dagster, {GENERATION_TAG: order.generation}, 1)
            if found and found[0].attempt == order.attempt:
                return True
    return False


async def cancel(dagster: Dagster, backfill: Backfill) -> None:
    """Have Dagster end a backfill and its runs; days that are done stay.

    Raises:
        DagsterUnavailable: it does not answer.
    """
    await _do(dagster, _CANCEL, {"id": backfill.id}, "CancelBackfillSuccess")


async def _do(
    dagster: Dagster, mutation: str, variables: Mapping[str, Any], wanted: str, timeout: httpx.Timeout = USUAL
) -> None:
    said = (await dagster.ask(mutation, variables, timeout=timeout))["done"]
    if said["__typename"] != wanted:
        _log.warning("Dagster refuses: %s: %s", said["__typename"], said.get("message"))
        raise DagsterUnavailable(
            f"Dagster refuses ({said['__typename']}): it may not have loaded the code of this project yet; its own "
            "page and the log of the service say more"
        )


def _read(found: Mapping[str, Any]) -> list[Backfill]:
    if "results" not in found:
        raise DagsterUnavailable(f"Dagster cannot tell of its backfills ({found['__typename']})")
    read = (_read_one(one) for one in found["results"])
    return sorted((one for one in read if one is not None), key=lambda one: one.begun_at, reverse=True)


def _read_one(said: Mapping[str, Any]) -> Backfill | None:
    """Read one of ours; None where it is not, or somebody changed its tags."""
    tags = {tag["key"]: tag["value"] for tag in said["tags"]}
    try:
        market = Market.parse(tags[MARKET_TAG].replace("_", ":"))
        first, _, end = tags[WINDOW_TAG].partition("_")
        last = assets_of(market)[-1]
        statuses = (said["assetBackfillData"] or {}).get("assetBackfillStatuses") or []
        done = [one["numPartitionsMaterialized"] for one in statuses if one and one["assetKey"]["path"] == [last]]
        return Backfill(
            said["id"], tags[GENERATION_TAG], market, Interval(_midnight(first), _midnight(end)),
            tuple(sorted(day_of_key(key) for key in said["partitionNames"] or ())), int(tags[MISSING_TAG]),
            int(tags[ATTEMPT_TAG]), said["status"], sum(done), datetime.fromtimestamp(said["timestamp"], UTC),
            _moment(said["endTimestamp"]), tuple(run["status"] for run in said["runs"]),
        )  # fmt: skip
    except (KeyError, ValueError):
        return None


def _midnight(text: str) -> datetime:
    day = date.fromisoformat(text)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
