"""What a live run asks of Dagster and tells it: the sensor's switch, runs that ended, materializations, verdicts.

Not here: the run (``live_run``), how things are spelled (``live_metadata``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorStatus
from dagster._core.storage.tags import SENSOR_NAME_TAG

from mdp.config.reference import Reference
from mdp.config.settings import Settings
from mdp.defs.live_log import RunLog
from mdp.defs.live_metadata import changed, flush_metadata, lateness
from mdp.defs.live_run import Flush, Keep
from mdp.defs.live_verdict import CHECK, verdict
from mdp.domain.live import LiveCandle
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import BusUnavailable
from mdp.live.health import FeedHealth, read_feeds
from mdp.pipeline.live import keep_live
from mdp.pipeline.live_index import IndexRule
from mdp.pipeline.live_report import Kept
from mdp.ports import CandleStore
from mdp.ports.live import Backlog, LiveBus, MarketClock, Taken

SENSOR = "live_sensor"
ASSET = "live_buffers"


def keeper_of(bus: LiveBus, store: CandleStore, reference: Reference, clock: MarketClock, settings: Settings) -> Keep:
    """Return what judges and stores a batch, in a thread: the event loop goes on renewing leases."""
    index = IndexRule(Timeframe(settings.dvol.resolution), settings.dvol.max_age_minutes)

    async def keep(taken: Sequence[Taken]) -> Kept:
        indices = {one.entry.market for one in taken if one.entry.market.is_volatility_index}
        buffered: dict[Market, Sequence[LiveCandle]] = {}
        for market in indices:  # an hour of an index is made of minutes that were told earlier too
            buffer = await bus.buffer(market, Timeframe.M1)
            buffered[market] = buffer.candles if buffer is not None else ()
        return await asyncio.to_thread(
            keep_live, taken, store, reference, clock,
            index=index, index_minutes=buffered, apart=settings.gaps.apart,
        )  # fmt: skip

    return keep


class InDagster:
    """The surroundings of a live run that Dagster executes."""

    def __init__(
        self, context: dg.OpExecutionContext, bus: LiveBus, settings: Settings, log: RunLog, *, lags: deque[float]
    ) -> None:
        self.markets = tuple(map(Market.parse, settings.markets))
        self._run, self._instance = context.run, context.instance
        self._bus, self._settings, self._log, self._lags = bus, settings, log, lags
        self._feeds: dict[str, FeedHealth] = {}
        self._was_on = SENSOR_NAME_TAG in context.run.tags
        self._verdict: tuple[bool, str] | None = None
        self._is_unsure = False

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """Those of the settings' markets."""
        return tuple(dict.fromkeys(market.exchange for market in self.markets))

    async def sensor_is_off(self) -> bool:
        """Tell whether the sensor was turned off: it launched this run, or was seen turned on while this run works.

        A run that a person launched while the sensor is off goes on to its end. Says what changed in the feeds too,
        for it is asked every second.
        """
        await self._say_what_changed()
        try:
            is_on = await self._log.ask(self._sensor_is_on)
        except Exception as error:  # whatever Dagster's storage raises: a run that trades goes on, and asks again
            if not self._is_unsure:
                self._log.warning(f"Dagster does not say how the sensor stands, it is asked again: {error}")
            self._is_unsure = True
            return False
        self._is_unsure = False
        if is_on is not None:
            self._was_on = self._was_on or is_on
        return self._was_on and is_on is False

    def _sensor_is_on(self) -> bool | None:
        """Return how the sensor's switch stands; None where Dagster does not know of any."""
        origin = self._run.remote_job_origin
        if origin is None:
            return None
        of_repository = origin.repository_origin.get_selector_id()
        states = self._instance.all_instigator_state(
            repository_selector_id=of_repository, instigator_type=InstigatorType.SENSOR
        )
        for state in states:
            if state.instigator_name == SENSOR:
                return state.status is not InstigatorStatus.STOPPED
        return False  # never turned on

    async def is_over(self, run_id: str) -> bool:
        """Tell whether a run is known to have ended."""
        run = await self._log.ask(lambda: self._instance.get_run_by_id(run_id))
        return run is not None and run.is_finished

    async def flushed(self, flush: Flush) -> None:
        """Report a flush: one materialization, the warnings of what was stored, and the verdict where it changed."""
        for warning in (one for kept in flush.kept for one in kept.warnings):
            self._log.warning(warning)
        backlog, feeds = await self._state()
        late = lateness(self.markets, feeds)
        known = [one.lag_s for one in late if one.lag_s is not None]
        if known:
            self._lags.append(max(known))
        metadata = flush_metadata(
            flush.kept, self.markets, feeds, backlog, problem=flush.problem, lags=list(self._lags)
        )
        if flush.stored:
            self._log.event(dg.AssetMaterialization(ASSET, metadata=metadata, description=_line(flush)))
        self._judge(verdict(late, backlog, self._settings.live.persist_every_s, feeds))

    def _judge(self, found: Any) -> None:
        """Write the verdict of the check where it is another than the last one of this run."""
        said = (found.passed, found.metadata["wrong"])
        if said != self._verdict:
            self._verdict = said
            self._log.event(
                dg.AssetCheckEvaluation(
                    asset_key=dg.AssetKey(ASSET), check_name=CHECK, passed=found.passed,
                    severity=dg.AssetCheckSeverity.WARN, metadata=dict(found.metadata),
                )
            )  # fmt: skip

    async def _state(self) -> tuple[Backlog | None, dict[str, FeedHealth]]:
        try:
            return await self._bus.backlog(), read_feeds(await self._bus.told("feed/"))[0]
        except BusUnavailable:
            return None, {}

    async def _say_what_changed(self) -> None:
        try:
            feeds, _ = read_feeds(await self._bus.told("feed/"))
        except BusUnavailable:
            return
        for is_bad, said in changed(self._feeds, feeds):
            (self._log.warning if is_bad else self._log.info)(said)
        self._feeds |= feeds


def _line(flush: Flush) -> str:
    rows = sum(kept.total("stored") for kept in flush.kept)
    return f"{rows} minutes stored of {flush.taken} entries" + (f"; {flush.problem}" if flush.problem else "")
