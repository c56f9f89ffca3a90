"""Comparing the buffer of minutes with storage, now and then: what a backfill learnt, and what was never stored.

Neither is believed against the other: where they differ, REST is asked, and must say it twice. What storage lacks
though nothing waits for it any more is handed on again. Not here: filling the buffers (``seeding``), when REST is asked
(``asking``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from mdp.domain.interval import Interval
from mdp.domain.live import CandleState, Entry, LiveCandle
from mdp.domain.live_frames import from_frame
from mdp.domain.timeframe import Timeframe
from mdp.errors import BusUnavailable, StorageError
from mdp.live.books import Books
from mdp.live.market_feed import MarketFeed
from mdp.live.means import moment
from mdp.live.reading_aside import read_aside
from mdp.ports import OHLCV, Slice

_log = logging.getLogger(__name__)

_MINUTE = Timeframe.M1.microseconds
_STORED_WITHIN_US = 5 * _MINUTE
"""A minute that storage lacks for less than this may still be on its way."""


async def reread(feed: MarketFeed) -> None:
    """Compare every so many minutes of the market, without end."""
    if feed.market.is_volatility_index:
        return  # its candles are not in the table of candles
    every_us = round(feed.means.live.reread_minutes * _MINUTE)
    read_us = feed.now_us()
    while True:
        await asyncio.sleep(max(0.5, 5 / feed.means.clock.speed))
        now = feed.now_us()
        if 0 <= now - read_us < every_us:
            continue
        read_us = now
        await compare(feed, now)


async def compare(feed: MarketFeed, now_us: int) -> None:
    """Compare once; while storage or the bus does not answer nothing is compared."""
    try:
        # what was handed on before the oldest entry that waits, of whatever market, is stored
        taken_until_us = 0 if feed.publisher.pending_entries else (await feed.means.bus.backlog()).oldest_us or now_us
        stored = await read_aside(lambda: _read(feed, now_us))
    except (BusUnavailable, StorageError) as error:
        _log.warning("%s: not compared with storage: %s", feed.market, error)
        return
    heed_stored(feed.books, stored, now_us, taken_until_us=taken_until_us)


def _read(feed: MarketFeed, now_us: int) -> list[LiveCandle]:
    since = now_us - now_us % _MINUTE - feed.means.live.buffer_size * _MINUTE
    part = Slice(feed.market, (Timeframe.M1,), Interval(moment(since), moment(now_us)))
    return from_frame(feed.means.store.read(OHLCV, part), settle_s=feed.means.settle_s)


def heed_stored(books: Books, stored: Sequence[LiveCandle], now_us: int, *, taken_until_us: int) -> None:
    """Take what storage knows and the buffer does not, doubt what differs, hand on again what storage lacks.

    Args:
        books: Of the market.
        stored: What storage holds of the time of the buffer.
        now_us: The market's time.
        taken_until_us: What was received before this does not wait for storage any more: what it lacks was lost.
    """
    known = {candle.open_us for candle in stored}
    for candle in stored:
        if books.may_take_stored(candle, now_us):
            books.take(candle, now_us)
    if not stored:
        return
    held = books.buffers.buffer(Timeframe.M1)
    lacking = [
        candle
        for candle in held
        if candle.state is not CandleState.FORMING
        and candle.open_us not in known
        and candle.received_us < taken_until_us
        and stored[0].open_us < candle.open_us < now_us - _STORED_WITHIN_US
    ]
    if lacking:
        _log.warning("%s: storage lacks %d minutes; they are handed on again", books.market, len(lacking))
        said = "storage lacked it"
        books.publisher.push((), [Entry(books.market, one, told_us=now_us, detail=said) for one in lacking])
