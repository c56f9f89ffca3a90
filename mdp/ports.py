"""The Protocols through which the floors meet: sources and stores of candles, budgets of requests, clocks.

Not here: any implementation. ``exchanges`` and ``storage`` implement, ``pipeline``, ``defs`` and ``cli`` use.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self

import polars as pl

from mdp.domain import candles
from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market
from mdp.domain.quota import Usage
from mdp.domain.timeframe import Timeframe

Clock = Callable[[], datetime]
"""Tells the current UTC time."""


@dataclass(frozen=True, slots=True)
class Table:
    """A stored table.

    Attributes:
        name: Its name in the lake, in SQL and in BigQuery.
        schema: Its columns, in order.
        time_column: The column by which slices are cut.
        sort_by: The order of its rows inside one market and timeframe, beginning with the time column.
    """

    name: str
    schema: pl.Schema
    time_column: str
    sort_by: tuple[str, ...]


RAW_OHLCV = Table("raw_ohlcv", candles.RAW_SCHEMA, "window_start", ("window_start", "open_time"))
RAW_DVOL = Table("raw_dvol", candles.RAW_SCHEMA, "window_start", ("window_start", "open_time"))
FETCHES = Table("fetches", candles.FETCH_SCHEMA, "window_start", ("window_start",))
FAILED_FETCHES = Table("failed_fetches", candles.FAILED_FETCH_SCHEMA, "window_start", ("window_start", "failed_at"))
ARCHIVE_FILES = Table("archive_files", candles.ARCHIVE_FILE_SCHEMA, "window_start", ("window_start", "fetched_at"))
OHLCV = Table("ohlcv", candles.CANDLE_SCHEMA, "open_time", ("open_time",))
REJECTED_OHLCV = Table("rejected_ohlcv", candles.REJECTED_SCHEMA, "window_start", ("window_start", "open_time"))
GAPS = Table("gaps", candles.GAP_SCHEMA, "start", ("start",))
REVISIONS = Table("revisions", candles.REVISION_SCHEMA, "open_time", ("open_time", "revised_at"))
DVOL = Table("dvol", candles.DVOL_SCHEMA, "open_time", ("open_time",))

TABLES: tuple[Table, ...] = (
    RAW_OHLCV, RAW_DVOL, FETCHES, FAILED_FETCHES, ARCHIVE_FILES, OHLCV, REJECTED_OHLCV, GAPS, REVISIONS, DVOL,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Slice:
    """One market at one or more timeframes over one window of time: the unit of reading and writing."""

    market: Market
    timeframes: tuple[Timeframe, ...]
    window: Interval

    def __str__(self) -> str:
        return f"{self.market} {'+'.join(self.timeframes)} {self.window}"


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One of an exchange's bulk files, as it was when rows were taken from it.

    Attributes:
        path: Below the archive's address, such as ``data/spot/monthly/klines/…/BTCUSDT-1m-2025-01.zip``.
        window: The candles it is about.
        sha256: Of the file as received, 64 hexadecimal digits.
        is_verified: Whether a checksum that the exchange publishes agreed; False where it publishes none.
        size: In bytes.
        rows: Rows inside.
        fetched_at: When it was received, UTC.
    """

    path: str
    window: Interval
    sha256: str
    is_verified: bool
    size: int
    rows: int
    fetched_at: datetime


@dataclass(frozen=True, slots=True)
class Fetched:
    """What an exchange answered for one window.

    Attributes:
        rows: Of ``RAW_SCHEMA`` without ``window_start``, in the order of ``open_time`` (ties in the order received).
            Nothing is filtered: rows outside the window, off the grid, repeated or still forming are all there.
        requests: How many requests to the exchange's API were answered for it.
        retried: Why requests were repeated, and how often: name of our error, such as ``RateLimited``, to a count.
        waited_s: Seconds that its requests waited for the budget, added up.
        files: The archive files from which rows came.
    """

    rows: pl.DataFrame
    requests: int
    retried: Mapping[str, int] = field(default_factory=dict)
    waited_s: float = 0.0
    files: tuple[ArchiveFile, ...] = ()


class Leave(Protocol):
    """Leave to send one request."""

    waited_s: float
    """Seconds it was waited for."""

    def answered(self, usage: Usage | None = None) -> None:
        """Say that the request came to its end, answered or not, and what the answer reported of the quota.

        Until then, and for the length of the window after it, the request counts as made. Call it exactly once.
        """
        ...


class Budget(Protocol):
    """Leave to ask one exchange, for everybody who asks it from the same address."""

    async def acquire(self, costs: Mapping[str, float], symbol: str | None = None) -> Leave:
        """Return when a request may be sent.

        Args:
            costs: What the request costs: name of the quota to an amount of it.
            symbol: The symbol it is about, ``BTC-USDT``, for the symbol's own share; None: about none.

        Raises:
            RateLimited: a cool-down lasts longer than a request should wait; ``.retry_after_s`` says how long.
        """
        ...

    def cool_down(self, seconds: float, reason: str) -> None:
        """Let nobody at this address ask for so many seconds; the longest of all calls counts."""
        ...

    async def close(self) -> None:
        """Give back what it holds; called by the source that was given it, in the loop in which it was used."""
        ...


class PageSpool(Protocol):
    """Where answered pages are kept until the slice they belong to is stored, so that kill -9 does not lose them."""

    def load(self, market: Market, timeframe: Timeframe, window: Interval) -> pl.DataFrame | None:
        """Return the rows of a page that was answered before; None where there are none that can be trusted."""
        ...

    def keep(self, market: Market, timeframe: Timeframe, window: Interval, rows: pl.DataFrame) -> None:
        """Keep the rows of a page, all or nothing. A full disk loses the page, not the fetch."""
        ...

    def discard(self, market: Market, timeframe: Timeframe, window: Interval) -> None:
        """Forget every page inside a window."""
        ...


class CandleSource(Protocol):
    """One exchange as a source of candles. Use it inside ``async with``: it holds connections."""

    exchange: Exchange

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def fetch(self, market: Market, timeframe: Timeframe, window: Interval) -> Fetched:
        """Ask for every candle that opens inside ``window``, in as many pages as it takes.

        A short or empty page is a suspicion that is confirmed by a second request, never taken as the end. Slots
        that lie in the exchange's future are not asked.

        Raises:
            InputError: the exchange has no such market or timeframe.
            ExchangeError: the whole window could not be asked; nothing partial is returned.
        """
        ...


OpenSource = Callable[[Exchange], CandleSource]
"""Makes the source of an exchange, not yet connected."""


class CandleStore(Protocol):
    """Where tables are kept. Safe for many processes at once; every write is all or nothing."""

    def read(self, table: Table, part: Slice, *, columns: Collection[str] | None = None) -> pl.DataFrame:
        """Return the rows of a slice, sorted by timeframe, then by the table's order. Empty where there are none.

        Raises:
            StoreCorrupt: a file cannot be read.
        """
        ...

    def replace(self, table: Table, part: Slice, rows: pl.DataFrame) -> None:
        """Make ``rows`` the content of a slice, in one atomic step; what lies outside the slice stays as it is.

        Args:
            table: Where to.
            part: The slice: its market, all its timeframes, its window.
            rows: Of the table's schema, any order, all inside the slice; may be empty.

        Raises:
            SchemaMismatch: the frame is not of the table's schema.
            InvariantViolation: a row lies outside the slice; nothing was written.
            WriteConflict: other writers kept winning; nothing was written.
            StorageError: the disk is full or cannot be written; nothing was written.
        """
        ...

    def append(self, table: Table, rows: pl.DataFrame) -> None:
        """Add rows to an append-only table, in one atomic step.

        Raises:
            SchemaMismatch: the frame is not of the table's schema.
            InvariantViolation: a row names no market, timeframe or time; nothing was written.
            WriteConflict: other writers kept winning; nothing was written.
            StorageError: the disk is full or cannot be written; nothing was written.
        """
        ...
