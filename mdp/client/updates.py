"""What a stream tells a program, as values.

Not here: the spelling on the wire (``messages``), which of it is news (``tracking``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mdp.client.errors import ApiError
from mdp.domain.interval import Interval
from mdp.domain.live import Buffer, CandleState, LiveCandle
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe

if TYPE_CHECKING:
    from mdp.domain.candle_buffer import CandleBuffer


Reason = Literal["changed", "read", "history", "corrected"]
"""Why a candle is told: it changed as this program listened, it was read from a snapshot after something was missed, it
was fetched from storage, or its end was told before with other values."""


@dataclass(frozen=True, slots=True)
class CandleUpdate:
    """One candle says something new.

    Attributes:
        market: Whose.
        timeframe: Its length.
        candle: What it says now.
        reason: ``changed``: as it happened. ``read``: it changed while this program was away, or messages were lost.
            ``history``: it closed while this program was away for longer than the buffer reaches, and was fetched.
            ``corrected``: its end was told before, with other values; however it came. An end that only becomes
            surer, as when REST confirms it, is not told again.
        seq: Of the buffer that holds the change.
    """

    market: Market
    timeframe: Timeframe
    candle: LiveCandle
    reason: Reason
    seq: int

    @property
    def is_closed(self) -> bool:
        """Tell whether the candle's time is over: closed, confirmed or corrected."""
        return self.candle.state is not CandleState.FORMING


@dataclass(frozen=True, slots=True)
class BufferSnapshot:
    """The first that is heard of a market and timeframe: everything its buffer holds."""

    held: Buffer

    @property
    def market(self) -> Market:
        """Whose."""
        return self.held.market

    @property
    def timeframe(self) -> Timeframe:
        """Of its candles."""
        return self.held.timeframe

    @property
    def buffer(self) -> CandleBuffer:
        """The buffer, which can also be had as a frame."""
        from mdp.domain.candle_buffer import CandleBuffer

        return CandleBuffer.of(self.held)


@dataclass(frozen=True, slots=True)
class Stale:
    """Nobody keeps a buffer now: what it holds may be old. Do not trade on it until :class:`Fresh` comes."""

    market: Market
    timeframe: Timeframe


@dataclass(frozen=True, slots=True)
class Fresh:
    """A buffer is kept again; what changed meanwhile came before this, or comes now."""

    market: Market
    timeframe: Timeframe


@dataclass(frozen=True, slots=True)
class Missing:
    """Slots that closed while this program was away and of which the service has no candle.

    Attributes:
        market: Whose.
        timeframe: Of the slots.
        interval: Where they lie.
        slots: How many hold no candle.
        detail: Why, as far as is known.
    """

    market: Market
    timeframe: Timeframe
    interval: Interval
    slots: int
    detail: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone: until the next update, everything known may be old.

    Attributes:
        error: Why.
        retry_in_s: Seconds until it is tried again.
    """

    error: ApiError
    retry_in_s: float


@dataclass(frozen=True, slots=True)
class Told:
    """A message on a topic that is not about candles: a generation's progress, a feed's health.

    Attributes:
        topic: Such as ``generation.3f9a`` or ``feeds.binance``.
        said: The message, as documented in ``docs/streams.md``.
    """

    topic: str
    said: Mapping[str, Any]


StreamUpdate = CandleUpdate | BufferSnapshot | Stale | Fresh | Missing | Disconnected | Told
"""Whatever a stream may give."""
