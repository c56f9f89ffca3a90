"""From the rows that an exchange's REST answered to live candles. Pure.

Not here: asking (``market_feed``, ``seeding``), what becomes of the candles (``domain.buffers``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import polars as pl

from mdp.domain.live import CandleState, LiveCandle
from mdp.domain.live_rebuild import combine
from mdp.domain.timeframe import EPOCH, Timeframe

MICROSECOND = timedelta(microseconds=1)

_VALUES = ("open_time", "open", "high", "low", "close", "volume", "quote_volume", "trades")


def answered_candles(rows: pl.DataFrame, timeframe: Timeframe, *, settled_us: int, settle_us: int) -> list[LiveCandle]:
    """Return the candles of an answer: ``CONFIRMED`` where they are finished and had settled, else ``FORMING``.

    What the answer calls closed is believed only if it had settled by the time at which we asked, or by the newest
    candle of the answer itself: an exchange's clock that was read over a slow connection is wrong by half the time that
    took. Of several rows of one slot the last counts. A row without a price is no candle, and is left out; so is one
    whose open time is off the grid, which belongs to no slot: the backfill of its day keeps both as rejected.

    Args:
        rows: The answer.
        timeframe: Length of its candles.
        settled_us: The market's time when it was asked for, less the settling time.
        settle_us: The settling time.

    Shape:
        Rows as a source answers them (``RAW_SCHEMA`` without ``window_start``); ascending by open time.
    """
    if rows.is_empty():
        return []
    step = timeframe.microseconds
    opened = rows["open_time"].to_physical()
    trusted_us = max(settled_us, int(opened[-1]) - settle_us) - step
    found: dict[int, LiveCandle] = {}
    received = rows["fetched_at"].to_physical().to_list()
    for values, is_closed, received_us in zip(_values_of(rows), rows["closed"].to_list(), received, strict=True):
        if None in values[:5] or values[0] % step:
            continue
        state = CandleState.CONFIRMED if is_closed and values[0] <= trusted_us else CandleState.FORMING
        found[values[0]] = LiveCandle._make((*values, timeframe.minutes, state, "rest", received_us))
    return [found[slot] for slot in sorted(found)]


def _values_of(rows: pl.DataFrame) -> Iterable[tuple[Any, ...]]:
    return rows.select(pl.col("open_time").to_physical(), *_VALUES[1:]).iter_rows()


def longer_candles(parts: Sequence[LiveCandle], shorter: Timeframe, longer: Timeframe) -> list[LiveCandle]:
    """Make longer candles where an exchange offers none of that length; only those of which every part is finished.

    Args:
        parts: Candles of ``shorter``, ascending, unique.
        shorter: Their length.
        longer: The length wanted.
    """
    buckets: dict[int, list[LiveCandle]] = {}
    for part in parts:
        if part.state is not CandleState.FORMING:
            buckets.setdefault(part.open_us - part.open_us % longer.microseconds, []).append(part)
    whole = longer.minutes // shorter.minutes
    return [combine(held, bucket, is_settled=True) for bucket, held in buckets.items() if len(held) == whole]


def time_of(open_us: int) -> str:
    """Write a time for logs."""
    return f"{EPOCH + open_us * MICROSECOND:%Y-%m-%d %H:%M}"
