"""Filling the buffers of one market at the beginning: from the bus, from storage, then from REST for what is missing.

What the feed before this one knew is on the bus, so that a feed that was killed is back at once. Storage knows what was
collected. REST knows the rest, and its own longer candles where nobody has the history for a ring. Nothing is published
before a market's buffers are full, lest a ring that another feed filled be emptied for a while.
Not here: the stream, which runs meanwhile (``market_feed``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from mdp.domain.interval import Interval
from mdp.domain.live import CandleState, LiveCandle
from mdp.domain.live_frames import from_frame
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp.errors import BusUnavailable, InputError, StorageError
from mdp.live.market_feed import MarketFeed
from mdp.live.means import moment
from mdp.live.reading_aside import call_in, read_aside
from mdp.live.rest_minutes import answered_candles, longer_candles
from mdp.ports import OHLCV, Fetched, Slice

_log = logging.getLogger(__name__)

_MINUTE, _HOUR, _DAY = (one.microseconds for one in (Timeframe.M1, Timeframe.H1, Timeframe.D1))

_AT_ONCE = 240

STORE_PATIENCE_S = 20.0
"""A store that answers later is not waited for: rings and REST serve, and its answer is taken when it comes."""

AGAIN_S = 0.2
"""Before REST, or the bus, is asked again for what is missing."""

_MADE_OF = {
    Timeframe.M5: Timeframe.M1,
    Timeframe.M15: Timeframe.M1,
    Timeframe.H1: Timeframe.M1,
    Timeframe.H4: Timeframe.H1,
    Timeframe.D1: Timeframe.H1,
}
"""Of what longer candles are made that an exchange does not offer itself."""


def minutes_needed_since(now_us: int, size: int) -> int:
    """Return from which minute on all are needed: for the ring of 1m, and for every longer candle that forms now.

    In the first hour of a day those of the day before count too: the exchange may not have finished its own candle.

    Args:
        now_us: The market's time.
        size: Closed candles in a ring.
    """
    recent = now_us - _HOUR
    return min(recent - recent % _DAY, now_us - now_us % _MINUTE - size * _MINUTE)


async def seed(feed: MarketFeed) -> None:
    """Fill the buffers, then open the way to the bus.

    While REST does not answer, buffers that the bus or storage could fill are published as they are, and REST is asked
    again and again: what is missing in them is told by what they hold.
    """
    is_taken_over = await _seed_from_bus(feed)
    try:
        await asyncio.wait_for(read_aside(lambda: _read_store(feed)), STORE_PATIENCE_S)
    except TimeoutError:
        _log.warning("%s: storage does not answer in %.0f s: begun without it", feed.market, STORE_PATIENCE_S)
    while not await _seed_from_rest(feed):
        is_taken_over = is_taken_over or await _seed_from_bus(feed)
        if is_taken_over and feed.buffers.newest_us is not None and not feed.publisher.is_open:
            feed.publisher.open()
        await asyncio.sleep(max(AGAIN_S, feed.rest_wait_s))
    feed.is_seeded = True
    feed.publisher.open()
    full = {one.value: len(held) for one, held in feed.buffers.buffers().items()}
    _log.info("%s: buffers are full: %s", feed.market, full)


async def _seed_from_bus(feed: MarketFeed) -> bool:
    """Take what an earlier feed left; what lies in the future was left before a simulator's clock was set back.

    False: the bus did not say what there is; rings that are full may not be written over then.
    """
    now = feed.now_us()
    try:
        for timeframe in Timeframe:
            buffer = await feed.means.bus.buffer(feed.market, timeframe)
            held = [one for one in buffer.candles if one.open_us <= now] if buffer else []
            if timeframe is Timeframe.M1:
                for candle in held:
                    feed.ledger.note(candle)  # what a ring holds was handed on
            feed.books.publish(feed.buffers.seed(timeframe, held, now_us=now), now)
    except BusUnavailable as error:
        _log.warning("%s: nothing could be taken over from the bus: %s", feed.market, error)
        return False
    return True


def _read_store(feed: MarketFeed) -> None:
    """Take what is stored; runs in a thread while nothing else touches the buffers but the stream's sink."""
    if feed.market.is_volatility_index:
        return  # its candles are not in the table of candles
    now, size = feed.now_us(), feed.means.live.buffer_size
    for timeframe in Timeframe:
        step = timeframe.microseconds
        since = minutes_needed_since(now, size) if timeframe is Timeframe.M1 else now - now % step - size * step
        part = Slice(feed.market, (timeframe,), Interval(moment(since), moment(now)))
        try:
            candles = from_frame(feed.means.store.read(OHLCV, part), settle_s=feed.means.settle_s)
        except StorageError as error:
            _log.warning("%s: storage is not read: %s", feed.market, error)
            return
        call_in(feed.loop, partial(_take_stored, feed, timeframe, candles, now))


def _take_stored(feed: MarketFeed, timeframe: Timeframe, candles: Sequence[LiveCandle], now: int) -> None:
    """Take what is stored; of a minute that the stream, a ring or REST told otherwise, REST decides."""
    if timeframe is Timeframe.M1:
        candles = [one for one in candles if feed.books.may_take_stored(one, now)]
        for candle in candles:
            feed.ledger.note(candle)
    feed.books.publish(feed.buffers.seed(timeframe, candles, now_us=now), now)


async def _seed_from_rest(feed: MarketFeed) -> bool:
    """Ask REST for the minutes and longer candles that are missing; False where it did not give them all."""
    now = feed.now_us()
    needed = minutes_needed_since(now, feed.means.live.buffer_size)
    last = now - now % _MINUTE - (feed.means.live.confirm_last + 1) * _MINUTE
    start = next((slot for slot in range(needed, last, _MINUTE) if feed.ledger.known(slot) is None), last)
    minutes = await feed.fetch(Timeframe.M1, start, now + _MINUTE)
    if minutes is None:
        return False
    answered_us = feed.now_us()  # of both: it is one answer, and counts once
    await _take_finished(feed, _answered(feed, minutes, Timeframe.M1, now), answered_us)
    feed.books.heed(minutes, start, now - feed.means.settle_us, answered_us)
    # the longest first: what makes a shorter one in between would otherwise be counted against it
    return all([await _seed_longer(feed, timeframe, now) for timeframe in reversed(RESAMPLED)])


def _answered(feed: MarketFeed, fetched: Fetched, timeframe: Timeframe, asked_us: int) -> list[LiveCandle]:
    settle_us = feed.means.settle_us
    return answered_candles(fetched.rows, timeframe, settled_us=asked_us - settle_us, settle_us=settle_us)


async def _take_finished(feed: MarketFeed, candles: Sequence[LiveCandle], now: int) -> None:
    """Take a day of finished minutes, some at a time: the lease is renewed in between, and the stream is read."""
    ledger = feed.ledger
    # what storage holds otherwise is heeded with the whole answer
    finished = [one for one in candles if one.state is not CandleState.FORMING]
    sure = [one for one in finished if not ledger.is_stored_otherwise(one.open_us) and ledger.may_take(one, now)]
    for first in range(0, len(sure), _AT_ONCE):
        feed.books.publish(feed.buffers.seed(Timeframe.M1, sure[first : first + _AT_ONCE], now_us=now), now)
        await asyncio.sleep(0)


async def _seed_longer(feed: MarketFeed, timeframe: Timeframe, now: int) -> bool:
    """Fill a ring of longer candles with the exchange's own, from the first that is missing on."""
    step, size = timeframe.microseconds, feed.means.live.buffer_size
    forming = now - now % step
    held = {one.open_us for one in feed.buffers.buffer(timeframe) if one.state is not CandleState.FORMING}
    start = next((slot for slot in range(forming - size * step, forming, step) if slot not in held), None)
    if start is None:
        return True
    try:
        fetched = await feed.fetch(timeframe, start, forming)
        candles = _answered(feed, fetched, timeframe, now) if fetched else []
    except InputError:
        shorter = _MADE_OF[timeframe]
        fetched = await feed.fetch(shorter, start, forming)
        candles = longer_candles(_answered(feed, fetched, shorter, now), shorter, timeframe) if fetched else []
    feed.books.publish(feed.buffers.seed(timeframe, candles, now_us=feed.now_us()), now)
    return fetched is not None
