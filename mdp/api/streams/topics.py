"""What can be subscribed to: each topic knows its newest state, what changed lately, and who listens.

Not here: what one listener has yet to hear (``mailboxes``), where news come from (``hub``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from mdp.api.buffer_bodies import as_document, time_text
from mdp.api.streams.messages import BufferChanged, Candle, Message, Snapshot
from mdp.domain.live import CandleState, LiveCandle
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe

if TYPE_CHECKING:
    from mdp.api.mirror import Place
    from mdp.api.streams.mailboxes import Subscription
    from mdp.reading.following import Update

LONGEST_LOG = 500
"""So many changes of a buffer are remembered, for whoever comes back; who was away for longer gets the whole."""


class News:
    """One thing that happened on a topic.

    Args:
        key: What it is about: later news with the same key replace it. Of a candle its open time.
        seq: Of the buffer; 0 where there is none.
        make: Spells it, once somebody hears it.
    """

    __slots__ = ("_make", "_message", "key", "number", "seq")

    def __init__(self, key: int, seq: int, number: int, make: Callable[[], Message]) -> None:
        self.key, self.seq, self.number = key, seq, number
        self._make = make
        self._message: Message | None = None

    @property
    def message(self) -> Message:
        """As it is sent."""
        if self._message is None:
            self._message = self._make()
        return self._message


class Resumed(NamedTuple):
    """What changed since, for whoever comes back.

    Attributes:
        seq: The last one that is known there.
        news: In order; the newest of each candle.
    """

    seq: int
    news: list[News]


class Topic(ABC):
    """Anything that can be subscribed to.

    Args:
        name: Such as ``candles.binance.BTC-USDT.1m``.

    Attributes:
        listeners: Whoever is to hear of it.
        counts: Whether its ``seq`` grows by one with each message, so that missing ones can be told.
        is_stale: Whether nobody keeps it now; None where that says nothing.
    """

    counts = False
    is_stale: bool | None = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.listeners: set[Subscription] = set()

    @property
    @abstractmethod
    def seq(self) -> int:
        """The newest one."""

    @abstractmethod
    def whole(self) -> Message | None:
        """Return all that is known of it now; None: nothing yet."""

    def since_seq(self, _seq: int, /) -> Resumed | None:
        """Return what changed after a ``seq``; None: only the whole can tell."""
        return None

    def since_number(self, _number: int, /) -> Resumed | None:
        """Return what changed after a number of the hub; None: only the whole can tell."""
        return None

    def tell(self, news: News) -> None:
        """Have all listeners hear of it."""
        for listener in self.listeners:
            listener.hear(news)

    def tell_whole(self) -> None:
        """Have all listeners hear the whole."""
        for listener in self.listeners:
            listener.hear_whole()


class CandleTopic(Topic):
    """The candles of one buffer.

    Args:
        market: Whose.
        timeframe: Their length.
        place: Where the buffer is found.
    """

    counts = True

    def __init__(self, market: Market, timeframe: Timeframe, place: Place) -> None:
        super().__init__(candles_of(market, timeframe))
        self._market, self._timeframe, self._place = market, timeframe, place
        self._changes: dict[int, News] = {}
        # the hub's number of each change since `_floor`; the change with seq `_floor + 1` comes first
        self._log: deque[int] = deque()
        self._floor, self._floor_number = self.seq, 0
        self._spelled: tuple[object, Message] | None = None
        self.is_stale = place.buffer.is_stale if place.buffer is not None else None

    @property
    def seq(self) -> int:
        """Of the buffer."""
        return 0 if self._place.buffer is None else self._place.buffer.seq

    def whole(self) -> Message | None:
        """Return the buffer; spelled once for each version."""
        buffer = self._place.buffer
        if buffer is None:
            return None
        if self._spelled is None or self._spelled[0] is not buffer:
            document = as_document(buffer)
            said = Snapshot(topic=self.name, **document)  # type: ignore[arg-type]  # its fields are those of the route
            self._spelled = (buffer, Message.of(said))
        return self._spelled[1]

    def take(self, update: Update, number: int) -> None:
        """Have an update of the mirror told.

        Args:
            update: The buffer of the place is the one it brought.
            number: That the hub gave it.
        """
        candle, seq = update.candle, update.buffer.seq
        known = self._floor + len(self._log)
        if update.reason == "changed" and candle is not None and seq == known + 1:
            self._add(candle, seq, number)
        elif candle is not None or seq != known:
            self._begin_anew(seq, number)
        if update.buffer.is_stale is not self.is_stale:
            self.is_stale = update.buffer.is_stale
            for listener in self.listeners:
                listener.hear_age()

    def _add(self, candle: LiveCandle, seq: int, number: int) -> None:
        market, timeframe, name = self._market, self._timeframe, self.name
        news = News(candle.open_us, seq, number, lambda: spell_candle(name, market, timeframe, candle, seq))
        self._changes.pop(candle.open_us, None)
        self._changes[candle.open_us] = news  # the last one is the newest, so that they stand in order of seq
        self._log.append(number)
        if len(self._log) > LONGEST_LOG:
            self._floor += 1
            self._floor_number = self._log.popleft()
            oldest = next(iter(self._changes.values()))
            if oldest.seq <= self._floor:
                del self._changes[oldest.key]
        self.tell(news)

    def _begin_anew(self, seq: int, number: int) -> None:
        self._changes.clear()
        self._log.clear()
        self._floor, self._floor_number = seq, number
        self.tell_whole()

    def since_seq(self, seq: int, /) -> Resumed | None:
        """Return what changed after a ``seq``; None: too long ago, or not of this buffer."""
        if self._place.buffer is None or not self._floor <= seq <= self.seq:
            return None
        return Resumed(seq, [news for news in self._changes.values() if news.seq > seq])

    def since_number(self, number: int, /) -> Resumed | None:
        """Return what changed after a number of the hub; None: too long ago."""
        if self._place.buffer is None or number < self._floor_number:
            return None
        known = sum(1 for one in self._log if one <= number)
        return self.since_seq(self._floor + known)


class BufferTopic(Topic):
    """That candles of one buffer are finished, without what they say.

    Args:
        market: Whose.
        timeframe: Their length.
        place: Where the buffer is found.
    """

    def __init__(self, market: Market, timeframe: Timeframe, place: Place) -> None:
        super().__init__(f"buffers.{market.exchange.value}.{market.symbol_key}.{timeframe.value}")
        self._market, self._timeframe, self._place = market, timeframe, place
        self._read_seq = -1

    @property
    def seq(self) -> int:
        """Of the buffer."""
        return 0 if self._place.buffer is None else self._place.buffer.seq

    def whole(self) -> Message | None:
        """Return that it is there, and how far."""
        buffer = self._place.buffer
        if buffer is None:
            return None
        return self._spell("rewritten", buffer.seq, buffer.candles[-1].open_us if buffer.candles else None)

    def take(self, update: Update, number: int) -> None:
        """Have an update of the mirror told, if it is the end of a candle."""
        candle, seq = update.candle, update.buffer.seq
        if update.reason == "read":
            if seq != self._read_seq:  # it comes once for each candle that differs
                self._read_seq = seq
                self.tell_whole()
        elif candle is not None and candle.state is not CandleState.FORMING:
            state, open_us = candle.state.value, candle.open_us
            self.tell(News(open_us, seq, number, lambda: self._spell(state, seq, open_us)))

    def _spell(self, reason: str, seq: int, open_us: int | None) -> Message:
        market = self._market
        opened = None if open_us is None else time_text(open_us)
        return Message.of(
            BufferChanged(
                self.name, seq, market.exchange.value, market.symbol_key, self._timeframe.value,
                reason, opened,  # type: ignore[arg-type]
            )
        )  # fmt: skip


class StateTopic(Topic):
    """Something of which only the newest state counts: a feed's health, a generation's progress."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._newest: Message | None = None

    @property
    def seq(self) -> int:
        """None is told."""
        return 0

    def whole(self) -> Message | None:
        """Return the newest state."""
        return self._newest

    def forget(self) -> None:
        """Nobody listens for news any more: what was the newest may not be so when somebody asks again."""
        self._newest = None

    def say(self, message: Message) -> None:
        """Have a state told, unless it was."""
        if self._newest is None or self._newest.text != message.text:
            self._newest = message
            self.tell_whole()


def candles_of(market: Market, timeframe: Timeframe) -> str:
    """Return the topic of the candles of a market and timeframe."""
    return f"candles.{market.exchange.value}.{market.symbol_key}.{timeframe.value}"


def spell_candle(name: str, market: Market, timeframe: Timeframe, candle: LiveCandle, seq: int) -> Message:
    """Return a candle as it is sent."""
    return Message.of(
        Candle(
            name, seq, market.exchange.value, market.symbol_key, timeframe.value, time_text(candle.open_us),
            candle.open, candle.high, candle.low, candle.close, candle.volume, candle.quote_volume, candle.trades,
            candle.minutes, candle.state.value, candle.source,  # type: ignore[arg-type]
            time_text(candle.received_us),
        )
    )  # fmt: skip
