"""Live candles as they change: every end state of a buffer, also where messages were lost on the way.

Not here: the bus (``bus``), asking for one buffer (``buffers``).
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from typing import Literal, Protocol

import msgspec

from mdp.domain.interval import Interval
from mdp.domain.live import Buffer, CandleState, LiveCandle
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.errors import BusUnavailable
from mdp.ports.live import Message
from mdp.reading.candle_buffer import CandleBuffer

Key = tuple[Market, Timeframe]

_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _TICK_S = 0.1, 2.0, 1.0

_MOST_AHEAD = 2_000
"""Messages that are read before anybody takes them."""


@dataclass(frozen=True, slots=True)
class Update:
    """One candle says something new.

    Attributes:
        market: Whose.
        timeframe: Of the candle.
        candle: What it says now; None where only ``reason`` is news.
        buffer: All of the buffer, this candle among it.
        reason: ``changed``: as it happened. ``read``: the buffer was read, at the beginning or because messages were
            lost; each candle that differs from what was known comes once. ``stale``: the bus is away, or no feed keeps
            the buffer: what is in it may be old; it is tried until it is back. ``missed``: more ended than it holds.
        missed: Open times of candles whose ends will not be told; ``mdp.read`` has them once they are stored.
    """

    market: Market
    timeframe: Timeframe
    candle: LiveCandle | None
    buffer: CandleBuffer
    reason: Literal["changed", "read", "stale", "missed"]
    missed: Interval | None = None


class Subscribed(Protocol):
    """Messages, once it is ready all of them, until the connection breaks with ``BusUnavailable``."""

    async def ready(self) -> None:
        """Return when everything that is said from now on will be heard."""
        ...

    def __aiter__(self) -> AsyncIterator[Message]: ...

    async def aclose(self) -> None:
        """Hear no more."""
        ...


class Bus(Protocol):
    """What is needed of the bus."""

    def subscribe(self, *patterns: str) -> Subscribed:
        """Hear messages whose topic fits a pattern."""
        ...

    async def buffer(self, market: Market, timeframe: Timeframe) -> Buffer | None:
        """Return a buffer; None where no feed ever wrote one."""
        ...

    async def holder_of(self, name: str) -> str | None:
        """Tell who holds a lease; None: nobody."""
        ...


class _Told(msgspec.Struct):
    """What is needed of a message about a buffer or a candle; of the latter the values too."""

    exchange: Exchange
    symbol: str
    timeframe: Timeframe
    seq: int
    open_time: datetime | None = None
    open: float = 0.0
    high: float = 0.0
    low: float = 0.0
    close: float = 0.0
    volume: float | None = None
    quote_volume: float | None = None
    trades: int | None = None
    minutes: int = 0
    state: CandleState = CandleState.FORMING
    source: str = ""
    received_at: datetime | None = None
    reason: str = ""

    @property
    def key(self) -> Key:
        base, _, quote = self.symbol.partition("-")
        return Market(self.exchange, base, quote), self.timeframe

    def candle(self) -> LiveCandle:
        return LiveCandle(
            _us(self.open_time), self.open, self.high, self.low, self.close, self.volume, self.quote_volume,
            self.trades, self.minutes, self.state, self.source, _us(self.received_at),
        )  # fmt: skip


_told = msgspec.json.Decoder(_Told)


async def updates(
    bus: Bus, wanted: Sequence[Key], on_connection: Callable[[bool], None] = lambda _: None
) -> AsyncGenerator[Update, None]:
    """Yield the newest candle of each buffer, then each change as it comes; for ever.

    While the bus is away each buffer is yielded once as stale; then what changed meanwhile.

    Args:
        bus: Open.
        wanted: Which buffers; one that no feed has written yet comes when it is.
        on_connection: Is told that the bus is there, once all buffers were read, and that it went.
    """
    held: dict[Key, CandleBuffer] = {}
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            async with aclosing(_while_connected(bus, wanted, held, on_connection)) as found:
                async for update in found:
                    pause_s = _FIRST_PAUSE_S
                    yield update
        except BusUnavailable:
            on_connection(False)
            for key, buffer in held.items():
                if not buffer.is_stale:
                    held[key] = replace(buffer, is_stale=True)
                    yield Update(*key, None, held[key], "stale")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def _while_connected(
    bus: Bus, wanted: Sequence[Key], held: dict[Key, CandleBuffer], on_connection: Callable[[bool], None]
) -> AsyncGenerator[Update, None]:
    topics = [
        f"{kind}.{market.exchange}.{market.symbol_key}.{timeframe}"
        for market, timeframe in wanted
        for kind in ("candles", "buffers")
    ]
    messages = bus.subscribe(*topics)
    try:
        await messages.ready()  # before the buffers are read, so that no change falls between
        # before the buffers too: one that nobody has kept for hours must at no time look as if somebody did
        kept = {exchange: await _is_kept(bus, exchange) for exchange in {market.exchange for market, _ in wanted}}
        for key in wanted:
            for update in await _read(bus, key, held, is_kept=kept[key[0].exchange]):
                yield update
        on_connection(True)
        async with aclosing(_in_batches(messages)) as batches:
            async for batch in batches:
                for update in await _unkept(bus, held) if not batch else ():
                    yield update
                for message in batch:
                    for update in await _apply(bus, message, held):
                        yield update
    finally:
        await messages.aclose()


async def _in_batches(subscribed: Subscribed) -> AsyncGenerator[list[Message], None]:
    """Yield what came meanwhile, all of it at once; about once a second, however much or little is said, nothing.

    At a minute's close a hundred messages come together: waking up for each of them costs more than reading it.
    """
    heard: deque[Message] = deque()
    news, room = asyncio.Event(), asyncio.Event()
    reading = asyncio.ensure_future(_read_ahead(subscribed, heard, news, room))
    reading.add_done_callback(lambda _: news.set())
    ticked = time.monotonic()
    try:
        while True:
            left_s = max(0.0, ticked + _TICK_S - time.monotonic())
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), left_s)
            news.clear()
            if heard:
                batch = list(heard)
                heard.clear()
                room.set()
                yield batch
            elif reading.done():
                reading.result()
                return
            if time.monotonic() - ticked >= _TICK_S:
                ticked = time.monotonic()
                yield []
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _read_ahead(subscribed: Subscribed, heard: deque[Message], news: asyncio.Event, room: asyncio.Event) -> None:
    async for message in subscribed:
        heard.append(message)
        news.set()
        while len(heard) >= _MOST_AHEAD:  # whoever takes long holds up the bus's server, not this process's memory
            room.clear()
            await room.wait()


async def _unkept(bus: Bus, held: dict[Key, CandleBuffer]) -> list[Update]:
    """Mark buffers that no feed keeps any more; each is told once."""
    found = []
    for exchange in {market.exchange for market, _ in held}:
        if not await _is_kept(bus, exchange):
            for key, buffer in held.items():
                if key[0].exchange is exchange and not buffer.is_stale:
                    held[key] = replace(buffer, is_stale=True)
                    found.append(Update(*key, None, held[key], "stale"))
    return found


async def _is_kept(bus: Bus, exchange: Exchange) -> bool:
    return await bus.holder_of(f"feed/{exchange.value}") is not None


async def _apply(bus: Bus, message: Message, held: dict[Key, CandleBuffer]) -> list[Update]:
    told = _told.decode(message.body)
    is_candle = message.topic.startswith("candles.")
    if not is_candle and told.reason != "rewritten":
        return []  # there is a message of the candle too
    buffer = held.get(told.key)
    if buffer is not None and told.seq < buffer.seq + (not is_candle):
        return []
    if buffer is None or told.seq > buffer.seq + 1 or not is_candle:
        return await _read(bus, told.key, held, is_kept=await _is_kept(bus, told.exchange))
    return _with(buffer, told, held)


_opened = attrgetter("open_us")


def _with(buffer: CandleBuffer, told: _Told, held: dict[Key, CandleBuffer]) -> list[Update]:
    candle = told.candle()
    number = bisect_left(buffer.candles, candle.open_us, key=_opened)
    is_there = number < len(buffer.candles) and buffer.candles[number].open_us == candle.open_us
    if is_there and buffer.candles[number] == candle:
        return []
    after = number + is_there
    candles = (*buffer.candles[:number], candle, *buffer.candles[after:])
    first_us = candles[-1].open_us - buffer.size * buffer.timeframe.microseconds
    candles = candles[bisect_left(candles, first_us, key=_opened) :]
    new = replace(buffer, candles=candles, seq=told.seq, written_us=candle.received_us, is_stale=False)
    held[told.key] = new
    return [Update(*told.key, candle, new, "changed")]


async def _read(bus: Bus, key: Key, held: dict[Key, CandleBuffer], *, is_kept: bool) -> list[Update]:
    """Read a buffer anew: what differs from what was known; at first the newest candle only."""
    found = await bus.buffer(*key)
    if found is None:
        return []
    before, now = held.get(key), CandleBuffer.of(replace(found, is_stale=not is_kept))
    held[key] = now
    if before is None:
        return [Update(*key, now.candles[-1] if now.candles else None, now, "read")]
    known = {candle.open_us: candle for candle in before.candles}
    news = [candle for candle in now.candles if known.get(candle.open_us) != candle]
    if not news and now != replace(before, seq=now.seq, written_us=now.written_us):
        return [Update(*key, None, now, "read")]  # a candle was taken back, or somebody keeps the buffer again
    told = [Update(*key, None, now, "missed", between) for between in _missed(before, now)]
    return [*told, *(Update(*key, candle, now, "read") for candle in news)]


def _missed(before: CandleBuffer, now: CandleBuffer) -> Iterator[Interval]:
    """Yield what lies between the last end that was told and the first candle that can still be."""
    if before.candles and now.candles:
        newest, end_us = before.candles[-1], now.candles[0].open_us
        start_us = newest.open_us + (newest.state is not CandleState.FORMING) * now.timeframe.microseconds
        if start_us < end_us:
            yield Interval(EPOCH + EPOCH.resolution * start_us, EPOCH + EPOCH.resolution * end_us)


def _us(moment: datetime | None) -> int:
    return 0 if moment is None else (moment - EPOCH) // EPOCH.resolution
