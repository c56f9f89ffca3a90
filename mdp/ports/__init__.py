"""The Protocols through which the floors meet: sources and stores of candles, budgets of requests, clocks.

Not here: any implementation. ``exchanges`` and ``storage`` implement, ``pipeline``, ``defs`` and ``cli`` use.
"""

from __future__ import annotations

from mdp.ports.sources import (
    ArchiveFile,
    Budget,
    CandleSource,
    Clock,
    Fetched,
    Leave,
    OpenSource,
    PageSpool,
)
from mdp.ports.stores import (
    CandleStore,
    Compaction,
    DiskUse,
    SnapshotDraft,
    Vacuum,
)
from mdp.ports.tables import (
    ARCHIVE_FILES,
    DVOL,
    FAILED_FETCHES,
    FETCHES,
    GAP_SIGHTINGS,
    GAPS,
    OHLCV,
    RAW_DVOL,
    RAW_OHLCV,
    REJECTED_OHLCV,
    REVISIONS,
    TABLES,
    Slice,
    Table,
)

__all__ = [
    "ARCHIVE_FILES",
    "DVOL",
    "FAILED_FETCHES",
    "FETCHES",
    "GAPS",
    "GAP_SIGHTINGS",
    "OHLCV",
    "RAW_DVOL",
    "RAW_OHLCV",
    "REJECTED_OHLCV",
    "REVISIONS",
    "TABLES",
    "ArchiveFile",
    "Budget",
    "CandleSource",
    "CandleStore",
    "Clock",
    "Compaction",
    "DiskUse",
    "Fetched",
    "Leave",
    "OpenSource",
    "PageSpool",
    "Slice",
    "SnapshotDraft",
    "Table",
    "Vacuum",
]
