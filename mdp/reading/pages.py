"""Stored candles page by page, and after them those that the live buffer holds and storage does not yet.

Only the months that a page needs are read. Not here: what a page is asked with (``api.history``), which state of the
store is read (``view``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from mdp.domain.candles import CANDLE_SCHEMA, DVOL_SCHEMA
from mdp.domain.interval import DAY, Interval
from mdp.domain.live import Buffer, CandleState, LiveCandle
from mdp.domain.live_frames import to_frame
from mdp.domain.market import Market
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.ports import OHLCV, Slice
from mdp.reading.view import View

_MOST_MONTHS = 12
_FAR = datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One page.

    Attributes:
        market: Whose rows.
        timeframe: Their length; ``1m`` of an index.
        window: Those that open inside it are wanted; on a later page it begins after the last row that was given.
        limit: Rows at most.
        is_first: Whether nothing of the question was given yet.
    """

    market: Market
    timeframe: Timeframe
    window: Interval
    limit: int
    is_first: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a window.

    Attributes:
        rows: Of ``CANDLE_SCHEMA``, or ``DVOL_SCHEMA`` of an index; ascending, unique.
        has_more: Whether there are rows after them.
        unstored: How many of the last ones are of the live buffer.
    """

    rows: pl.DataFrame
    has_more: bool
    unstored: int = 0


def read_page(view: View, wanted: Wanted, buffer: Buffer | None = None) -> Page:
    """Return the first rows of a window.

    Args:
        view: Which state of the store.
        wanted: Which rows.
        buffer: The live one of this market and timeframe, taken before storage is read: what it loses meanwhile is
            stored. None where only what is stored is wanted; it is not looked at for an index, or for the past.

    Raises:
        InputError: the snapshot does not hold the window, or what an index was cannot be told.
        StorageError: something cannot be read.
    """
    is_present = view.as_of is None and view.snapshot is None and not wanted.market.is_volatility_index
    live = _live(view, wanted, buffer) if buffer is not None and is_present else None
    rows = _stored(view, wanted)
    if live is None or len(rows) > wanted.limit:
        return Page(rows.head(wanted.limit), len(rows) > wanted.limit)
    newer = live.after(wanted, rows)
    given = min(len(newer), wanted.limit - len(rows))
    return Page(pl.concat([rows, newer.head(given)]), given < len(newer), given)


def _stored(view: View, wanted: Wanted) -> pl.DataFrame:
    """One row more than the page has, if there is one."""
    schema = DVOL_SCHEMA if wanted.market.is_volatility_index else CANDLE_SCHEMA
    found, missing = [schema.to_frame()], wanted.limit + 1
    months, least, start = 0, 1, wanted.window.start
    for stretch in wanted.window.months():
        months += 1
        part = Interval(start, stretch.end)
        is_wide = months >= _MOST_MONTHS or (months >= least and part.slots(wanted.timeframe) >= missing)
        if not is_wide and stretch.end != wanted.window.end:
            continue  # more months are read at once
        rows = view.rows(wanted.market, wanted.timeframe, part).head(missing)
        found.append(rows)
        missing -= len(rows)
        if not missing:
            break
        # where nothing is, steps grow: ten empty years are crossed in a dozen
        months, start, least = 0, stretch.end, 1 if len(rows) else min(2 * least, _MOST_MONTHS)
    return pl.concat(found)


@dataclass(frozen=True, slots=True)
class _Live:
    """Closed candles of the buffer, and where storage ended before the page was read.

    Attributes:
        closed: Ascending, at least one.
        stored_us: Open time of the newest stored candle; None if it opens before the slot that the first joins.
        is_known_before: Whether anything is stored of the day before the window: who asks may go on from there.
    """

    closed: list[LiveCandle]
    stored_us: int | None
    is_known_before: bool = False

    def after(self, wanted: Wanted, stored: pl.DataFrame) -> pl.DataFrame:
        """Return those that open after the newest stored one, where they join what is stored.

        Storage has judged every slot before its newest candle: what it does not hold there is a gap or was rejected.
        Later slots that hold none are not judged yet, whether the buffer begins later than storage ends or has a hole
        itself: candles beyond such a slot are not given until it is judged, for who asks for what comes next would
        never ask for it again. Only where nothing at all is stored, the buffer is all there is.

        Args:
            wanted: The page.
            stored: All that is stored of it.
        """
        start_us, end_us = _bounds_us(wanted.window)
        after_us = max(start_us - 1, -1 if self.stored_us is None else self.stored_us)
        if not stored.is_empty():
            # what was stored between the two looks is not given twice
            after_us = max(after_us, int(stored["open_time"].to_physical()[-1]))
        step_us = wanted.timeframe.microseconds
        next_us = -(-(after_us + 1) // step_us) * step_us
        if self.stored_us is None and self.closed[0].open_us > start_us:
            if not stored.is_empty() or not wanted.is_first or self.is_known_before:
                return CANDLE_SCHEMA.to_frame()
            next_us = self.closed[0].open_us
        newer = []
        for candle in self.closed:
            if candle.open_us == next_us < end_us:
                newer.append(candle)
                next_us += step_us
        return to_frame(wanted.market, wanted.timeframe, newer)


def _live(view: View, wanted: Wanted, buffer: Buffer) -> _Live | None:
    """Look at where storage ends; before the page is read, so that no candle is stored unseen between the two."""
    closed = [candle for candle in buffer.candles if candle.state is not CandleState.FORMING]
    start_us, end_us = _bounds_us(wanted.window)
    if not closed or closed[-1].open_us < start_us or closed[0].open_us >= end_us:
        return None
    joint = EPOCH + (closed[0].open_us - wanted.timeframe.microseconds) * datetime.resolution
    part = Slice(wanted.market, (wanted.timeframe,), Interval(joint, _FAR))
    opened = view.store.read(OHLCV, part, columns=["open_time"])["open_time"]
    if not opened.is_empty():
        return _Live(closed, int(opened.to_physical()[-1]))
    before = Slice(wanted.market, (wanted.timeframe,), Interval(wanted.window.start - DAY, wanted.window.start))
    return _Live(closed, None, not view.store.read(OHLCV, before, columns=["open_time"]).is_empty())


def _bounds_us(window: Interval) -> tuple[int, int]:
    return (window.start - EPOCH) // datetime.resolution, (window.end - EPOCH) // datetime.resolution
