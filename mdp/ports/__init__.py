"""The Protocols through which the floors meet: sources, streams and stores of candles, budgets, clocks, the live bus.

Not here: any implementation. ``exchanges`` and ``storage`` implement, ``pipeline``, ``defs`` and ``cli`` use.
"""

from __future__ import annotations

from mdp.ports.live import (
    Backlog,
    CandleStream,
    Lease,
    LiveBus,
    MarketClock,
    Message,
    OpenStream,
    Sink,
    Streamed,
    Taken,
)
from mdp.ports.sources import (
    ArchiveFile,
    Bandwidth,
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
    "Backlog",
    "Bandwidth",
    "Budget",
    "CandleSource",
    "CandleStore",
    "CandleStream",
    "Clock",
    "Compaction",
    "DiskUse",
    "Fetched",
    "Lease",
    "Leave",
    "LiveBus",
    "MarketClock",
    "Message",
    "OpenSource",
    "OpenStream",
    "PageSpool",
    "Sink",
    "Slice",
    "SnapshotDraft",
    "Streamed",
    "Table",
    "Taken",
    "Vacuum",
]
