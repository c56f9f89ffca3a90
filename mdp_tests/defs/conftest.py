from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import dagster as dg
import pytest

from mdp.bus.report import BudgetReport
from mdp.config.reference import Reference
from mdp.config.settings import Settings, load_settings
from mdp.definitions import build, defs
from mdp.defs.failures import StepRetries
from mdp.defs.io_managers import CandleIOManager
from mdp.defs.jobs import RANGE_END, RANGE_START
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.collect import Collecting
from mdp.pipeline.rounds import Rounds
from mdp.storage.memory import MemoryStore
from mdp_tests.support.builders import NOW
from mdp_tests.support.scripted_source import ScriptedExchanges, like_a_market


@pytest.fixture(scope="session")
def definitions() -> dg.Definitions:
    return defs()


NOBODY_COUNTS = BudgetReport("embedded", is_running=False, problem="", exchanges=[])

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Dagster's log of every event on the terminal costs a tenth of a run, and nobody reads it here."""


@dataclass
class Platform:
    """The real definitions on an instance in memory, over a store in memory and scripted exchanges."""

    instance: dg.DagsterInstance
    store: MemoryStore = field(default_factory=MemoryStore)
    exchanges: ScriptedExchanges = field(default_factory=like_a_market)
    collecting: Collecting = field(default_factory=lambda: Collecting(Rounds(wait_s=0)))
    budget_report: BudgetReport = NOBODY_COUNTS
    now: datetime = NOW
    reference: Reference = field(default_factory=lambda: Reference({}, ()))
    settings: Settings = field(default_factory=load_settings)

    def run(self, start: str, end: str | None = None, *, job: str = "candles_job", selection: Any = None) -> Any:
        """Run a job over one partition, or over the range from ``start`` to ``end``."""
        resources = {
            "settings": self.settings,
            "store": self.store,
            "io_manager": CandleIOManager(
                self.store, StepRetries(delay_s=0), index_timeframe=Timeframe(self.settings.dvol.resolution)
            ),
            "sources": self.exchanges,
            "native_sources": self.exchanges,
            "collecting": self.collecting,
            "budget_report": lambda: self.budget_report,
            "clock": lambda: self.now,
            "reference": self.reference,
            "duckdb": None,
        }
        return (
            build(resources)
            .resolve_job_def(job)
            .execute_in_process(
                instance=self.instance,
                run_config=QUIET,
                partition_key=None if end else start,
                tags={RANGE_START: start, RANGE_END: end} if end else {},
                raise_on_error=False,
                asset_selection=selection,
            )
        )

    def materialized(self, asset: str) -> list[str]:
        """The partitions of an asset in the order of their materialization events, one entry an event."""
        records = self.instance.fetch_materializations(dg.AssetKey(asset), limit=10_000, ascending=True).records
        return [record.partition_key for record in records]

    def metadata(self, asset: str, partition: str) -> dict[str, Any]:
        """The metadata of the latest materialization of a partition, as plain values."""
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[partition]), limit=1
        ).records
        return {key: value.value for key, value in records[0].asset_materialization.metadata.items()}


@pytest.fixture
def platform():
    with dg.DagsterInstance.ephemeral() as instance:
        yield Platform(instance)
