"""The tables that are kept, and the slices in which they are read and written.

Not here: their columns (``domain.candles``), where they are kept (``storage``).
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from mdp.domain import candles
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe


@dataclass(frozen=True, slots=True)
class Table:
    """A stored table.

    Attributes:
        name: Its name in the lake, in SQL and in BigQuery.
        schema: Its columns, in order.
        time_column: The column by which slices are cut.
        sort_by: The order of its rows inside one market and timeframe, beginning with the time column.
        version: Of its schema; one higher whenever columns are added. Columns are only ever added, at the end, and are
            null in rows that are older.
        added: The columns that came with version 2, those that came with version 3, and so on.
    """

    name: str
    schema: pl.Schema
    time_column: str
    sort_by: tuple[str, ...]
    version: int = 1
    added: tuple[tuple[str, ...], ...] = ()

    def schema_at(self, version: int) -> pl.Schema:
        """Return the columns that the table had at a version of its schema, from 1 to its own."""
        later = {name for names in self.added[version - 1 :] for name in names}
        return pl.Schema({name: dtype for name, dtype in self.schema.items() if name not in later})

    @property
    def younger_columns(self) -> frozenset[str]:
        """The columns that rows of an older version do not have."""
        return frozenset(name for names in self.added for name in names)


RAW_OHLCV = Table("raw_ohlcv", candles.RAW_SCHEMA, "window_start", ("window_start", "open_time"))
RAW_DVOL = Table("raw_dvol", candles.RAW_SCHEMA, "window_start", ("window_start", "open_time"))
FETCHES = Table("fetches", candles.FETCH_SCHEMA, "window_start", ("window_start",))
FAILED_FETCHES = Table("failed_fetches", candles.FAILED_FETCH_SCHEMA, "window_start", ("window_start", "failed_at"))
ARCHIVE_FILES = Table("archive_files", candles.ARCHIVE_FILE_SCHEMA, "window_start", ("window_start", "fetched_at"))
OHLCV = Table("ohlcv", candles.CANDLE_SCHEMA, "open_time", ("open_time",))
REJECTED_OHLCV = Table("rejected_ohlcv", candles.REJECTED_SCHEMA, "window_start", ("window_start", "open_time"))
GAPS = Table(
    "gaps", candles.GAP_SCHEMA, "start", ("start",),
    version=2, added=(("first_seen_at", "sightings", "is_permanent", "detail"),),
)  # fmt: skip
GAP_SIGHTINGS = Table("gap_sightings", candles.SIGHTING_SCHEMA, "start", ("start", "fetched_at"))
REVISIONS = Table(
    "revisions", candles.REVISION_SCHEMA, "open_time", ("open_time", "revised_at"),
    version=2, added=(("old_ingested_at",),),
)  # fmt: skip
DVOL = Table("dvol", candles.DVOL_SCHEMA, "open_time", ("open_time",))

TABLES: tuple[Table, ...] = (
    RAW_OHLCV, RAW_DVOL, FETCHES, FAILED_FETCHES, ARCHIVE_FILES, OHLCV, REJECTED_OHLCV, GAPS, GAP_SIGHTINGS, REVISIONS,
    DVOL,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Slice:
    """One market at one or more timeframes over one window of time: the unit of reading and writing."""

    market: Market
    timeframes: tuple[Timeframe, ...]
    window: Interval

    def __str__(self) -> str:
        return f"{self.market} {'+'.join(self.timeframes)} {self.window}"
