"""What answers hold, as values. Fields that a newer service adds are left out.

Not here: tables (``tables``), buffers (``domain.live``), what streams tell (``updates``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec

from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe

GenerationState = Literal["queued", "running", "succeeded", "failed", "canceled"]


class StoredRange(msgspec.Struct, frozen=True, kw_only=True):
    """From the first stored minute to the last; what is missing between is told by ``gaps``.

    Attributes:
        start: Open time of the first.
        end: Where the last one ends.
    """

    start: datetime
    end: datetime


class MarketEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One market that the service has.

    Attributes:
        market: Such as ``binance:BTC-USDT``.
        is_volatility_index: Whether it is an index rather than something traded.
        timeframes: At which it is stored.
        buffers: Timeframes of which there is a live buffer.
        listed_at: First candle it ever had; None: not established.
        stored: What is stored; None: nothing yet.
    """

    market: str
    is_volatility_index: bool
    timeframes: tuple[Timeframe, ...]
    buffers: tuple[Timeframe, ...] = ()
    listed_at: datetime | None = None
    stored: StoredRange | None = None


class MarketList(msgspec.Struct, frozen=True, kw_only=True):
    """All markets."""

    markets: tuple[MarketEntry, ...]


class MissingDay(msgspec.Struct, frozen=True, kw_only=True):
    """A day that could not be completed.

    Attributes:
        day: Which.
        reason: Why.
        minutes: How many it lacks; None where that is not known.
        retryable: Whether trying again can help.
    """

    day: str
    reason: str = ""
    minutes: int | None = None
    retryable: bool = False


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """Missing history that is being collected, or was.

    Attributes:
        id: Its name; the same market and days have the same.
        state: ``queued``, ``running``, ``succeeded``, ``failed`` or ``canceled``.
        exchange: Of the market.
        symbol: Of the market.
        start: First day.
        end: Exclusive.
        days: How many were missing when it began.
        days_done: How many of them are done.
        detail: In words.
        missing: What is missing at the end, and why.
        attempt: Grows when it is asked for again after an end; 0: nothing was missing.
        begun_at: When its latest attempt was launched.
        ended_at: When that ended.
        dagster_url: Its page in Dagster.
        retry_after_s: When the service wants to be asked again; None where it does not say.
    """

    id: str
    state: GenerationState
    exchange: Exchange
    symbol: str
    start: datetime
    end: datetime
    days: int
    days_done: int = 0
    detail: str = ""
    missing: tuple[MissingDay, ...] = ()
    attempt: int = 0
    begun_at: datetime | None = None
    ended_at: datetime | None = None
    dagster_url: str | None = None
    retry_after_s: float | None = None

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more will happen."""
        return self.state not in ("queued", "running")

    @property
    def market(self) -> Market:
        """Whose."""
        base, _, quote = self.symbol.partition("-")
        return Market(self.exchange, base, quote)

    @property
    def window(self) -> Interval:
        """The days asked for."""
        return Interval(self.start, self.end)


class SnapshotPart(msgspec.Struct, frozen=True, kw_only=True):
    """One table, market and timeframe of a snapshot.

    Attributes:
        table: ``ohlcv``, ``dvol`` or ``gaps``.
        market: Such as ``binance:BTC-USDT``.
        timeframe: Of the candles.
        rows: How many.
        first: Time of the first row; None without rows.
        last: Time of the last row.
        digest: Of what the rows say.
        expected: Slots inside the window; None for gaps.
        missing: Minutes without a candle, by cause.
    """

    table: str
    market: str
    timeframe: Timeframe
    rows: int
    first: datetime | None = None
    last: datetime | None = None
    digest: str = ""
    expected: int | None = None
    missing: Mapping[str, int] = {}


class SnapshotManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot is: put its name into the record of a backtest, and the backtest can be repeated.

    Attributes:
        name: What it is called there.
        id: Its identity: the same wherever the same candles were taken.
        start: Of its window.
        end: Exclusive.
        note: What the person who made it said of it.
        created_at: When.
        parts: What it holds.
    """

    name: str
    id: str
    start: datetime
    end: datetime
    note: str = ""
    created_at: datetime | None = None
    parts: tuple[SnapshotPart, ...] = ()


class SnapshotSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot in short.

    Attributes:
        name: What it is called there. ``NAME@ID`` may be asked for too: it is refused once the name means another one.
        id: Its identity: the same wherever the same candles were taken.
        start: Of its window.
        end: Exclusive.
        note: What the person who made it said of it.
        created_at: When.
        rows: How many, gaps among them.
        markets: Whose.
        timeframes: Of its candles.
    """

    name: str
    id: str
    start: datetime
    end: datetime
    note: str
    created_at: datetime
    rows: int
    markets: tuple[str, ...]
    timeframes: tuple[Timeframe, ...]


class SnapshotList(msgspec.Struct, frozen=True, kw_only=True):
    """All snapshots, by name."""

    snapshots: tuple[SnapshotSummary, ...]


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a service can do its work.

    Attributes:
        is_ready: It can.
        told: What it says of its parts.
    """

    is_ready: bool
    told: Mapping[str, Any]
