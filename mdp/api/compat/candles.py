"""The candles that one question is about: stored ones and, past these, those of the live buffers.

No candle comes twice, none is given as finished before it is, and no answer reaches over a hole that may still be
filled, stored or live: a bot that saved both sides of it would keep it for good. Not here: what an exchange's
parameters mean as bounds (``binance``, ``bybit``, ``okx``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cache

import polars as pl

from mdp.api.compat.excuses import Span
from mdp.api.compat.joining import BEGINNING_US, Joined, Source
from mdp.api.compat.lengths import DAY_US, Length
from mdp.api.surroundings import Surroundings
from mdp.config.reference import load_reference
from mdp.domain.candle_buffer import as_frame
from mdp.domain.candles import CANDLE_SCHEMA
from mdp.domain.interval import Interval
from mdp.domain.live import Buffer, CandleState, LiveCandle
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.pipeline.coverage import may_be_filled
from mdp.ports import GAPS, CandleStore, Slice
from mdp.reading.view import View

NEVER_US = 253_402_300_799_000_000
"""The last second of the year 9999: stands for a bound that was not given."""

_MOST_ROWS = 60 * 1_440
"""Rows that are read at once: two months of minutes."""

_GROWTH = 4

COLUMNS = ("open_time", "open", "high", "low", "close", "volume", "quote_volume", "trades", "minutes")


class Keep(StrEnum):
    """Which side of a range that holds more candles than the page is kept."""

    OLDEST = "oldest"
    NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class Asked:
    """One question.

    Attributes:
        market: Whose candles.
        length: Of each.
        first_us: Earliest open time, inclusive; any.
        last_us: Latest open time, inclusive; any.
        limit: Most candles.
        keep: Which side, when there are more.
        with_open: Whether the candle that is still forming belongs to the answer.
        from_start: Whether ``first_us`` is what was asked for, and no bound of ours.
    """

    market: Market
    length: Length
    first_us: int
    last_us: int
    limit: int
    keep: Keep
    with_open: bool = True
    from_start: bool = False


def market_now_us(around: Surroundings, exchange: Exchange) -> int:
    """Return what time it is on an exchange; a simulator's clock is told by its newest buffer."""
    told = [0]
    if around.settings.simulated:
        for market, timeframe in around.mirror.wanted:
            found = around.mirror.find(market, timeframe) if market.exchange is exchange else None
            told.append(0 if found is None else found.written_us)
    return max(told) or time.time_ns() // 1_000


async def read_candles(around: Surroundings, asked: Asked) -> pl.DataFrame:
    """Return the candles of one question.

    Raises:
        Problem: 503, storage did not answer in time.

    Shape:
        ``COLUMNS`` of ``CANDLE_SCHEMA`` and ``is_closed``; sorted by ``open_time``, unique.
    """
    now_us = market_now_us(around, asked.market.exchange)
    made_of = asked.length.made_of
    buffer = around.mirror.find(asked.market, made_of)
    columns = CANDLE_SCHEMA.names() if asked.length.native is None else COLUMNS
    live = _of_buffer(asked.market, made_of, usable(buffer, now_us)).select(*columns, "is_closed")
    # the buffer was looked at first: what leaves it meanwhile is stored
    view = View(around.store)

    def work() -> pl.DataFrame:
        def read(first_us: int, end_us: int) -> pl.DataFrame:
            return view.rows(asked.market, made_of, _interval(first_us, end_us), columns=columns).select(columns)

        def excused(first_us: int, end_us: int) -> list[Span]:
            return _excused(around.store, asked.market, first_us, end_us)

        source = Source(read, live, made_of.microseconds, excused)
        return select(asked, Joined(source, asked.length, now_us, _listed_us(asked.market)), now_us)

    return await around.in_thread(work)


def _excused(store: CandleStore, market: Market, first_us: int, end_us: int) -> list[Span]:
    """What is known of minutes that are not stored and that asking again will not bring; a gap begins in its day."""
    days = _interval(first_us // DAY_US * DAY_US, -(-end_us // DAY_US) * DAY_US)
    gaps = store.read(GAPS, Slice(market, (Timeframe.M1,), days), columns=["start", "end", "cause", "is_permanent"])
    ended = gaps.filter(~may_be_filled())
    return list(zip(ended["start"].to_physical(), ended["end"].to_physical(), strict=True))


def _interval(first_us: int, end_us: int) -> Interval:
    return Interval(EPOCH + timedelta(microseconds=first_us), EPOCH + timedelta(microseconds=end_us))


@cache
def _listed_us(market: Market) -> int | None:
    listed = load_reference().listed_at(market)
    return None if listed is None else (listed - EPOCH) // EPOCH.resolution


def usable(buffer: Buffer | None, now_us: int) -> list[LiveCandle]:
    """Return the candles of a buffer that may be given: up to the first whose end has come and is not yet told.

    A forming candle of a buffer that nobody keeps any more would pass for a finished one as soon as its time is over.
    """
    good: list[LiveCandle] = []
    for candle in buffer.candles if buffer is not None else ():
        if candle.state is CandleState.FORMING and (
            buffer is None or buffer.is_stale or candle.open_us + buffer.timeframe.microseconds <= now_us
        ):
            break
        good.append(candle)
    return good


def _of_buffer(market: Market, timeframe: Timeframe, candles: list[LiveCandle]) -> pl.DataFrame:
    frame = as_frame(market, timeframe, candles)
    is_closed = (frame["state"] != CandleState.FORMING.value).alias("is_closed")
    return frame.select(CANDLE_SCHEMA.names()).with_columns(is_closed)


def select(asked: Asked, joined: Joined, now_us: int) -> pl.DataFrame:
    """Return the candles of one question out of what there is.

    Args:
        asked: The question.
        joined: What there is.
        now_us: Nothing opens later.
    """
    length = asked.length
    first_us = length.ceil(max(asked.first_us, BEGINNING_US))
    end_us = length.following(length.floor(min(asked.last_us, now_us)))
    if first_us >= end_us:
        return joined.nothing()
    parts = (_forwards if _is_forwards(asked, first_us, end_us) else _backwards)(asked, joined, first_us, end_us)
    rows = pl.concat(parts) if parts else joined.nothing()
    if not asked.with_open:
        rows = rows.filter(pl.col("is_closed"))
    return rows.head(asked.limit) if asked.keep is Keep.OLDEST else rows.tail(asked.limit)


def _is_forwards(asked: Asked, first_us: int, end_us: int) -> bool:
    """Tell whether the one who asks goes forwards: a stretch that fits into a page is the same page from both sides."""
    fits = end_us - first_us <= asked.limit * asked.length.step_us
    return asked.keep is Keep.OLDEST or (asked.from_start and fits)


def _forwards(asked: Asked, joined: Joined, first_us: int, end_us: int) -> list[pl.DataFrame]:
    """Read until enough is there, or up to a hole: what comes later would be saved as if nothing were between."""
    parts: list[pl.DataFrame] = []
    span_us, wanted, follows_us = _span(asked, joined, asked.limit), asked.limit, first_us
    while wanted > 0 and first_us < end_us:
        until_us = min(max(asked.length.floor(first_us + span_us), asked.length.following(first_us)), end_us)
        found = joined.rows(first_us, until_us)
        first_us = until_us
        if found.is_empty():
            span_us = min(span_us * _GROWTH, _span(asked, joined, _MOST_ROWS))
            continue
        opened_us = _opened_us(found, 0)
        if not parts and opened_us > follows_us and not joined.source.has_before(follows_us):
            follows_us = opened_us  # the beginning of all that there is
        joining = joined.up_to_hole(found, follows_us)
        parts.append(joining)
        if joining.height < found.height:
            break
        wanted, follows_us = wanted - found.height, asked.length.following(_opened_us(found, -1))
        span_us = _span(asked, joined, max(wanted, 0))
    return parts


def _backwards(asked: Asked, joined: Joined, first_us: int, end_us: int) -> list[pl.DataFrame]:
    """Read until enough is there, or down to a hole."""
    parts: list[pl.DataFrame] = []
    # the one that is forming may be left out in the end
    wanted = asked.limit + (not asked.with_open)
    span_us, until_us = _span(asked, joined, wanted), None
    while wanted > 0 and first_us < end_us:
        since_us = max(min(asked.length.floor(end_us - span_us), end_us - 1), first_us)
        since_us = max(asked.length.floor(since_us), first_us)
        found = joined.rows(since_us, end_us)
        end_us = since_us
        if found.is_empty():
            span_us = min(span_us * _GROWTH, _span(asked, joined, _MOST_ROWS))
            continue
        joining = joined.from_hole(found, until_us)
        parts.append(joining)
        if joining.height < found.height:
            break
        wanted, until_us = wanted - found.height, _opened_us(found, 0)
        span_us = _span(asked, joined, max(wanted, 0))
    return parts[::-1]


def _span(asked: Asked, joined: Joined, count: int) -> int:
    """How far is read at once for some candles: so far that the process is not held up by adding minutes together."""
    return max(min((count + 1) * asked.length.step_us, _MOST_ROWS * joined.source.step_us), asked.length.step_us)


def _opened_us(rows: pl.DataFrame, place: int) -> int:
    return int(rows["open_time"].to_physical()[place])
