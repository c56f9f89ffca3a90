"""The resources, by environment: store, I/O manager, sources, SQL, clock, reference facts.

Shells that hold configuration and give plain objects of the edges. Not here: what the objects do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource

from mdp.config.reference import load_reference
from mdp.config.services import exchange_settings
from mdp.config.settings import Settings
from mdp.defs.failures import StepRetries
from mdp.defs.io_managers import CandleIOManager
from mdp.domain.market import Exchange
from mdp.exchanges import open_source
from mdp.pipeline.collect import OpenSource
from mdp.ports import CandleSource, Clock
from mdp.storage import open_store
from mdp.storage.delta import DeltaStore
from mdp.storage.sql import create_views


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
        with closing(duckdb.connect(self.database)) as connection:
            create_views(connection, DeltaStore(Path(self.lake_dir)))
            yield connection


def utc_now() -> datetime:
    """The clock of production: the machine's."""
    return datetime.now(UTC)


def source_opener(settings: Settings, clock: Clock) -> OpenSource:
    """Return what opens the source of an exchange where the settings say it is."""

    def open_(exchange: Exchange) -> CandleSource:
        return open_source(exchange, exchange_settings(settings, exchange), clock=clock)

    return open_


def platform_resources(settings: Settings) -> dict[str, Any]:
    """Return every resource the definitions need, by key; the same keys in every environment.

    Nothing is opened here: a store or an address that is missing fails the run that needs it, not the loading of the
    definitions. A test or an embedding program replaces a value by an object of its own.
    """
    return {
        "store": dg.ResourceDefinition(lambda _: open_store(settings), description=f"The store: {settings.store}"),
        "io_manager": dg.IOManagerDefinition(
            lambda context: CandleIOManager(context.resources.store, StepRetries()), required_resource_keys={"store"}
        ),
        "duckdb": LakeSql(lake_dir=str(settings.lake_dir)),
        "sources": dg.ResourceDefinition(lambda _: source_opener(settings, utc_now)),
        "clock": dg.ResourceDefinition.hardcoded_resource(utc_now, "The machine's clock, in UTC"),
        "reference": dg.ResourceDefinition(lambda _: load_reference(), description="Listings and known outages"),
        "settings": dg.ResourceDefinition.hardcoded_resource(settings, "The settings of the environment"),
    }
