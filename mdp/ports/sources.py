"""Sources of candles, and what they need: budgets of requests, a spool of pages, a clock.

Not here: any exchange (``exchanges``), any budget (``bus``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Protocol, Self

import polars as pl

from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market
from mdp.domain.quota import Usage
from mdp.domain.timeframe import Timeframe

Clock = Callable[[], datetime]
"""Tells the current UTC time."""


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
        clock_ahead: The exchange's time less ours, as it was read last; None where nobody read it.
    """

    rows: pl.DataFrame
    requests: int
    retried: Mapping[str, int] = field(default_factory=dict)
    waited_s: float = 0.0
    files: tuple[ArchiveFile, ...] = ()
    clock_ahead: timedelta | None = None


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


class Bandwidth(Protocol):
    """How much may be received from one exchange, for everybody who shares it."""

    window: int
    """Bytes that are booked ahead of an answer of unknown size."""

    async def reserve(self, size: int) -> float:
        """Wait until so many bytes may be received, and return how many seconds that took."""
        ...

    def charge(self, size: int) -> None:
        """Count bytes that came without being reserved; less than 0: such as were reserved and do not come."""
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
