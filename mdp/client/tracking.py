"""What of a stream is news: each end state of each candle once, in order, whatever was lost on the way.

It neither connects nor waits: whoever drives it (``streaming``, ``following``) hands it messages and does the steps it
answers with. Not here: the spelling of messages (``messages``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from mdp.client.errors import ApiError, BadAnswer, NotFound
from mdp.client.messages import CandleTold, Envelope, read_buffer, read_candle, read_envelope
from mdp.client.updates import BufferSnapshot, CandleUpdate, Fresh, Missing, Reason, Stale, StreamUpdate, Told
from mdp.domain.interval import Interval
from mdp.domain.live import Buffer, CandleState, LiveCandle
from mdp.domain.market import Market
from mdp.domain.timeframe import EPOCH, Timeframe

ASKED = "WS /api/v1/stream"

HEARTBEATS = 3
"""So many heartbeats may be missed before a silent connection counts as dead."""


@dataclass(frozen=True, slots=True)
class Fill:
    """Candles that closed between what is known and what the buffer reaches back to: fetch them, then go on.

    Attributes:
        market: Whose.
        timeframe: Their length.
        interval: In which they opened.
        buffer: The snapshot that showed it; hand it back.
        topic: Of the buffer.
    """

    market: Market
    timeframe: Timeframe
    interval: Interval
    buffer: Buffer
    topic: str


@dataclass(frozen=True, slots=True)
class Send:
    """Send this to the service."""

    text: str


class Closing(ApiError):
    """The service said that it ends."""

    retryable = True


Step = StreamUpdate | Fill | Send


@dataclass(slots=True)
class _Held:
    """What is known of one buffer: its last snapshot, its candles, and by which number each was told.

    Attributes:
        known: What the buffer holds.
        ended: Ends that were told, also of candles that the buffer holds no more: a bus or feed that begins anew tells
            them again.
    """

    buffer: Buffer
    known: dict[int, LiveCandle] = field(default_factory=dict)
    ended: dict[int, LiveCandle] = field(default_factory=dict)
    told_by: dict[int, int] = field(default_factory=dict)
    seq: int = 0
    written_us: int = 0
    is_stale: bool = False
    is_read_again: bool = False
    """A snapshot was asked for, because messages were lost: it is asked for once."""

    @property
    def last_end_us(self) -> int | None:
        """Open time of the newest candle whose end was told."""
        return max(self.ended, default=None)

    def take(self, candle: LiveCandle, how: Reason) -> Reason | None:
        """Take what a candle says, and return the reason to tell it; None where nobody need know.

        An end is told once. That it became surer is no news, and a finished candle is never taken for a forming one.
        """
        opened, end = candle.open_us, self.ended.get(candle.open_us)
        if candle.state is CandleState.FORMING:
            was, self.known[opened] = self.known.get(opened), end or candle
            return None if end or was == candle else how
        self.known[opened] = self.ended[opened] = candle
        if end is None:
            return how
        return None if end.says_same(candle) else "corrected"

    def forget_old(self) -> None:
        """Keep what a buffer of this size holds: the newest slot and ``size`` before it."""
        for held in (self.known, self.ended):
            if len(held) > self.buffer.size + 1:
                first_us = max(held) - self.buffer.size * self.buffer.timeframe.microseconds
                for opened in [opened for opened in held if opened < first_us]:
                    del held[opened]
                    self.told_by.pop(opened, None)

    def is_old(self, opened: int, seq: int) -> bool:
        """Tell whether something newer was told of a candle; candles overtake each other where one was held back."""
        return seq <= max(self.buffer.seq, self.told_by.get(opened, 0))


class Tracker:
    """Knows what was told of each topic.

    Args:
        topics: To subscribe to; a part may be ``*``.
        heartbeat_s: After how many silent seconds the service speaks, unless it says so itself.
    """

    def __init__(self, topics: Sequence[str], *, heartbeat_s: float) -> None:
        self._topics = tuple(topics)
        self._held: dict[str, _Held] = {}
        self._heartbeat_s = heartbeat_s

    @property
    def silence_s(self) -> float:
        """After so many seconds without a message the connection is dead."""
        return HEARTBEATS * self._heartbeat_s

    def opening(self) -> str:
        """Return what to send on a new connection: from where to go on, too."""
        since = {topic: held.seq for topic, held in self._held.items()}
        for held in self._held.values():
            held.is_read_again = False
        return _spell({"op": "subscribe", "topics": list(self._topics), **({"since": since} if since else {})})

    def buffer(self, market: Market, timeframe: Timeframe) -> Buffer | None:
        """Return all that is known of a buffer now."""
        held = self._held.get(topic_of(market, timeframe))
        if held is None:
            return None
        candles = tuple(held.known[opened] for opened in sorted(held.known))
        return Buffer(market, timeframe, held.buffer.size, candles, held.seq, held.written_us, held.is_stale)

    def hear(self, text: str | bytes) -> list[Step]:
        """Return what a message means, in order.

        Raises:
            NotFound: the service has no such topic.
            BadAnswer: the message cannot be read.
            Closing: the service ends.
        """
        try:
            envelope = read_envelope(text)
            if envelope.type == "candle":
                return self._candle(read_candle(text))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadAnswer(ASKED, f"expected a message: {error}") from error
        return self._other(envelope, text)

    def _other(self, envelope: Envelope, text: str | bytes) -> list[Step]:
        match envelope.type:
            case "snapshot":
                return self._snapshot(envelope.topic or "", read_buffer(ASKED, text))
            case "stale" | "fresh":
                return self._aged(envelope.topic or "", is_stale=envelope.type == "stale")
            case "subscribed":
                self._heartbeat_s = envelope.heartbeat_s or self._heartbeat_s
            case "error":
                detail = envelope.detail or "the service refused what was asked"
                raise NotFound(ASKED, detail, type="urn:mdp:problem:not-found")
            case "closing":
                raise Closing(ASKED, envelope.reason or "the service ends")
            case _ if envelope.topic is not None:
                return [Told(envelope.topic, json.loads(text))]
        return []

    def _candle(self, told: CandleTold) -> list[Step]:
        topic = told.topic or topic_of(told.market, told.timeframe)
        held = self._held.get(topic)
        if held is None or told.seq > held.seq + 1 + told.skipped:
            return self._read_again(topic, held)
        candle = told.candle()
        if held.is_old(candle.open_us, told.seq):
            return []
        held.seq = max(held.seq, told.seq)
        held.written_us = max(held.written_us, candle.received_us)
        held.told_by[candle.open_us] = told.seq
        return self._news(held, [candle], "changed", told.seq)

    def _read_again(self, topic: str, held: _Held | None) -> list[Step]:
        """Messages were lost: only a snapshot tells what they said."""
        if held is not None:
            if held.is_read_again:
                return []
            held.is_read_again = True
        return [
            Send(_spell({"op": "unsubscribe", "topics": [topic]})),
            Send(_spell({"op": "subscribe", "topics": [topic]})),
        ]

    def _snapshot(self, topic: str, buffer: Buffer) -> list[Step]:
        topic = topic or topic_of(buffer.market, buffer.timeframe)
        held = self._held.get(topic)
        if held is None:
            known = {candle.open_us: candle for candle in buffer.candles}
            ended = {candle.open_us: candle for candle in buffer.closed}
            self._held[topic] = _Held(buffer, known, ended, {}, buffer.seq, buffer.written_us, buffer.is_stale)
            return [BufferSnapshot(buffer)]
        away = _between(held, buffer)
        if away is None:
            return self._caught_up(topic, held, buffer)
        fill = Fill(buffer.market, buffer.timeframe, away, buffer, topic)
        if buffer.market.is_volatility_index:
            return self.filled(fill, [], "of an index only its value is stored, not its candles: ask for dvol")
        return [fill]

    def filled(self, fill: Fill, candles: Iterable[LiveCandle], missing: str = "") -> list[Step]:
        """Return what to tell after candles were fetched.

        Args:
            fill: What was asked for.
            candles: What came, ascending.
            missing: Why slots may hold none.
        """
        held = self._held[fill.topic]
        found = list(candles)
        steps = self._news(held, found, "history", fill.buffer.seq)
        absent = fill.interval.slots(fill.timeframe) - len(found)
        if absent:
            said = missing or "neither the store nor the buffer holds them"
            steps.append(Missing(fill.market, fill.timeframe, fill.interval, absent, said))
        return steps + self._caught_up(fill.topic, held, fill.buffer)

    def _caught_up(self, topic: str, held: _Held, buffer: Buffer) -> list[Step]:
        held.is_read_again = False
        if buffer.seq < held.seq and buffer.written_us <= held.written_us:
            return []  # of a process that lags behind what another one told: what is known is newer
        held.buffer, held.seq, held.written_us = buffer, buffer.seq, buffer.written_us
        there = {candle.open_us for candle in buffer.candles}
        held.known = {opened: candle for opened, candle in held.known.items() if opened in there}
        held.told_by.clear()
        steps = self._news(held, buffer.candles, "read", buffer.seq)
        return steps + self._aged(topic, is_stale=buffer.is_stale)

    def _news(self, held: _Held, candles: Sequence[LiveCandle], reason: Reason, seq: int) -> list[Step]:
        market, timeframe = held.buffer.market, held.buffer.timeframe
        taken = [(candle, held.take(candle, reason)) for candle in candles]
        held.forget_old()
        return [CandleUpdate(market, timeframe, candle, why, seq) for candle, why in taken if why is not None]

    def _aged(self, topic: str, *, is_stale: bool) -> list[Step]:
        held = self._held.get(topic)
        if held is None or held.is_stale is is_stale:
            return []
        held.is_stale = is_stale
        kind = Stale if is_stale else Fresh
        return [kind(held.buffer.market, held.buffer.timeframe)]


def topic_of(market: Market, timeframe: Timeframe) -> str:
    """Return the topic of the candles of a market and timeframe."""
    return f"candles.{market.exchange.value}.{market.symbol_key}.{timeframe.value}"


def _between(held: _Held, buffer: Buffer) -> Interval | None:
    """Slots that closed after the last one that was told and before the first that the buffer holds."""
    last_us = held.last_end_us
    if last_us is None or not buffer.candles:
        return None
    first_us = last_us + buffer.timeframe.microseconds
    if buffer.candles[0].open_us <= first_us:
        return None
    return Interval(EPOCH + first_us * EPOCH.resolution, EPOCH + buffer.candles[0].open_us * EPOCH.resolution)


def _spell(message: object) -> str:
    return json.dumps(message, separators=(",", ":"))
