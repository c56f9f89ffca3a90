"""The resources, by environment: store, I/O manager, sources, SQL, clock, reference facts.

Shells that hold configuration and give plain objects of the edges. Not here: what the objects do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource

from mdp.bus.report import read_report
from mdp.config.reference import load_reference
from mdp.config.sections import BigQuerySettings
from mdp.config.settings import Settings
from mdp.defs.failures import StepRetries
from mdp.defs.io_managers import CandleIOManager
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.collect import Collecting
from mdp.ports import CandleStore
from mdp.sources import open_spool, source_opener, utc_now
from mdp.storage import open_store
from mdp.storage.delta import DeltaStore


class LakeSql(DuckDBResource):
    """DuckDB over the lake: each connection is in memory and opens with one view for each table.

    Attributes:
        lake_dir: Where the lake is.
    """

    database: str = ":memory:"
    lake_dir: str

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection with the views; it is closed whatever happens, which the base class does not promise."""
        # Imported when needed: it brings pandas and 50 MB along, and no backfill asks SQL.
        from mdp.storage.sql import create_views

        with closing(duckdb.connect(self.database)) as connection:
            create_views(connection, DeltaStore(Path(self.lake_dir)))
            yield connection


def _bigquery(settings: BigQuerySettings) -> Any:
    # Imported when needed: it brings pandas and 100 MB along, and no other store asks Google.
    from dagster_gcp import BigQueryResource

    # The method, not the resource: of the latter Dagster hands out a generator that nobody runs.
    return BigQueryResource(project=settings.project, location=settings.location).get_client


def _store(settings: Settings, context: dg.InitResourceContext) -> CandleStore:
    if settings.store != "bigquery" or settings.bigquery.api_endpoint is not None:
        return open_store(settings, writer=_writer(context))  # an emulator wants no credentials

    def connect(_: BigQuerySettings) -> Any:
        with context.resources.bigquery() as client:
            return client

    return open_store(settings, writer=_writer(context), connect=connect)


def _writer(context: dg.InitResourceContext) -> str:
    run = context.run
    return "mdp" if run is None else f"run-{run.run_id}-{run.tags.get('dagster/retry_number', '0')}"


def platform_resources(settings: Settings) -> dict[str, Any]:
    """Return every resource the definitions need, by key; the same keys in every environment.

    Nothing is opened here: a store or an address that is missing fails the run that needs it, not the loading of the
    definitions. A test or an embedding program replaces a value by an object of its own.
    """
    spool = open_spool(settings, utc_now)
    collecting = Collecting(memory_mb=settings.memory_mb_per_market, spool=spool)
    return {
        "store": dg.ResourceDefinition(
            lambda context: _store(settings, context),
            description=f"The store: {settings.store}",
            required_resource_keys={"bigquery"},
        ),
        "bigquery": dg.ResourceDefinition(
            lambda _: _bigquery(settings.bigquery) if settings.store == "bigquery" else None,
            description="Opens Google's client for the central store; nothing where the store is a lake",
        ),
        "io_manager": dg.IOManagerDefinition(
            lambda context: CandleIOManager(
                context.resources.store, StepRetries(), index_timeframe=Timeframe(settings.dvol.resolution)
            ),
            required_resource_keys={"store"},
        ),
        "duckdb": LakeSql(lake_dir=str(settings.lake_dir)),
        "sources": dg.ResourceDefinition(lambda _: source_opener(settings, utc_now, spool)),
        "native_sources": dg.ResourceDefinition(lambda _: source_opener(settings, utc_now)),
        "collecting": dg.ResourceDefinition.hardcoded_resource(collecting, "How slices are asked for"),
        "budget_report": dg.ResourceDefinition(lambda _: lambda: read_report(settings)),
        "clock": dg.ResourceDefinition.hardcoded_resource(utc_now, "The machine's clock, in UTC"),
        "reference": dg.ResourceDefinition(lambda _: load_reference(), description="Listings and known outages"),
        "settings": dg.ResourceDefinition.hardcoded_resource(settings, "The settings of the environment"),
    }
