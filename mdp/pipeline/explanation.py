"""What is known of one candle, as values: the candle, its evidence, its history, what it is part of.

Not here: finding it out (``explaining``), showing it (``cli``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import polars as pl

from mdp.config.reference import Outage
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe

Row = Mapping[str, Any]
"""One row of a table, by column."""

RULE_MEANINGS: Mapping[str, str] = {
    "prices_are_finite": "open, high, low and close are numbers",
    "prices_are_positive": "open, high, low and close are above zero",
    "high_is_highest": "high is not below open, low or close",
    "low_is_lowest": "low is not above open or close",
    "volume_is_not_negative": "volume is a number that is zero or more, or not given",
    "quote_volume_is_not_negative": "quote volume is a number that is zero or more, or not given",
    "trades_are_not_negative": "the number of trades is zero or more, or not given",
    "open_time_is_on_grid": "the open time is that of a slot",
    "open_time_is_inside_window": "the open time lies in the day that was asked for",
    "candle_is_closed": "the exchange had finished the candle when it answered",
    "key_is_unique": "of several good rows for one slot, only the one received last is kept",
}
"""What holds for a good row, by the name of the rule."""


class State(StrEnum):
    """Whether there is a candle, and if not, what stands in its place.

    ``LOST``: a good row of the exchange is stored for it, and neither candle nor gap. ``UNJUDGED``: its day was asked
    for and no good row came, which no gap records. ``BEFORE_LISTING``: no gap either, and none is needed.
    ``SEEN_MISSING``: a feed asked for it and was given none; its day is not collected yet.
    """

    STORED = "stored"
    GAP = "gap"
    LOST = "lost"
    UNJUDGED = "unjudged"
    BEFORE_LISTING = "before listing"
    NOT_MADE = "not made"
    SEEN_MISSING = "seen missing"
    UNFETCHED = "unfetched"
    FORMING = "forming"
    TO_COME = "to come"


@dataclass(frozen=True, slots=True)
class Bucket:
    """One of the longer candles that hold the slot.

    Attributes:
        timeframe: Of the bucket.
        open_time: Of the bucket.
        row: As stored, of ``CANDLE_SCHEMA``; None where none is.
        minutes: How many of its minutes are stored.
        is_over: Whether its time is over.
        equals_minutes: Whether the stored candle is the one its stored minutes make; None where neither is there.
    """

    timeframe: Timeframe
    open_time: datetime
    row: Row | None
    minutes: int
    is_over: bool
    equals_minutes: bool | None


@dataclass(frozen=True, slots=True)
class Held:
    """What a snapshot holds of the slot.

    Attributes:
        snapshot: Its name.
        row: The candle in it; None where it holds that there is none.
        is_same: Whether that is what is stored now.
    """

    snapshot: str
    row: Row | None
    is_same: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was asked of the exchange about a candle, and what it answered. Tables are of their schemas.

    Attributes:
        fetches: Each time its day was asked for.
        failed: Each time its day could not be had.
        files: Bulk files of the exchange that were read for its day.
        raw: Rows that the exchange answered for the slot, whatever day they stand under; of an index the candle that
            the minute carries, or those that it might carry if it were there.
        accepted: Those of them that break no rule, judged now: one for each slot, the one received last.
        rejected: Those of them that broke a rule, and which.
        revisions: What was changed in the slot, in the order in which it was; of an index the closes of these candles.
    """

    fetches: pl.DataFrame
    failed: pl.DataFrame
    files: pl.DataFrame
    raw: pl.DataFrame
    accepted: pl.DataFrame
    rejected: pl.DataFrame
    revisions: pl.DataFrame


class Missing(NamedTuple):
    """What is recorded of a slot without a candle: gaps that hold part of it, and each time it was seen missing."""

    gaps: pl.DataFrame
    sightings: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that is known of one candle. Tables are of their schemas and may be empty.

    Attributes:
        market: Whose candle.
        timeframe: Its length.
        asked: The instant that was asked for.
        slot: The slot that holds it.
        state: Whether it is there, and if not, what stands in its place.
        row: As stored, of ``CANDLE_SCHEMA`` or ``DVOL_SCHEMA``; None where it is not there.
        gaps: Recorded gaps that hold part of the slot.
        gap_before: The last recorded gap that ends at or before the slot, at most a week before; None without one.
        gap_after: The first one that starts at or after its end, at most a week after.
        sightings: Each time part of the slot was asked for and not given.
        evidence: What was asked and what was answered.
        answer: The accepted raw row that a stored candle must equal, of ``RAW_SCHEMA``; of an index the candle that the
            minute carries. None where there is none, and for longer candles, which nobody answered.
        equals_answer: Whether the stored values are those of ``answer``; None where either is absent.
        buckets: The longer candles that hold the slot.
        snapshots: Snapshots that hold the slot.
        others: What other exchanges have at the same slot; None where nothing is stored.
        outage: Where the reference lists an outage of the exchange that hits the slot.
        listed_at: The first candle the exchange ever had, where that is established.
    """

    market: Market
    timeframe: Timeframe
    asked: datetime
    slot: Interval
    state: State
    row: Row | None
    gaps: pl.DataFrame
    gap_before: Row | None
    gap_after: Row | None
    sightings: pl.DataFrame
    evidence: Evidence
    answer: Row | None
    equals_answer: bool | None
    buckets: tuple[Bucket, ...]
    snapshots: tuple[Held, ...]
    others: Mapping[Market, Row | None]
    outage: Outage | None
    listed_at: datetime | None

    @property
    def is_collected(self) -> bool:
        """Tell whether its day was ever asked for as a whole; what is stored of any other day was received live."""
        return not self.evidence.fetches.is_empty()

    @property
    def is_floored(self) -> bool:
        """Tell whether the instant that was asked for lies inside the candle and is not its open time."""
        return self.asked != self.slot.start
